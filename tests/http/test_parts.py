"""Parts that other code is built from, where a page alone would not show what they promise."""

from __future__ import annotations

import shutil
from wsgiref.util import setup_testing_defaults

import pytest
from servers import need

import todo_wsgi
from todo_wsgi.handlers import create_todo
from todo_wsgi.http.errors import MethodNotAllowed
from todo_wsgi.http.response import Response
from todo_wsgi.http.routing import Route, match
from todo_wsgi.presentation.templating import SafeHTML, Template


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
        ("no placeholder", "no placeholder"),
        ("$name", "1"),
        ("$name$name-$name.", "11-1."),
        ("$5 $ $$", "$5 $ $$"),
    ],
)
def test_a_template_has_a_value_for_each_placeholder(source: str, filled: str) -> None:
    assert Template(source).render(name=1) == filled


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="text"):
        Template("$text").render(txt="milk")


@pytest.mark.parametrize("value", ["/\r\nSet-Cookie: a=b", "/\nx", "/\0", "/\x7f", "/☃"])
def test_a_header_cannot_hold_what_would_begin_another(value: str) -> None:
    with pytest.raises(ValueError, match="the header Location cannot have"):
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


# Of the tests themselves


def test_a_program_that_is_missing_skips_a_test_but_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert need("python3") == shutil.which("python3")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"install it .*, or run: make it$"):
        need("no-such-program", or_run="make it")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"install it \(.*\)$"):
        need("no-such-program")
