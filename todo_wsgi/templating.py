"""Templates: HTML with `$placeholders`, in the spirit of `string.Template`, but escaped.

A template is taken apart once, when it is loaded; filling it is then joining strings. Here, and
nowhere else, values become HTML, so here they are escaped.
"""

import html
import re

from todo_wsgi.resources import read_resource


class SafeHTML(str):
    """Text that is HTML already and goes into a template as it is.

    What `Template.render` returns is SafeHTML, so templates fit into templates. Wrap anything
    else in it only if no visitor can have typed it: look for the word to find all such places.
    """

    __slots__ = ()


class Template:
    """HTML with placeholders: `$name`, in small letters. Any other dollar sign is text."""

    def __init__(self, source: str) -> None:
        # Text and names in turn: "<b>$text</b>" becomes ["<b>", "text", "</b>"].
        self._pieces = re.split(r"\$([a-z_]+)", source)

    def render(self, **values: object) -> SafeHTML:
        """Put in each placeholder's value, escaped unless it is SafeHTML.

        A placeholder without a value is a KeyError.
        """
        pieces = self._pieces.copy()
        pieces[1::2] = [_escape(values[name]) for name in pieces[1::2]]
        return SafeHTML("".join(pieces))


def load_template(name: str) -> Template:
    """Return the template in the file `name` of the folder `templates/`."""
    return Template(read_resource(f"templates/{name}").decode())


def _escape(value: object) -> str:
    return value if isinstance(value, SafeHTML) else html.escape(str(value))
