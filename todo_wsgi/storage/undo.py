"""Undo: a change is named by its time.

What one click deletes gets one `deleted_at`, what one click completes gets one `completed_at`, and
no other change has that time. So the time alone is enough to undo the change: the redirect carries
it in the address (`/?deleted_at=2026-11-22 12:00:00.123456...`), the page uses it to find what was
done, its button "Undo" posts it back, and `undo` clears it in every row that has it. There is no
log of changes and no session. A row that has another time by now was changed since, and is left
alone.
"""

import re
import secrets
import sqlite3
from datetime import UTC, datetime, timedelta

from todo_wsgi.storage.models import FILTERS, TODO_COLUMNS, Todo

RECOVERABLE = timedelta(days=30)  # from when a todo is deleted until it is removed for good
DOUBLE_CLICK = timedelta(seconds=5)  # a second click comes within this time, however slow the line

# The columns that hold such times, and the condition for the rows that have one.
TIMES = {"deleted_at": "deleted_at IS NOT NULL", "completed_at": FILTERS["completed"]}


def delete_todo(connection: sqlite3.Connection, todo_id: int) -> str | None:
    """Delete a todo; return when it was deleted, now or before, or None if it is not there."""
    _purge(connection)
    connection.execute(
        f"UPDATE todos SET deleted_at = ? WHERE id = ? AND {FILTERS['all']}", (new_time(), todo_id)
    )
    return find_time(connection, "deleted_at", todo_id)


def _purge(connection: sqlite3.Connection) -> None:
    """Remove what was deleted over 30 days ago, 100 todos at most, so that nobody waits for it."""
    # A mark that somebody put there by hand, like 1 or '-', is not between these two.
    old = "SELECT id FROM todos WHERE deleted_at BETWEEN '2000-' AND ? ORDER BY deleted_at, id"
    connection.execute(f"DELETE FROM todos WHERE id IN ({old} LIMIT 100)", (_end_of_recovery(),))


def new_time() -> str:
    """Return the time (UTC), as the name of a change: no other change gets the same.

    Clocks step back and some tick slowly, so nine random digits follow the microseconds.
    """
    return f"{_format_time(datetime.now(UTC))}{secrets.randbelow(10**9):09}"


def find_time(connection: sqlite3.Connection, column: str, todo_id: int) -> str | None:
    """Return the time in this column, one of TIMES, of a todo; None if it has none."""
    # CAST, since rqlite writes what it finds in a column of type TIMESTAMP in another format.
    sql = f"SELECT CAST({column} AS TEXT) FROM todos WHERE id = ?"
    row = connection.execute(sql, (todo_id,)).fetchone()
    time: str | None = row and row[0]
    return time


def count_imported(connection: sqlite3.Connection, name: str) -> int:
    """Return how many todos of the import with this name (`transfer.py`) are there."""
    sql = f"SELECT count(*) FROM todos WHERE {_IMPORTED} AND {FILTERS['all']}"
    return int(connection.execute(sql, _parse(name)).fetchone()[0])


def delete_imported(connection: sqlite3.Connection, name: str) -> str | None:
    """Delete the todos of an import, and return the time; None if none was there.

    After a double click it is the time of the first one, so that it can be undone all the same.
    """
    sql = f"UPDATE todos SET deleted_at = ? WHERE {_IMPORTED} AND {FILTERS['all']}"
    connection.execute(sql, (new_time(), *_parse(name)))
    sql = f"SELECT max(deleted_at) FROM todos WHERE {_IMPORTED}"
    time: str | None = connection.execute(sql, _parse(name)).fetchone()[0]
    return time


# The ids of an import are consecutive, and each created_at ends with digits that nobody can guess.
_IMPORTED = "id BETWEEN ? AND ? AND created_at LIKE '%.' || ?"


def _parse(name: str) -> tuple[int, int, str]:
    """Return the ids and the digits in the name of an import; no ids if there are none in it."""
    parts = re.fullmatch("([0-9]{1,18})-([0-9]{1,18})-([0-9]{15})", name)
    # No form holds that many lines: a name that somebody made up does not read the whole list.
    if parts is None or int(parts[2]) - int(parts[1]) >= 2**16:
        return 1, 0, ""
    return int(parts[1]), int(parts[2]), parts[3]


def delete_completed(connection: sqlite3.Connection) -> str | None:
    """Delete what is completed, and return the time; None if nothing was.

    After a double click it is the time of the first one, so that it can be undone all the same.
    """
    _purge(connection)
    time = new_time()
    connection.execute(f"UPDATE todos SET deleted_at = ? WHERE {FILTERS['completed']}", (time,))
    return _find_last(connection, "deleted_at", time)


def complete_all(connection: sqlite3.Connection) -> str | None:
    """Complete what is active, and return the time; None if nothing was.

    After a double click it is the time of the first one, so that it can be undone all the same.
    """
    time = new_time()
    connection.execute(f"UPDATE todos SET completed_at = ? WHERE {FILTERS['active']}", (time,))
    return _find_last(connection, "completed_at", time)


def find(connection: sqlite3.Connection, column: str, time: str) -> list[Todo]:
    """Return what was changed at that time, two todos at most: enough to tell one from many.

    `column` is one of TIMES. What was deleted too long ago to be brought back is not found.
    """
    if not is_recoverable(column, time):
        return []
    rows = connection.execute(
        f"SELECT {TODO_COLUMNS} FROM todos WHERE {TIMES[column]} AND {column} = ? LIMIT 2", (time,)
    )
    return [Todo(*row) for row in rows]


def undo(connection: sqlite3.Connection, column: str, time: str) -> int:
    """Undo the change that has this time in `column`; return how many todos were changed back."""
    if not is_recoverable(column, time):
        return 0
    return connection.execute(
        f"UPDATE todos SET {column} = NULL WHERE {TIMES[column]} AND {column} = ?", (time,)
    ).rowcount


def is_recoverable(column: str, time: str) -> bool:
    """Return whether a change of that time can still be undone, if nobody did that yet."""
    return column != "deleted_at" or time > _end_of_recovery()


def _find_last(connection: sqlite3.Connection, column: str, now: str) -> str | None:
    """Return the newest time in the column, if it is from `now` or from a click just before."""
    earliest = _format_time(datetime.fromisoformat(now) - DOUBLE_CLICK)
    sql = f"SELECT max({column}) FROM todos WHERE {TIMES[column]} AND {column} BETWEEN ? AND ?"
    time: str | None = connection.execute(sql, (earliest, now)).fetchone()[0]
    return time


def _end_of_recovery() -> str:
    """Return the time before which what was deleted is gone."""
    return _format_time(datetime.now(UTC) - RECOVERABLE)


def _format_time(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")
