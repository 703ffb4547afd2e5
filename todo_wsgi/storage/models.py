"""What the application keeps: todos. One function for each thing that is asked or done.

Handlers call these with a connection from `db.py`. Storage knows nothing of HTTP: a text that
cannot be a todo is an InvalidText, a todo that is not there is None, and the handler decides what
the visitor sees.

Nothing here takes longer in a longer list, but for what is about all of it: rows are found by an
index, and how many there are is not counted, but kept by the database (init_db.sql).
"""

import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

MAX_TEXT_LENGTH = 500  # characters; a todo is a line, not a letter
PAGE_SIZE = 100  # todos
RECOVERABLE = timedelta(days=30)  # from when a todo is deleted until it is removed for good
DOUBLE_CLICK = timedelta(seconds=5)  # a second click comes within this time, however slow the line

FILTERS = {
    "all": "deleted_at IS NULL",
    "active": "deleted_at IS NULL AND completed_at IS NULL",
    "completed": "deleted_at IS NULL AND completed_at IS NOT NULL",
}
_TOP, _BOTTOM = 2**63 - 1, -(2**63)  # no place is beyond them: SQLite has no other integers


class InvalidText(ValueError):
    """A text that cannot be a todo; the message is for the person who typed it."""


# A row put in by hand may hold a BLOB; CAST makes it text like all others.
_TODO_COLUMNS = "id, CAST(text AS TEXT), completed_at IS NOT NULL, place"


class Todo(NamedTuple):
    """A row of the table `todos`, as far as a page shows it."""

    id: int
    text: str
    is_completed: bool
    place: int


class DatedTodo(NamedTuple):
    """A todo with the days of its times, like "2026-11-22"."""

    text: str
    is_completed: bool
    created_on: str | None
    completed_on: str | None


def join_lines(text: str) -> str:
    """Return the text as one line: a space for its line breaks and the white space around them."""
    lines = (line.strip() for line in re.split("[\r\n]", text))
    return " ".join(line for line in lines if line)


def clean_text(text: str) -> str:
    """Return a todo's text as one line, without the white space around it.

    Raises InvalidText if nothing is left, or it is too long, or it has a control character such as
    a tab: those are invisible, and a list of single lines has no place for them.
    """
    text = join_lines(text)
    if not text:
        raise InvalidText("Write what there is to do.")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidText(f"Shorten it to {MAX_TEXT_LENGTH} characters: it has {len(text)}.")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidText("Remove the control characters, such as tabs.")
    return text


# Reading


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Read what is read in the `with` block as it was at one moment, whatever others commit."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.rollback()  # which here only means: end it


def list_todos(
    connection: sqlite3.Connection, show: str, start: int | None, limit: int = PAGE_SIZE
) -> list[Todo]:
    """Return the todos of the filter `show`, from the place `start` (None: the top) downwards."""
    rows = connection.execute(
        f"""
        SELECT {_TODO_COLUMNS}
        FROM todos
        WHERE {FILTERS[show]} AND place <= ?
        ORDER BY place DESC
        LIMIT ?
        """,
        (_TOP if start is None else start, limit),
    )
    return [Todo(*row) for row in rows]


def list_todos_above(
    connection: sqlite3.Connection, show: str, start: int | None, limit: int
) -> list[Todo]:
    """Return the todos of the filter `show` above the place `start`, the nearest one first."""
    if start is None:
        return []
    rows = connection.execute(
        f"""
        SELECT {_TODO_COLUMNS}
        FROM todos
        WHERE {FILTERS[show]} AND place > ?
        ORDER BY place
        LIMIT ?
        """,
        (start, limit),
    )
    return [Todo(*row) for row in rows]


