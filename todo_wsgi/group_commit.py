"""Changes that wait for the disk together.

A change is safe when it is on the disk, and to wait for that takes longer than all the rest of it.
So while one thread waits there, the changes that others want line up; then the next of these
threads makes all of them, in one transaction, and they share its wait. Databases call it "group
commit".

Only one connection can write at a time anyway (https://sqlite.org/isolation.html). Left to
themselves, the threads would ask SQLite again and again, and the unlucky ones would wait for long.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class GroupCommit:
    """The line of changes that wait to be made in one database."""

    def __init__(self) -> None:
        self._waiting: deque[_Change] = deque()
        self._writing = threading.Lock()

    def write(
        self,
        connection: sqlite3.Connection,
        change: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what `change(connection, *args, **kwargs)` returns; by then it is on the disk.

        It may be called more than once, and with the connection of another thread. What it raises
        comes from here, and then it has changed nothing; so does an error of the transaction.
        """
        mine = _Change(lambda connection: change(connection, *args, **kwargs))
        self._waiting.append(mine)
        with self._writing:
            if mine in self._waiting:  # else the thread before this one has taken it along
                self._make_all(connection)
        if mine.error:
            raise mine.error
        result: T = mine.result
        return result

    def _make_all(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")  # waits while another process writes
        except sqlite3.Error as error:
            for change in self._take_all():
                change.error = error
            return
        changes = self._take_all()
        try:
            _commit(connection, changes)
        except Exception:
            # One of them is to blame, so all were rolled back; now each is on its own.
            for change in changes:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    _commit(connection, [change])
                except Exception as error:
                    change.error = error

    def _take_all(self) -> "list[_Change]":
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class _Change:
    """A change that somebody wants, and what came of it."""

    def __init__(self, make: Callable[[sqlite3.Connection], Any]) -> None:
        self.make = make
        self.result: Any = None
        # Until it is made; in the end only if the thread that took it along was stopped.
        self.error: Exception | None = InterruptedError("the change was not made")


def _commit(connection: sqlite3.Connection, changes: list[_Change]) -> None:
    """Make these changes in the transaction that has begun, all or none."""
    with connection:  # COMMIT at the end, or ROLLBACK on an error
        results = [change.make(connection) for change in changes]
    for change, result in zip(changes, results, strict=True):
        change.result, change.error = result, None
