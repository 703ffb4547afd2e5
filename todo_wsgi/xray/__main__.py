"""Send one request through an application, and print what happened; see `--help`."""

import argparse
import importlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NoReturn
from urllib.parse import quote, urlencode
from wsgiref.types import WSGIApplication

from todo_wsgi import create_app
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.xray import XRay
from todo_wsgi.xray.record.sql import watch_connections
from todo_wsgi.xray.record.values import describe_error
from todo_wsgi.xray.show.background import serving
from todo_wsgi.xray.show.terminal import MAX_WIDTH, Printer
from todo_wsgi.xray.story.document import Story
from todo_wsgi.xray.story.parts import tell

TIMEOUT = 60  # seconds the application has to respond


class CannotSend(Exception):
    """The request cannot be sent; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the request, print its story, and return the exit status: 0, or 2 for an error."""
    settings = parse(arguments)
    logging.getLogger("waitress").addHandler(logging.NullHandler())  # the story has it
    try:
        story = send(settings)
    except (CannotSend, DatabaseUnusable) as error:
        print(f"xray: {error}", file=sys.stderr)
        return 2
    print_story(story)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(
        prog="python -m todo_wsgi.xray",
        description="Send one request through the todo list, or through any WSGI application, "
        "and print what happened on the way.",
    )
    parser.add_argument("method", type=str.upper, help="GET, POST ...")
    parser.add_argument("path", help="such as / or /?show=active")
    parser.add_argument(
        "fields",
        metavar="name=value",
        nargs="*",
        type=field,
        help="form fields: sent in the body, or in the URL for GET and HEAD",
    )
    parser.add_argument(
        "-H",
        "--header",
        metavar="'Name: value'",
        action="append",
        default=[],
        type=header,
        help="a request header; may be repeated",
    )
    parser.add_argument("--app", metavar="MODULE:NAME", help="another WSGI application")
    parser.add_argument(
        "--db", metavar="FILE", help="the todo list's database (default: a new, temporary one)"
    )
    settings = parser.parse_args(arguments)
    if settings.app and settings.db:
        parser.error("--db is for the todo list: omit either --db or --app")
    return settings


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports errors in one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"xray: {message}. See --help.\n")


def field(text: str) -> tuple[str, str]:
    """Return the name and value. Raises ArgumentTypeError, which argparse reports."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a field: write name=value")
    return name, value


def header(text: str) -> tuple[str, str]:
    """Return the name and value. Raises ArgumentTypeError, which argparse reports."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or "\n" in text or "\r" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a header: write 'Name: value'")
    return name.strip(), value.strip()


def send(settings: argparse.Namespace) -> Story:
    """Start a server, send it the request, and return the story."""
    with ExitStack() as stack:
        stack.callback(watch_connections())  # importing the application may open some
        if settings.app:
            app = load(settings.app)
        else:
            app = stack.enter_context(create_todo_list(settings.db))
        xray = XRay(app)
        stack.callback(xray.close)
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        stack.enter_context(serving(xray, listener))
        response = exchange(port, build_request(settings, port))
        traces = xray.traces.last()
        if not traces:
            status = response.partition(b"\r\n")[0].decode("latin-1")
            raise CannotSend(f"waitress refused the request: {status}")
        story = tell(traces[0], xray.traces)
        # This server is about to stop. Readers will want to repeat the request on serve.py.
        address = story.curl[-1].replace(f"127.0.0.1:{port}", "127.0.0.1:8080")
        return story._replace(curl=[*story.curl[:-1], address])


@contextmanager
def create_todo_list(path: str | None) -> Iterator[WSGIApplication]:
    """Create the todo list on the database at `path`, or on a temporary one without a path."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(create_app(path or os.path.join(folder, "todos.db"))) as app,
    ):
        yield app


def load(name: str) -> WSGIApplication:
    """Import and return the application `module:name`. Raises CannotSend if that fails."""
    module, _, attribute = name.partition(":")
    try:
        app: WSGIApplication = getattr(importlib.import_module(module), attribute or "app")
    except (Exception, SystemExit) as error:
        raise CannotSend(f"cannot import {name!r}: {describe_error(error)}") from error
    if not callable(app):
        raise CannotSend(f"{name!r} is not a WSGI application: it is not callable")
    return app


def build_request(settings: argparse.Namespace, port: int) -> bytes:
    """Return the bytes of the request. Raises CannotSend if the path has no leading slash."""
    method, path, encoded = settings.method, settings.path, urlencode(settings.fields)
    if not path.startswith("/"):
        raise CannotSend(f"the path {path!r} must begin with /")
    headers = [("Host", f"127.0.0.1:{port}"), ("Connection", "close")]
    body = b""
    if encoded and method in ("GET", "HEAD"):
        path += ("&" if "?" in path else "?") + encoded
    elif encoded or method == "POST":
        body = encoded.encode()
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        headers.append(("Content-Length", str(len(body))))
    given = {name.lower() for name, _ in settings.header}
    headers = [(name, value) for name, value in headers if name.lower() not in given]
    headers += settings.header
    target = quote(path, safe="/?&=%#+~:;,@!$'()*[]")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8") + body


def exchange(port: int, request: bytes) -> bytes:
    """Send the request and return the response. Raises CannotSend after TIMEOUT without data."""
    response = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        try:
            while data := connection.recv(65536):
                response += data
        except TimeoutError:
            raise CannotSend(f"no response within {TIMEOUT} seconds") from None
    return response


def print_story(story: Story) -> None:
    """Print the story: in colour on a terminal (https://no-color.org), in plain text to a pipe."""
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    printer = Printer(
        width=shutil.get_terminal_size((MAX_WIDTH, 0)).columns, is_coloured=is_coloured
    )
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        for line in printer.lines(story):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader stopped early, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
