"""The database file: connections to it, its version, and the changes that are made in it.

Handlers read with `Database.connection()`, and change with `Database.write()`. The SQL of the
application is in `models.py`, that of the schema in `schema.py`.
"""

import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from todo_wsgi.storage.cache import Cache, DataVersion
from todo_wsgi.storage.group_commit import GroupCommit
from todo_wsgi.storage.schema import DatabaseUnusable, prepare

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT = 3.0  # seconds that a statement waits for another writer before it gives up

# What SQLite reports when our own SQL or our use of it is wrong; all else is the file's condition.
_OUR_MISTAKES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}
# But a table or a column is missing when an older database was put in the place of ours.
_MISSING = re.compile(r"no such (table: (main\.)?(todos|todo_count)$|column: )")


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
    return code & 0xFF not in _OUR_MISTAKES or bool(_MISSING.match(str(error)))


class Database:
    """The database file at `path`, with a connection for each thread that asks for one.

    The file is upgraded if it is old, and made if it is missing, unless `mode` is "rw" instead of
    "rwc". Raises DatabaseUnusable if it cannot be made, read or written, or is not a todo list of
    this version or an older one.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "rwc") -> None:
        self.path = _make_absolute(path)
        self._commits = GroupCommit()
        self._cache = Cache()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        # One, from the first request on; in a list, so that `close` need not hold self.
        self._versions: list[DataVersion] = []
        self._lock = threading.Lock()
        # Closes them at the latest when the interpreter ends, whichever server runs it.
        self.close = weakref.finalize(self, _close_all, self._connections, self._versions)
        prepare(self.path, partial(_connect, self.path, mode))
        self._identity = self._identify_file()

    def write(
        self,
        change: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `change(connection, *args, **kwargs)` returns; by then it is on the disk.

        It is done as a whole, or not at all if it raises. Another thread may call it, and more than
        once (`group_commit.py` tells why). Raises what `connection()` raises, too.
        """

        def change_in_place(connection: sqlite3.Connection) -> T:
            self._check_file()  # again: to wait for other writers may have taken seconds
            return change(connection, *args, **kwargs)

        return self._commits.write(self.connection(), change_in_place)

    def cached(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes from the database, or what it made before, if that is as good.

        `key` stands for what is made. Raises what `connection()` raises.
        """
        return self._cache.get(self._version().read(), key, make)

    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, opened when the thread first asks.

        Raises DatabaseUnusable while the file is not in its place: what one writes into a deleted
        file is lost, and SQLite does not notice. Raises sqlite3.Error if it cannot be opened.
        """
        self._check_file()
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            self._version()  # its connection is opened first, and closed last
            connection = self._connect()
            with self._lock:
                self._close_those_of_ended_threads()
                self._connections[thread] = connection
        return connection

    def _version(self) -> DataVersion:
        """Return what tells the version of the database; raises what `connection()` raises."""
        self._check_file()
        if not self._versions:
            with self._lock:
                if not self._versions:
                    self._versions.append(DataVersion(self._connect()))
        return self._versions[0]

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(self.path, "rw")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens all its files
            self._check_file()  # again: another file may have been there for a moment
        except Exception:
            connection.close()
            raise
        return connection

    def _check_file(self) -> None:
        if self._identify_file() != self._identity:
            raise DatabaseUnusable(f"Another file is at {self.path}. Restart the server to use it.")

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


def _close_all(
    connections: dict[threading.Thread, sqlite3.Connection], versions: list[DataVersion]
) -> None:
    while connections:
        connections.popitem()[1].close()
    while versions:
        versions.pop().close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file; `mode` is "rw", or "rwc" to make it if it is missing."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,  # a transaction begins where we write BEGIN, and nowhere else
        check_same_thread=False,  # each thread uses its own, but another one closes it
    )
    # Text put in by hand may not be UTF-8; it is shown with U+FFFD instead of failing the page.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        connection.execute("PRAGMA synchronous = FULL")  # COMMIT returns when it is on the disk
        connection.execute("PRAGMA fullfsync = ON")  # and on macOS not only in the disk's memory
        connection.execute("PRAGMA foreign_keys = ON")
    except Exception:
        connection.close()
        raise
    return connection


def _make_absolute(path: str | os.PathLike[str]) -> Path:
    """Return the path as it is from the root, so that a later os.chdir() changes nothing."""
    try:
        return Path(path).absolute()
    except OSError as error:
        raise DatabaseUnusable("The current folder is gone. Start from another one.") from error
