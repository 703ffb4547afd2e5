"""The list as a file: export and import in the todo.txt format."""

from __future__ import annotations

import gzip
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import fill, in_process, run_sql, shown
from werkzeug.test import Client, TestResponse, create_environ

from todo_wsgi import Application
from todo_wsgi.presentation import todotxt
from todo_wsgi.presentation.todotxt import format_todo, parse_todos
from todo_wsgi.storage import transfer
from todo_wsgi.storage.transfer import DatedTodo

Stored = Callable[[], list[str]]

# Lines of a file, each with its text, state, creation date and completion date.
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
def test_a_line_and_its_todo_convert_both_ways(
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
def test_anything_outside_the_format_is_text(line: str, text: str) -> None:
    assert parse_todos(line) == [DatedTodo(text, False, None, None)]


def test_the_export_is_compressed_for_clients_that_accept_gzip(client: Client) -> None:
    client.post("/", data={"text": "milk"})
    plain = client.get("/todos.txt")
    compressed = client.get("/todos.txt", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(compressed.data) == plain.data
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Vary"] == compressed.headers["Vary"] == "Accept-Encoding"


def test_the_export_matches_the_list(client: Client) -> None:
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


def test_each_row_inserted_by_hand_is_one_line(client: Client, database: Path) -> None:
    run_sql(
        database,
        """
        INSERT INTO todos (text, created_at, completed_at) VALUES
            (x'6D696C6B', 'yesterday', NULL), ('two' || char(13, 10) || 'lines', 0, 1),
            (char(55296), '2020-01-01 00:00:00', 'yes')
        """,
    )
    assert client.get("/todos.txt").text == "x 2020-01-01 \ufffd\ufffd\ufffd\nx two lines\nmilk\n"


def test_a_long_list_is_exported_in_full(
    client: Client, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(todotxt, "_MAX_IN_MEMORY", 1000)  # forces a temporary file
    fill(database, 3000, "'a long line ' || i || '.'")
    lines = client.get("/todos.txt").text.splitlines()
    assert len(lines) == 3000
    assert lines[0].endswith("a long line 3000.")
    assert lines[-1].endswith("a long line 1.")
    client.head("/todos.txt")  # leaving the file open would warn, and warnings are errors


def test_an_export_can_be_imported_unchanged(client: Client) -> None:
    lines = (
        "2026-11-20 milk\n"
        "x 2026-11-22 2026-11-20 x bread\n"
        "(A) 2026-11-20 honey\n"
        "2026-11-20 x cake\n"
    )
    answer = client.post("/import", data={"text": f"\r\n{lines}\r\n \r\n"})
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/?imported=1-4-")
    page = client.get(answer.headers["Location"]).text
    assert "<title>Added 4 todos, 3 items left</title>" in page
    assert client.get("/todos.txt").text == lines


def test_imported_todos_go_to_the_top_in_their_order(client: Client) -> None:
    client.post("/", data={"text": "old"})
    client.post("/import", data={"text": "one\ntwo\rthree\r\n\r\nx four"})
    assert shown(client) == ["one", "two", "three", "four", "old"]
    assert shown(client, "/?show=completed") == ["four"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert client.get("/todos.txt").text.splitlines()[2:4] == [
        f"{today} three",
        f"x {today} {today} four",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Write or paste at least one line."),
        (" \r\n\t\r\n", "Write or paste at least one line."),
        ("milk\n" + "x" * 501, "Line 2: Shorten it to 500 characters: it has 501."),
        ("x 2026-02-27 2026-02-28", "Line 1: Write what there is to do."),
        ("2026-02-28", "Line 1: Write what there is to do."),
        ("milk\n\ntab\there\n\0", "Line 3: Remove the control characters, such as tabs."),
        ("x 2026-02-30 milk", "Line 1: there is no date 2026-02-30. Correct it."),
        ("milk\nx 2026-02-28 2026-13-01 milk", "Line 2: there is no date 2026-13-01. Correct it."),
        ("0000-01-01 milk", "Line 1: there is no date 0000-01-01. Correct it."),
        ("a\n\n" * 1001, "Import 1,000 lines at a time: these are 1,001."),
    ],
)
def test_an_invalid_line_is_named_and_nothing_is_imported(
    client: Client, stored: Stored, text: str, problem: str
) -> None:
    answer = client.post("/import", data={"text": text})
    assert answer.status_code == 422
    assert f'<p id="problem" class="problem">{problem}</p>' in answer.text
    assert f"<title>Error: {problem}</title>" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert f"autofocus>\n{text}</textarea>".replace("\0", "\ufffd") in answer.text
    assert stored() == []


@pytest.mark.of_file
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


@pytest.mark.parametrize(("count", "status"), [(500, 303), (700, 413)])
def test_an_import_may_have_about_500_lines(
    client: Client, stored: Stored, count: int, status: int
) -> None:
    line = "x 2026-11-22 2026-11-20 buy milk and bread, some honey, and an umbrella for Zoë, +shop"
    answer = client.post("/import", data={"text": f"{line}\r\n" * count})
    assert answer.status_code == status
    assert len(stored()) == (count if status == 303 else 0)


def test_only_one_long_export_runs_at_a_time(
    client: Client, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterate(_: sqlite3.Connection) -> Iterator[DatedTodo]:
        with ThreadPoolExecutor() as executor:  # somebody else requests it meanwhile
            answers.append(executor.submit(in_process(app).get, "/todos.txt").result())
        yield from ()

    answers: list[TestResponse] = []
    monkeypatch.setattr(transfer, "iterate_todos", iterate)
    assert client.get("/todos.txt").status_code == 200
    assert answers[0].status_code == 503
    assert answers[0].headers["Retry-After"] == "5"


def test_an_export_is_kept_until_the_list_changes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = Mock(wraps=todotxt.export)
    monkeypatch.setattr(todotxt, "export", export)
    for text in ("milk", "bread"):
        client.post("/", data={"text": text})
        for method in (client.get, client.head, client.get):
            assert method("/todos.txt").status_code == 200
    assert client.get("/todos.txt").text.count("\n") == 2
    assert export.call_count == 2


def test_a_slow_client_may_read_an_export_until_there_are_four_newer_ones(
    client: Client, app: Application
) -> None:
    def export() -> Iterable[bytes]:
        return app(create_environ("/todos.txt"), lambda *_: print)

    client.post("/", data={"text": "milk"})
    in_time, too_late = export(), export()
    for _ in range(3):
        client.post("/", data={"text": "bread"})
        export()
    assert b"".join(in_time).endswith(b" milk\n")
    client.post("/", data={"text": "bread"})
    export()
    with pytest.raises(OSError, match="newer ones took its place"):
        b"".join(too_late)


@pytest.mark.of_file
def test_503_if_the_disk_has_no_room_for_the_export(
    client: Client, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/", data={"text": "milk"})
    monkeypatch.setattr(todotxt, "_MAX_IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(database.parent / "missing"))
    answer = client.get("/todos.txt")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    monkeypatch.undo()
    assert client.get("/todos.txt").status_code == 200
