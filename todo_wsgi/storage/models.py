"""The M of MVC: what a todo is, and the SQL that reads and changes the list.

Handlers call these functions with a connection (`database.py`): those that read directly, those
that write through `Database.write`, which makes each call a transaction. A text that cannot be a
todo raises InvalidText; a missing todo is None, and the handler decides what the visitor sees.

The WHERE of a change does the checking, and another statement may read the result. No query but a
search slows down as the list grows: each finds its rows by an index of init_db.sql.
"""

import re
import sqlite3
import unicodedata
from datetime import UTC, datetime
from typing import NamedTuple

MAX_TEXT_LENGTH = 500  # characters; a todo is a line, not a letter
MAX_COUNT = 1000  # todos; the page says "1,000+" above it, so that a long list is not counted
PAGE_SIZE = 100  # todos

FILTERS = {
    "all": "deleted_at IS NULL",
    "active": "deleted_at IS NULL AND completed_at IS NULL",
    "completed": "deleted_at IS NULL AND completed_at IS NOT NULL",
}
# A row changed by hand may hold a BLOB, or a text as its place; CAST makes them like any other.
TODO_COLUMNS = "id, CAST(text AS TEXT), completed_at IS NOT NULL, CAST(place AS INTEGER)"


class InvalidText(ValueError):
    """A text that cannot be a todo; the message is for the person who typed it."""


class Todo(NamedTuple):
    """A row of the table `todos`, with the columns that a page shows."""

    id: int
    text: str
    is_completed: bool
    place: int


def clean_text(text: str) -> str:
    """Return a todo's text as one line, without white space around it.

    Raises InvalidText if nothing is left, if it is longer than MAX_TEXT_LENGTH, or if it has a
    control character such as a tab: those are invisible, and have no place in a list of lines.
    """
    text = join_lines(text)
    if not text:
        raise InvalidText("Write what there is to do.")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidText(f"Shorten it to {MAX_TEXT_LENGTH} characters: it has {len(text)}.")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidText("Remove the control characters, such as tabs.")
    return text


def join_lines(text: str) -> str:
    """Return the text as one line: a space replaces line breaks and the white space around them."""
    lines = (line.strip() for line in re.split("[\r\n]", text))
    return " ".join(line for line in lines if line)


# Changing


def insert_todo(connection: sqlite3.Connection, text: str) -> int:
    """Add a todo on top, and return its id."""
    # Its time is not SQL's CURRENT_TIMESTAMP, which differs from machine to machine (`rqlite.py`).
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    sql = "INSERT INTO todos (text, created_at) VALUES (?, ?)"
    return connection.execute(sql, (text, now)).lastrowid or 0  # an INSERT sets it


def edit_todo(connection: sqlite3.Connection, todo_id: int, text: str) -> Todo | None:
    """Change the text, and return the todo; None if it is not there."""
    connection.execute(
        f"UPDATE todos SET text = ? WHERE id = ? AND {FILTERS['all']}", (text, todo_id)
    )
    return find_todo(connection, todo_id)


def complete_todo(connection: sqlite3.Connection, todo_id: int, time: str) -> Todo | None:
    """Complete it if it is active, and return the todo; None if it is not there.

    `time` names the change (`undo.new_time`).
    """
    connection.execute(
        f"UPDATE todos SET completed_at = ? WHERE id = ? AND {FILTERS['active']}", (time, todo_id)
    )
    return find_todo(connection, todo_id)


