"""Which files are in use: what is written to a file that has lost its place is lost.

SQLite does not notice if somebody deletes or replaces the database file, or the write-ahead log
beside it, which holds the newest changes. So each request looks first.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from todo_wsgi.storage.errors import DatabaseUnusable


class FilesInUse:
    """The file of the database, and those beside it; DatabaseUnusable if it is not there."""

    def __init__(self, path: Path) -> None:
        self._identities = {path: _identify(path)}
        self._connection: sqlite3.Connection | None = None

    def add_log(self, connection: sqlite3.Connection) -> None:
        """Watch the log and its index, too: while `connection` is open, they keep their places.

        There are none if the mode is not WAL.
        """
        [path] = self._identities
        logs = [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm")]
        self._identities |= {log: _identify(log) for log in logs if log.exists()}
        self._connection = connection

    def remove_log(self) -> None:
        """Watch it no longer: SQLite removes it with the last connection."""
        path, *_ = self._identities
        self._identities, self._connection = {path: self._identities[path]}, None

    def check(self) -> None:
        """Raise DatabaseUnusable unless all are in their places.

        What a log holds that was deleted is moved to the database first: so it is not lost, even
        if this process is killed.
        """
        try:
            for path, identity in [*self._identities.items()]:
                if _identify(path) != identity:
                    raise DatabaseUnusable(f"Another file is at {path}. Restart the server.")
        except DatabaseUnusable:
            if self._connection:
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint")
            raise


def _identify(path: Path) -> tuple[int, int]:
    """Return which file is at the path, whatever its name: its device and inode."""
    try:
        status = os.stat(path)
    except OSError as error:
        advice = "Put it back, or restart the server."
        raise DatabaseUnusable(f"{path} is gone: {error.strerror}. {advice}") from error
    return status.st_dev, status.st_ino
