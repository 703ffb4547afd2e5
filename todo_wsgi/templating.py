"""Templates: HTML with `$holes`, in the idea of `string.Template`, but escaped.

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
    """HTML with holes: `$name`, or `${name}` where a letter follows, and `$$` for a dollar sign.

    A dollar sign that is none of these is a ValueError.
    """

    _hole = re.compile(r"\$(?:(?P<name>[a-z_]+)|\{(?P<braced>[a-z_]+)\}|(?P<dollar>\$)|)")

    def __init__(self, source: str) -> None:
        self._pieces: list[tuple[str, str]] = []  # (text, name of the hole after it)
        text, end = "", 0
        for hole in self._hole.finditer(source):
            text += source[end : hole.start()]
            end = hole.end()
            if name := hole["name"] or hole["braced"]:
                self._pieces.append((text, name))
                text = ""
            elif hole["dollar"]:
                text += "$"
            else:
                line = source.count("\n", 0, end) + 1
                raise ValueError(f"line {line}: write $name for a hole, $$ for a dollar sign")
        self._tail = text + source[end:]

    def render(self, **values: object) -> SafeHTML:
        """Fill every hole with the value of its name, escaped unless it is SafeHTML.

        A hole without a value is a KeyError.
        """
        filled = [text + _escape(values[name]) for text, name in self._pieces]
        return SafeHTML("".join(filled) + self._tail)


def load_template(name: str) -> Template:
    """Read a template from the folder `templates/`; `name` is the file's."""
    return Template(read_resource(f"templates/{name}").decode())


def _escape(value: object) -> str:
    return value if isinstance(value, SafeHTML) else html.escape(str(value))
