"""The todo.txt format (https://github.com/todotxt/todo.txt): one todo a line, with its dates.

    2026-11-20 buy milk
    x 2026-11-22 2026-11-20 buy bread

A completed todo begins with "x" and the date of its completion; then comes the date on which it was
added. Handlers use this for export and import.
"""

import re
from datetime import date

from todo_wsgi.storage.models import DatedTodo, InvalidText, clean_text, join_lines

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_PRIORITY = r"\([A-Z]\) "
_LINE = re.compile(
    rf"(?:x (?:(?P<completed_on>{_DATE})(?: |$))?|(?P<priority>{_PRIORITY})?)"
    rf"(?:(?P<created_on>{_DATE})(?: |$))?(?P<text>.*)"
)


class InvalidLine(ValueError):
    """A line that cannot be a todo; the message names it, and is for the person who sent it."""


def format_todo(todo: DatedTodo) -> str:
    """Return the todo as a line, with its end."""
    # What was put there by hand may be no date.
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


def parse_todos(text: str) -> list[DatedTodo]:
    """Return the todos of all lines that are not empty.

    A priority stays in the text, as does all else that we do not know. Raises InvalidLine for the
    first line that cannot be a todo.
    """
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    return [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]


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
