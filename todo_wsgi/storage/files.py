"""Which files are in use: what is written to a file that has lost its place is lost.

SQLite does not notice if somebody deletes or replaces the database file, or the write-ahead log
beside it, which holds the newest changes. So each request looks for the file first, and each
transaction looks for all of them.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from todo_wsgi.storage.errors import DatabaseUnusable


class FilesInUse:
    """The file of the database, and those beside it; DatabaseUnusable if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path, self._identity = path, _identify(path)
        self._log: dict[Path, tuple[int, int]] = {}

    def add_log(self, connection: sqlite3.Connection) -> None:
        """Look for the log and its index, too: while `connection` is open, they have their places.

        There are none if the mode is not WAL.
        """
        logs = [Path(f"{self._path}{suffix}") for suffix in ("-wal", "-shm")]
        self._log = {log: _identify(log) for log in logs if log.exists()}
        self._connection = connection

    def remove_log(self) -> None:
        """Look for it no longer: SQLite removes it with the last connection."""
        self._log = {}

    def check_all(self) -> None:
        """Raise DatabaseUnusable unless all files are in their places.

        If the log is not, what it holds is moved to the database: so it is not lost even if this
        process is killed.
        """
        self.check()
        try:
            for log, identity in self._log.items():
                _check(log, identity)
        except DatabaseUnusable:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint")
            raise

    def check(self) -> None:
        """Raise DatabaseUnusable unless the database file is in its place."""
        _check(self._path, self._identity)


def _check(path: Path, identity: tuple[int, int]) -> None:
    if _identify(path) != identity:
        raise DatabaseUnusable(f"Another file is at {path}. Restart the server to use it.")


def _identify(path: Path) -> tuple[int, int]:
    """Return which file is at the path, whatever its name: its device and inode."""
    try:
        status = os.stat(path)
    except OSError as error:
        advice = "Put it back, or restart the server."
        raise DatabaseUnusable(f"{path} is gone: {error.strerror}. {advice}") from error
    return status.st_dev, status.st_ino
