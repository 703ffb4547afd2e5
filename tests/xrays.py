"""Helpers for the tests of the x-ray: small applications, and a client that returns stories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

from werkzeug.test import Client, TestResponse

from todo_wsgi.xray import XRay
from todo_wsgi.xray.show.terminal import Printer
from todo_wsgi.xray.story.document import Story
from todo_wsgi.xray.story.parts import tell

App = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


class Watched(Client):
    """A client of an application under the x-ray."""

    def __init__(self, xray: XRay) -> None:
        super().__init__(xray)
        self.xray = xray

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=True, **kwargs)

    def story(self, number: int = 0) -> Story:
        """Return the story of the request with this number, or of the last one."""
        traces = self.xray.traces
        trace = traces.get(number) if number else traces.last()[0]
        assert trace
        assert "x-ray itself failed" not in str(trace.warnings)
        return tell(trace, traces)

    def text(self, number: int = 0, part: int = 0) -> str:
        """Return the story, or one part of it, as one line of text."""
        parts = [part] if part else []
        return one_line("\n".join(Printer().lines(self.story(number), parts, is_all=True)))

    def rows(self, part: int, table: int = 0) -> list[list[str]]:
        """Return the cells of one table of one part of the story of the last request."""
        tables = [t for item in self.story().parts[part - 1].content for t in item.iter("tbody")]
        return [["".join(cell.itertext()) for cell in row] for row in tables[table]]


def one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def watching(app: Any) -> Iterator[Watched]:
    with closing(XRay(app)) as xray:
        yield Watched(xray)


def answering(page: str, act: Callable[[WSGIEnvironment], object] = lambda _: None) -> App:
    """Return an application that calls `act(environ)` and responds with a page."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        act(environ)
        start_response("200 OK", [("Content-Type", "text/html")])
        return [page.encode()]

    return app


def client_environ() -> WSGIEnvironment:
    environ: WSGIEnvironment = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    return environ
