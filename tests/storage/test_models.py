"""The SQL: no query but a search slows down as the list grows; a change is one statement or two."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import InProcessClient, fill, run_sql

from todo_wsgi import Application
from todo_wsgi.storage import models, transfer, undo
from todo_wsgi.storage.models import FILTERS, PAGE_SIZE
from todo_wsgi.storage.transfer import DatedTodo

DELETED = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
DONE = "2026-11-22"
IMPORTED = "1-3-123456789012345"

# The arguments for each function that takes a connection.
READING: dict[str, list[tuple[Any, ...]]] = {
    "list_todos": [
        (show, start, 101, words)
        for show in FILTERS
        for start in (None, 150)
        for words in ("", "todo 1")
    ],
    "list_todos_above": [(show, 150, 1, words) for show in FILTERS for words in ("", "todo 1")],
    "find_todo": [(7,)],
    "find_time": [("completed_at", 7), ("deleted_at", 7)],
    "find": [("completed_at", DONE), ("deleted_at", DELETED)],
    "count_active": [()],
    "count_imported": [(IMPORTED,)],
    "iterate_todos": [()],
    "check_readable": [()],
}
CHANGING: dict[str, list[tuple[Any, ...]]] = {
    "insert_todo": [("milk",)],
    "insert_dated_todos": [([DatedTodo("milk", True, None, None)],)],
    "edit_todo": [(7, "milk")],
    "complete_todo": [(7, DONE)],
    "reopen_todo": [(7,)],
    "move_todo": [(7, 8)],
    "move_todo_to_top": [(7,)],
    "delete_todo": [(7,)],
    "delete_imported": [(IMPORTED,)],
    "complete_all": [()],
    "delete_completed": [()],
    "undo": [("completed_at", DONE), ("deleted_at", DELETED)],
}


@pytest.fixture
def statements(app: Application, database: Path) -> list[str]:
    """Call all functions on a long list, and return the statements that they execute."""
    fill(database, 3 * PAGE_SIZE)
    run_sql(database, f"UPDATE todos SET deleted_at = '{DELETED}' WHERE id = 9")
    return [sql for name in (READING | CHANGING) for sql in executed_by(app, name)]


def executed_by(app: Application, name: str) -> Iterator[str]:
    connection = app.database.connection()
    for arguments in (READING | CHANGING)[name]:
        executed: list[str] = []
        connection.set_trace_callback(executed.append)
        find_function(name)(connection, *arguments, **({"up": True} if name == "move_todo" else {}))
        connection.set_trace_callback(None)
        yield from executed


def find_function(name: str) -> Any:
    return next(vars(module)[name] for module in (models, transfer, undo) if name in vars(module))


def test_every_function_is_covered() -> None:
    def takes_connection(module: ModuleType) -> set[str]:
        return {
            name
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if not name.startswith("_") and "connection" in inspect.signature(function).parameters
        }

    functions = takes_connection(models) | takes_connection(transfer) | takes_connection(undo)
    assert READING.keys() | CHANGING.keys() == functions


def test_every_statement_uses_an_index(app: Application, statements: list[str]) -> None:
    connection = app.database.connection()
    steps = set()
    for statement in statements:
        if not statement.strip().startswith("INSERT"):
            plan = {row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")}
            assert not any("B-TREE" in step for step in plan), statement  # it would sort
            steps |= plan
    # Index scans follow the order of the index; only the health check reads an arbitrary row.
    assert {step for step in steps if step.startswith("SCAN")} == {
        "SCAN todos",
        "SCAN todos USING INDEX todos_all",
        "SCAN todos USING INDEX todos_active",
        "SCAN (subquery-1)",
        "SCAN sqlite_sequence",  # one row
    }
    for show in FILTERS:
        assert f"SEARCH todos USING INDEX todos_{show} (place<?)" in steps
        assert f"SEARCH todos USING INDEX todos_{show} (place>?)" in steps


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_is_one_statement_after_its_preparation_and_at_most_one_select(
    app: Application, database: Path, name: str
) -> None:
    fill(database, 10)
    verbs = [sql.split()[0] for sql in executed_by(app, name)]
    if name in ("delete_todo", "delete_completed"):
        assert verbs.pop(0) == "DELETE"  # purges what was deleted long ago; nothing depends on it
    if name == "move_todo_to_top":
        assert verbs.pop(0) == "UPDATE"  # takes the next id, which nobody needs
    calls = len(CHANGING[name])
    assert verbs[:calls] == ["INSERT" if "insert" in name else "UPDATE"] * calls
    assert verbs[calls:] in ([], ["SELECT"])


def test_a_post_executes_begin_insert_and_commit(client: InProcessClient, app: Application) -> None:
    client.asks_twice = False
    client.post("/", data={"text": "milk"})
    executed: list[str] = []
    app.database.connection().set_trace_callback(executed.append)
    client.post("/", data={"text": "bread"})
    assert executed[::2] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert executed[1].startswith("INSERT INTO todos (text, created_at) VALUES ('bread', '20")


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 item left"), (999, "999 items left"), (1000, "1,000 items left")],
)
def test_the_page_counts_the_active_todos(
    client: InProcessClient, database: Path, count: int, words: str
) -> None:
    client.get("/")
    fill(database, count)
    assert f"<p>{words}</p>" in client.get("/").text


def test_a_long_list_is_not_counted_to_the_end(client: InProcessClient, database: Path) -> None:
    client.get("/")
    fill(database, 1001)
    page = client.get("/").text
    assert "<p>1,000+ items left</p>" in page
    assert "<title>Todos, 1,000+ items left</title>" in page
    run_sql(database, "UPDATE todos SET completed_at = CURRENT_TIMESTAMP WHERE id > 1")
    assert "<p>1 item left</p>" in client.get("/").text