def reopen_todo(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Make it active if it is completed, and return the todo; None if it is not there."""
    connection.execute(
        f"UPDATE todos SET completed_at = NULL WHERE id = ? AND {FILTERS['all']}", (todo_id,)
    )
    return find_todo(connection, todo_id)


def move_todo(connection: sqlite3.Connection, todo_id: int, past: int, *, up: bool) -> Todo | None:
    """Move a todo up (or down) past another one: they swap places. Return the moved one.

    It stays where it is if it is past the other one already. None if either is not there.
    """
    lower, upper = (todo_id, past) if up else (past, todo_id)
    # Places 3 and 7 become 7 - 3 + 3 and 7 - 7 + 3. SQLite evaluates the subqueries once, before it
    # changes the first row (https://sqlite.org/lang_expr.html).
    connection.execute(
        f"""
        UPDATE todos
        SET moved_to = (SELECT max(place) FROM todos WHERE id IN (:lower, :upper)) - place
            + (SELECT min(place) FROM todos WHERE id IN (:lower, :upper))
        WHERE id IN (:lower, :upper)
        AND (SELECT place FROM todos WHERE id = :lower AND {FILTERS["all"]})
            < (SELECT place FROM todos WHERE id = :upper AND {FILTERS["all"]})
        """,
        {"lower": lower, "upper": upper},
    )
    row = connection.execute(
        f"""
        SELECT {TODO_COLUMNS}
        FROM todos
        WHERE id = ? AND {FILTERS["all"]}
        AND EXISTS (SELECT 1 FROM todos WHERE id = ? AND {FILTERS["all"]})
        """,
        (todo_id, past),
    ).fetchone()
    return Todo(*row) if row else None


def move_todo_to_top(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Move a todo above all others, and return it; None if it is not there."""
    # Its place is the id that the next new todo would have had: no other one has, or will have, it.
    connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'todos'")
    connection.execute(
        f"""
        UPDATE todos
        SET moved_to = (SELECT seq FROM sqlite_sequence WHERE name = 'todos')
        WHERE id = ? AND place < (SELECT max(place) FROM todos WHERE {FILTERS["all"]})
        AND {FILTERS["all"]}
        """,
        (todo_id,),
    )
    return find_todo(connection, todo_id)


# Reading


def list_todos(
    connection: sqlite3.Connection,
    show: str,
    start: int | None,
    limit: int = PAGE_SIZE,
    words: str = "",
) -> list[Todo]:
    """Return the todos of the filter `show`, from the place `start` (None: the top) downwards.

    Each of the `words` occurs in their text, in capital or small letters (of A to Z alike).
    """
    # No place is above x'ff': SQLite sorts numbers first, then texts, then BLOBs.
    rows = connection.execute(
        f"""
        SELECT {TODO_COLUMNS}
        FROM todos
        WHERE {FILTERS[show]} AND place <= coalesce(?, x'ff') {_match(words)}
        ORDER BY place DESC
        LIMIT ?
        """,
        (start, *words.split(), limit),
    )
    return [Todo(*row) for row in rows]


def _match(words: str) -> str:
    """Return a condition with a parameter for each word. For LIKE, % and _ would not be text."""
    return "AND instr(lower(text), lower(?)) " * len(words.split())


def list_todos_above(
    connection: sqlite3.Connection, show: str, start: int | None, limit: int, words: str = ""
) -> list[Todo]:
    """Return the todos of the filter `show` above the place `start`, the nearest one first."""
    if start is None:
        return []
    rows = connection.execute(
        f"""
        SELECT {TODO_COLUMNS}
        FROM todos
        WHERE {FILTERS[show]} AND place > ? {_match(words)}
        ORDER BY place
        LIMIT ?
        """,
        (start, *words.split(), limit),
    )
    return [Todo(*row) for row in rows]


def find_todo(connection: sqlite3.Connection, todo_id: int) -> Todo | None:
    """Return the todo, or None if there is none or it is deleted."""
    row = connection.execute(
        f"SELECT {TODO_COLUMNS} FROM todos WHERE id = ? AND {FILTERS['all']}", (todo_id,)
    ).fetchone()
    return Todo(*row) if row else None


def count_active(connection: sqlite3.Connection) -> int:
    """Return how many todos are left to do, but never more than MAX_COUNT + 1."""
    some = f"SELECT 1 FROM todos WHERE {FILTERS['active']} ORDER BY place LIMIT ?"
    row = connection.execute(f"SELECT count(*) FROM ({some})", (MAX_COUNT + 1,)).fetchone()
    count: int = row[0]
    return count


def check_readable(connection: sqlite3.Connection) -> None:
    """Read from the table; raises sqlite3.Error if that fails."""
    connection.execute("SELECT place FROM todos LIMIT 1").fetchone()
