"""Templates: HTML with `$placeholders`, in the spirit of `string.Template`, but escaped.

A template is split once, when it is loaded; rendering it joins strings. Here, and nowhere else,
values become HTML, so here they are escaped.
"""

import html
import re

from todo_wsgi.storage.resources import read_resource

# Control characters and noncharacters: an error in HTML, even when escaped (WHATWG HTML, 13.2.3.5,
# "Preprocessing the input stream"). Line breaks, tabs and form feeds are not.
_NOT_IN_HTML = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


class SafeHTML(str):
    """Text that is HTML already, and goes into a template without escaping.

    `Template.render` returns SafeHTML, so templates fit into templates. Wrap nothing else in it
    unless no visitor can have typed it: search for the name to find all such places.
    """

    __slots__ = ()


class Template:
    """HTML with placeholders: `$name`, in lower case. Any other dollar sign is text.

    `name` is the name of the template itself.
    """

    def __init__(self, source: str, name: str = "") -> None:
        self.name = name
        # Text and names in turn: "<b>$text</b>" becomes ["<b>", "text", "</b>"].
        self._pieces = re.split(r"\$([a-z_]+)", source)

    def render(self, **values: object) -> SafeHTML:
        """Return the template with each placeholder's value, escaped unless it is SafeHTML.

        Raises KeyError for a placeholder without a value.
        """
        escaped = {name: escape(value) for name, value in values.items()}
        pieces = self._pieces.copy()
        pieces[1::2] = [escaped[name] for name in pieces[1::2]]
        return SafeHTML("".join(pieces))


def load_template(name: str) -> Template:
    """Return the template in the file `name` of the folder `templates/`."""
    return Template(read_resource(f"templates/{name}").decode(), name)


def escape(value: object) -> SafeHTML:
    """Return the value as HTML that shows it; SafeHTML as it is."""
    if isinstance(value, SafeHTML):
        return value
    return SafeHTML(_NOT_IN_HTML.sub("\ufffd", html.escape(str(value))))