def find_todo(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Return the todo, or None if there is none, or it is deleted."""
    row = connection.execute(
        f"SELECT {_TODO_COLUMNS} FROM todos WHERE id = ? AND deleted_at IS NULL", (todo_id,)
    ).fetchone()
    return Todo(*row) if row else None


def find_completed_at(connection: sqlite3.Connection, time: str) -> list[Todo]:
    """Return what was completed at that time, two todos at most: enough to tell one from many."""
    rows = connection.execute(
        f"""
        SELECT {_TODO_COLUMNS}
        FROM todos
        WHERE {FILTERS["completed"]} AND completed_at = ?
        LIMIT 2
        """,
        (time,),
    )
    return [Todo(*row) for row in rows]


def find_deleted_at(connection: sqlite3.Connection, time: str) -> list[Todo]:
    """Return what was deleted at that time, two todos at most: enough to tell one from many.

    What was deleted too long ago to be brought back is not found.
    """
    rows = connection.execute(
        f"""
        SELECT {_TODO_COLUMNS}
        FROM todos
        WHERE deleted_at = ? AND deleted_at > ?
        LIMIT 2
        """,
        (time, _end_of_recovery()),
    )
    return [Todo(*row) for row in rows]


def is_recoverable(time: str) -> bool:
    """Return whether what was deleted at that time could still be brought back."""
    return time > _end_of_recovery()


def count_active(connection: sqlite3.Connection) -> int:
    """Return how many todos are left to do."""
    count: int = connection.execute("SELECT active FROM todo_count WHERE id = 1").fetchone()[0]
    return count


def iterate_todos(connection: sqlite3.Connection) -> Iterator[DatedTodo]:
    """Yield all todos from the top, as they are at this moment, one at a time."""
    rows = connection.execute(
        f"""
        SELECT CAST(text AS TEXT), completed_at IS NOT NULL, date(created_at), date(completed_at)
        FROM todos
        WHERE {FILTERS["all"]} AND place >= ?
        ORDER BY place DESC
        """,
        (_BOTTOM,),
    )
    return (DatedTodo(*row) for row in rows)


def check_readable(connection: sqlite3.Connection) -> None:
    """Read from the table; an sqlite3.Error if that cannot be done."""
    connection.execute("SELECT id, place FROM todos WHERE id >= ? LIMIT 1", (_BOTTOM,)).fetchone()


# Changing. Call these through `Database.write`, which makes each a transaction.


def _remove_old(connection: sqlite3.Connection) -> None:
    """Remove for good some of what was deleted long ago; each change does, before all else.

    They are a few todos at a time, so that nobody has to wait for it.
    """
    # A mark that somebody put there by hand, like 1 or '-', is not between these two.
    connection.execute(
        """
        DELETE FROM todos
        WHERE id IN (SELECT id FROM todos WHERE deleted_at BETWEEN '2000-' AND ? LIMIT 100)
        """,
        (_end_of_recovery(),),
    )


def _new_time(connection: sqlite3.Connection) -> str:
    """Return the time, which is also the name of the change: no other change has it.

    Todos that were deleted or completed together have the same `deleted_at` or `completed_at`, and
    are brought back together.
    """
    # Within the transaction nobody else can write. But clocks step back, and some tick slowly.
    now = datetime.now(UTC)
    time = _format_time(now)
    while find_deleted_at(connection, time) or find_completed_at(connection, time):
        now += timedelta(microseconds=1)
        time = _format_time(now)
    return time


def _end_of_recovery() -> str:
    """Return the time before which what was deleted is gone."""
    return _format_time(datetime.now(UTC) - RECOVERABLE)


def _format_time(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def insert_todo(connection: sqlite3.Connection, text: str) -> int:
    """Add a todo on top, and return its id."""
    _remove_old(connection)
    inserted = connection.execute("INSERT INTO todos (text) VALUES (?)", (text,))
    assert inserted.lastrowid is not None  # it is there after an INSERT
    return inserted.lastrowid


def insert_dated_todos(connection: sqlite3.Connection, todos: Sequence[DatedTodo]) -> None:
    """Add these on top, in their order. A missing date is today."""
    _remove_old(connection)
    today = datetime.now(UTC).date().isoformat()
    for todo in reversed(todos):
        completed_at = f"{todo.completed_on or today} 00:00:00" if todo.is_completed else None
        connection.execute(
            "INSERT INTO todos (text, created_at, completed_at) VALUES (?, ?, ?)",
            (todo.text, f"{todo.created_on or today} 00:00:00", completed_at),
        )


def edit_todo(connection: sqlite3.Connection, todo_id: int, text: str) -> Todo | None:
    """Change the text, and return the todo; None if it is not there."""
    _remove_old(connection)
    connection.execute(
        "UPDATE todos SET text = ? WHERE id = ? AND deleted_at IS NULL", (text, todo_id)
    )
    return find_todo(connection, todo_id)


def complete_todo(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Complete it if it is active, and return the todo; None if it is not there."""
    _remove_old(connection)
    now = _new_time(connection)
    connection.execute(
        f"UPDATE todos SET completed_at = ? WHERE id = ? AND {FILTERS['active']}",
        (now, todo_id),
    )
    return find_todo(connection, todo_id)


def reopen_todo(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Make it active if it is completed, and return the todo; None if it is not there."""
    _remove_old(connection)
    connection.execute(
        "UPDATE todos SET completed_at = NULL WHERE id = ? AND deleted_at IS NULL", (todo_id,)
    )
    return find_todo(connection, todo_id)


def move_todo(connection: sqlite3.Connection, todo_id: int, past: int, *, up: bool) -> Todo | None:
    """Move a todo up past another one, or down, by swapping their places; return it as it is then.

    It stays where it is if it is past the other one already. None if either is not there.
    """
    _remove_old(connection)
    todo, other = find_todo(connection, todo_id), find_todo(connection, past)
    if todo is None or other is None:
        return None
    if other.place > todo.place if up else other.place < todo.place:
        connection.executemany(
            "UPDATE todos SET moved_to = ? WHERE id = ?",
            [(other.place, todo.id), (todo.place, other.id)],
        )
    return find_todo(connection, todo_id)


def complete_all(connection: sqlite3.Connection) -> str | None:
    """Complete what is active, and return the time; None if nothing was.

    After a double click it is the time of the first one, so that it can be undone all the same.
    """
    _remove_old(connection)
    now = _new_time(connection)
    connection.execute(
        f"UPDATE todos SET completed_at = ? WHERE {FILTERS['active']} AND place >= ?",
        (now, _BOTTOM),
    )
    return _find_last(connection, "completed_at", FILTERS["completed"], now)


def delete_todo(connection: sqlite3.Connection, todo_id: int) -> str | None:
    """Delete a todo; return when it was deleted, now or before, or None if it is not there."""
    _remove_old(connection)
    now = _new_time(connection)
    connection.execute(
        "UPDATE todos SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL", (now, todo_id)
    )
    row = connection.execute("SELECT deleted_at FROM todos WHERE id = ?", (todo_id,)).fetchone()
    time: str | None = row and row[0]
    return time


def delete_completed(connection: sqlite3.Connection) -> str | None:
    """Delete what is completed, and return the time; None if nothing was.

    After a double click it is the time of the first one, so that it can be undone all the same.
    """
    _remove_old(connection)
    now = _new_time(connection)
    connection.execute(
        f"UPDATE todos SET deleted_at = ? WHERE {FILTERS['completed']} AND place >= ?",
        (now, _BOTTOM),
    )
    return _find_last(connection, "deleted_at", "deleted_at IS NOT NULL", now)


def _find_last(connection: sqlite3.Connection, column: str, condition: str, now: str) -> str | None:
    """Return the newest time in the column, if it is from `now` or from a click just before."""
    earliest = _format_time(datetime.fromisoformat(now) - DOUBLE_CLICK)
    sql = f"SELECT max({column}) FROM todos WHERE {condition} AND {column} BETWEEN ? AND ?"
    time: str | None = connection.execute(sql, (earliest, now)).fetchone()[0]
    return time


def reopen_completed_at(connection: sqlite3.Connection, time: str) -> list[Todo]:
    """Make active again what was completed at that time; return what `find_completed_at` found."""
    _remove_old(connection)
    todos = find_completed_at(connection, time)
    connection.execute(
        f"UPDATE todos SET completed_at = NULL WHERE {FILTERS['completed']} AND completed_at = ?",
        (time,),
    )
    return todos


def restore_deleted_at(connection: sqlite3.Connection, time: str) -> list[Todo]:
    """Bring back what was deleted at that time; return what `find_deleted_at` found."""
    _remove_old(connection)
    todos = find_deleted_at(connection, time)
    if todos:
        connection.execute("UPDATE todos SET deleted_at = NULL WHERE deleted_at = ?", (time,))
    return todos
