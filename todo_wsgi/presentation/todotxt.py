"""The todo.txt format (https://github.com/todotxt/todo.txt): one todo per line, with its dates.

    2026-11-20 buy milk
    x 2026-11-22 2026-11-20 buy bread

A completed todo begins with "x" and the date of its completion; then comes the date on which it was
added.
"""

import re
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from datetime import date
from gzip import GzipFile
from tempfile import SpooledTemporaryFile

from todo_wsgi.http.file_response import FileResponse
from todo_wsgi.http.response import GZIP, TEXT, VARY
from todo_wsgi.storage.models import InvalidText, clean_text, join_lines
from todo_wsgi.storage.transfer import DatedTodo

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_PRIORITY = r"\([A-Z]\) "
_MAX_LINES = 1000
_LINE = re.compile(
    rf"(?:x (?:(?P<completed_on>{_DATE})(?: |$))?|(?P<priority>{_PRIORITY})?)"
    rf"(?:(?P<created_on>{_DATE})(?: |$))?(?P<text>.*)"
)


_MAX_IN_MEMORY = 1024 * 1024  # bytes; a longer export goes into a temporary file


def export(todos: Iterable[DatedTodo], *, is_gzipped: bool) -> FileResponse:
    """Return a response with the todos in this format, in constant memory, however many there are.

    They are written to a file first and sent from there, so a slow client does not block the
    database, and a failure becomes an error page instead of a truncated list.
    """
    file = SpooledTemporaryFile(max_size=_MAX_IN_MEMORY)  # noqa: SIM115  the response closes it
    try:
        with GzipFile(fileobj=file, mode="wb") if is_gzipped else nullcontext(file) as lines:
            for todo in todos:
                lines.write(format_todo(todo).encode())
        headers = [VARY, GZIP] if is_gzipped else [VARY]
        return FileResponse(file, content_type=TEXT, headers=headers)
    except BaseException:
        with suppress(OSError):  # the disk may be full
            file.close()
        raise


def format_todo(todo: DatedTodo) -> str:
    """Return the todo as a line, with its end."""
    # A value inserted by hand may not be a date.
    completed_on, created_on = (
        f"{day} " if day and re.fullmatch(_DATE, day) else ""
        for day in (todo.completed_on, todo.created_on)
    )
    text = join_lines(todo.text)
    if todo.is_completed:
        return f"x {completed_on}{created_on}{text}\n"
    if re.match(_PRIORITY, text):  # four characters, and they come before the date
        return f"{text[:4]}{created_on}{text[4:]}\n"
    return f"{created_on}{text}\n"


class InvalidLine(ValueError):
    """A line that cannot be a todo; the message names it, and is for the person who sent it."""


def parse_todos(text: str) -> list[DatedTodo]:
    """Return the todos of all lines that are not empty.

    A priority stays in the text, as does everything else that we do not know. Raises InvalidLine
    for the first line that cannot be a todo, or if there are too many.
    """
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    todos = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(todos) > _MAX_LINES:
        raise InvalidLine(f"Import {_MAX_LINES:,} lines at a time: these are {len(todos):,}.")
    return [_parse_line(number, line) for number, line in todos]


def _parse_line(number: int, line: str) -> DatedTodo:
    line = line.strip()
    parts = _LINE.fullmatch(line)
    assert parts  # each part may be missing, so every line matches
    for day in filter(None, (parts["completed_on"], parts["created_on"])):
        try:
            date.fromisoformat(day)
        except ValueError:
            raise InvalidLine(f"Line {number}: there is no date {day}. Correct it.") from None
    try:
        text = clean_text((parts["priority"] or "") + parts["text"])
    except InvalidText as reason:
        raise InvalidLine(f"Line {number}: {reason}") from reason
    return DatedTodo(text, line.startswith("x "), parts["created_on"], parts["completed_on"])
