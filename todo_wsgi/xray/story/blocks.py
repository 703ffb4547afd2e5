"""The parts of a story, and their blocks: text, code, tables and so on.

`story.py` creates them; `text.py` and `pages.py` render them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from todo_wsgi.xray.record.values import cut

THREAD = "Process and thread"  # a fact

# The parts of a story.
SENT, ENVIRON, ROUTE, FORM, CALLS, SQL, TEMPLATE, RESPONSE, NEXT = range(1, 10)


class Lesson(NamedTuple):
    """A lesson, as one part of the story shows it."""

    part: int
    is_mistake: bool
    text: str
    title: str  # the lesson in one sentence


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Code(NamedTuple):
    """Text as it appears in a file or on the wire."""

    text: str


class Source(NamedTuple):
    """A line of source code that did something."""

    line: str  # file and number
    code: str


class Table(NamedTuple):
    """A table whose cells are text or lines of source code; the pages fold it if `is_folded`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Source]]
    is_folded: bool = False


class Node(NamedTuple):
    """A function call or an SQL statement in the tree of calls."""

    kind: str  # "call", "library" or "sql"
    label: str
    result: str
    time: str
    source: Source
    children: list["Node"]


class Tree(NamedTuple):
    """The tree of calls."""

    nodes: list[Node]


class Step(NamedTuple):
    """A link from this request to a related one."""

    number: int
    relation: str
    text: str


class Steps(NamedTuple):
    """The requests related to this one."""

    steps: list[Step]


class Message(NamedTuple):
    """An arrow in the picture, from one lane to another."""

    time: str
    sender: int
    receiver: int
    text: str
    took: str


class Picture(NamedTuple):
    """The lanes, and the messages between them in order of time."""

    lanes: list[str]
    messages: list[Message]


Block = Text | Code | Source | Table | Tree | Steps | Lesson


class Part(NamedTuple):
    """A part of the story."""

    number: int
    short: str
    title: str
    blocks: list[Block]


class Summary(NamedTuple):
    """A request in one line."""

    number: int
    time: str  # of the day
    method: str
    target: str
    status: str
    took: str
    kind: str
    steps: list[Step]

    @property
    def title(self) -> str:
        """The method and target, cut to 80 characters."""
        return f"{self.method} {cut(self.target, 80)}"


class Story(NamedTuple):
    """The whole story of a request."""

    summary: Summary
    picture: Picture
    times: Table
    curl: list[str]  # the words of a command
    facts: list[tuple[str, str]]  # name and value, for comparing two requests
    parts: list[Part]
