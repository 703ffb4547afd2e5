"""For development: `serve.py --reload` starts the application anew whenever a file of it changes.

The process that the user starts becomes the parent: it holds the socket, and runs the same command
again as its child, to which it passes the socket as systemd would. While the child cannot run,
because of a typing mistake perhaps, the parent answers, with what the child said last. It imports
nothing of the application, so that no mistake there can stop it.
"""

import argparse
import html
import os
import re
import secrets
import select
import signal
import socket
import sys
import time
from contextlib import closing, suppress
from glob import glob
from pathlib import Path

ROOT = Path(__file__).parents[2]
WATCHED = ("serve.py", "init_db.sql", "templates/*", "static/*", "todo_wsgi/**/*")
SUFFIXES = (".py", ".sql", ".html", ".css", ".svg")  # not .pyc, nor what editors leave
PAUSE = 0.3  # seconds between two looks at the files
PATIENCE = 10  # seconds for a child to stop; then it is killed
KEY = "TODO_RELOAD_KEY"  # the variable that makes a child; also the key of its x-ray, which stays

_HEAD = (
    "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Content-Length: {}\r\nContent-Security-Policy: default-src 'none'\r\n"
    "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="1{elsewhere}">
<title>The server does not run</title>
<h1>The server does not run</h1>
<p>It ended with status {status}. Save a correction, and this page becomes the list.</p>
<pre>
{said}
</pre>
"""
_NOT_OURS = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_OUR_NAME = re.compile(rb"(?i)\r\nhost:[ \t]*(127\.0\.0\.1|localhost)(:[0-9]+)?[ \t]*\r\n")


def reload() -> None:
    """Become the parent, and exit with 0 at SIGTERM, SIGHUP or Ctrl-C.

    If the first child ends with 0 (after --help, say) or 2 (it cannot start), exit with that. Only
    return when the caller should go on: as the child, or to report why the parent cannot listen.
    """
    if sys.platform == "win32":
        print("--reload does not work on Windows: leave it out.", file=sys.stderr)
        sys.exit(2)
    if KEY in os.environ:
        return
    os.environ.pop("LISTEN_PID", None)  # a socket that systemd passes could be open to others
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 8080)
    try:
        port = range(65536).index(parser.parse_known_args()[0].port)
        listener = socket.create_server(("127.0.0.1", port), backlog=1000)
    except (argparse.ArgumentError, ValueError, OSError):
        return
    os.environ[KEY] = secrets.token_urlsafe(16)
    # A .pyc passes as current for any source of the same second and size.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with listener:
        sys.exit(_run(listener))


def _run(listener: socket.socket) -> int:
    """Run one child after another until a signal, and return the exit status."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.append(number))
    listener.setblocking(False)
    listener.set_inheritable(True)  # not every system does so if it copies 3 to 3
    is_first = True
    while True:
        seen = _look()
        with closing(_Child(listener)) as child:
            while (now := _look()) == seen:
                source = child.stderr if child.status is None else listener
                ready = select.select([source], [], [], PAUSE)[0]
                if signals:
                    return 0
                if ready and child.status is not None:
                    _answer(listener, child)
                elif ready and child.read() is not None:
                    if is_first and child.status in (0, 2):
                        return child.status
                    address = "http://{}:{}/".format(*listener.getsockname())
                    print(f"{address} shows this. Save a correction.", file=sys.stderr)
        print(f"{min(seen.items() ^ now.items())[0]} has changed.", file=sys.stderr)
        is_first = False


def _look() -> dict[str, int]:
    """Return the files of the application, and when each was changed."""
    times = {}
    for pattern in WATCHED:
        for name in glob(pattern, root_dir=ROOT, recursive=True):
            if name.endswith(SUFFIXES):
                with suppress(OSError):  # by now it may be gone
                    times[name] = os.stat(ROOT / name).st_mtime_ns
    return times


class _Child:
    """The application in a process of its own: what it has `said`, and the `status` of its end."""

    def __init__(self, listener: socket.socket) -> None:
        self.stderr, writer = os.pipe()
        # `$$` is the process id of the shell, and remains that of the command which replaces it.
        script = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
        command = ["sh", "-c", script, sys.executable, *sys.orig_argv[1:]]
        copies = [(os.POSIX_SPAWN_DUP2, writer, 2), (os.POSIX_SPAWN_DUP2, listener.fileno(), 3)]
        self._pid = os.posix_spawn("/bin/sh", command, os.environ, file_actions=copies)
        os.close(writer)
        self.said = b""
        self.status: int | None = None

    def close(self) -> None:
        """End it, without lingering, and wait for its end; kill it if that takes too long.

        A regular expression may hold the GIL for years, a grandchild may hold stderr open.
        """
        deadline = time.monotonic() + PATIENCE
        while self.status is None and time.monotonic() < deadline:
            os.kill(self._pid, signal.SIGINT)  # again and again: a Python that starts may miss one
            if select.select([self.stderr], [], [], PAUSE)[0]:
                self.read()
        if self.status is None:
            os.kill(self._pid, signal.SIGKILL)
            os.close(self.stderr)
            os.waitpid(self._pid, 0)

    def read(self) -> int | None:
        """Pass on what it says next; if it has ended, note and return its exit status."""
        if data := os.read(self.stderr, 65536):
            os.write(2, data)
            self.said = (self.said + data)[-10_000:]
        else:
            os.close(self.stderr)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self.status


def _answer(listener: socket.socket, child: _Child) -> None:
    """Answer one request with what the child has said, whatever the client does."""
    with suppress(OSError), listener.accept()[0] as connection:
        connection.settimeout(1)
        head = connection.recv(65536).partition(b"\r\n\r\n")[0] + b"\r\n"
        page = _PAGE.format(
            elsewhere="" if head.startswith(b"GET ") else "; url=/",
            status=child.status,
            said=html.escape(child.said.decode(errors="replace").replace("\0", "\ufffd")),
        ).encode()
        answer = _HEAD.format(len(page)).encode() + page * (not head.startswith(b"HEAD "))
        # Another site's name may lead to this machine (DNS rebinding).
        connection.sendall(answer if _OUR_NAME.search(head) else _NOT_OURS)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # until the client has all: closing at once could cut it off
