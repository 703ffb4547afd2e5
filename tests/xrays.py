"""What the tests of the x-ray share: small applications to watch, and the story as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

from werkzeug.test import Client, TestResponse

from todo_wsgi.xray import XRay
from todo_wsgi.xray.blocks import Story
from todo_wsgi.xray.story import tell
from todo_wsgi.xray.text import Printer

App = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


class Watched(Client):
    """A client of an application under the x-ray."""

    def __init__(self, xray: XRay) -> None:
        super().__init__(xray)
        self.xray = xray

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=True, **kwargs)

    def story(self, number: int = 0) -> Story:
        """The story of a request: of the last one, unless it has a number."""
        traces = self.xray.traces
        trace = traces.get(number) if number else traces.last()[0]
        assert trace
        assert not [remark for remark in trace.remarks if "x-ray itself failed" in remark]
        return tell(trace, traces)

    def told(self, number: int = 0, part: int = 0) -> str:
        """The story as text in one line, or one part of it."""
        story = self.story(number)
        if part:
            story = story._replace(parts=[story.parts[part - 1]])
        return one_line("\n".join(Printer().lines(story)))


def one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def watching(app: Any) -> Iterator[Watched]:
    with closing(XRay(app)) as xray:
        yield Watched(xray)


def answering(page: str, act: Callable[[WSGIEnvironment], object] = lambda _: None) -> App:
    """An application that does something, and answers with a page."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        act(environ)
        start_response("200 OK", [("Content-Type", "text/html")])
        return [page.encode()]

    return app


def client_environ() -> WSGIEnvironment:
    environ: WSGIEnvironment = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    return environ
