"""The settings of the command line, and what they lead to before the first request.

A flag wins over its environment variable, and that over the default. What prevents the start
becomes one line that says what to do.
"""

import argparse
import errno
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from getpass import getpass
from importlib.util import find_spec
from typing import NoReturn

from todo_wsgi import __version__
from todo_wsgi.http.admission import read_sites
from todo_wsgi.http.password import hash_password, read_hash
from todo_wsgi.server.systemd import inherited_listener, notify_ready
from todo_wsgi.storage import backup
from todo_wsgi.storage.errors import DatabaseUnusable

Settings = argparse.Namespace  # with an attribute for each flag


class CannotServe(Exception):
    """The server cannot start; the message says what to do."""


def read_settings(arguments: Sequence[str] | None, program: str) -> Settings:
    """Return the settings that `arguments` (None: those of the command line) and variables give.

    SystemExit, with one line on stderr and status 2, if something is wrong with them.
    """
    parser = _OneLineParser(
        prog=program, description="Serve the todo list with waitress.", allow_abbrev=False
    )
    parser.set_defaults(program=program)
    table: list[tuple[str, str, str, Callable[[str], object], str]] = [
        ("--host", "TODO_HOST", "127.0.0.1", str, "address to listen on, 0.0.0.0 for all"),
        ("--port", "PORT", "8080", _port_number, "port to listen on, 0 for any free one"),
        ("--db", "TODO_DB", "todos.db", str, "file, created if missing, or rqlite://h1:4001,..."),
        ("--site", "TODO_SITE", "", str, "host name of the list; commas separate several"),
        ("--trusted-proxy", "TRUSTED_PROXY", "", _ip_address, "IP address of a proxy in front"),
        ("--processes", "WEB_CONCURRENCY", "1", _process_count, "processes, best one per core"),
        ("--access-log", "TODO_ACCESS_LOG", "", str, "file for a line per request, - for stdout"),
    ]
    for flag, variable, default, convert, text in table:
        parser.add_argument(
            flag,
            default=os.environ.get(variable) or default or None,
            type=convert,
            help=f"{text} ({variable}; default: {default or 'none'})",
        )
    parser.add_argument(
        "--xray",
        metavar="PORT",
        nargs="?",
        type=_port_number,
        const=8081,
        help="show what happens to each request, on a second port of this machine (default 8081)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="for development: restart at each change of a file"
    )
    commands = parser.add_mutually_exclusive_group()  # they do something else than serve
    commands.add_argument(
        "--password", action="store_true", help="ask for a password, print its hash"
    )
    commands.add_argument("--backup", metavar="FOLDER", help="copy the list into this folder")
    commands.add_argument("--restore", metavar="COPY", help="replace the list by this copy")
    commands.add_argument("--prepare", action="store_true", help="create the tables in a cluster")
    parser.add_argument("--version", action="version", version=f"todo_wsgi {__version__}")
    settings = parser.parse_args(arguments)
    if settings.password:
        _print_password_hash(parser)
    if "" in (settings.backup, settings.restore):
        parser.error("name a folder after --backup, or a copy after --restore")
    if "://" in settings.db and (settings.backup or settings.restore or settings.xray is not None):
        parser.error("--backup, --restore and --xray take a database file (see docs/cluster.md)")
    if settings.prepare or settings.backup or settings.restore:
        _run_command(parser, settings)
    if settings.xray is not None and settings.processes > 1:
        parser.error("--xray watches one process: leave out --processes and WEB_CONCURRENCY")
    is_for_others = settings.host != "127.0.0.1" or settings.site or settings.trusted_proxy
    if settings.reload and (is_for_others or settings.processes > 1):
        parser.error(
            "--reload shows tracebacks, so one process serves this machine alone: leave out "
            "--host, --site, --trusted-proxy and --processes, and unset their variables"
        )
    try:
        settings.site = read_sites(settings.site or "")
        if "TODO_PASSWORD" in os.environ:
            read_hash(os.environ["TODO_PASSWORD"])
        if settings.access_log not in (None, "-"):
            open(settings.access_log, "a").close()  # to report an error now; each process opens it
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        problem = f"cannot write the access log {settings.access_log!r}: {error.strerror}"
        parser.error(f"{problem}. Set --access-log or TODO_ACCESS_LOG to another file")
    if find_spec("waitress") is None:
        parser.error(f"waitress is not installed. Run: {sys.executable} -m pip install waitress")
    return settings


