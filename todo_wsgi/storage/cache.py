"""The cache of pages, and how it is invalidated.

Rendering a page takes many times as long as sending it, and most visitors ask for the page that
somebody else just got. So rendered pages are kept. A page depends on its address and on the
database, and SQLite gives the database a new version with each commit, whoever makes it: a thread
of ours, another process, the `sqlite3` program. Each request reads the version first
(`DataVersion`). A page that was rendered under this version is a hit. Another version makes all
cached pages stale.

No clock is involved, nor a message that could come late or get lost.
"""

import mmap
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

MAX_PAGES = 10  # a page of 100 todos takes about 100 kB
MAX_STALE_FILES = 3  # more could fill the disk, if clients are slow to read them

T = TypeVar("T")


class Cache:
    """Pages that were rendered from one version of the database.

    While one is rendered, others wait, for `patience` seconds at most (-1: without an end).
    """

    def __init__(self, patience: float = -1) -> None:
        self._lock = threading.Lock()
        self._patience = patience
        self._version: object = None
        self._pages: dict[Hashable, Any] = {}

    def get(self, read_version: Callable[[], object], key: Hashable, render: Callable[[], T]) -> T:
        """Return the page that is cached under `key` if it is not stale; else render it.

        The version is read before the page is rendered, so a cached page is never older than its
        version. If a commit lands in between, the page is newer than its version: the next request
        finds another version, and renders the page once more than necessary. Raises TimeoutError
        when the patience ends.
        """
        # Others that want the page wait for it instead of rendering it, too.
        if not self._lock.acquire(timeout=self._patience):
            raise TimeoutError("others are waiting for the same")
        try:
            version = read_version()
            if version != self._version:
                self._clear()
                self._version = version
            if key not in self._pages:
                page = render()
                if len(self._pages) >= MAX_PAGES:
                    self._pages.clear()
                self._pages[key] = page
            cached: T = self._pages[key]
            return cached
        finally:
            self._lock.release()

    def _clear(self) -> None:
        self._pages.clear()


class FileCache(Cache):
    """Files that were made from one version. Clients may still read stale ones, if not too old."""

    def __init__(self, patience: float) -> None:
        super().__init__(patience)
        self._stale: deque[Callable[[], object]] = deque(maxlen=MAX_STALE_FILES)

    def _clear(self) -> None:
        for file in self._pages.values():
            if len(self._stale) == MAX_STALE_FILES:
                self._stale[0]()
            self._stale.append(file.close)
        super()._clear()


class DataVersion:
    """Tells one state of a database from all others.

    `connection` is for this alone, has read something, and stays open for as long as this is used.

    SQLite's readers have the same question: is what they have read still current? They look at the
    first 48 bytes of the "wal-index", the file beside the database whose name ends in -shm:
    counters and checksums that each commit changes (https://sqlite.org/walformat.html, 2.1). All
    processes share this file as memory, so reading it takes no call of SQLite or the system, and
    shows a commit by the time COMMIT returns.

    Read in the midst of a commit, the bytes may be old and new ones mixed: a version that never
    comes again. Then a page is rendered in vain, but no stale page is sent.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # While this connection is open, the -shm file stays, and the mode remains WAL.
        self._connection = connection
        self._lock = threading.Lock()
        self._wal_index = _map_wal_index(connection)

    def read(self) -> object:
        """Return the version; raises sqlite3.Error if the database cannot be read."""
        if self._wal_index:
            return self._wal_index[:]
        # The mode is not WAL, or the file cannot be mapped. This number changes with each commit of
        # another connection, and nobody commits on this one.
        with self._lock:
            return self._connection.execute("PRAGMA data_version").fetchone()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# By device and inode. Files stay open until the process ends: closing one would release all locks
# that the process has on it, SQLite's too (POSIX, fcntl). So none is opened twice, either.
_mapped: dict[tuple[int, int], mmap.mmap] = {}
_mapping = threading.Lock()


def _map_wal_index(connection: sqlite3.Connection) -> mmap.mmap | None:
    """Return the first bytes of the wal-index as memory, or None if there is none."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        return None
    _, _, database = connection.execute("PRAGMA database_list").fetchone()
    path = f"{database}-shm"
    with _mapping:
        try:
            status = os.stat(path)
            key = (status.st_dev, status.st_ino)
            if key not in _mapped:
                _mapped[key] = mmap.mmap(os.open(path, os.O_RDONLY), 48, access=mmap.ACCESS_READ)
            return _mapped[key]
        except (OSError, ValueError):  # ValueError: it is too short
            return None
