"""Templates: HTML with `$placeholders`, in the spirit of `string.Template`, but escaped.

A template is taken apart once, when it is loaded; filling it is then joining strings. Here, and
nowhere else, values become HTML, so here they are escaped.
"""

import html
import re

from todo_wsgi.storage.resources import read_resource

# Control characters, and numbers that no character has: an error in HTML, even when escaped (WHATWG
# HTML, 13.2.3.5, "Preprocessing the input stream"). Line breaks, tabs and form feeds are not.
_NOT_IN_HTML = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


class SafeHTML(str):
    """Text that is HTML already and goes into a template as it is.

    What `Template.render` returns is SafeHTML, so templates fit into templates. Wrap anything
    else in it only if no visitor can have typed it: look for the word to find all such places.
    """

    __slots__ = ()


class Template:
    """HTML with placeholders: `$name`, in small letters. Any other dollar sign is text.

    `name` is the template's own, to tell it from others.
    """

    def __init__(self, source: str, name: str = "") -> None:
        self.name = name
        # Text and names in turn: "<b>$text</b>" becomes ["<b>", "text", "</b>"].
        self._pieces = re.split(r"\$([a-z_]+)", source)

    def render(self, **values: object) -> SafeHTML:
        """Put in each placeholder's value, escaped unless it is SafeHTML.

        A placeholder without a value is a KeyError.
        """
        escaped = {name: _escape(value) for name, value in values.items()}
        pieces = self._pieces.copy()
        pieces[1::2] = [escaped[name] for name in pieces[1::2]]
        return SafeHTML("".join(pieces))


def load_template(name: str) -> Template:
    """Return the template in the file `name` of the folder `templates/`."""
    return Template(read_resource(f"templates/{name}").decode(), name)


def _escape(value: object) -> str:
    if isinstance(value, SafeHTML):
        return value
    return _NOT_IN_HTML.sub("\ufffd", html.escape(str(value)))
