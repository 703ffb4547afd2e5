"""Parts that other code is built from, where a page alone would not show what they promise."""

from __future__ import annotations

from wsgiref.util import setup_testing_defaults

import pytest

import todo_wsgi
from todo_wsgi.errors import MethodNotAllowed
from todo_wsgi.handlers import create_todo
from todo_wsgi.response import Response
from todo_wsgi.routing import Route, match
from todo_wsgi.templating import SafeHTML, Template


def test_a_template_escapes_what_it_is_given() -> None:
    template = Template('<p title="$title">$text</p>')
    filled = template.render(title="\"'", text="<b> & $text")
    assert filled == '<p title="&quot;&#x27;">&lt;b&gt; &amp; $text</p>'


def test_a_template_takes_safe_html_and_templates_as_they_are() -> None:
    item = Template("<li>$text</li>")
    items = SafeHTML("".join(item.render(text=text) for text in ("a&b", "c")))
    assert Template("<ul>$items</ul>").render(items=items) == "<ul><li>a&amp;b</li><li>c</li></ul>"


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ("", ""),
        ("no hole", "no hole"),
        ("$name", "1"),
        ("${name}th and $name-$name.", "1th and 1-1."),
        ("$$5 $$name $$$name", "$5 $name $1"),
    ],
)
def test_a_template_has_holes_as_string_template_has_them(source: str, filled: str) -> None:
    assert Template(source).render(name=1) == filled


def test_a_hole_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="text"):
        Template("$text").render(txt="milk")


@pytest.mark.parametrize("source", ["$", "one\n5 $", "$ {name}", "${name", "$5"])
def test_a_dollar_sign_that_is_no_hole_is_an_error(source: str) -> None:
    with pytest.raises(ValueError, match=f"line {1 + source.count(chr(10))}: write"):
        Template(source)


@pytest.mark.parametrize("value", ["/\r\nSet-Cookie: a=b", "/\nx", "/\0", "/\x7f", "/☃"])
def test_a_header_cannot_hold_what_would_begin_another(value: str) -> None:
    with pytest.raises(ValueError, match="the header Location cannot hold"):
        Response("", headers=[("Location", value)])


def test_a_response_may_answer_many_requests_and_servers_may_change_its_headers() -> None:
    response, sent = Response("milk"), []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> None:
        sent.append(list(headers))
        headers.clear()

    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    for _ in range(2):
        assert response(environ, start_response) == [b"milk"]  # type: ignore[arg-type]
    assert sent[0] == sent[1] != []


def test_a_route_without_get_has_no_head() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        match([Route("POST", "/", create_todo)], "HEAD", "/")
    assert refused.value.headers == (("Allow", "POST"),)


def test_the_package_has_no_other_attribute_made_on_demand() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'application_'"):
        _ = todo_wsgi.application_
