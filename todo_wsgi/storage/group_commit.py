"""Changes that wait for the disk together.

A change is safe when it is on the disk, and to wait for that takes longer than all the rest of it.
So while one thread waits there, the changes that others want queue up; then the next of these
threads makes all of them, in one transaction, and they share its wait. Databases call it "group
commit".

Only one connection can write at a time anyway (https://sqlite.org/isolation.html). Left to
themselves, the threads would ask SQLite again and again, and the unlucky ones would wait for long.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class GroupCommit:
    """The queue of changes that wait to be made in one database."""

    def __init__(self) -> None:
        self._waiting: deque[_Change] = deque()
        self._writing = threading.Lock()

    def write(self, connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `change(connection)` returns; by then it is on the disk.

        Another thread may call it, with its own connection, and a second time if a transaction
        fails. What it raises comes from here, and then it has changed nothing; so does what SQLite
        raises about the transaction.
        """
        mine = _Change(change)
        self._waiting.append(mine)
        with self._writing:
            if mine in self._waiting:  # else the thread before this one has taken it along
                self._make_all(connection)
        if mine.error:
            raise mine.error
        result: T = mine.result
        return result

    def _make_all(self, connection: sqlite3.Connection) -> None:
        changes: list[_Change] = []
        try:
            with connection:  # COMMIT at the end, or ROLLBACK on an error
                connection.execute("BEGIN IMMEDIATE")  # waits while another process writes
                changes = self._take_all()
                results = [change.make(connection) for change in changes]
        except Exception as error:
            if not changes:  # nobody can write now: all who wait are told
                for change in self._take_all():
                    change.error = error
            for change in changes:  # one of them is to blame: now each is on its own
                change.make_alone(connection)
        else:
            for change, result in zip(changes, results, strict=True):
                change.result, change.error = result, None

    def _take_all(self) -> "list[_Change]":
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class _Change:
    """A change that somebody wants, and what came of it."""

    def __init__(self, make: Callable[[sqlite3.Connection], Any]) -> None:
        self.make = make
        self.result: Any = None
        # Until it is made; in the end only if the thread that took it along was stopped. The
        # visitor gets a 503, as with any other OSError.
        self.error: Exception | None = InterruptedError("the change may not have been made")

    def make_alone(self, connection: sqlite3.Connection) -> None:
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self.result = self.make(connection)
            self.error = None
        except Exception as error:
            self.error = error
