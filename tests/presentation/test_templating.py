"""Templates: they render values as escaped HTML."""

from __future__ import annotations

import pytest

from todo_wsgi.presentation.templating import SafeHTML, Template


def test_a_template_escapes_its_values() -> None:
    template = Template('<p title="$title">$text</p>')
    filled = template.render(title="\"'", text="<b> & $text")
    assert filled == '<p title="&quot;&#x27;">&lt;b&gt; &amp; $text</p>'


def test_safe_html_is_not_escaped_again() -> None:
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
def test_a_template_replaces_each_placeholder(source: str, filled: str) -> None:
    assert Template(source).render(name=1) == filled


def test_a_placeholder_without_a_value_raises_key_error() -> None:
    with pytest.raises(KeyError, match="text"):
        Template("$text").render(txt="milk")
