"""Group commit: changes that wait for the disk together.

A change is safe once it is on disk, and waiting for the disk takes longer than all the rest of it.
While one thread waits there, the changes of others queue up; then the next thread makes all of them
in one transaction, and they share one wait. Databases call this "group commit".

Only one connection can write at a time anyway (https://sqlite.org/isolation.html). Left to
themselves, the threads would poll SQLite for the lock, and unlucky ones would starve.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Queue = deque[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]


class GroupCommit:
    """The queue of changes that wait to be made in one database.

    `check` is called in each transaction first; if it raises, no change is made.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._waiting: _Queue = deque()
        self._writing = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self, connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `change(connection)` returns, once the change is on disk.

        `change` may run in another thread, on that thread's connection, and twice if the first
        transaction is rolled back. If it raises, nothing is written and the exception is raised
        here, as are SQLite's own. TimeoutError if the thread that made it was stopped.
        """
        mine: Future[T] = Future()
        self._waiting.append((change, mine))
        with self._writing:
            if not mine.done():  # else the thread before this one made it, too
                self._commit(connection, self._waiting)
        return mine.result(timeout=0)

    def _commit(self, connection: sqlite3.Connection, waiting: _Queue) -> None:
        """Make all changes that wait in one transaction, and resolve their futures."""
        taken: _Queue = deque()
        try:
            with connection:  # COMMIT at the end, or ROLLBACK on an error
                connection.execute("BEGIN IMMEDIATE")  # waits while another process writes
                self._check()  # that may have taken seconds
                while waiting:
                    taken.append(waiting.popleft())
                results = [change(connection) for change, _ in taken]
        except Exception as error:
            if len(taken) > 1:  # one of A, B and C is to blame: make A, then B, then C on its own
                for one in taken:
                    self._commit(connection, deque([one]))
            else:  # if none was taken, nobody can write now: all that wait fail
                failed = taken or waiting
                while failed:
                    failed.popleft()[1].set_exception(error)
        else:
            for (_, future), result in zip(taken, results, strict=True):
                future.set_result(result)
