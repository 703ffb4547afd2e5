"""Serve the todo list: `python serve.py --help` names the settings.

Here the program starts: it reads the settings, makes the application and hands it to waitress,
which calls it for every request. What happens then begins in `todo_wsgi/application.py`.
"""

import argparse
import errno
import ipaddress
import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from todo_wsgi import Application, create_app
from todo_wsgi.storage.database import Database
from todo_wsgi.storage.schema import DatabaseUnusable

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from wsgiref.types import WSGIApplication


class CannotServe(Exception):
    """The server cannot start; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit status: 0, or 2 if it could not start.

    `arguments` are those of the command line; SystemExit if they are wrong, or ask for help. What
    prevents the start is one line on stderr.
    """
    settings = parse_settings(arguments)
    configure_logging()
    try:
        serve(settings)
    except (CannotServe, DatabaseUnusable) as error:
        print(one_line(error), file=sys.stderr)
        return 2
    return 0


def configure_logging() -> None:
    """Write the log to stderr."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A client can cause waitress's warnings as often as it likes, and so fill the log.
    logging.getLogger("waitress").setLevel(logging.ERROR)


def parse_settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the settings: a flag wins over its environment variable, and that over the default."""
    parser = OneLineParser(prog="serve.py", description="Serve the todo list with waitress.")
    parser.add_argument(
        "--host",
        default=os.environ.get("HOST") or "127.0.0.1",
        help="address to listen on, 0.0.0.0 for all (HOST; default 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=os.environ.get("PORT") or "8080",
        help="port to listen on, 0 for any free one (PORT; default 8080)",
    )
    parser.add_argument(
        "--db",
        metavar="FILE",
        help="database file, made if missing (TODO_DB; default todos.db in the current folder)",
    )
    parser.add_argument(
        "--trusted-proxy",
        metavar="ADDRESS",
        type=ip_address,
        default=os.environ.get("TRUSTED_PROXY") or None,
        help="IP address of a proxy in front, to believe its X-Forwarded headers (TRUSTED_PROXY)",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=process_count,
        default=os.environ.get("WEB_CONCURRENCY") or "1",
        help="processes that answer, best one for each core (WEB_CONCURRENCY; default 1)",
    )
    parser.add_argument(
        "--xray",
        metavar="PORT",
        nargs="?",
        type=port_number,
        const=8081,
        help="show what happens to each request, on a second port of this machine (default 8081)",
    )
    settings = parser.parse_args(arguments)
    if settings.xray is not None and settings.processes > 1:
        parser.error("--xray watches one process: leave out --processes and WEB_CONCURRENCY")
    return settings


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message."""
        self.exit(2, one_line(message) + "\n")


def one_line(message: object) -> str:
    """Return the message for stderr; a name in it may have had line breaks."""
    return " ".join(f"serve.py: {message}".splitlines())


def port_number(text: str) -> int:
    """Return the port that `text` names; argparse makes a message of the error."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port: set --port, PORT or --xray to a number from 0 to 65535"
        )
    return int(text)


def ip_address(text: str) -> str:
    """Return `text` if it is an IP address; argparse makes a message of the error."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address: set --trusted-proxy or TRUSTED_PROXY to one"
        ) from None


def process_count(text: str) -> int:
    """Return the number that `text` names; argparse makes a message of the error."""
    if not re.fullmatch("[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a count: set --processes or WEB_CONCURRENCY to a number from 1 to 99"
        )
    return int(text)


def serve(settings: argparse.Namespace) -> None:
    """Make the application and serve it. Raises CannotServe or DatabaseUnusable at the start."""
    try:
        from todo_wsgi.server import serving as server
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"{error.name} is not installed. Run: {sys.executable} -m pip install {error.name}"
        ) from error
    with (
        listen(settings.host, settings.port) as listener,
        closing(create_app(settings.db)) as app,
        ExitStack() as stack,
    ):
        served: WSGIApplication = app
        message = f"Serving {app.database.path} on {address_of(listener)} (Ctrl-C stops)"
        if settings.xray is not None:
            from todo_wsgi.xray import viewing

            second = stack.enter_context(listen("127.0.0.1", settings.xray))
            served, address = stack.enter_context(viewing(app, second, address_of(listener)))
            message += f"\nX-ray of each request on {address}"
        # The path may have characters that this terminal does not know.
        encoding = sys.stdout.encoding
        message = message.encode(encoding, "backslashreplace").decode(encoding)

        def started() -> None:
            print(message, flush=True)

        if settings.processes == 1:
            server.serve(served, listener, trusted_proxy=settings.trusted_proxy, started=started)
        else:
            from todo_wsgi.server.processes import supervise

            app.close()
            path, proxy = app.database.path, settings.trusted_proxy
            supervise(settings.processes, listener, work, path, proxy, started=started)


def work(
    listener: socket.socket, stop: "Connection", path: Path, trusted_proxy: str | None
) -> None:
    """Serve as one of several processes, until something comes at `stop`."""
    from multiprocessing.connection import wait

    from todo_wsgi.server import serving as server

    configure_logging()
    try:
        # The file was there in the beginning. If it is not, a new one would be an empty list.
        app = Application(Database(path, mode="rw"))
    except DatabaseUnusable as error:
        sys.exit(one_line(error))
    with closing(app):
        server.serve(app, listener, trusted_proxy=trusted_proxy, until=lambda: wait([stop]))


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
            "or choose another address with --host (HOST), --port (PORT) or --xray."
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return the address for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


if __name__ == "__main__":
    sys.exit(main())
