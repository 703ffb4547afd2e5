"""Group commit: changes that wait together share a commit, and each returns its own result."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import read_texts
from servers import wait_until

from todo_wsgi import Application, create_app
from todo_wsgi.storage import database as database_module
from todo_wsgi.storage import models

Change = Callable[[sqlite3.Connection], Any]


def adding(text: str) -> Change:
    return lambda connection: models.insert_todo(connection, text)


def failing(error: BaseException) -> Change:
    def change(connection: sqlite3.Connection) -> None:
        models.insert_todo(connection, "never there")
        raise error

    return change


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All statements executed on connections opened from now on."""
    executed: list[str] = []
    connect = database_module.connect

    def connect_and_trace(*args: Any) -> sqlite3.Connection:
        connection = connect(*args)
        connection.set_trace_callback(executed.append)
        return connection

    monkeypatch.setattr(database_module, "connect", connect_and_trace)
    return executed


@pytest.fixture
def write_together(
    database: Path, app: Application
) -> Iterator[Callable[[list[Change]], list[Future[Any]]]]:
    """A function that submits changes in parallel threads, queued until all have arrived."""
    with ThreadPoolExecutor() as executor:

        def write(changes: list[Change]) -> list[Future[Any]]:
            with closing(sqlite3.connect(database, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                futures = [executor.submit(app.database.write, change) for change in changes]
                wait_until(lambda: len(app.database.commits) == len(changes))
                other.execute("ROLLBACK")
            return futures

        yield write


Write = Callable[[list[Change]], list[Future[Any]]]


def test_waiting_changes_share_a_commit(
    statements: list[str], database: Path, write_together: Write
) -> None:
    statements.clear()
    futures = write_together([adding(text) for text in "abcd"])
    assert sorted(future.result() for future in futures) == [1, 2, 3, 4]
    assert sorted(read_texts(database)) == list("abcd")
    assert statements.count("COMMIT") == 1
    assert statements.count("BEGIN IMMEDIATE") == 1  # the others did not even try


def test_a_failing_change_does_not_affect_the_others(database: Path, write_together: Write) -> None:
    first, bad, second = write_together([adding("a"), failing(ValueError("no")), adding("b")])
    assert sorted([first.result(), second.result()]) == [1, 2]
    assert sorted(read_texts(database)) == ["a", "b"]
    with pytest.raises(ValueError, match="no"):
        bad.result()


def test_changes_in_an_interrupted_commit_raise_timeout_error(
    app: Application, database: Path, write_together: Write
) -> None:
    changes = [adding("a"), failing(KeyboardInterrupt()), adding("b")]
    errors = [future.exception() for future in write_together(changes)]
    names = sorted(type(error).__name__ for error in errors)
    assert names == ["KeyboardInterrupt", "TimeoutError", "TimeoutError"]
    assert read_texts(database) == []
    assert app.database.write(models.insert_todo, "c") == 1


def test_a_locked_database_raises_in_every_waiting_thread(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    app = create_app(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor() as executor:
            futures = [executor.submit(app.database.write, adding(text)) for text in "abcd"]
        for future in futures:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                future.result()
    assert app.database.write(models.insert_todo, "a") == 1
    app.close()
