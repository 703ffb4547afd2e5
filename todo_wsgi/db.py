"""The database file: connections to it, and the schema in it with its upgrades.

`Database.connection()` is called once for each request, in the thread that answers it. The SQL of
the application itself is in `models.py`.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from todo_wsgi.resources import read_resource

SCHEMA_VERSION = 2  # PRAGMA user_version of a database that init_db.sql made
BUSY_TIMEOUT = 3.0  # seconds that a statement waits for another writer before it gives up

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

# What SQLite reports when our own SQL or our use of it is wrong; all else is the file's condition.
_OUR_MISTAKES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}


class DatabaseUnusable(Exception):
    """The file is gone, or is not a todo list of ours; the message says what to do."""


def is_unavailable(error: Exception) -> bool:
    """Whether `error` means that the database is locked, full, damaged or gone: no bug of ours."""
    # OSError: no room for a temporary file. UnicodeDecodeError: SQLite's message quotes a damaged
    # schema, and Python cannot decode it.
    if isinstance(error, DatabaseUnusable | OSError | UnicodeDecodeError):
        return True
    # An sqlite3.Error has the code, unless it comes from Python's module and not from SQLite. Its
    # low byte is the primary one: https://www.sqlite.org/rescode.html
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # A table or a column is missing when an older database was put in the place of ours.
    return code & 0xFF not in _OUR_MISTAKES or str(error).startswith(
        ("no such table: todos", "no such column: ")
    )


class Database:
    """The database file at `path`, with a connection for each thread that asks for one.

    The file is made if it is missing, and upgraded if it is old. Raises DatabaseUnusable if it
    cannot be made, read or written, or is not a todo list of this version or an older one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _make_absolute(path)
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        # Closes them at the latest when the interpreter ends, whichever server runs it.
        self.close = weakref.finalize(self, _close_all, self._connections)
        _prepare(self.path)
        self._identity = self._identify_file()

    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, opened when the thread first asks.

        Raises DatabaseUnusable while the file is not in its place: what one writes into a deleted
        file is lost, and SQLite does not notice. Raises sqlite3.Error if it cannot be opened.
        """
        if self._identify_file() != self._identity:
            raise DatabaseUnusable(f"Another file is at {self.path}. Restart the server to use it.")
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            connection = _connect(self.path, "rw")
            with self._lock:
                self._close_those_of_ended_threads()
                self._connections[thread] = connection
        return connection

    def _identify_file(self) -> tuple[int, int]:
        """Return which file is at the path, whatever it is called: its device and inode."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise DatabaseUnusable(f"{self.path} is gone: {error.strerror}") from error
        return status.st_dev, status.st_ino

    def _close_those_of_ended_threads(self) -> None:
        for thread in list(self._connections):
            if not thread.is_alive():
                self._connections.pop(thread).close()


def _close_all(connections: dict[threading.Thread, sqlite3.Connection]) -> None:
    while connections:
        connections.popitem()[1].close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file; `mode` is "rw", or "rwc" to make it if it is missing."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        # Before an INSERT, UPDATE or DELETE, Python's module then sends BEGIN IMMEDIATE. A plain
        # BEGIN fails without waiting if another connection writes between our reading and writing.
        isolation_level="IMMEDIATE",
        check_same_thread=False,  # each thread uses its own, but another one closes it
    )
    # Text put in by hand may not be UTF-8; it is shown with U+FFFD instead of failing the page.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        connection.execute("PRAGMA synchronous = FULL")  # COMMIT returns when it is on the disk
        connection.execute("PRAGMA foreign_keys = ON")
    except Exception:
        connection.close()
        raise
    return connection


def _prepare(path: Path) -> None:
    """Make the file a database that we can use, or raise DatabaseUnusable with the reason.

    The connection for it is closed again: a server may fork when the application is made (gunicorn
    --preload, uWSGI), and a connection must not pass into another process.
    """
    if sqlite3.sqlite_version_info < (3, 31):  # the first one with computed columns
        raise DatabaseUnusable(
            f"This Python has SQLite {sqlite3.sqlite_version}. Take one that has 3.31 or later."
        )
    _check_place(path)
    try:
        with closing(_connect(path, "rwc")) as connection:
            _upgrade(connection, path)
            _use_wal(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DatabaseUnusable(
            f"The database {path} cannot be used: {error}. Put that right, or choose another file."
        ) from error


def _make_absolute(path: str | os.PathLike[str]) -> Path:
    """Return the path as it is from the root, so that a later os.chdir() changes nothing."""
    try:
        return Path(path).absolute()
    except OSError as error:
        raise DatabaseUnusable("The current folder is gone. Start from another one.") from error


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
    version, columns = _read_schema(connection)
    if version == SCHEMA_VERSION and columns >= _COLUMNS:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version, columns = _read_schema(connection)
        if version > SCHEMA_VERSION:
            raise DatabaseUnusable(
                f"{path} was made by a newer version of todo_wsgi (schema {version}, this one "
                f"knows {SCHEMA_VERSION}). Update todo_wsgi, or choose another file."
            )
        script = _split_script(read_resource("init_db.sql").decode())
        if not columns:
            for statement in script:
                connection.execute(statement)
        elif columns == _TUTORIAL_COLUMNS or columns >= _VERSION_1_COLUMNS:
            for name, definition in _ADDED_COLUMNS.items():
                if name not in columns:
                    connection.execute(f"ALTER TABLE todos ADD COLUMN {name} {definition}")
            for statement in script:
                if "CREATE INDEX" in statement:
                    connection.execute(statement)
        else:
            raise DatabaseUnusable(
                f"{path} has a table todos with other columns ({', '.join(sorted(columns))}), "
                "so another program made it. Choose another file."
            )
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


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
