"""What makes it fast, and that it stays right: cache, group commit, counter, indexes."""

from __future__ import annotations

import inspect
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import InProcessClient, fill, read_texts, run_sql
from servers import POSIX_ONLY, need, wait_until
from werkzeug.test import Client

from todo_wsgi import Application, create_app
from todo_wsgi.http.response import Response
from todo_wsgi.presentation import pages
from todo_wsgi.presentation.listing import Listing
from todo_wsgi.storage import cache, models, schema
from todo_wsgi.storage import database as database_module
from todo_wsgi.storage.cache import Cache
from todo_wsgi.storage.group_commit import GroupCommit
from todo_wsgi.storage.models import FILTERS, PAGE_SIZE, DatedTodo

Change = Callable[[sqlite3.Connection], Any]
DELETED = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


# The cache: a GET that starts after a commit shows it, whoever made it


@contextmanager
def sqlite_program(database: Path) -> Iterator[Callable[[str], str]]:
    """The `sqlite3` program at work: call it with SQL for the line that it prints."""
    process = subprocess.Popen(
        [need("sqlite3"), database], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    with process, process.stdin as to, process.stdout as answers:

        def run(sql: str) -> str:
            print(sql, file=to, flush=True)
            return answers.readline().strip()

        yield run


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_page_is_never_older_than_the_commit_of_another_program(
    database: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(schema, "_use_wal", lambda _: None)
    run_sql(database, f"PRAGMA journal_mode = {mode}")
    if mode == "delete":  # then this file, which somebody left there, means nothing
        database.with_name("todos.db-shm").write_bytes(bytes(100))
    app = create_app(database)
    browser = Client(app)
    with sqlite_program(database) as run:
        run("PRAGMA synchronous = OFF; INSERT INTO todos (text) VALUES ('a'); SELECT 1;")
        for number in range(2000):
            committed = f"number {number}."
            assert run(f"UPDATE todos SET text = '{committed}'; SELECT 1;") == "1"
            for _ in range(2):  # made for the first, kept for the second
                assert committed in browser.get("/").text
    app.close()


def test_a_page_is_never_older_than_a_commit_while_all_read_and_write_at_once(
    app: Application, database: Path
) -> None:
    run_sql(database, "INSERT INTO todos (text) VALUES ('0'), ('0')")
    committed = 0
    is_over = threading.Event()

    def write() -> None:
        nonlocal committed
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            for number in range(1, 1500):
                connection.execute("UPDATE todos SET text = ?", (str(number),))
                committed = number

    def read() -> int:
        browser = Client(app)
        requests = 0
        while not is_over.is_set():
            oldest = committed
            first, second = re.findall(r'dir="auto">(\d+)<', browser.get("/").text)
            assert first == second  # of one commit
            assert int(first) >= oldest
            requests += 1
        return requests

    with ThreadPoolExecutor() as executor:
        readers = [executor.submit(read) for _ in range(3)]
        try:
            write()
        finally:
            is_over.set()
        assert sum(reader.result() for reader in readers) > 100


def test_a_page_is_made_once_for_each_version(
    client: InProcessClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.asks_twice = False
    made: list[Listing] = []
    make = pages.list_page

    def note_and_make(listing: Listing, *args: Any, **options: Any) -> Response:
        made.append(listing)
        return make(listing, *args, **options)

    monkeypatch.setattr(pages, "list_page", note_and_make)
    for _ in range(3):
        client.get("/")
        client.head("/")
        client.get("/?show=active&from=")
    assert [listing.show for listing in made] == ["all", "active"]
    client.post("/", data={"text": "milk"})
    client.get("/")
    client.get("/")
    assert len(made) == 3
    client.get("/?added=1")  # this one tells what has just happened, to one visitor
    client.get("/?added=1")
    assert len(made) == 5


def test_a_commit_while_a_page_is_made_is_on_the_next_one(
    client: InProcessClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.asks_twice = False
    list_todos = models.list_todos

    def commit_then_list(*args: Any) -> list[models.Todo]:
        todos = list_todos(*args)
        monkeypatch.undo()
        run_sql(database, "INSERT INTO todos (text) VALUES ('milk')")
        return todos

    monkeypatch.setattr(models, "list_todos", commit_then_list)
    assert "0 items left" in client.get("/").text  # all of it is of the moment before
    page = client.get("/").text
    assert "1 item left" in page
    assert "milk" in page


def test_no_more_than_a_few_pages_are_kept() -> None:
    made: list[int] = []
    kept = Cache()

    def get(number: int) -> int:
        def make() -> int:
            made.append(number)
            return number

        return kept.get("version", number, make)

    for number in range(cache.MAX_PAGES):
        assert get(number) == get(number) == number
    assert made == list(range(cache.MAX_PAGES))
    get(-1)  # one too many: all others are forgotten
    get(-1)
    get(0)
    assert made[cache.MAX_PAGES :] == [-1, 0]


def test_threads_that_want_the_same_page_at_once_wait_for_the_one_that_makes_it() -> None:
    kept = Cache()
    all_want_it = threading.Barrier(4)
    made = []

    def make() -> str:
        made.append(threading.current_thread())
        time.sleep(0.05)  # the others come meanwhile
        return "page"

    def get(_: int) -> str:
        all_want_it.wait()
        return kept.get("version", "key", make)

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(get, range(4))) == ["page"] * 4
    assert len(made) == 1


@POSIX_ONLY
def test_the_wal_index_is_opened_once_and_closed_with_the_last_that_needs_it(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    open_file = os.open

    def note_and_open(path: object, *args: Any) -> int:
        opened.append(path)
        return open_file(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", note_and_open)
    apps = [create_app(database) for _ in range(2)]
    for app in apps:
        Client(app).get("/")
        Client(app).get("/")
    assert opened == [f"{database}-shm"]
    (header,) = [weakref.ref(app.database._version()._header) for app in apps[:1]]
    apps[0].close()
    assert header() is not None
    apps[1].close()
    assert header() is None


def test_closing_one_application_leaves_another_one_its_locks(database: Path) -> None:
    one, other = create_app(database), create_app(database)
    with ThreadPoolExecutor() as executor:
        connection = executor.submit(one.database.connection).result()
        connection.execute("BEGIN IMMEDIATE")
        Client(other).get("/")
        other.close()
        insert = [need("sqlite3"), str(database), "INSERT INTO todos (text) VALUES ('milk')"]
        assert "locked" in subprocess.run(insert, capture_output=True, text=True).stderr
        connection.execute("ROLLBACK")
    one.close()


# Group commit


def write_together(database: Path, app: Application, changes: list[Change]) -> list[Future[Any]]:
    """Make changes, each in a thread of its own, which wait in line until all are there."""
    with (
        ThreadPoolExecutor() as executor,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        futures = [executor.submit(app.database.write, change) for change in changes]
        wait_until(lambda: len(app.database._commits._waiting) == len(changes))
        other.execute("ROLLBACK")
    return futures


def count_commits(app: Application) -> int:
    """How many commits the wal-index has counted (https://sqlite.org/walformat.html, 2.1)."""
    header = app.database._version().read()
    assert isinstance(header, bytes)
    return int.from_bytes(header[8:12], sys.byteorder)


def adding(text: str) -> Change:
    return lambda connection: models.insert_todo(connection, text)


def failing(error: BaseException) -> Change:
    def change(connection: sqlite3.Connection) -> None:
        models.insert_todo(connection, "never there")
        raise error

    return change


def test_changes_that_wait_share_a_commit(
    app: Application, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaders: list[sqlite3.Connection] = []
    make_all = GroupCommit._make_all

    def note_and_make(commits: GroupCommit, connection: sqlite3.Connection) -> None:
        leaders.append(connection)
        make_all(commits, connection)

    monkeypatch.setattr(GroupCommit, "_make_all", note_and_make)
    commits = count_commits(app)
    futures = write_together(database, app, [adding(text) for text in "abcd"])
    assert sorted(future.result() for future in futures) == [1, 2, 3, 4]
    assert sorted(read_texts(database)) == list("abcd")
    assert count_commits(app) == commits + 1
    assert len(leaders) == 1  # the others did not even try


def test_a_change_that_fails_takes_no_other_along(app: Application, database: Path) -> None:
    changes = [adding("a"), failing(ValueError("no")), adding("b")]
    first, bad, second = write_together(database, app, changes)
    assert sorted([first.result(), second.result()]) == [1, 2]
    assert sorted(read_texts(database)) == ["a", "b"]
    with pytest.raises(ValueError, match="no"):
        bad.result()


def test_where_a_thread_is_stopped_those_that_it_took_along_are_told(
    app: Application, database: Path
) -> None:
    changes = [adding("a"), failing(KeyboardInterrupt()), adding("b")]
    errors = [future.exception() for future in write_together(database, app, changes)]
    assert sorted(type(error).__name__ for error in errors) == [
        "InterruptedError",
        "InterruptedError",
        "KeyboardInterrupt",
    ]
    assert read_texts(database) == []
    assert app.database.write(models.insert_todo, "c") == 1


def test_all_who_wait_are_told_that_the_database_is_locked(
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


# The counter: kept by the database, whatever is done to the table, and by whom


def test_the_counter_is_right_whatever_is_done_by_hand(app: Application, database: Path) -> None:
    choose = random.Random(0)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for step in range(2000):
            one, other = choose.choices(range(-1, 9), k=2)
            done, deleted = choose.choices(["NULL", "'2026-11-22'"], k=2)
            row = f"(id, text, completed_at, deleted_at) VALUES ({one}, 'a', {done}, {deleted})"
            statement = choose.choice(
                [
                    f"INSERT INTO todos (text, completed_at) VALUES ('a', {done}), ('b', NULL)",
                    f"INSERT INTO todos {row}",
                    f"INSERT OR IGNORE INTO todos {row}",
                    f"INSERT OR REPLACE INTO todos {row}, ({other}, 'b', NULL, {done})",
                    f"INSERT INTO todos {row} ON CONFLICT (id) DO UPDATE SET deleted_at = {done}",
                    f"UPDATE todos SET completed_at = {done}, deleted_at = {deleted} WHERE id > 3",
                    f"UPDATE OR IGNORE todos SET id = {one} WHERE id = {other}",
                    f"UPDATE OR REPLACE todos SET id = {one} WHERE id = {other}",
                    "UPDATE OR REPLACE todos SET id = id + 1",
                    f"DELETE FROM todos WHERE id IN ({one}, {other}) OR id > 9",
                ]
            )
            connection.execute(f"PRAGMA recursive_triggers = {step % 2}")
            connection.execute("BEGIN")
            with suppress(sqlite3.IntegrityError):
                connection.execute(statement)
            connection.execute(choose.choice(["COMMIT", "ROLLBACK"]))
            count = f"SELECT count(*) FROM todos WHERE {FILTERS['active']}"
            assert connection.execute(count).fetchone() == (models.count_active(connection),)


# Flat: nothing takes longer because the list is longer


# How each function of models.py that takes a connection is called.
CALLS: dict[str, list[tuple[Any, ...]]] = {
    "list_todos": [(show, start) for show in FILTERS for start in (None, 150)],
    "list_todos_above": [(show, 150, 1) for show in FILTERS],
    "find_todo": [(7,)],
    "find_completed_at": [("2026-11-22",)],
    "find_deleted_at": [("2026-11-22",)],
    "count_active": [()],
    "iterate_todos": [()],
    "check_readable": [()],
    "insert_todo": [("milk",)],
    "insert_dated_todos": [([DatedTodo("milk", True, None, None)],)],
    "edit_todo": [(7, "milk")],
    "complete_todo": [(7,)],
    "reopen_todo": [(7,)],
    "move_todo": [(7, 8)],
    "complete_all": [()],
    "delete_todo": [(7,)],
    "delete_completed": [()],
    "reopen_completed_at": [("2026-11-22",)],
    "restore_deleted_at": [(DELETED,)],
}


def test_every_statement_finds_its_rows_by_an_index(app: Application, database: Path) -> None:
    fill(database, 3 * PAGE_SIZE)
    run_sql(database, f"UPDATE todos SET deleted_at = '{DELETED}' WHERE id = 9")
    connection = app.database.connection()
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for name, calls in CALLS.items():
        for arguments in calls:
            options = {"up": True} if name == "move_todo" else {}
            getattr(models, name)(connection, *arguments, **options)
    connection.set_trace_callback(None)

    assert CALLS.keys() == {
        name
        for name, function in inspect.getmembers(models, inspect.isfunction)
        if not name.startswith("_") and "connection" in inspect.signature(function).parameters
    } - {"snapshot"}  # which has no statement but BEGIN
    steps = set()
    for statement in statements:
        plan = {row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")}
        assert plan or statement.startswith("INSERT"), statement
        assert not any("SCAN" in step or "B-TREE" in step for step in plan), statement
        steps |= plan
    for show in FILTERS:
        assert f"SEARCH todos USING INDEX todos_{show} (place<?)" in steps
        assert f"SEARCH todos USING INDEX todos_{show} (place>?)" in steps
