"""kill -9 at any moment: what was acknowledged is there, what was not was done once or not at all.

Clients change the list under load, each its own todos, so that each knows exactly what must be
there. The server is killed at a random moment, some other time while it starts, and started again
on the same files. (A power cut is another matter: at a kill, the kernel keeps what was written.)
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from difflib import unified_diff
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path

import pytest
from clients import Client, Todo, from_the_top
from servers import (
    POSIX_ONLY,
    ROOT,
    TIMEOUT,
    Server,
    broken_copy,
    running,
    serve_command,
    wait_until,
    workers,
)

pytestmark = POSIX_ONLY
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]

# Which processes to kill, one group some time after the other: 0 is the one that was started, the
# others are its workers.
GROUPS = {1: [[[0]]], 2: [[[0, 1, 2]], [[1], [0, 2]], [[0]]]}


@pytest.mark.parametrize(
    ("processes", "kills"),
    [(1, 12), (2, 3), pytest.param(1, 1000, marks=LONG), pytest.param(2, 400, marks=LONG)],
)
def test_no_acknowledged_change_is_lost_and_none_is_made_twice(
    tmp_path: Path, processes: int, kills: int
) -> None:
    assert kill_again_and_again(tmp_path, processes, kills) == []


def test_an_answer_before_the_commit_is_noticed(tmp_path: Path) -> None:
    root = broken_copy(
        tmp_path / "copy",
        "todo_wsgi/handlers.py",
        "todo = _found(database.write(models.edit_todo, todo_id, models.clean_text(typed)))",
        "todo = _found(models.find_todo(database.connection(), todo_id)); import threading; "
        "threading.Timer(0.1, database.write, (models.edit_todo, todo_id, typed)).start()",
    )
    assert kill_again_and_again(tmp_path, 1, 100, root)


@pytest.fixture(autouse=True)
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure the servers: what is killed cannot write down its measurements."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def kill_again_and_again(folder: Path, processes: int, kills: int, root: Path = ROOT) -> list[str]:
    """Return what was wrong after the first kill after which something was."""
    command = serve_command("--port", "0", "--processes", str(processes), root=root)
    clients = [Client(name) for name in "abcdef"]
    for number, groups in enumerate(islice(cycle(GROUPS[processes]), kills)):
        if number % 4 == 3:
            with suppress(subprocess.TimeoutExpired):
                patience = random.uniform(0, 0.5)  # seconds, until it is killed
                subprocess.run(command, cwd=folder, capture_output=True, timeout=patience)
        with running(command, folder) as server:
            wait_until(lambda: len(workers(server)) == (processes if processes > 1 else 0))
            pids = [server.process.pid, *sorted(workers(server))]
            wrong = check(server.database, clients)
            wrong += kill_under_load(server, pids, groups, clients)
        if wrong:
            return [f"at start {number}:", *wrong]
    return check(folder / "todos.db", clients)


def check(database: Path, clients: Iterable[Client]) -> list[str]:
    """Return what is wrong in the database."""
    with closing(sqlite3.connect(database)) as connection:
        integrity = connection.execute("PRAGMA integrity_check").fetchall()
    wrong = [f"integrity_check: {row}" for row in integrity if row != ("ok",)]
    for client in clients:
        wrong += compare(database, client)
    return wrong


def compare(database: Path, client: Client) -> list[str]:
    """Return what is wrong with the client's todos; it goes on from what is there."""
    sql = "SELECT CAST(id AS TEXT), text, completed_at, deleted_at, place FROM todos"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(f"{sql} WHERE text LIKE ? || ' %'", (client.name,)).fetchall()
    todos = {row[0]: Todo(*row) for row in rows}
    found = describe(todos)
    kept, done = describe(client.todos), describe(client.todos | client.in_hand)
    client.todos, client.in_hand = todos, {}
    if found in (kept, done):
        return []
    return list(unified_diff(kept, found, f"acknowledged by {client.name}", "found", lineterm=""))


def describe(todos: dict[str, Todo]) -> list[str]:
    """Return a line for each todo, with all that is known before a change is answered."""
    return [
        f"{todo.text}, completed: {bool(todo.completed_at)}, deleted: {bool(todo.deleted_at)}"
        for todo in from_the_top(todos.values())
    ]


def kill_under_load(
    server: Server, pids: Sequence[int], groups: Iterable[Iterable[int]], clients: Sequence[Client]
) -> list[str]:
    """Kill the groups of processes; return what is wrong for clients whose worker alone is gone."""
    wrong: list[str] = []

    def work(client: Client) -> None:
        """Post changes until the server is gone."""
        while server.process.poll() is None:
            with (
                suppress(ConnectionError, HTTPException),
                closing(HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as connection,
            ):
                connection.connect()
                wrong.extend(compare(server.database, client))
                while True:
                    client.change(connection)

    def count() -> int:
        return sum(client.acknowledged for client in clients)

    with ThreadPoolExecutor(len(clients)) as executor:
        loads = [executor.submit(work, client) for client in clients]
        for group in groups:
            goal = count() + random.randrange(60)
            while count() < goal and not any(load.done() for load in loads):
                time.sleep(0.001)
            for index in group:
                os.kill(pids[index], signal.SIGKILL)
    for load in loads:
        load.result()
    return wrong
