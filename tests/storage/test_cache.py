"""The cache: a GET that starts after a commit shows it, no matter who committed."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import InProcessClient, run_sql
from servers import POSIX_ONLY, need
from werkzeug.test import Client

from todo_wsgi import Application, create_app
from todo_wsgi.http.response import Response
from todo_wsgi.presentation import pages
from todo_wsgi.presentation.listing import Listing
from todo_wsgi.storage import cache, models, schema
from todo_wsgi.storage.cache import Cache


@contextmanager
def sqlite_program(database: Path) -> Iterator[Callable[[str], str]]:
    """Run the `sqlite3` program; yield a function that executes SQL and returns its output."""
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
def test_no_page_is_older_than_another_programs_commit(
    database: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(schema, "_use_wal", lambda _: None)
    run_sql(database, f"PRAGMA journal_mode = {mode}")
    if mode == "delete":  # then a leftover -shm file must be ignored
        database.with_name("todos.db-shm").write_bytes(bytes(100))
    app = create_app(database)
    browser = Client(app)
    with sqlite_program(database) as run:
        run("PRAGMA synchronous = OFF; INSERT INTO todos (text) VALUES ('a'); SELECT 1;")
        for number in range(1000):
            committed = f"number {number}."
            assert run(f"UPDATE todos SET text = '{committed}'; SELECT 1;") == "1"
            for _ in range(2):  # a cache miss, then a cache hit
                assert committed in browser.get("/").text
    app.close()


def test_no_page_is_stale_under_concurrent_reads_and_writes(
    app: Application, database: Path
) -> None:
    run_sql(database, "INSERT INTO todos (text) VALUES ('0'), ('0')")
    committed, requests = 0, [0, 0, 0]
    is_over = threading.Event()

    def write() -> None:
        nonlocal committed
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            # A slow machine commits so often before anybody has read.
            while committed < 1500 or (sum(requests) <= 20 and not any(map(Future.done, readers))):
                connection.execute("UPDATE todos SET text = ?", (str(committed + 1),))
                committed += 1

    def read(reader: int) -> None:
        browser = Client(app)
        while not is_over.is_set():
            oldest = committed
            first, second = re.findall(r'dir="auto">(\d+)<', browser.get("/").text)
            assert first == second  # both from one commit
            assert int(first) >= oldest
            requests[reader] += 1

    with ThreadPoolExecutor() as executor:
        readers = [executor.submit(read, reader) for reader in range(3)]
        try:
            write()
        finally:
            is_over.set()
        for reader in readers:
            reader.result()


def test_a_page_is_rendered_once_per_version(
    client: InProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.asks_twice = False
    rendered: list[Listing] = []
    render = pages.list_page

    def record_and_render(listing: Listing, *args: Any, **options: Any) -> Response:
        rendered.append(listing)
        return render(listing, *args, **options)

    monkeypatch.setattr(pages, "list_page", record_and_render)
    for _ in range(3):
        client.get("/")
        client.head("/")
        client.get("/?show=active&from=")
    assert [listing.show for listing in rendered] == ["all", "active"]
    client.post("/", data={"text": "milk"})
    client.get("/")
    client.get("/")
    assert len(rendered) == 3
    client.get("/?added=1")  # reports what one visitor has just done, so it is not cached
    client.get("/?added=1")
    assert len(rendered) == 5


def test_a_commit_during_rendering_is_on_the_next_page(
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
    assert "0 items left" in client.get("/").text  # all of it from before the commit
    page = client.get("/").text
    assert "1 item left" in page
    assert "milk" in page


def test_the_cache_holds_a_limited_number_of_pages() -> None:
    rendered: list[int] = []
    pages = Cache()

    def get(number: int) -> int:
        def render() -> int:
            rendered.append(number)
            return number

        return pages.get(lambda: "version", number, render)

    for number in range(cache.MAX_PAGES):
        assert get(number) == get(number) == number
    assert rendered == list(range(cache.MAX_PAGES))
    get(-1)  # one too many: all others are evicted
    get(-1)
    get(0)
    assert rendered[cache.MAX_PAGES :] == [-1, 0]


def test_concurrent_requests_for_a_page_render_it_once() -> None:
    pages = Cache()
    all_want_it = threading.Barrier(4)
    rendered = []

    def render() -> str:
        rendered.append(threading.current_thread())
        time.sleep(0.05)  # the others arrive meanwhile
        return "page"

    def get(_: int) -> str:
        all_want_it.wait()
        return pages.get(lambda: "version", "key", render)

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(get, range(4))) == ["page"] * 4
    assert len(rendered) == 1


@POSIX_ONLY
def test_the_wal_index_is_opened_once_and_stays_open(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    open_file = os.open

    def record_and_open(path: object, *args: Any) -> int:
        opened.append(path)
        return open_file(path, *args)  # type: ignore[arg-type]

    apps = [create_app(database) for _ in range(2)]
    monkeypatch.setattr(os, "open", record_and_open)
    for app in apps:
        Client(app).get("/")
        Client(app).get("/")
    assert opened == [f"{database}-shm"]
    for app in apps:
        app.close()
    Client(app).get("/")  # SQLite has created a new one
    assert opened == [f"{database}-shm"] * 2
    app.close()


def test_closing_an_application_releases_no_locks_of_another(database: Path) -> None:
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
