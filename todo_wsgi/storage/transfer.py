"""Export and import: the whole list, in which each todo has its dates."""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from todo_wsgi.storage.models import FILTERS


class DatedTodo(NamedTuple):
    """A todo with the dates of its times, like "2026-11-22"."""

    text: str
    is_completed: bool
    created_on: str | None
    completed_on: str | None


def iterate_todos(connection: sqlite3.Connection) -> Iterator[DatedTodo]:
    """Yield all todos from the top, as they are at this moment, one at a time."""
    rows = connection.execute(
        f"""
        SELECT CAST(text AS TEXT), completed_at IS NOT NULL, date(created_at), date(completed_at)
        FROM todos
        WHERE {FILTERS["all"]}
        ORDER BY place DESC
        """
    )
    return (DatedTodo(*row) for row in rows)


def insert_dated_todos(connection: sqlite3.Connection, todos: Sequence[DatedTodo]) -> str:
    """Add these on top, in their order, and return a name to undo that. A missing date is today."""
    today = datetime.now(UTC).date().isoformat()
    digits = f"{secrets.randbelow(10**15):015}"
    rows = [
        (
            todo.text,
            f"{todo.created_on or today} 00:00:00.{digits}",
            f"{todo.completed_on or today} 00:00:00" if todo.is_completed else None,
        )
        for todo in todos
    ]
    # The last line goes first, since what is inserted last is on top.
    inserted = connection.execute(
        """
        INSERT INTO todos (text, created_at, completed_at)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
        FROM json_each(?)
        ORDER BY key DESC
        """,
        (json.dumps(rows),),
    )
    last = inserted.lastrowid or 0
    return f"{last - len(rows) + 1}-{last}-{digits}"
