"""Pages that are kept, and how they stay right.

Making a page takes many times as long as sending it: SQL, and a template for each row. But most
visitors ask for the page that somebody else just got. So pages are kept, and sent again.

A kept page is right as long as it is the one that would be made now. What it is made from, besides
the address, is the database. SQLite gives that another version with each commit, whoever makes it:
a thread of ours, another process, the `sqlite3` program. So each request asks for the version first
(`DataVersion` below). Is a page kept under it? Then nothing was committed since before that page
was made. If not, all that is kept is out of date. No clock has a part in this, nor a message that
could be late or lost.
"""

import mmap
import os
import sqlite3
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary, finalize

MAX_PAGES = 10  # that are kept at once; a page of 100 todos has some 100 kB

T = TypeVar("T")


class Cache:
    """Pages that were made from one version of the database."""

    def __init__(self) -> None:
        self._kept = _Kept(None)

    def get(self, version: object, key: Hashable, make: Callable[[], T]) -> T:
        """Return the page that is kept under `version` and `key`, or else make it.

        The version is read first, and then the page is made: so a page is never older than its
        version. It may be newer, if somebody commits meanwhile; but then only those find it who
        asked before that commit, and nobody later.
        """
        kept = self._kept
        if kept.version != version:
            kept = self._kept = _Kept(version)
        page: T | None = kept.pages.get(key)
        if page is None:
            with kept.making:  # one thread makes it, the others wait
                page = kept.pages.get(key) or make()
                if len(kept.pages) >= MAX_PAGES:
                    kept.pages.clear()
                kept.pages[key] = page
        return page


class _Kept:
    """The pages of one version; when the next version comes, nobody needs them any more."""

    def __init__(self, version: object) -> None:
        self.version = version
        self.pages: dict[Hashable, Any] = {}
        self.making = threading.Lock()


class DataVersion:
    """What tells one state of a database from all others.

    `connection` is for this alone, and has read something.

    SQLite's readers have the same question: is what they hold still right? They look at the first
    48 bytes of the "wal-index", the file beside the database whose name ends in -shm: counters and
    checksums, of which each commit makes new ones (https://sqlite.org/walformat.html, 2.1). All
    processes share this file as memory, so to look there takes no call of SQLite nor of the system,
    and a commit is seen there when COMMIT returns, or before.

    A look in the midst of a commit may see bytes of both, old and new: a version that does not come
    again, so that a page is made in vain, but never a wrong one sent.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # While this connection is open, the -shm file stays, and the mode remains WAL.
        self._connection = connection
        self._lock = threading.Lock()
        self._header = _map_header(connection)

    def read(self) -> object:
        """Return the version; an sqlite3.Error if the database cannot be read."""
        if self._header:
            return self._header.memory[:]
        # There is no such file, as in a mode other than WAL, or it cannot be mapped. This number
        # changes with each commit of other connections, and nobody commits on this one.
        with self._lock:
            return self._connection.execute("PRAGMA data_version").fetchone()

    def close(self) -> None:
        """Close the connection, after all others of the database."""
        self._connection.close()
        self._header = None


class _Header:
    """The first bytes of the file at `path`, in `memory` for as long as this object is there."""

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDONLY)
        self.memory = mmap.mmap(file, 48, access=mmap.ACCESS_READ)
        finalize(self, os.close, file).atexit = False


# One for each -shm file, by its device and inode. When a process closes a file, all its locks on it
# are gone (POSIX, fcntl), also those of SQLite. So it is opened once for all that have connections,
# and closed after these; where it cannot be mapped, it stays open.
_headers: WeakValueDictionary[tuple[int, int], _Header] = WeakValueDictionary()
_headers_lock = threading.Lock()


def _map_header(connection: sqlite3.Connection) -> _Header | None:
    """Return the header of the database's wal-index, or None if it cannot be looked at."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        return None
    _, _, database = connection.execute("PRAGMA database_list").fetchone()
    path = f"{database}-shm"
    with _headers_lock:
        try:
            status = os.stat(path)
            header = _headers.get((status.st_dev, status.st_ino)) or _Header(path)
        except (OSError, ValueError):  # ValueError: it is too short
            return None
        _headers[status.st_dev, status.st_ino] = header
        return header
