"""The story as text for a terminal: at most 100 columns, with optional colour."""

import re
import unicodedata
from collections.abc import Collection, Iterator

from todo_wsgi.xray.record.values import cut
from todo_wsgi.xray.story import curl as shell
from todo_wsgi.xray.story.blocks import (
    Block,
    Code,
    Node,
    Picture,
    Source,
    Steps,
    Story,
    Table,
    Text,
    Tree,
)

MAX_WIDTH = 100  # columns
_BOLD, _FAINT, _RED, _GREEN, _BLUE = "1", "2", "31", "32", "34"  # ECMA-48, 8.3.117 (SGR)


class Printer:
    """Writes a story as lines of at most `width` columns."""

    def __init__(self, *, width: int = MAX_WIDTH, is_coloured: bool = False) -> None:
        self._width = max(40, min(width, MAX_WIDTH))
        self._is_coloured = is_coloured

    def lines(
        self,
        story: Story,
        parts: Collection[int] = (),
        is_all: bool = False,  # noqa: ARG002
    ) -> Iterator[str]:
        """Yield the lines of the story: of these parts, or of all."""
        summary = story.summary
        yield from self._wrap(f"{summary.title} → {summary.status}", colour=_BOLD)
        yield ""
        yield from self._picture(story.picture)
        yield ""
        yield from self._table(story.times)
        for part in [part for part in story.parts if not parts or part.number in parts]:
            yield ""
            yield from self._wrap(f"{part.number}. {part.title}", colour=_BOLD)
            for block in part.blocks:
                if isinstance(block, Table):
                    yield ""
                yield from self._block(block)
        yield ""
        yield from self._wrap(
            "The same request again, to a server that runs the application", colour=_BOLD
        )
        yield from shell.lines(story.curl, self._width)
        if note := shell.note(story.curl):
            yield from self._wrap(note)

    def _block(self, block: Block) -> Iterator[str]:
        match block:
            case Text(text):
                yield from self._wrap(text)
            case Code(text):
                yield from self._wrap(text, "    ", "    ")
            case Source():
                yield from self._source(block, "  ")
            case Table():
                yield from self._table(block)
            case Tree(nodes):
                yield from self._nodes(nodes, "  ")
            case Steps(steps):
                for step in steps:
                    yield from self._wrap(f"{step.relation} {step.number}: {step.text}")
            case _:
                sign, colour = ("✗ ", _RED) if block.is_mistake else ("• ", _GREEN)
                yield from self._wrap(f"{block.text} ({block.title})", sign, "  ", colour)

    def _picture(self, picture: Picture) -> Iterator[str]:
        for message in picture.messages:
            ends = picture.lanes[message.sender], picture.lanes[message.receiver]
            way = " → ".join(cut(lane, 11) for lane in ends)
            took = f" ({message.took})" if message.took else ""
            first = f"{message.time:>10}  {way:<27} "
            yield from self._wrap(message.text + took, first, " " * 40)

    def _table(self, table: Table) -> Iterator[str]:
        yield from self._wrap(table.title + ":")
        size = min(max((columns(printable(str(row[0]))) for row in table.rows), default=0), 32)
        margin = " " * (size + 4)
        for row in table.rows:
            first, *others = row
            texts = "  ".join(cell for cell in others if isinstance(cell, str) and cell)
            name = printable(str(first))
            gap = " " * (size - columns(name)) + "  "
            if columns(name) <= size:
                yield from self._wrap(texts, f"  {name}{gap}", margin)
            else:
                yield from self._wrap(name, "  ", "  ")
                yield from self._wrap(texts, margin, margin)
            for cell in others:
                if isinstance(cell, Source):
                    yield from self._source(cell, margin)

    def _source(self, source: Source, indent: str) -> Iterator[str]:
        if source.line:
            yield from self._wrap(f"{source.line}  {source.code}", indent, indent + "  ", _BLUE)

    def _nodes(self, nodes: list[Node], indent: str) -> Iterator[str]:
        indent = indent[: self._width // 3]
        for node in nodes:
            sign = {"call": "", "library": "library: ", "sql": "SQL: "}[node.kind]
            result = f" → {node.result}" if node.result else ""
            colour = "" if node.kind == "call" else _FAINT
            line = f"{sign}{node.label}{result}  ({node.time})"
            yield from self._wrap(line, indent, indent + "      ", colour)
            if node.kind == "call":
                yield from self._source(node.source, indent + "    ")
            yield from self._nodes(node.children, indent + "  ")

    def _wrap(self, text: str, first: str = "", rest: str = "", colour: str = "") -> Iterator[str]:
        for line in wrap(text, self._width, first, rest):
            yield self._paint(line, colour)

    def _paint(self, line: str, colour: str) -> str:
        return f"\x1b[{colour}m{line}\x1b[0m" if self._is_coloured and colour else line


def wrap(text: str, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """Yield lines of at most `width` columns, the first prefixed by `first`, others by `rest`."""
    indent = line = first
    for paragraph in printable(text).split("\n"):
        for word in re.findall(r"\s*\S+|\s+", paragraph):
            while columns(line + word) > width:
                if line != indent:
                    yield line.rstrip()
                    word = word.lstrip()
                else:  # the word alone does not fit into a line
                    size = len(word)
                    while columns(line + word[:size]) > width:
                        size -= 1
                    yield line + word[:size]
                    word = word[size:]
                indent = line = rest
            line += word
        yield line.rstrip()
        indent = line = rest


def printable(text: str) -> str:
    """Return the text with control and invisible characters escaped, except line breaks."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def columns(text: str) -> int:
    """Return the width of the text in terminal columns: two for a Chinese character (UAX 11)."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
