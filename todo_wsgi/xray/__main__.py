"""Send one request through an application and print what happened, or serve it; see `--help`."""

import argparse
import logging
import mimetypes
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from socket import create_connection
from typing import NoReturn
from urllib.parse import quote, urlencode
from wsgiref.types import WSGIApplication

from todo_wsgi import create_app
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.xray.loading import CannotLoad, load
from todo_wsgi.xray.record.middleware import XRay
from todo_wsgi.xray.record.sql import watch_connections
from todo_wsgi.xray.show.terminal import MAX_WIDTH, Printer
from todo_wsgi.xray.show.viewer import listen, serving, viewing
from todo_wsgi.xray.story.document import Story
from todo_wsgi.xray.story.parts import tell

TIMEOUT = 10  # seconds the application has to respond


class CannotSend(Exception):
    """The request cannot be sent; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit status: 0, or 2 for an error."""
    settings = parse(arguments)
    logging.getLogger("waitress").addHandler(logging.NullHandler())  # the story has it
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # waiting is no problem
    try:
        with opened(settings) as app:
            (serve if settings.serve else send)(app, settings)
    except (CannotSend, CannotLoad, OSError, DatabaseUnusable) as error:
        print(f"xray: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as shells report Ctrl-C
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(
        prog="python -m todo_wsgi.xray",
        usage="%(prog)s [options] METHOD PATH [name=value ...]\n       %(prog)s --serve [options]",
        description="Send one request through the todo list, or through any WSGI application, "
        "and print what happened on the way. Fields are sent in the body, or in the URL for GET "
        "and HEAD. With --serve, use the application in the browser.",
    )
    add = parser.add_argument
    add("request", nargs="*", help="such as GET /?show=active, or POST / text=milk")
    add("--app", metavar="MODULE:NAME", help="another application, or 'MODULE:FACTORY()'")
    add("--db", metavar="FILE", help="the todo list's database (default: a new, temporary one)")
    add("-H", metavar="HEADER", action="append", default=[], help="'Name: value', may be repeated")
    add("--body", metavar="FILE", help="send the bytes of this file, - for those of stdin")
    add("--part", metavar="4,6", default="", help="print only these parts in full")
    add("--all", action="store_true", help="print all parts in full")
    add("--serve", action="store_true", help="serve the application, and its x-ray, until Ctrl-C")
    add("--port", type=int, default=8080, help="of the application (default 8080; 0: a free one)")
    add("--xray", metavar="PORT", type=int, default=8081, help="of its x-ray (default 8081)")
    settings = parser.parse_intermixed_args(arguments)
    words, ports = settings.request, {settings.port, settings.xray}
    odd_fields = [word for word in words[2:] if "=" not in word]
    odd_headers = [line for line in settings.H if not re.fullmatch(r"[^:\s]+:[^\r\n]*", line)]
    problems = {
        "--db is for the todo list: omit either --db or --app": settings.app and settings.db,
        "--db takes a file: a cluster's SQL runs elsewhere": "://" in (settings.db or ""),
        "--serve takes no method and path: your browser sends them": settings.serve and words,
        "name a method and a path, such as GET /": not settings.serve and len(words) < 2,
        f"the path must begin with /: {words[1:2]}": words[1:] and not words[1].startswith("/"),
        f"write fields as name=value: {odd_fields}": odd_fields,
        f"write headers as 'Name: value': {odd_headers}": odd_headers,
        "the fields would be the body: omit either them or --body": words[2:] and settings.body,
        "--port and --xray take a number from 0 to 65535": not ports <= {*range(65536)},
        "--part takes numbers from 1 to 9, such as 4,6": {*settings.part} - {*"123456789,"},
    }
    for problem in (message for message, is_there in problems.items() if is_there):
        parser.error(problem)
    return settings


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports errors in one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"xray: {message}. See --help.\n")


