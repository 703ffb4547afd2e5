"""The database file: connections to it, and the schema in it with its upgrades.

`Database.connection()` is called once for each request, in the thread that answers it. The SQL of
the application itself is in `models.py`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from functools import partial
from pathlib import Path

from todo_wsgi.resources import read_resource

SCHEMA_VERSION = 1  # PRAGMA user_version of a database that init_db.sql made
BUSY_TIMEOUT = 5.0  # seconds that a statement waits for another writer before it gives up

_TUTORIAL_COLUMNS = {"id", "text", "created_at"}
_COLUMNS = _TUTORIAL_COLUMNS | {"completed_at", "deleted_at"}

# What SQLite reports when our own SQL or our use of it is wrong; all else is the file's condition.
_OUR_MISTAKES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}


class DatabaseUnusable(Exception):
    """The file is gone, or cannot be a todo list of ours; the message says what to do."""


def is_unavailable(error: Exception) -> bool:
    """Whether `error` means that the database is locked, full, damaged or gone: no bug of ours."""
    if isinstance(error, DatabaseUnusable):
        return True
    # An sqlite3.Error has the code, unless it comes from Python's module and not from SQLite. Its
    # low byte is the primary one: https://www.sqlite.org/rescode.html
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    return code & 0xFF not in _OUR_MISTAKES or "no such table" in str(error)


class Database:
    """The database file at `path`, with a connection for each thread that asks for one.

    The file is made if it is missing, and upgraded if it is old. Raises DatabaseUnusable if it
    cannot be made, read or written, or is no todo list of this version or an older one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # so that a later os.chdir() changes nothing
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        # Closes them at the latest when the interpreter ends, whichever server runs it.
        self.close = weakref.finalize(self, _close_all, self._connections)
        # Opened now, for its errors to show at start; and closed, because a server may fork after
        # this (gunicorn --preload, uWSGI), and a connection must not pass into another process.
        _check_place(self.path)
        try:
            _open(self.path, create=True).close()
        except sqlite3.Error as error:
            raise DatabaseUnusable(
                f"The database {self.path} cannot be opened: {error}. "
                "Mend it, or choose another file."
            ) from error
        self._file = self._identify()

    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, opened when the thread first asks.

        Raises DatabaseUnusable while the file is not in its place: what one writes into a deleted
        file is lost, and SQLite does not notice.
        """
        if self._identify() != self._file:
            raise DatabaseUnusable(f"Another file is at {self.path}. Restart the server to use it.")
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            connection = _open(self.path)
            with self._lock:
                self._close_those_of_ended_threads()
                self._connections[thread] = connection
        return connection

    def _identify(self) -> tuple[int, int]:
        """Return which file is at the path: its device and inode."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise DatabaseUnusable(f"The database has gone: {error}") from error
        return status.st_dev, status.st_ino

    def _close_those_of_ended_threads(self) -> None:
        for thread in list(self._connections):
            if not thread.is_alive():
                self._connections.pop(thread).close()


def _close_all(connections: dict[threading.Thread, sqlite3.Connection]) -> None:
    while connections:
        connections.popitem()[1].close()


def _check_place(path: Path) -> None:
    """Raise DatabaseUnusable, with the cause by name, for a path where no database can be."""
    if not os.path.isdir(path.parent):
        raise DatabaseUnusable(
            f"There is no folder {path.parent}. Make it, or choose another file."
        )
    for place in (path.parent, path):
        if os.path.exists(place) and not os.access(place, os.W_OK):
            raise DatabaseUnusable(f"{place} is not writable. Allow it, or choose another file.")
    # SQLite would take a file of one byte for an empty one, and write over it.
    if os.path.exists(path) and os.path.getsize(path) == 1:
        raise DatabaseUnusable(f"{path} is no database. Choose another file.")


def _open(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the file, bring its schema up to date, and return the connection."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={'rwc' if create else 'rw'}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        # `with connection:` begins with BEGIN IMMEDIATE. A plain BEGIN would read first, and fail
        # without waiting where another connection writes between its reading and its writing.
        isolation_level="IMMEDIATE",
        check_same_thread=False,  # each thread uses its own, but another one closes it
    )
    try:
        # Text put in by hand may be no UTF-8; it is shown with U+FFFD instead of failing the page.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.execute("PRAGMA synchronous = FULL")  # COMMIT returns when it is on the disk
        connection.execute("PRAGMA foreign_keys = ON")
        if not _is_current(connection):
            _upgrade(connection, path)
        _use_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_current(connection: sqlite3.Connection) -> bool:
    return _version(connection) == SCHEMA_VERSION and _columns(connection) >= _COLUMNS


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(todos)")}


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Make the schema what init_db.sql says, in one transaction, and keep every row.

    Several processes may start at once: all but the first find the work done. Raises
    DatabaseUnusable, and changes nothing, if the schema is newer or not known.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version, columns = _version(connection), _columns(connection)
        if version > SCHEMA_VERSION:
            raise DatabaseUnusable(
                f"{path} was made by a newer version of todo_wsgi (schema {version}, this one "
                f"knows {SCHEMA_VERSION}). Update todo_wsgi, or choose another file."
            )
        if not columns:
            _run_script(connection, read_resource("init_db.sql").decode())
        elif columns == _TUTORIAL_COLUMNS:
            connection.execute("ALTER TABLE todos ADD COLUMN completed_at TIMESTAMP")
            connection.execute("ALTER TABLE todos ADD COLUMN deleted_at TIMESTAMP")
        elif not columns >= _COLUMNS:
            raise DatabaseUnusable(
                f"{path} has a table todos with other columns ({', '.join(sorted(columns))}), "
                "so another program made it. Choose another file."
            )
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    """Run SQL statements within the open transaction, which `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _use_wal(connection: sqlite3.Connection) -> None:
    """Have readers and the writer not wait for each other: https://www.sqlite.org/wal.html"""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # Only where nobody else uses the file can its mode change. It is as safe in the old one,
        # and the next connection tries again.
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
