"""The database file: its connections, and the transactions that change it.

Handlers read with `Database.read()`, or `connection()` if one query is enough, and change with
`write()`. The SQL of the application is in `models.py`, that of the schema in `schema.py`.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from todo_wsgi.storage.cache import Cache, DataVersion, FileCache
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.storage.files import FilesInUse
from todo_wsgi.storage.group_commit import GroupCommit
from todo_wsgi.storage.schema import prepare

T = TypeVar("T")

MAX_LOG = 16 * 1024 * 1024  # bytes that the write-ahead log keeps after a large change
EXPORT_TIMEOUT = 0.4  # seconds that a request waits while another one reads the whole list
BUSY_TIMEOUT = 3.0  # seconds that a statement waits for another writer before it gives up


class Database:
    """The database file at `path`, with a connection for each thread that asks for one.

    The file is upgraded if it is old, and created if it is missing, unless `mode` is "rw" instead
    of "rwc". Raises DatabaseUnusable if it cannot be created, read or written, or is not a todo
    list of this version or an older one.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "rwc") -> None:
        self.path = _make_absolute(path)
        self.guesses = Path(f"{self.path}-guesses")  # for `guesses.py`
        self._pages, self._exports = Cache(), FileCache(EXPORT_TIMEOUT)
        self._version: DataVersion | None = None  # from the first connection on
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        prepare(self.path, partial(connect, self.path, mode))
        self.files = FilesInUse(self.path)
        self.commits = GroupCommit(self.files.check_all)

    def write(self, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what `change(connection, *args, **kwargs)` returns, once the change is on disk.

        If `change` raises, nothing is written. It may run in another thread, and twice
        (`group_commit.py` says why). Raises what `connection()` raises, too.
        """
        return self.commits.write(self.connection(), lambda own: change(own, *args, **kwargs))

    def cached(self, key: Hashable, render: Callable[[], T], *, is_export: bool = False) -> T:
        """Return what `render` returns, or returned before if nothing was committed since.

        `key` stands for what is rendered. Pages do not wait while an export is made; exports do,
        and raise TimeoutError after a moment. Raises what `connection()` raises, too.
        """
        self.connection()
        assert self._version  # since there is a connection
        cache = self._exports if is_export else self._pages
        return cache.get(self._version.read, key, render)

    def read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what `query(connection, *args, **kwargs)` returns, all as of one moment."""
        with self.connection() as connection:  # COMMIT at the end, which has nothing to write
            connection.execute("BEGIN")
            return query(connection, *args, **kwargs)

    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, which its first call opens.

        Raises DatabaseUnusable while one of its files is not in its place (`files.py`), and
        sqlite3.Error if the file cannot be opened.
        """
        self.files.check()
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            with self._lock:
                if self._version is None:
                    first = self._open()
                    self._version = DataVersion(first)
                    self.files.add_log(first)
            connection = self._open()
            with self._lock:
                for other in list(self._connections):
                    if not other.is_alive():
                        self._connections.pop(other).close()
                self._connections[thread] = connection
        return connection

    def _open(self) -> sqlite3.Connection:
        self.files.check_all()  # SQLite would make a new log
        connection = connect(self.path, "rw")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens all its files
            self.files.check()  # again: another file may have been there for a moment
        except Exception:
            connection.close()
            raise
        return connection

    def check(self) -> None:
        """Raise DatabaseUnusable unless all files are in their places."""
        self.files.check_all()

    def close(self) -> None:
        """Close all connections. Call it when no thread uses one."""
        while self._connections:
            self._connections.popitem()[1].close()
        if self._version:
            self._version.close()
            self._version = None
        self.files.remove_log()


def _make_absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path, so that a later os.chdir() changes nothing."""
    try:
        return Path(path).absolute()
    except OSError as error:
        raise DatabaseUnusable("The current folder is gone. Start from another one.") from error


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file; `mode` is "rw", or "rwc" to create it if it is missing."""
    if mode == "rwc":
        with suppress(OSError):  # it is there; or it cannot be, and SQLite says why
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # for its owner alone
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,  # a transaction begins where we write BEGIN, and nowhere else
        check_same_thread=False,  # each thread uses its own, but another one closes it
    )
    # Text inserted by hand may not be UTF-8; it is shown with U+FFFD instead of failing the page.
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        connection.execute("PRAGMA synchronous = FULL")  # COMMIT returns when it is on disk
        connection.execute("PRAGMA fullfsync = ON")  # and on macOS not only in the disk's memory
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG}")  # when it starts again
    except Exception:
        connection.close()
        raise
    return connection
