"""What a story is made of: nine parts, whose contents are elements of HTML.

`parts.py` and `lessons.py` make the elements with the functions below. The browser gets them as
they are (`show/pages.py`); the terminal walks through the same tree (`show/terminal.py`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from todo_wsgi.xray.record.source import Line

# The parts of a story: a word and a title for each.
PARTS = [
    ("Sent", "What the browser sent"),
    ("Environ", "What the server passed to the application"),
    ("Route", "The route"),
    ("Form", "The form"),
    ("Functions", "The functions that ran"),
    ("SQL", "SQL"),
    ("Template", "The template"),
    ("Response", "What the server sent back"),
    ("Next", "What the browser does next"),
]
SENT, ENVIRON, ROUTE, FORM, CALLS, SQL, TEMPLATE, RESPONSE, NEXT = range(1, 10)

Content = Element | str | None


class Lesson(NamedTuple):
    """What one part of a story demonstrates of one lesson."""

    part: int
    is_mistake: bool
    text: str
    title: str  # the lesson in one sentence
    step: str  # of the tutorial, or ""

    @property
    def headline(self) -> str:
        """The text up to the first full stop or colon, to go on after a colon."""
        text = re.split(r"(?<!['\"])[.:](?: |$)", self.text, maxsplit=1)[0]
        word = text.partition(" ")[0]
        return text[:1].lower() + text[1:] if word.isalpha() and word.istitle() else text

    @property
    def where(self) -> str:
        """The part, such as "6. SQL"."""
        return f"{self.part}. {PARTS[self.part - 1][0]}"


class Step(NamedTuple):
    """A link from this request to a related one."""

    number: int
    relation: str
    text: str


class Summary(NamedTuple):
    """A request in one line."""

    number: int
    time: str  # of the day
    title: str  # method and target
    status: str
    kind: str
    steps: list[Step]
    parent: int | None  # the request that it belongs to: the POST of a GET, the page of a file
    mistakes: list[Lesson]

    @property
    def verdict(self) -> str:
        """What is wrong, such as "1 mistake: a GET changed 1 row (6. SQL)"."""
        found = "; ".join(f"{mistake.headline} ({mistake.where})" for mistake in self.mistakes)
        if not found:
            return "No mistake found" + " so far" * self.status.startswith("running,")
        return f"{count(len(self.mistakes), 'mistake')}: {found}"


class Message(NamedTuple):
    """An arrow in the picture, from one lane to another, and back if `is_answered`."""

    sender: int
    receiver: int
    text: str
    is_answered: bool = False


class Part(NamedTuple):
    """A part of the story. `essence` is the part in one line."""

    number: int
    short: str
    title: str
    essence: str
    content: list[Element]
    is_open: bool  # since it shows a mistake


class Story(NamedTuple):
    """The whole story of a request."""

    summary: Summary
    lanes: list[str]
    messages: list[Message]  # in order of time
    parts: list[Part]
    curl: list[str]  # the words of a command


def element(tag: str, *content: Content, **attributes: str) -> Element:
    """Return an element with text and elements in it; None is left out.

    An underscore in the name of an attribute is a hyphen, and one at its end is left out.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    made = Element(tag, names)
    for item in content:
        if isinstance(item, Element):
            made.append(item)
        elif item and len(made):
            made[-1].tail = (made[-1].tail or "") + visible(item)
        elif item:
            made.text = (made.text or "") + visible(item)
    return made


def visible(text: str) -> str:
    """Return the text with control and invisible characters escaped, except line breaks."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def paragraph(*content: Content) -> Element:
    """Return a paragraph."""
    return element("p", *content)


def code(text: str) -> Element:
    """Return text as it appears in a file or on the wire."""
    return element("pre", text, class_="code")


def source(line: Line | None) -> Element | None:
    """Return a line of source code that did something."""
    if line is None:
        return None
    text = element("code", line.code)
    return element("span", f"{line.name}:{line.number} ", text, class_="source")


def table(head: Sequence[str], rows: Iterable[Sequence[Content]], title: str = "") -> Element:
    """Return a table. The cells of a row are text or elements."""
    cells = [element("th", name, scope="col") if name else element("td") for name in head]
    return element(
        "table",
        element("caption", title) if title else None,
        element("thead", element("tr", *cells)) if any(head) else None,
        element("tbody", *(element("tr", *(element("td", c) for c in row)) for row in rows)),
    )


def folded(summary: str, *content: Content) -> Element:
    """Return content that is hidden until one opens it."""
    return element("details", element("summary", summary), *content)


def count(number: int, what: str) -> str:
    """Return the number of things in words, such as "1 row" or "2,000 rows"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
