"""The schema of the database file: made where there is none, upgraded where it is old.

`Database` in `db.py` calls `prepare` once, before the first request.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from todo_wsgi.storage.resources import read_resource

SCHEMA_VERSION = 3  # PRAGMA user_version of a database that init_db.sql made

# The project grew from a tutorial, whose files are upgraded, too.
_TUTORIAL_COLUMNS = {"id", "text", "created_at"}
_VERSION_1_COLUMNS = _TUTORIAL_COLUMNS | {"completed_at", "deleted_at"}
_ADDED_COLUMNS = {  # since the tutorial, in their order
    "completed_at": "TIMESTAMP",
    "deleted_at": "TIMESTAMP",
    "moved_to": "INTEGER",
    "place": "INTEGER AS (coalesce(moved_to, id))",
}
_COLUMNS = _TUTORIAL_COLUMNS | _ADDED_COLUMNS.keys()


class DatabaseUnusable(Exception):
    """The file is gone, or is not a todo list of ours; the message says what to do."""


def prepare(path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
    """Make the file a database that we can use, or raise DatabaseUnusable with the reason.

    What `connect` opens for that is closed again: a server may fork when the application is made
    (gunicorn --preload, uWSGI), and a connection must not pass into another process.
    """
    if sqlite3.sqlite_version_info < (3, 31):  # the first one with computed columns
        raise DatabaseUnusable(
            f"This Python has SQLite {sqlite3.sqlite_version}. Take one that has 3.31 or later."
        )
    _check_place(path)
    try:
        with closing(connect()) as connection:
            _upgrade(connection, path)
            _use_wal(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DatabaseUnusable(
            f"The database {path} cannot be used: {error}. Put that right, or choose another file."
        ) from error


def _check_place(path: Path) -> None:
    """Raise DatabaseUnusable, with the cause by name, for a path where no database can be."""
    if not os.path.isdir(path.parent):
        raise DatabaseUnusable(
            f"There is no folder {path.parent}. Make it, or choose another file."
        )
    if os.path.isdir(path):
        raise DatabaseUnusable(f"{path} is a folder. Choose a file.")
    for place in (path.parent, path):
        if os.path.exists(place) and not os.access(place, os.W_OK):
            raise DatabaseUnusable(f"{place} is not writable. Allow it, or choose another file.")
    # SQLite would take a file of one byte for an empty one, and write over it.
    if os.path.exists(path) and os.path.getsize(path) == 1:
        raise DatabaseUnusable(f"{path} is not a database. Choose another file.")


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Make the schema what init_db.sql says, in one transaction, and keep every row.

    Several processes may start at once: all but the first find the work done. Raises
    DatabaseUnusable, and changes nothing, if the schema is newer or not known.
    """
    text = read_resource("init_db.sql").decode()
    if _is_current(connection, text):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version, columns = _read_schema(connection)
        if version > SCHEMA_VERSION:
            raise DatabaseUnusable(
                f"{path} was made by a newer version of todo_wsgi (schema {version}, this one "
                f"knows {SCHEMA_VERSION}). Update todo_wsgi, or choose another file."
            )
        script = [statement for statement in _split_script(text) if "DROP TABLE" not in statement]
        if columns == _TUTORIAL_COLUMNS or columns >= _VERSION_1_COLUMNS:
            for name, definition in _ADDED_COLUMNS.items():
                if name not in columns:
                    connection.execute(f"ALTER TABLE todos ADD COLUMN {name} {definition}")
            script = [statement for statement in script if "CREATE TABLE todos" not in statement]
        elif columns:
            raise DatabaseUnusable(
                f"{path} has a table todos with other columns ({', '.join(sorted(columns))}), "
                "so another program made it. Choose another file."
            )
        for statement in script:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_current(connection: sqlite3.Connection, text: str) -> bool:
    """Whether all that the script makes is there; who rebuilds a table may lose its triggers."""
    version, columns = _read_schema(connection)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    wanted = re.findall(r"^CREATE \w+ IF NOT EXISTS (\w+)", text, re.MULTILINE)
    return version == SCHEMA_VERSION and columns >= _COLUMNS and names.issuperset(wanted)


def _read_schema(connection: sqlite3.Connection) -> tuple[int, set[str]]:
    """Return the schema's version, and the names of the columns of the table, if there is one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    # table_xinfo, because table_info leaves out computed columns.
    return version, {name for _, name, *_ in connection.execute("PRAGMA table_xinfo(todos)")}


def _split_script(script: str) -> Iterator[str]:
    """Yield the statements, for the open transaction; `executescript` would commit it first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work without waiting for each other (https://sqlite.org/wal.html).

    The file stays in this mode. Where others use it at this moment its mode cannot change; the one
    it has is as safe, and the next start tries again.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