@contextmanager
def opened(settings: argparse.Namespace) -> Iterator[WSGIApplication]:
    """Make the application: that of --app, or the todo list. CannotLoad, DatabaseUnusable."""
    with ExitStack() as stack:
        stack.callback(watch_connections())  # importing the application may open some
        if settings.app:
            yield load(settings.app)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = settings.db or os.path.join(folder, "todos.db")
            yield stack.enter_context(closing(create_app(path)))


def serve(app: WSGIApplication, settings: argparse.Namespace) -> None:
    """Serve the application and its x-ray until SIGTERM or Ctrl-C. OSError for a port in use."""
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_over.set())
    with listen(settings.port) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with viewing(app, settings.xray, address) as (watched, xray), serving(watched, listener, 4):
            print(f"Serving {settings.app or 'a todo list'} on {address} (Ctrl-C stops)")
            print(f"X-ray of each request on {xray}", flush=True)
            while not is_over.is_set():
                is_over.wait(1)  # Windows does not interrupt a longer wait


def send(app: WSGIApplication, settings: argparse.Namespace) -> None:
    """Send the request to the application in a server, and print its story.

    Raises CannotSend if the application does not get it, or does not answer.
    """
    request = build_request(settings)
    with closing(XRay(app)) as xray, listen(0) as listener, serving(xray, listener, threads=1):
        port = listener.getsockname()[1]
        if not settings.app:  # so that the story is not about connecting to the database
            exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")
        response = exchange(port, request)
        trace = xray.traces.get(1 if settings.app else 2)
        if trace is None and response:
            status = response.partition(b"\r\n")[0].decode("latin-1")
            raise CannotSend(f"waitress refused the request: {status}")
        silence = f"within {TIMEOUT} s: "
        if trace is None:
            raise CannotSend(f"no answer {silence}the server waits for more. See Content-Length")
        print_story(tell(trace, xray.traces), settings)
        if response is None:
            raise CannotSend(f"no end of the answer {silence}{trace.error or trace.outcome}")


def build_request(settings: argparse.Namespace) -> bytes:
    """Return the bytes of the request. Raises OSError of a file."""
    method, path, *fields = settings.request
    method, encoded = method.upper(), urlencode([tuple(field.split("=", 1)) for field in fields])
    body, kind = encoded.encode(), "application/x-www-form-urlencoded"
    if (file := settings.body) is not None:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        kind = mimetypes.guess_type(file)[0] or "application/octet-stream"
    elif encoded and method in ("GET", "HEAD"):
        path, body = path + ("&" if "?" in path else "?") + encoded, b""
    # The port is not that of this server, which is about to stop: to repeat the request elsewhere.
    headers = {"host": f"Host: 127.0.0.1:{settings.port}", "connection": "Connection: close"}
    if body or method == "POST":
        headers["content-type"] = f"Content-Type: {kind}"
        headers["content-length"] = f"Content-Length: {len(body)}"
    for line in settings.H:
        headers.pop(line.partition(":")[0].lower(), None)
    target = quote(path, safe="/?&=%#+~:;,@!$'()*[]")
    lines = [f"{method} {target} HTTP/1.1", *headers.values(), *settings.H, "", ""]
    return "\r\n".join(lines).encode() + body


def exchange(port: int, request: bytes) -> bytes | None:
    """Send the request; return the beginning of the response, or None if it does not end."""
    response, end = b"", time.monotonic() + TIMEOUT
    with create_connection(("127.0.0.1", port)) as connection, suppress(TimeoutError, ValueError):
        connection.sendall(request)
        while True:
            connection.settimeout(end - time.monotonic())  # ValueError once the time is over
            data = connection.recv(65536)
            if not data:
                return response
            response = response or data
    return None


def print_story(story: Story, settings: argparse.Namespace) -> None:
    """Print the story: in colour on a terminal (https://no-color.org), in plain text to a pipe."""
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    printer = Printer(
        width=shutil.get_terminal_size((MAX_WIDTH, 0)).columns, is_coloured=is_coloured
    )
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        for line in printer.lines(
            story, [int(n) for n in settings.part if n != ","], is_all=settings.all
        ):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader stopped early, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
