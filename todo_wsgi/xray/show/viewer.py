"""The web site of the x-ray: a separate WSGI application, only for the user of this machine.

Each path begins with a random key, created at startup, or by `serve.py --reload`, which
keeps it from start to start. It is not a cookie: browsers send cookies to all ports of a host, so
the watched application would receive it.
"""

import hmac
import logging
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from todo_wsgi.http.errors import Forbidden, HTTPError, InternalServerError, NotFound
from todo_wsgi.http.request import Request, read_integer
from todo_wsgi.http.response import Response
from todo_wsgi.http.routing import Route, match
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.xray.record.middleware import XRay
from todo_wsgi.xray.record.trace import Traces
from todo_wsgi.xray.show import pages
from todo_wsgi.xray.show.background import listen, serving
from todo_wsgi.xray.story.document import Story, Summary
from todo_wsgi.xray.story.parts import summarize, tell

logger = logging.getLogger("todo_wsgi.xray")


@contextmanager
def viewing(
    app: WSGIApplication, listener: socket.socket | int, address: str
) -> Iterator[tuple[XRay, str]]:
    """Record the requests to `app`, which is served at `address`, and show them on `listener`.

    `listener` may also be a port; OSError if it is in use. Yields the application to serve
    instead of `app`, and the address of the x-ray.
    """
    listener = listen(listener) if isinstance(listener, int) else listener
    xray = XRay(app)
    viewer = Viewer(xray.traces, listener.getsockname()[1], address)
    try:
        with serving(viewer, listener):
            yield xray, viewer.address
    finally:
        xray.close()


class Viewer:
    """Shows `traces`. `port` is its own port, `app` the address of the application."""

    def __init__(self, traces: Traces, port: int, app: str) -> None:
        self._traces = traces
        self._app = app
        names = ("127.0.0.1", "localhost")
        # Browsers omit port 80 (RFC 9110, 4.2.3).
        self._hosts = {f"{name}:{port}" for name in names} | {*(names if port == 80 else ())}
        self._key = os.environ.get("TODO_RELOAD_KEY") or secrets.token_urlsafe(16)
        self.address = f"http://127.0.0.1:{port}/{self._key}/"
        self._base = f"/{self._key}/"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request (PEP 3333)."""
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> WSGIApplication:
        try:
            if request.environ.get("HTTP_HOST", "").lower() not in self._hosts:
                # Another site's name may resolve to this machine's address (DNS rebinding).
                raise Forbidden("The x-ray is only available on this machine, at 127.0.0.1.")
            handler, numbers = match(_ROUTES, request.method, self._strip_key(request.path))
            return handler(self, request, *numbers)
        except HTTPError as error:
            return pages.error_page(error)
        except Exception:
            logger.exception("%s %r", request.method, request.path)
            return pages.error_page(InternalServerError())

    def _strip_key(self, path: str) -> str:
        """Return the path after the key. Raises Forbidden without the right key."""
        if path in (STYLE.path, ICON.path, pages.STYLE_PATH):
            return path  # these reveal nothing about the requests
        _, key, rest = (*path.split("/", 2), "", "")[:3]
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            raise Forbidden("Open the address of the x-ray exactly as printed, including its key.")
        return f"/{rest}"

    def show_list(self, request: Request) -> Response:
        """GET /: the last requests."""
        is_paused = "pause" in request.query
        return pages.list_page(self._base, self._app, self._summaries(), is_paused=is_paused)

    def show_request(self, request: Request, number: int) -> Response:
        """GET /7: the story of a request."""
        others = [other for other in self._summaries() if other.number != number]
        is_open = "open" in request.query
        return pages.request_page(self._base, self._story(number), others, is_open=is_open)

    def compare(self, request: Request) -> Response:
        """GET /compare?left=7&right=8: two requests side by side."""
        left, right = (read_integer(request.query.get(side, "")) for side in ("left", "right"))
        return pages.compare_page(self._base, self._story(left), self._story(right))

    def send_style(self, _: Request) -> Response:
        """GET /xray.css: the style sheet."""
        return pages.OWN_STYLE

    def send_app_style(self, _: Request) -> Response:
        """GET /style-....css: the application's style sheet."""
        return STYLE.response

    def send_icon(self, _: Request) -> Response:
        """GET /icon-....svg: the application's icon."""
        return ICON.response

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
    Route("GET", pages.STYLE_PATH, Viewer.send_style),
    Route("GET", STYLE.path, Viewer.send_app_style),
    Route("GET", ICON.path, Viewer.send_icon),
]
