"""serve.py --processes: several processes on one socket, each replaced when it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import read_texts, run_sql
from servers import (
    POSIX_ONLY,
    Server,
    exchange,
    get,
    post,
    receive_all,
    running,
    serve_command,
    status_of,
    wait_until,
    workers,
)

from todo_wsgi import create_app
from todo_wsgi.server import serving
from todo_wsgi.server.processes import work

pytestmark = POSIX_ONLY


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Server]:
    """A server with two processes."""
    with running(serve_command("--port", "0", "--processes", "2"), tmp_path) as server:
        wait_until(lambda: len(workers(server)) == 2)
        yield server


def send(server: Server, request: bytes) -> bytes:
    """Send a request on a new connection, which either process may accept."""
    with server.connect() as connection:
        return exchange(connection, request)


def wait_until_refused(server: Server) -> None:
    """Wait until new connections are refused."""
    with suppress(ConnectionError):
        while True:
            server.connect().close()


def test_killing_a_worker_under_load_loses_no_data(two: Server) -> None:
    is_over = False

    def add_todos(name: str) -> set[str]:
        """Add todos until `is_over`; return those that the server has confirmed."""
        confirmed = set()
        number = 0
        while not is_over:
            number += 1
            with suppress(ConnectionError, IndexError):  # its process was killed
                assert status_of(send(two, post(f"text={name}-{number}".encode()))) == 303
                confirmed.add(f"{name}-{number}")
        return confirmed

    first = workers(two)
    assert len(first) == 2
    with ThreadPoolExecutor() as executor:
        loads = [executor.submit(add_todos, name) for name in "abcd"]
        try:
            victim = min(first)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in workers(two))
            for _ in range(20):  # the other one responds
                assert status_of(send(two, get())) == 200
            wait_until(lambda: len(workers(two)) == 2)
            for _ in range(20):
                assert status_of(send(two, get())) == 200
        finally:
            is_over = True
        confirmed = set().union(*(load.result() for load in loads))
    assert len(workers(two) & first) == 1
    assert two.stop() == 0
    assert f"Process {victim} ended: status -9" in two.output
    assert confirmed <= set(read_texts(two.database))
    assert len(confirmed) > 20


def test_a_todo_stored_by_one_process_is_shown_by_the_other(two: Server) -> None:
    for number in range(200):
        text = f"number {number}."
        answer = send(two, post(f"text={text}".encode()))
        assert status_of(answer) == 303
        assert text.encode() in send(two, get())


def test_moves_to_the_top_in_both_processes_share_no_place(two: Server) -> None:
    run_sql(two.database, "INSERT INTO todos (text) VALUES ('milk'), ('bread'), ('honey')")
    requests = [post(b"", path=f"/todos/{number % 3 + 1}/top") for number in range(60)]
    with ThreadPoolExecutor() as executor:
        for answer in executor.map(partial(send, two), [*requests, *[post(b"text=tea")] * 20]):
            assert status_of(answer) == 303
    with closing(sqlite3.connect(two.database)) as connection:
        sql = "SELECT count(*), count(DISTINCT place) FROM todos"
        assert connection.execute(sql).fetchone() == (23, 23)


def test_an_import_by_one_process_is_undone_by_the_other(two: Server) -> None:
    for _ in range(20):
        answer = send(two, post(b"text=tea%0Acocoa", path="/import"))
        name = answer.partition(b"imported=")[2].split()[0]
        assert b"Added 2 todos" in send(two, get("/?imported=" + name.decode()))
        answer = send(two, post(b"imported=" + name, path="/undo"))
        assert b"undone=all" in answer
    assert b"Nothing to do yet" in send(two, get())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_progress_finish_before_all_stop(two: Server, number: int) -> None:
    head, _, body = post(b"text=in+hand", "Expect: 100-continue").partition(b"text=")
    with two.connect() as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        two.process.send_signal(number)
        wait_until_refused(two)
        two.process.send_signal(number)  # a second signal changes nothing
        client.sendall(b"text=" + body)
        assert status_of(receive_all(client)) == 303
    assert two.wait() == 0
    assert two.output == (
        f"Serving {two.database} on http://127.0.0.1:{two.port}/ (Ctrl-C stops)\n"
    )
    assert os.listdir(two.database.parent) == ["todos.db"]
    assert read_texts(two.database) == ["in hand"]


LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@LINUX_ONLY
def test_a_failed_replacement_is_retried(two: Server) -> None:
    import resource

    used = len(os.listdir(f"/proc/{two.process.pid}/fd"))
    soft, hard = resource.prlimit(two.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(two.process.pid, resource.RLIMIT_NOFILE, (used, hard))
    os.kill(min(workers(two)), signal.SIGKILL)
    while "Cannot replace it: [Errno 24]" not in two.output:
        assert status_of(send(two, get())) == 200
    resource.prlimit(two.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: len(workers(two)) == 2)
    assert two.stop() == 0


@LINUX_ONLY
def test_ctrl_c_right_after_startup_is_quiet(tmp_path: Path) -> None:
    command = ["setsid", *serve_command("--port", "0", "--processes", "2")]
    with running(command, tmp_path) as server:
        os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does
        assert server.wait() == 0
    assert server.output.count("\n") == 1


def test_workers_stop_when_their_parent_is_killed(two: Server) -> None:
    assert status_of(send(two, post(b"text=milk"))) == 303
    two.process.kill()
    wait_until_refused(two)
    two.wait()
    assert read_texts(two.database) == ["milk"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_new_process_does_not_recreate_a_missing_file(
    database: Path, listener: socket.socket
) -> None:
    reader, _ = multiprocessing.Pipe(duplex=False)
    with pytest.raises(SystemExit, match="unable to open database file"):
        work(listener, reader, partial(create_app, database, mode="rw"), serving.serve)
    assert not database.exists()


def test_a_new_process_says_why_it_cannot_start(database: Path, listener: socket.socket) -> None:
    create_app(database).close()
    run_sql(database, "PRAGMA user_version = 99")
    reader, _ = multiprocessing.Pipe(duplex=False)
    with pytest.raises(SystemExit, match="made by a newer version of todo_wsgi"):
        work(listener, reader, partial(create_app, database, mode="rw"), serving.serve)
