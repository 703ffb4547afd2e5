"""The schema of the database file: created where there is none, upgraded where it is old.

`Database` in `database.py` calls `prepare` once, before the first request. init_db.sql alone
defines the schema; this module upgrades older files to it. What a newer version has added is
undone, if that version has noted in the file how.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.storage.resources import read_resource

logger = logging.getLogger("todo_wsgi")

# The files of two tutorials are upgraded, too: of that which the project grew from, and of its own.
_TUTORIAL_COLUMNS = {"id", "text", "created_at"}
_OWN_TUTORIAL_COLUMNS = _TUTORIAL_COLUMNS | {"completed_at"}
_VERSION_1_COLUMNS = _OWN_TUTORIAL_COLUMNS | {"deleted_at"}
_ADDED_COLUMNS = {  # since the tutorial, in their order
    "completed_at": "TIMESTAMP",
    "deleted_at": "TIMESTAMP",
    "moved_to": "INTEGER",
    "place": "INTEGER AS (coalesce(moved_to, id))",
}
# Version 3 counted the active todos in a table, by triggers.
_VERSION_3_COUNTER = {"id", "active", "replaced"}
_VERSION_3_TRIGGERS = ["inserting", "renumbering", "inserted", "updated", "deleted"]


def prepare(path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
    """Make the file a database that we can use, or raise DatabaseUnusable with the reason.

    The connection that `connect` opens is closed again: a server may fork once the application is
    made (gunicorn --preload, uWSGI), and a connection must not pass into another process.
    """
    if sqlite3.sqlite_version_info < (3, 31):  # the first one with computed columns
        raise DatabaseUnusable(
            f"This Python has SQLite {sqlite3.sqlite_version}. Take one that has 3.31 or later."
        )
    check_path(path)
    try:
        with closing(connect()) as connection:
            upgrade(connection, path)
            _use_wal(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DatabaseUnusable(
            f"The database {path} cannot be used: {error}. Correct that, or choose another file."
        ) from error


def check_path(path: Path) -> None:
    """Raise DatabaseUnusable, with the cause by name, for a path where no database can be."""
    if not os.path.isdir(path.parent):
        raise DatabaseUnusable(
            f"There is no folder {path.parent}. Make it, or choose another file."
        )
    if os.path.isdir(path):
        raise DatabaseUnusable(f"{path} is a folder. Choose a file.")
    for needed in (path.parent, path):
        if os.path.exists(needed) and not os.access(needed, os.W_OK):
            raise DatabaseUnusable(f"{needed} is not writable. Allow it, or choose another file.")
    # SQLite would clear a write-ahead log that lies beside a new file. (The log first: another
    # process may be creating both.)
    log = f"{path}-wal"
    if os.path.exists(log) and os.path.getsize(log) and not os.path.exists(path):
        raise DatabaseUnusable(
            f"{path} is gone, and {log} holds its newest changes. Put that file back, or move "
            "the log away to start with an empty list."
        )
    # SQLite would take a file of one byte for an empty one, and write over it.
    if os.path.exists(path) and os.path.getsize(path) == 1:
        raise DatabaseUnusable(f"{path} is not a database. Choose another file.")


class _Schema(NamedTuple):
    """The version of a schema, the columns of its table `todos`, and the names of its indexes."""

    version: int
    columns: set[str]
    indexes: set[str]


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Make the schema what init_db.sql says, in one transaction, and keep every row.

    Several processes may start at once: all but the first find the work done. Raises
    DatabaseUnusable, and changes nothing, if the schema is not ours, or is newer and has not noted
    the way back.
    """
    script = _read_script()
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(script)
        wanted = _read_schema(empty)
    if _is_current(_read_schema(connection), wanted):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        original = _read_schema(connection).version
        _go_back(connection, original, wanted.version)
        found = _read_schema(connection)
        if found.version > wanted.version:
            raise DatabaseUnusable(
                f"{path} was made by a newer version of todo_wsgi (its schema is {original}, "
                f"this one knows {wanted.version}). Update todo_wsgi, or choose another file."
            )
        is_of_tutorial = found.columns in (_TUTORIAL_COLUMNS, _OWN_TUTORIAL_COLUMNS)
        if is_of_tutorial or found.columns >= _VERSION_1_COLUMNS:
            for name, definition in _ADDED_COLUMNS.items():
                if name not in found.columns:
                    connection.execute(f"ALTER TABLE todos ADD COLUMN {name} {definition}")
        elif found.columns:
            raise DatabaseUnusable(
                f"{path} has a table todos with other columns "
                f"({', '.join(sorted(found.columns))}), so another program made it. "
                "Choose another file."
            )
        for name in _VERSION_3_TRIGGERS:
            connection.execute(f"DROP TRIGGER IF EXISTS todo_{name}")
        if _read_columns(connection, "todo_count") == _VERSION_3_COUNTER:
            connection.execute("DROP TABLE todo_count")
        for statement in _split_script(script):
            connection.execute(statement)
    if original > wanted.version:
        logger.warning("%s: went back from schema %s to %s", path, original, wanted.version)


def read_statements() -> tuple[int, list[str]]:
    """Return the version of the schema, and the statements that create it."""
    script = _read_script()
    [version] = re.findall(r"user_version = (\d+)", script)
    return int(version), [sql for sql in _split_script(script) if sql.strip()]


def _read_script() -> str:
    """Return the server's part of init_db.sql: it creates what is missing."""
    text = read_resource("init_db.sql").decode()
    _, script, _ = text.split("-- The server's part: ")
    return f"-- {script}"


def _read_schema(connection: sqlite3.Connection) -> _Schema:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
    return _Schema(version, _read_columns(connection, "todos"), {name for (name,) in indexes})


def _read_columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of the table's columns, or none if there is no such table."""
    # table_xinfo, because table_info leaves out computed columns.
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_xinfo({table})")}


def _is_current(found: _Schema, wanted: _Schema) -> bool:
    """Whether nothing is missing; whoever rebuilds the table by hand may lose its indexes."""
    return (
        found.version == wanted.version
        and found.columns >= wanted.columns
        and found.indexes >= wanted.indexes
    )


def _go_back(connection: sqlite3.Connection, version: int, wanted: int) -> None:
    """Undo newer versions one by one, as long as each has noted how (init_db.sql says more)."""
    if not _read_columns(connection, "todo_way_back"):
        return
    query = "SELECT script FROM todo_way_back WHERE version = ?"
    while version > wanted and (note := connection.execute(query, (version,)).fetchone()):
        for statement in _split_script(note[0]):
            connection.execute(statement)
        version -= 1
        connection.execute(f"PRAGMA user_version = {version}")


def _split_script(script: str) -> Iterator[str]:
    """Yield the statements, for the open transaction; `executescript` would commit it first."""
    statement = ""
    for part in re.split("(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement  # a comment; or it is incomplete, and SQLite says so


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work without waiting for each other (https://sqlite.org/wal.html).

    The file stays in this mode. While another program uses the file, the mode cannot change; the
    old one is as safe, and the next start tries again.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
