"""The x-ray of SQL: applications with classes of their own, RETURNING, and what is not seen."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIEnvironment

import pytest
from xrays import Watched, answering, watching

from todo_wsgi.xray import XRay

Act = Callable[[sqlite3.Connection], object]


class Own(sqlite3.Connection):
    """A connection as an application defines it."""


class Translating(sqlite3.Cursor):
    """A cursor that translates placeholders, as Django's."""

    def execute(self, sql: str, *args: Any) -> Any:
        return super().execute(sql.replace("%s", "?"), *args)


class Final(sqlite3.Cursor):
    """A cursor that allows no subclass."""

    def __init_subclass__(cls) -> None:
        raise TypeError


def visit(folder: Path, act: Act, **options: Any) -> Watched:
    """Return the x-ray's client, after a GET that acts on a table of words."""
    with closing(sqlite3.connect(folder / "words.db")) as connection:
        connection.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)")

    def connect(_: WSGIEnvironment) -> None:
        database = options.pop("database", folder / "words.db")
        with closing(sqlite3.connect(database, **options)) as connection:
            act(connection)

    with watching(answering("", connect)) as client:
        client.get("/")
        return client


create: Any = lambda *_, **__: Own(":memory:")  # noqa: E731


@pytest.mark.filterwarnings("ignore:Passing more than 1 positional argument:DeprecationWarning")
@pytest.mark.parametrize(
    ("connect", "is_seen"),
    [
        (lambda: sqlite3.dbapi2.connect(":memory:"), True),
        (lambda: sqlite3.connect(":memory:", factory=Own), True),
        (lambda: sqlite3.connect(":memory:", factory=sqlite3.Connection), True),
        (lambda: sqlite3.connect(":memory:", factory=create), False),
        (lambda: sqlite3.connect(":memory:", 5, 0, None, True, Own), False),
    ],
)
def test_connections_of_a_class_that_the_application_chose(
    connect: Callable[[], sqlite3.Connection], is_seen: bool
) -> None:
    def act(_: WSGIEnvironment) -> None:
        with closing(connect()) as connection:
            connection.execute("SELECT 'seen'")

    with watching(answering("", act)) as client:
        client.get("/")
        text = client.text(part=6)
        assert ("SELECT 'seen'" in text, "No SQL was seen." in text) == (is_seen, not is_seen)


@pytest.mark.parametrize("cursor", [sqlite3.Cursor, Translating])
def test_cursors_of_a_class_that_the_application_chose(tmp_path: Path, cursor: Any) -> None:
    def act(connection: sqlite3.Connection) -> None:
        for words in connection.cursor(cursor), connection.cursor(factory=cursor):
            assert isinstance(words, cursor)
            mark = "%s" if cursor is Translating else "?"
            words.execute(f"SELECT word FROM words WHERE word = {mark}", ("milk",)).fetchall()

    text = visit(tmp_path, act, factory=Own).text(part=6)
    assert text.count("SELECT word FROM words WHERE word = ? ('milk',)") == 2
    assert "SCAN words" in text


def test_a_cursor_that_allows_no_subclass_is_left_alone(tmp_path: Path) -> None:
    def act(connection: sqlite3.Connection) -> None:
        assert type(connection.cursor(Final)) is Final
        connection.cursor(Final).execute("SELECT 1")
        assert type(connection.cursor(lambda c: sqlite3.Cursor(c))) is sqlite3.Cursor

    assert "No SQL was seen." in visit(tmp_path, act).text(part=6)


@pytest.mark.parametrize("name", ["words.db", "file:words.db", "file:words.db?mode=ro"])
def test_a_database_with_a_uri_has_plans_and_leaves_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    act: Act = lambda connection: connection.execute("SELECT word FROM words")  # noqa: E731
    text = visit(tmp_path, act, database=name, uri=True).text(part=6)
    assert "SCAN words" in text
    assert [file.name for file in tmp_path.iterdir()] == ["words.db"]


def test_of_statements_in_other_threads_it_says_only_what_it_can_see(tmp_path: Path) -> None:
    def act(_: sqlite3.Connection) -> None:
        def read() -> None:
            with closing(sqlite3.connect(tmp_path / "words.db")) as connection:
                connection.execute("SELECT word FROM words")

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    assert (
        "No SQL was seen. The x-ray sees what Python's sqlite3 executes in the thread of the "
        "request, on connections opened since it started."
    ) in visit(tmp_path, act).text(part=6)


INSERT = "INSERT INTO words (word) VALUES ('milk'), ('honey') RETURNING id"


def fetch_all(connection: sqlite3.Connection) -> None:
    with connection:
        assert len(connection.execute(INSERT).fetchall()) == 2


def fetch_none(connection: sqlite3.Connection) -> None:
    connection.execute(INSERT)
    connection.commit()


def fetch_late(connection: sqlite3.Connection) -> None:
    rows = connection.execute(INSERT)
    connection.execute("SELECT word FROM words").fetchall()
    assert len([*rows]) == 2
    connection.execute("COMMIT")


@pytest.mark.parametrize("act", [fetch_all, fetch_none, fetch_late])
def test_rows_changed_by_a_statement_that_returns_them_are_counted(
    tmp_path: Path, act: Act
) -> None:
    text = visit(tmp_path, act).text(part=6)
    assert "A GET changed 2 rows." in text
    assert "execute changed 2 rows, and COMMIT saved that." in text
    assert text.count(" 2 rows inserted ") == 1


def test_without_a_transaction_they_are_counted_too(tmp_path: Path) -> None:
    act: Act = lambda connection: connection.execute(INSERT).fetchone()  # noqa: E731
    text = visit(tmp_path, act, isolation_level=None).text(part=6)
    assert "each statement is committed on its own (autocommit)" in text


def test_a_connection_that_cannot_be_used_fails_as_without_the_xray(tmp_path: Path) -> None:
    def act(connection: sqlite3.Connection) -> None:
        cursor = connection.cursor()
        connection.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            cursor.execute("SELECT 1")
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.commit()

    text = visit(tmp_path, act).text()
    assert "ProgrammingError('Cannot operate on a closed database.')" in text


def test_outside_a_request_nothing_is_recorded() -> None:
    with watching(answering("")) as client, closing(sqlite3.connect(":memory:")) as connection:
        client.get("/")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert "No SQL was seen." in client.text(part=6)


@pytest.mark.parametrize("order", [1, -1])
def test_two_xrays_may_close_in_any_order(order: int) -> None:
    connect = sqlite3.connect
    first, second = [XRay(answering("")), XRay(answering(""))][::order]
    first.close()
    assert sqlite3.connect is not connect
    second.close()
    assert sqlite3.connect is connect


def test_threads_that_share_a_connection_do_not_wait_for_each_other_forever() -> None:
    shared: list[sqlite3.Connection] = []

    def act(_: WSGIEnvironment) -> None:
        for number in range(20):  # not the same statement, which only one thread may use at a time
            sql = f"SELECT ?, {threading.get_ident()}"
            shared[0].execute(sql, (number,)).fetchall()

    with watching(answering("", act)) as client, ThreadPoolExecutor(4) as threads:
        shared.append(sqlite3.connect(":memory:", check_same_thread=False))
        answers = [*threads.map(lambda _: client.get("/"), range(40))]
        shared[0].close()
    assert {answer.status_code for answer in answers} == {200}