class _OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message."""
        hint = ". See --help." if message.startswith("unrecognized") else ""
        self.exit(2, one_line(self.prog, message + hint) + "\n")


def one_line(program: str, message: object) -> str:
    """Return the message for stderr; a name in it may contain line breaks."""
    return " ".join(f"{program}: {message}".splitlines())


def _port_number(text: str) -> int:
    """Return the port that `text` names; argparse reports the error."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port: set --port, PORT or --xray to a number from 0 to 65535"
        )
    return int(text)


def _ip_address(text: str) -> str:
    """Return `text` if it is an IP address; argparse reports the error."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address: set --trusted-proxy or TRUSTED_PROXY to one"
        ) from None


def _process_count(text: str) -> int:
    """Return the number that `text` names; argparse reports the error."""
    if not re.fullmatch("[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a count: set --processes or WEB_CONCURRENCY to a number from 1 to 99"
        )
    return int(text)


def _print_password_hash(parser: argparse.ArgumentParser) -> NoReturn:
    """Ask for a password twice, on the terminal if there is one, print its hash, and exit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that getpass can tidy up
    ask = getpass if sys.stdin.isatty() else lambda _: input().rstrip("\r")
    try:
        first, second = ask("Password: "), ask("Again: ")
    except (EOFError, KeyboardInterrupt):
        first = second = ""
    if first != second or not 0 < len(first) <= 1000:  # a browser's request has to hold it
        parser.error("nothing was printed: enter the same password twice, up to 1,000 characters")
    print(hash_password(first.encode(errors="surrogateescape")))
    parser.exit()


def _run_command(parser: argparse.ArgumentParser, settings: Settings) -> NoReturn:
    """Do what --prepare, --backup or --restore says, print what is where now, and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that no half copy stays
    try:
        if settings.prepare:
            from todo_wsgi.storage.rqlite import Cluster  # nobody else needs it

            with closing(Cluster(settings.db)) as cluster:
                cluster.prepare()
                say(f"{cluster.path} is ready.")
        elif settings.restore is None:
            say(str(backup.back_up(settings.db, settings.backup)))
        else:
            before = backup.restore(settings.db, settings.restore)
            where = f"The list before it is in {before}" if before else "There was no list before"
            say(f"Restored {settings.restore}. {where}.")
    except DatabaseUnusable as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.error("interrupted")
    parser.exit()


def say(text: str) -> None:
    """Print the text, with escapes for what this terminal cannot print."""
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def configure_logging() -> None:
    """Write the log to stderr."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A client can cause waitress's warnings as often as it likes, and so fill the log.
    logging.getLogger("waitress").setLevel(logging.ERROR)


def take_listener(settings: Settings) -> socket.socket:
    """Return the socket that systemd has passed, or else one that listens at --host and --port.

    Raises CannotServe. Warns about a password that others could read on its way there.
    """
    try:
        listener = inherited_listener() or listen(settings.host, settings.port)
    except OSError as error:
        raise CannotServe(f"cannot use the socket that systemd has passed: {error}") from error
    is_local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    if "TODO_PASSWORD" in os.environ and not is_local and not settings.trusted_proxy:
        warning = (
            "the password travels in the clear, so others can read it: put a proxy with HTTPS in "
            "front, and name it with --trusted-proxy"
        )
        print(one_line(settings.program, warning), file=sys.stderr)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises CannotServe if the system does not allow it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            problem = "another program listens there. Stop it"
        else:
            problem = f"{getattr(error, 'strerror', None) or error}. Correct it"
        raise CannotServe(
            f"cannot listen on {host!r}, port {port}: {problem}, "
            "or choose another address with --host (TODO_HOST), --port (PORT) or --xray."
        ) from error


def announce(path: object, listener: socket.socket, xray_address: str = "") -> None:
    """Say what is served where, to the user and to systemd."""
    text = f"Serving {path} on {address_of(listener)} (Ctrl-C stops)"
    if xray_address:
        text += f"\nX-ray of each request on {xray_address}"
    say(text)
    notify_ready()


def address_of(listener: socket.socket) -> str:
    """Return the address for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
