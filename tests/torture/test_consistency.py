"""Every page shows the list as it is, while ten clients and the sqlite3 program change it.

Each client knows its own todos, so it compares them with each page exactly. All edit the shared
todos, by POST and by the sqlite3 program, and what pages show of each of these must be linearizable
(Herlihy and Wing, 1990): as if each edit and each look had happened at one moment between its begin
and its end. As each edit writes another text, this is so exactly if no text is shown before its
edit begins, and if of no two texts, each was written or shown by an operation that ended before one
of the other began (Gibbons and Korach, "Testing Shared Memories", 1997).
"""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from clients import Client, Todo, from_the_top, post
from conftest import fill
from servers import ROOT, TIMEOUT, broken_copy, need, running, serve_command

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
SHARED = range(1, 6)  # the ids of the shared todos
# The text of a todo on a page of the list, on its own page, and in the file.
SHOWN = re.compile(
    r'^(?:<span class="text" dir="auto">|<textarea .*>\n|(?:x )?[-\d ]+ )(\w+ \w+)(?:<|$)',
    re.MULTILINE,
)


class Operation(NamedTuple):
    """A client wrote a text, or was shown it, at one moment between `begin` and `end`."""

    begin: float
    end: float
    text: str
    is_edit: bool = False


@pytest.mark.parametrize(
    ("processes", "operations"),
    [(2, 2_000), pytest.param(1, 50_000, marks=LONG), pytest.param(2, 50_000, marks=LONG)],
)
def test_every_page_shows_the_list_as_it_is(
    tmp_path: Path, processes: int, operations: int
) -> None:
    assert find_wrong_pages(tmp_path, processes, operations) == []


def test_a_cache_that_is_late_is_noticed(tmp_path: Path) -> None:
    root = broken_copy(
        tmp_path / "copy",
        "todo_wsgi/storage/cache.py",
        "version = read_version()",
        "version = __import__('time').monotonic() // 1",  # a page may be a second old
    )
    wrong = find_wrong_pages(tmp_path, 2, 500, root)
    assert any(line.startswith("/") for line in wrong)
    assert any(line.startswith("shared") for line in wrong)


def edit(begin: float, end: float, text: str) -> Operation:
    return Operation(begin, end, text, is_edit=True)


@pytest.mark.parametrize(
    ("later", "is_linearizable"),
    [
        ([edit(1, 9, "a 1"), Operation(2, 3, "a 0"), Operation(4, 5, "a 1")], True),
        ([edit(1, 9, "a 1"), Operation(2, 3, "a 1"), Operation(4, 5, "a 0")], False),
        ([edit(1, 2, "a 1"), Operation(2, 4, "a 0")], True),
        ([edit(1, 2, "a 1"), Operation(3, 4, "a 0")], False),
        ([edit(1, 4, "a 1"), edit(2, 5, "a 2"), Operation(6, 7, "a 1")], True),
        ([edit(1, 2, "a 1"), edit(3, 4, "a 2"), Operation(5, 6, "a 1")], False),
        ([edit(1, 2, "b 1"), Operation(3, 4, "a 0")], True),
        ([Operation(1, 2, "a 1"), edit(3, 4, "a 1")], False),
        ([Operation(1, 2, "a 1")], False),
    ],
)
def test_the_check_finds_what_no_order_explains(
    later: list[Operation], is_linearizable: bool
) -> None:
    assert (find_contradictions([edit(0, 0, "a 0"), *later]) == []) == is_linearizable


