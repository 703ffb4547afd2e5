"""The list as a file: export, and import, in the todo.txt format."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import shown
from werkzeug.test import Client

from todo_wsgi import Application
from todo_wsgi.models import DatedTodo
from todo_wsgi.todotxt import format_todo, parse_todos

Stored = Callable[[], list[str]]

# Lines of a file, and what they say: text, whether completed, and when it was added and completed.
LINES = [
    ("milk", "milk", False, None, None),
    ("2026-11-20 milk", "milk", False, "2026-11-20", None),
    ("x milk", "milk", True, None, None),
    ("x 2026-11-22 milk", "milk", True, None, "2026-11-22"),
    ("x 2026-11-22 2026-11-20 milk", "milk", True, "2026-11-20", "2026-11-22"),
    ("(A) 2026-11-20 milk +shop", "(A) milk +shop", False, "2026-11-20", None),
    ("2026-11-20 x milk", "x milk", False, "2026-11-20", None),
    ("2026-11-20 2026-12-24 party", "2026-12-24 party", False, "2026-11-20", None),
    (
        "x 2026-11-22 2026-11-20 x (A) 2026-12-24",
        "x (A) 2026-12-24",
        True,
        "2026-11-20",
        "2026-11-22",
    ),
]


@pytest.mark.parametrize(("line", *DatedTodo._fields), LINES)
def test_a_line_and_a_todo_say_the_same(
    line: str, text: str, is_completed: bool, created_on: str | None, completed_on: str | None
) -> None:
    todo = DatedTodo(text, is_completed, created_on, completed_on)
    assert parse_todos(line) == [todo]
    assert format_todo(todo) == f"{line}\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("X milk", "X milk"),
        ("xmilk", "xmilk"),
        ("x", "x"),
        ("(a) milk", "(a) milk"),
        ("2026-11-2 milk", "2026-11-2 milk"),
        ("٢٠٢٦-11-20 milk", "٢٠٢٦-11-20 milk"),
        ("milk due:2026-11-30 @shop 🍞 \u2028", "milk due:2026-11-30 @shop 🍞"),
        ("  milk  ", "milk"),
        ("\ufeffmilk", "milk"),
    ],
)
def test_what_is_no_part_of_the_format_is_text(line: str, text: str) -> None:
    assert parse_todos(line) == [DatedTodo(text, False, None, None)]


def test_the_export_is_the_list(client: Client, database: Path) -> None:
    for text in ("milk", "bread", "honey", "cake"):
        client.post("/", data={"text": text})
    client.post("/todos/2/complete", data={})
    client.post("/todos/1/up", data={"past": "2"})
    client.post("/todos/4/delete", data={})
    today = time.strftime("%Y-%m-%d", time.gmtime())
    answer = client.get("/todos.txt")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == f"{today} honey\n{today} milk\nx {today} {today} bread\n"
    assert client.head("/todos.txt").headers == answer.headers
    assert '<a href="/todos.txt" download>Export</a>' in client.get("/").text


def test_the_export_of_an_empty_list_is_empty(client: Client) -> None:
    assert client.get("/todos.txt").text == ""


def test_rows_put_in_by_hand_are_a_line_each(client: Client, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript("""
            INSERT INTO todos (text, created_at, completed_at) VALUES
                (x'6D696C6B', 'yesterday', NULL), ('two' || char(13, 10) || 'lines', 0, 1),
                (char(55296), '2020-01-01 00:00:00', 'yes')
        """)
    assert client.get("/todos.txt").text == "x 2020-01-01 \ufffd\ufffd\ufffd\nx two lines\nmilk\n"


def test_a_long_list_is_exported_whole(client: Client, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
        connection.execute(
            many + "INSERT INTO todos (text) SELECT 'a long line ' || i || '.' FROM n"
        )
    lines = client.get("/todos.txt").text.splitlines()
    assert len(lines) == 30000
    assert lines[0].endswith("a long line 30000.")
    assert lines[-1].endswith("a long line 1.")
    client.head("/todos.txt")


def test_what_was_exported_is_imported_as_it_was(client: Client) -> None:
    lines = (
        "2026-11-20 milk\n"
        "x 2026-11-22 2026-11-20 x bread\n"
        "(A) 2026-11-20 honey\n"
        "2026-11-20 x cake\n"
    )
    answer = client.post("/import", data={"text": f"\r\n{lines}\r\n \r\n"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/?added=4"
    assert client.get("/todos.txt").text == lines


def test_an_import_is_put_on_top_in_its_order(client: Client) -> None:
    client.post("/", data={"text": "old"})
    client.post("/import", data={"text": "one\ntwo\rthree\r\n\r\nx four"})
    assert shown(client) == ["one", "two", "three", "four", "old"]
    assert shown(client, "/?show=completed") == ["four"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Put in at least one line."),
        (" \r\n\t\r\n", "Put in at least one line."),
        ("milk\n" + "x" * 501, "Line 2: Shorten it to 500 characters: it has 501 at the moment."),
        ("milk\n\ntab\there\n\0", "Line 3: Remove the control characters, such as tabs."),
        ("x 2026-02-30 milk", "Line 1: 2026-02-30 is not a date. Correct it."),
        ("milk\nx 2026-02-28 2026-13-01 milk", "Line 2: 2026-13-01 is not a date. Correct it."),
        ("0000-01-01 milk", "Line 1: 0000-01-01 is not a date. Correct it."),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    client: Client, stored: Stored, text: str, problem: str
) -> None:
    answer = client.post("/import", data={"text": text})
    assert answer.status_code == 422
    assert f'<p id="problem" class="problem">{problem}</p>' in answer.text
    assert f"<title>Error: {problem}</title>" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert f"autofocus>\n{text}</textarea>".replace("\0", "\ufffd") in answer.text
    assert stored() == []


def test_an_import_that_fails_halfway_imports_nothing(
    client: Client, app: Application, stored: Stored
) -> None:
    connection = app.database.connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    lines = f"{'x' * 500}\n" * 100
    assert client.post("/import", data={"text": lines}).status_code == 503
    assert stored() == []
    connection.execute("PRAGMA max_page_count = 1000000")
    assert client.post("/import", data={"text": lines}).status_code == 303
    assert len(stored()) == 100


def test_an_import_that_is_too_large_is_refused(client: Client, stored: Stored) -> None:
    assert client.post("/import", data={"text": "milk\n" * 20_000}).status_code == 413
    assert stored() == []
