"""Guarantees of the HTTP layer that other code relies on, but that no page makes visible."""

from __future__ import annotations

from wsgiref.util import setup_testing_defaults

import pytest

from todo_wsgi.handlers import create_todo
from todo_wsgi.http.errors import MethodNotAllowed
from todo_wsgi.http.response import Response
from todo_wsgi.http.routing import Route, match


@pytest.mark.parametrize("value", ["/\r\nSet-Cookie: a=b", "/\nx", "/\0", "/\x7f", "/☃"])
def test_an_invalid_header_value_raises_value_error(value: str) -> None:
    with pytest.raises(ValueError, match="the header Location cannot have"):
        Response("", headers=[("Location", value)])


def test_a_response_is_reusable_after_its_headers_are_mutated() -> None:
    response, sent = Response("milk"), []

    def start_response(_: str, headers: list[tuple[str, str]]) -> None:
        sent.append(list(headers))
        headers.clear()

    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    for _ in range(2):
        assert response(environ, start_response) == [b"milk"]  # type: ignore[arg-type]
    assert sent[0] == sent[1] != []


def test_a_route_without_get_does_not_allow_head() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        match([Route("POST", "/", create_todo)], "HEAD", "/")
    assert refused.value.headers == (("Allow", "POST"),)
