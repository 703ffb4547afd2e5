"""The web site of the x-ray: a separate WSGI application, only for the user of this machine.

Each path begins with a random key, created at startup, or by `serve.py --reload`, which
keeps it from start to start. It is not a cookie: browsers send cookies to all ports of a host, so
the watched application would receive it.
"""

import hmac
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import waitress
from waitress import wasyncore

from todo_wsgi.http.errors import Forbidden, HTTPError, NotFound
from todo_wsgi.http.request import Request, read_integer
from todo_wsgi.http.response import Response
from todo_wsgi.http.routing import Route, match
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.xray.record.middleware import XRay
from todo_wsgi.xray.record.trace import Traces
from todo_wsgi.xray.show import pages
from todo_wsgi.xray.story.document import Story, Summary
from todo_wsgi.xray.story.parts import summarize, tell


@contextmanager
def viewing(app: WSGIApplication, port: int, address: str) -> Iterator[tuple[XRay, str]]:
    """Record the requests to `app`, which is served at `address`, and show them at `port`.

    Yields the application to serve instead of `app`, and the address of the x-ray. OSError if
    the port is in use.
    """
    with listen(port) as listener, closing(XRay(app)) as xray:
        viewer = Viewer(xray.traces, listener.getsockname()[1], address)
        with serving(viewer, listener):
            yield xray, viewer.address


def listen(port: int) -> socket.socket:
    """Return a socket that listens at this port of this machine; OSError says what to do."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise OSError(
            f"cannot listen at 127.0.0.1, port {port}: {os.strerror(error.errno or 0)}. Stop the "
            "program that does, or choose another. (Flask's reloader runs a program twice.)"
        ) from error


@contextmanager
def serving(app: WSGIApplication, listener: socket.socket, threads: int = 2) -> Iterator[None]:
    """Serve `app` on `listener` during the `with` block, then close the listener."""
    connections: dict[int, Any] = {}
    server = waitress.create_server(app, map=connections, sockets=[listener], threads=threads)
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=connections, count=1)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        server.pull_trigger()  # wakes the loop
        thread.join()
        server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(connections)


class Viewer:
    """Shows `traces`. `port` is its own port, `app` the address of the application."""

    def __init__(self, traces: Traces, port: int, app: str) -> None:
        self._traces = traces
        self._app = app
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._base = f"/{os.environ.get('TODO_RELOAD_KEY') or secrets.token_urlsafe(16)}/"
        self.address = f"http://127.0.0.1:{port}{self._base}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request (PEP 3333)."""
        request = Request(environ)
        try:
            if environ.get("HTTP_HOST", "").lower() not in self._hosts:
                # Another site's name may resolve to this machine's address (DNS rebinding).
                raise Forbidden("The x-ray is only available on this machine, at 127.0.0.1.")
            handler, numbers = match(_ROUTES, request.method, self._strip_key(request.path))
            response = handler(self, request, *numbers)
        except HTTPError as error:
            response = pages.error_page(error)
        return response(environ, start_response)

    def _strip_key(self, path: str) -> str:
        """Return the path after the key. Raises Forbidden without the right key."""
        if path in (STYLE.path, ICON.path, pages.STYLE_PATH):
            return path  # these reveal nothing about the requests
        size = len(self._base)
        if not hmac.compare_digest(path[:size].encode(), self._base.encode()):
            raise Forbidden("Open the address of the x-ray exactly as printed, including its key.")
        return path[size - 1 :]

    def show_list(self, request: Request) -> Response:
        """GET /: the last requests."""
        return pages.list_page(self._app, self._summaries(), is_paused="pause" in request.query)

    def show_request(self, request: Request, number: int) -> Response:
        """GET /7: the story of a request."""
        others = [other for other in self._summaries() if other.number != number]
        return pages.request_page(self._story(number), others, is_open="open" in request.query)

    def compare(self, request: Request) -> Response:
        """GET /compare?left=7&right=8: two requests side by side."""
        left, right = (read_integer(request.query.get(side, "")) for side in ("left", "right"))
        return pages.compare_page(self._story(left), self._story(right))

    def _summaries(self) -> list[Summary]:
        return [summarize(trace, self._traces) for trace in self._traces.last()]

    def _story(self, number: int | None) -> Story:
        trace = self._traces.get(number) if number else None
        if trace is None:
            raise NotFound("The x-ray has no such request (any more). See the list of requests.")
        return tell(trace, self._traces)


_ROUTES = [
    Route("GET", "/", Viewer.show_list),
    Route("GET", "/{id}", Viewer.show_request),
    Route("GET", "/compare", Viewer.compare),
    Route("GET", pages.STYLE_PATH, lambda *_: pages.OWN_STYLE),
    Route("GET", STYLE.path, STYLE.send),
    Route("GET", ICON.path, ICON.send),
]