@pytest.fixture(autouse=True)
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure the servers, which makes them slow."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def find_wrong_pages(folder: Path, processes: int, operations: int, root: Path = ROOT) -> list[str]:
    """Return what pages showed that was not in the list at that moment."""
    history: list[Operation] = []
    command = serve_command("--port", "0", "--processes", str(processes), root=root)
    with running(command, folder) as server, ThreadPoolExecutor(10) as executor:
        fill(server.database, len(SHARED), "'shared' || i || ' 0'")
        history += [edit(0, 0, f"shared{todo_id} 0") for todo_id in SHARED]
        clients = [Visitor(name, server.database, history) for name in "abcdefghij"]

        def connect() -> closing[HTTPConnection]:
            return closing(HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT))

        def work(client: Visitor) -> None:
            with connect() as one, connect() as other:  # perhaps to different processes
                for _ in range(operations // len(clients)):
                    client.act(client.random.choice((one, other)))

        list(executor.map(work, clients))
    wrong = [line for client in clients for line in client.wrong]
    return wrong + find_contradictions(history)


class Visitor(Client):
    """A client that looks at pages, too, and edits shared todos, and writes a history of these."""

    def __init__(self, name: str, database: Path, history: list[Operation]) -> None:
        super().__init__(name)
        self.wrong: list[str] = []
        self._database = database
        self._history = history
        self._edits = 0

    def act(self, connection: HTTPConnection) -> None:
        """Do one thing."""
        actions = [self.change, self._edit_by_post, self._edit_by_program, self._look]
        self.random.choices(actions, [30, 15, 3, 52])[0](connection)

    def _edit_by_post(self, connection: HTTPConnection) -> None:
        todo_id, text = self._new_text()
        begin = time.monotonic()
        post(connection, f"/todos/{todo_id}", {"text": text})
        self._history.append(edit(begin, time.monotonic(), text))

    def _edit_by_program(self, _: HTTPConnection) -> None:
        todo_id, text = self._new_text()
        program = [need("sqlite3"), "-cmd", f".timeout {TIMEOUT}000", str(self._database)]
        begin = time.monotonic()
        update = f"UPDATE todos SET text = '{text}' WHERE id = {todo_id}"
        subprocess.run([*program, update], check=True)
        self._history.append(edit(begin, time.monotonic(), text))

    def _new_text(self) -> tuple[int, str]:
        todo_id = self.random.choice(SHARED)
        self._edits += 1
        return todo_id, f"shared{todo_id} {self.name}{self._edits}"

    def _look(self, connection: HTTPConnection) -> None:
        page, expected = self.random.choice(list(self._pages().items()))
        begin = time.monotonic()
        connection.request("GET", page)
        shown = SHOWN.findall(connection.getresponse().read().decode())
        end = time.monotonic()
        mine = [text for text in shown if text.startswith(f"{self.name} ")]
        if mine != [todo.text for todo in expected]:
            self.wrong.append(f"{page} shows {mine} and not {expected}")
        shared = [text for text in shown if text.startswith("shared")]
        self._history += [Operation(begin, end, text) for text in shared]

    def _pages(self) -> dict[str, list[Todo]]:
        """Return pages to look at, and the client's own todos that they must show."""
        todos = from_the_top(self.todos.values())
        there = [todo for todo in todos if not todo.deleted_at]
        gone = [todo for todo in todos if todo.deleted_at]
        return {
            "/": there,
            "/?show=active": [todo for todo in there if not todo.completed_at],
            "/?show=completed": [todo for todo in there if todo.completed_at],
            "/todos.txt": there,
            f"/todos/{self.random.choice(SHARED)}": [],
            **{f"/todos/{todo.id}": [todo] for todo in there[:1]},
            **{f"/todos/{todo.id}": [] for todo in gone[:1]},
        }


def find_contradictions(history: Iterable[Operation]) -> list[str]:
    """Return what makes the history of the shared todos not linearizable."""
    wrong = []
    by_text: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_text[operation.text].append(operation)
    spans: defaultdict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for text, operations in by_text.items():
        written = min((one.begin for one in operations if one.is_edit), default=math.inf)
        first_end = min(one.end for one in operations)
        last_begin = max(one.begin for one in operations)
        if first_end < written:
            wrong.append(f"{text} was shown before it was written")
        spans[text.split()[0]].append((first_end, last_begin, text))
    for of_one_todo in spans.values():
        for (end, begin, text), (other_end, other_begin, other) in combinations(of_one_todo, 2):
            if end < other_begin and other_end < begin:
                wrong.append(f"{text} and {other} were each there before the other")
    return wrong
