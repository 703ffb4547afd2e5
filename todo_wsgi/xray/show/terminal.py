"""The story as text for a terminal: at most 100 columns, with optional colour.

In short, the picture and a line for each part; with `is_all`, everything.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from xml.etree.ElementTree import Element

from todo_wsgi.xray.record.values import cut
from todo_wsgi.xray.story import curl
from todo_wsgi.xray.story.document import Message, Story

MAX_WIDTH = 100  # columns
_BOLD, _FAINT, _RED, _GREEN, _BLUE = "1", "2", "31", "32", "34"  # ECMA-48, 8.3.117 (SGR)
_COLOURS = {"mistake": _RED, "fact": _GREEN, "source": _BLUE, "library": _FAINT, "sql": _FAINT}
_BLOCKS = ("ul", "details", "span")  # that begin a line of their own


class Printer:
    """Writes a story as lines of at most `width` columns, except for the command at its end."""

    def __init__(self, *, width: int = MAX_WIDTH, is_coloured: bool = False) -> None:
        self._width = max(40, min(width, MAX_WIDTH))
        self._is_coloured = is_coloured
        self._is_all = False

    def lines(
        self, story: Story, parts: Collection[int] = (), *, is_all: bool = False
    ) -> Iterator[str]:
        """Yield the lines of the story, or only those of the parts with these numbers."""
        summary, self._is_all = story.summary, is_all
        is_whole = is_all or bool(parts)
        yield from self._wrap(f"{summary.title} → {summary.status}", colour=_BOLD)
        yield ""
        if not parts:
            yield from (line for m in story.messages for line in self._message(story.lanes, m))
            yield ""
        for part in story.parts:
            if not parts or part.number in parts:
                title = f"{part.number}. {part.title}: {part.essence}"
                yield from self._wrap(title, rest="   ", colour=_BOLD if is_whole else "")
                for item in part.content:
                    if is_whole or item.get("class") == "mistake":
                        yield from self._block(item, "   ")
                if is_whole:
                    yield ""
        if not parts:
            yield ""
            yield from self._wrap("The same request again:", colour=_BOLD)
            yield curl.join(story.curl)
            yield from self._wrap(curl.note(story.curl))
            yield from self._wrap("" if is_all else "--part 6 shows a part, --all everything.")
            yield ""
        yield from self._wrap(summary.verdict, colour=_RED if summary.mistakes else _GREEN)

    def _message(self, lanes: list[str], message: Message) -> Iterator[str]:
        ends = cut(lanes[message.sender], 11), cut(lanes[message.receiver], 11)
        way = " ↔ ".join(ends) if message.is_answered else " → ".join(ends)
        yield from self._wrap(message.text, f"  {way:<26}", " " * 28)

    def _block(self, item: Element, indent: str) -> Iterator[str]:
        inner = f"{indent}  " if len(indent) < self._width // 3 else indent
        colour = _COLOURS.get(item.get("class", ""), "")
        if item.tag == "table":
            yield from self._table(item, indent)
        elif item.tag == "details" and not self._is_all:
            yield from self._wrap(f"▸ {item[0].text}", indent, inner, _FAINT)
        elif item.tag in ("ul", "details"):
            for child in item:
                yield from self._block(child, indent)
        elif item.tag == "pre":
            for line in (item.text or "").split("\n"):
                yield from self._wrap(line, indent, inner)
        else:
            rest = inner if item.tag in ("li", "span") else indent
            yield from self._flow(item, indent, rest, colour)

    def _flow(self, item: Element, first: str, rest: str, colour: str) -> Iterator[str]:
        """Yield the text of an element, and the blocks in it, each on lines of its own."""
        text = item.text or ""
        for child in item:
            if child.tag in _BLOCKS:
                yield from self._wrap(text, first, rest, colour)
                yield from self._block(child, rest)
                text = ""
            else:
                text += "".join(child.itertext()) + (child.tail or "")
        yield from self._wrap(text, first, rest, colour)

    def _table(self, item: Element, indent: str) -> Iterator[str]:
        if (caption := item.findtext("caption")) is not None:
            yield from self._wrap(f"{caption}:", indent, indent)
        rows = [list(row) for row in item.iterfind("tbody/tr")]
        # A first cell with no more than its share of the width has the others beside it.
        share = self._width // max(map(len, rows), default=1)
        short = [text for row in rows if columns(text := _text(row[0])) <= share]
        size = max((columns(text) for text in short if "\n" not in text), default=0)
        for first, *others in rows:
            name, margin = _text(first), f"{indent}    "
            if columns(name) <= size and "\n" not in name:
                start = f"{indent}  {name}{' ' * (size - columns(name))}  "
                margin += " " * size
            else:
                yield from self._wrap(name, f"{indent}  ", margin)
                start = margin
            yield from self._wrap("  ".join(filter(None, map(_text, others))), start, margin)
            for line in (line for cell in others for line in cell.iter("span")):
                yield from self._flow(line, margin, margin + "  ", _BLUE)

    def _wrap(self, text: str, first: str = "", rest: str = "", colour: str = "") -> Iterator[str]:
        for line in wrap(text, self._width, first, rest):
            yield f"\x1b[{colour}m{line}\x1b[0m" if self._is_coloured and colour else line


def _text(cell: Element) -> str:
    """Return the text of a table cell, without the lines of source code in it."""
    return "" if cell.find("span") is not None else "".join(cell.itertext())


def wrap(text: str, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """Yield lines of at most `width` columns, the first prefixed by `first`, others by `rest`."""
    for paragraph in text.split("\n"):
        line = first
        for word in re.findall(" *[^ ]+", paragraph):
            is_long = columns(rest + word) > width
            for piece in word if is_long else [word]:
                if columns(line + piece) > width:
                    yield line
                    line = rest + piece.lstrip()
                else:
                    line += piece
        if line.strip():
            yield line
        first = rest


def columns(text: str) -> int:
    """Return the width of the text in terminal columns: two for a Chinese character (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
