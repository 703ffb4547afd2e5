"""What a story is made of: parts, and in them blocks of text, code, tables, and so on.

`story.py` makes them, `text.py` and `pages.py` print them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from todo_wsgi.xray.values import cut

THREAD = "Process and thread"  # a fact

# The parts of a story.
SENT, ENVIRON, ROUTE, FORM, CALLS, SQL, TEMPLATE, ANSWER, NEXT = range(1, 10)


# Things that learners get wrong.
LESSONS = [
    "Python does not run in the browser",
    "One page is several requests",
    "Without a redirect, a reload posts again",
    "A redirect is an answer, and then a new request",
    "GET and POST differ in what may change",
    "A link must not delete",
    "The name is what is sent",
    "The body is a stream that is read once",
    "Bytes, percent-encoding, str and HTML are four stages of one value",
    "WSGI wants certain types",
    "execute does not save, commit does",
    "The ? is no string formatting",
    "A global variable is no storage",
    "A value is escaped where it becomes HTML",
    "Server, WSGI, application and proxy each do their part",
]


class Remark(NamedTuple):
    """What is to be said in a part about one of the lessons; they are numbered from 1 on."""

    part: int
    lesson: int
    is_mistake: bool
    text: str

    @property
    def title(self) -> str:
        """The lesson."""
        return LESSONS[self.lesson - 1]


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Code(NamedTuple):
    """Text as it stands in a file or comes over a wire."""

    text: str


class Source(NamedTuple):
    """A line of source that did something."""

    place: str  # file and line
    code: str


class Table(NamedTuple):
    """A table; a cell is text or a line of source. It may be folded, where that can be done."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Source]]
    is_folded: bool = False


class Node(NamedTuple):
    """A call in the tree of calls, or a statement."""

    kind: str  # "call", "library" or "sql"
    label: str
    result: str
    time: str
    source: Source
    children: list["Node"]


class Tree(NamedTuple):
    """All calls."""

    nodes: list[Node]


class Step(NamedTuple):
    """Another request that this one has to do with."""

    number: int
    relation: str
    text: str


class Steps(NamedTuple):
    """The requests around this one."""

    steps: list[Step]


class Message(NamedTuple):
    """An arrow in the picture, from one lane to another."""

    time: str
    start: int
    end: int
    text: str
    took: str


class Picture(NamedTuple):
    """The lanes, and what goes from one to another, in time."""

    lanes: list[str]
    messages: list[Message]


Block = Text | Code | Source | Table | Tree | Steps | Remark


class Part(NamedTuple):
    """A part of the story."""

    number: int
    short: str
    title: str
    blocks: list[Block]


class Summary(NamedTuple):
    """A request in a line."""

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
        """How it is called."""
        return f"{self.method} {cut(self.target, 80)}"


class Story(NamedTuple):
    """The whole story of a request."""

    summary: Summary
    picture: Picture
    times: Table
    curl: list[str]  # the words of a command
    facts: list[tuple[str, str]]  # name and value, to be compared with those of another request
    parts: list[Part]
