"""Send one request through an application, and print what happened: `--help` tells how."""

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
from todo_wsgi.xray.background import serving
from todo_wsgi.xray.blocks import Story
from todo_wsgi.xray.sql import watch_connections
from todo_wsgi.xray.story import tell
from todo_wsgi.xray.text import MAX_WIDTH, Printer
from todo_wsgi.xray.values import describe_error

TIMEOUT = 60  # seconds that an application gets to answer


class CannotSend(Exception):
    """The request cannot be sent; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the request, print its story, and return the exit status: 0, or 2 for a mistake."""
    settings = parse(arguments)
    logging.getLogger("waitress").addHandler(logging.NullHandler())  # the story tells it
    try:
        story = send(settings)
    except (CannotSend, DatabaseUnusable) as error:
        print(f"xray: {error}", file=sys.stderr)
        return 2
    print_story(story)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(
        prog="python -m todo_wsgi.xray",
        description="Send one request through the todo list, or through any WSGI application, "
        "and print what happened on its way.",
    )
    parser.add_argument("method", type=str.upper, help="GET, POST ...")
    parser.add_argument("path", help="like / or /?show=active")
    parser.add_argument(
        "fields",
        metavar="name=value",
        nargs="*",
        type=field,
        help="fields of a form: in the body, or for GET and HEAD in the address",
    )
    parser.add_argument(
        "-H",
        "--header",
        metavar="'Name: value'",
        action="append",
        default=[],
        type=header,
        help="a header of the request; may be given more than once",
    )
    parser.add_argument("--app", metavar="MODULE:NAME", help="another WSGI application")
    parser.add_argument(
        "--db", metavar="FILE", help="database of the todo list (default: an empty temporary one)"
    )
    settings = parser.parse_args(arguments)
    if settings.app and settings.db:
        parser.error("--db is for the todo list: leave it out, or --app")
    return settings


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message."""
        self.exit(2, f"xray: {message}. See --help.\n")


def field(text: str) -> tuple[str, str]:
    """Return name and value; argparse makes a message of the error."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no field: write name=value")
    return name, value


def header(text: str) -> tuple[str, str]:
    """Return name and value; argparse makes a message of the error."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or "\n" in text or "\r" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no header: write 'Name: value'")
    return name.strip(), value.strip()


def send(settings: argparse.Namespace) -> Story:
    """Send the request to a server of its own, and return its story."""
    with ExitStack() as stack:
        stack.callback(watch_connections())  # the application may open some when it is imported
        if settings.app:
            app = load(settings.app)
        else:
            app = stack.enter_context(make_todo_list(settings.db))
        xray = XRay(app)
        stack.callback(xray.close)
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        stack.enter_context(serving(xray, listener))
        answer = exchange(port, build_request(settings, port))
        traces = xray.traces.last()
        if not traces:
            status = answer.partition(b"\r\n")[0].decode("latin-1")
            raise CannotSend(f"waitress refused the request: {status}")
        story = tell(traces[0], xray.traces)
        # The server of this command is gone by then. What one wants to ask is where serve.py is.
        address = story.curl[-1].replace(f"127.0.0.1:{port}", "127.0.0.1:8080")
        return story._replace(curl=[*story.curl[:-1], address])


@contextmanager
def make_todo_list(path: str | None) -> Iterator[WSGIApplication]:
    """Make the todo list on its database, a temporary one unless there is a path."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(create_app(path or os.path.join(folder, "todos.db"))) as app,
    ):
        yield app


def load(name: str) -> WSGIApplication:
    """Return the application that `module:name` names. Raises CannotSend if that fails."""
    module, _, attribute = name.partition(":")
    try:
        app: WSGIApplication = getattr(importlib.import_module(module), attribute or "app")
    except (Exception, SystemExit) as error:
        raise CannotSend(f"cannot import {name!r}: {describe_error(error)}") from error
    if not callable(app):
        raise CannotSend(f"{name!r} is no WSGI application: it cannot be called")
    return app


def build_request(settings: argparse.Namespace, port: int) -> bytes:
    """Return the bytes of the request. Raises CannotSend for what cannot be sent."""
    method, path, encoded = settings.method, settings.path, urlencode(settings.fields)
    if not path.startswith("/"):
        raise CannotSend(f"the path {path!r} has to begin with /")
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
    """Send the bytes, and return those that come back. Raises CannotSend if none come for long."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        try:
            while data := connection.recv(65536):
                answer += data
        except TimeoutError:
            raise CannotSend(f"no answer came within {TIMEOUT} seconds") from None
    return answer


def print_story(story: Story) -> None:
    """Print the story: in colour on a terminal (https://no-color.org), and plainly in a pipe."""
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    printer = Printer(
        width=shutil.get_terminal_size((MAX_WIDTH, 0)).columns, is_coloured=is_coloured
    )
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        for line in printer.lines(story):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
