"""Clients that are slow on purpose, by the hundred: others are answered, and the memory lasts.

Each scene is played with the real server, and again with a copy of the project that lacks the
defence: there the scene must fail.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from select import select
from typing import NamedTuple

import psutil
import pytest
from _pytest.mark import ParameterSet
from conftest import fill
from servers import (
    POSIX_ONLY,
    ROOT,
    Server,
    broken_copy,
    exchange,
    get,
    post,
    receive_all,
    request,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi.server.crowds import AT_LEAST

pytestmark = [POSIX_ONLY, pytest.mark.timeout(120)]
MB = 1024 * 1024
LONG_TEXT = """printf('%.*c', 490, '"') || i"""  # a page of them has 2.4 MB


def those_who_do_not_read_a_page_share_it(server: Server, readers: int) -> None:
    with not_reading(server, "/", readers) as connections:
        assert receive_all(connections[0]).endswith(b"</html>\n")  # it was not cut off


def those_who_do_not_read_their_own_page_cost_little(server: Server, readers: int) -> None:
    with not_reading(server, "/?x={}", readers):
        pass


@contextmanager
def not_reading(server: Server, path: str, readers: int) -> Iterator[list[socket.socket]]:
    """Ask for a page of 2.4 MB; check the memory of the server, and that it is given back."""
    fill(server.database, 100, LONG_TEXT)
    with server.connect() as connection:
        assert len(exchange(connection, get())) > 2 * MB
    with connected(server, [get(path.format(number)) for number in range(readers)]) as connections:
        for _ in range(9):
            with server.connect() as connection:
                connection.settimeout(300)  # until the readers have been answered
                assert status_of(exchange(connection, request("HEAD", "/?last"))) == 200
        assert memory_of(server) < 150
        yield connections
    wait_until(lambda: memory_of(server) < 60)


def memory_of(server: Server) -> float:
    return psutil.Process(server.process.pid).memory_info().rss / MB


@contextmanager
def connected(server: Server, sent: Sequence[bytes]) -> Iterator[list[socket.socket]]:
    """Open a connection for each of these beginnings of a request, and send it."""
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in sent]
        for connection, data in zip(connections, sent, strict=True):
            # Otherwise the system would take a whole page for a client that does not read.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(data)
        yield connections


def at_the_limit_the_oldest_makes_room(server: Server, sent: bytes, count: int) -> None:
    fill(server.database, 100, LONG_TEXT)
    with connected(server, [sent] * count) as connections:
        for _ in range(20):
            assert status_of(server.send(get("/healthz"))) == 200
        assert receive_all(connections[0]).count(b"HTTP/1.1") <= 1  # until it is closed


def writers_who_wait_do_not_hold_up_readers(server: Server) -> None:
    with closing(sqlite3.connect(server.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with connected(server, [post(b"text=milk")] * 16) as writers:
            for _ in range(4):
                assert status_of(server.send(get("/?x"))) == 200
                assert status_of(server.send(get("/healthz"))) == 200
            assert select(writers, [], [], 0)[0] == []  # none has given up yet


def those_who_wait_for_an_answer_get_it(server: Server) -> None:
    with closing(sqlite3.connect(server.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with connected(server, [post(b"text=milk")] * 150) as writers:
            time.sleep(AT_LEAST + 0.5)
            with connected(server, [post(b"text=bread")] * 50) as late:
                other.rollback()
                answers = [receive_all(writer) for writer in writers + late]
    assert {answer[:10] for answer in answers} <= {b"HTTP/1.1 3", b"HTTP/1.1 5"}


def nobody_is_refused_because_others_export(server: Server) -> None:
    fill(server.database, 2000)
    exports = [get("/todos.txt"), *[request("HEAD", "/todos.txt")] * 4]
    with ThreadPoolExecutor(len(exports)) as executor:
        for _ in range(10):
            fill(server.database, 1)  # so that the first one has to read the list again
            answers = executor.map(server.send, exports)
            assert [status_of(answer) for answer in answers] == [200] * len(exports)


LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


class Scene(NamedTuple):
    play: Callable[[Server], None]
    file: str
    defence: str  # a part of the file
    instead: str  # what makes it useless
    descriptors: int = 230  # for 166 connections


share, own = those_who_do_not_read_a_page_share_it, those_who_do_not_read_their_own_page_cost_little
limit = at_the_limit_the_oldest_makes_room
CROWDS = "todo_wsgi/server/crowds.py"
SHARED = "todo_wsgi/http/response.py", "SHARED_FROM = 32", "SHARED_FROM = 32_000"
UNSENT = CROWDS, "MAX_UNSENT = 32", "MAX_UNSENT = 32_000"
OLDEST = CROWDS, "len(channels) >= server.max_channels", "False"
SILENT, SLOW, DEAF = b"", b"POST / HTTP/1.1\r\nHo", get()
SHORT = {
    "a page for all": Scene(partial(share, readers=80), *SHARED),
    "a page for each": Scene(partial(own, readers=80), *UNSENT),
    "writers": Scene(
        writers_who_wait_do_not_hold_up_readers, CROWDS, 'command == "POST"', 'command != ""'
    ),
    "at work": Scene(
        those_who_wait_for_an_answer_get_it, CROWDS, "if not channel.requests", "if True"
    ),
    "exports": Scene(
        nobody_is_refused_because_others_export,
        *("todo_wsgi/storage/database.py", "EXPORT_TIMEOUT = 0.4", "EXPORT_TIMEOUT = 0"),
    ),
}
LIMIT = {
    "silent": Scene(partial(limit, sent=SILENT, count=200), *OLDEST),
    "slow": Scene(partial(limit, sent=SLOW, count=200), *OLDEST),
    "deaf": Scene(partial(limit, sent=DEAF, count=200), *OLDEST),
}
MANY = {
    "a page for 900": Scene(partial(share, readers=900), *SHARED, 4000),
    "900 pages": Scene(partial(own, readers=900), *UNSENT, 4000),
    "1,100 slow": Scene(partial(limit, sent=SLOW, count=1100), *OLDEST, 4000),
}


def of(scenes: dict[str, Scene], *marks: pytest.MarkDecorator) -> list[ParameterSet]:
    return [pytest.param(scene, id=name, marks=marks) for name, scene in scenes.items()]


@pytest.mark.parametrize("scene", [*of(SHORT | LIMIT), *of(MANY, *LONG)])
def test_the_server_withstands(scene: Scene, tmp_path: Path) -> None:
    with running_with(scene.descriptors, ROOT, tmp_path) as server:
        scene.play(server)


@pytest.mark.parametrize("scene", [*of(SHORT), *of(LIMIT, *LONG)])
def test_without_its_defence_it_does_not(scene: Scene, tmp_path: Path) -> None:
    copy = broken_copy(tmp_path, scene.file, scene.defence, scene.instead)
    with (
        running_with(scene.descriptors, copy, tmp_path) as server,
        pytest.raises((AssertionError, TimeoutError)),
    ):
        scene.play(server)


@contextmanager
def running_with(descriptors: int, root: Path, folder: Path) -> Iterator[Server]:
    """Run a server that may open so many files and connections."""
    limited = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    with running([*limited, *serve_command("--port", "0", root=root)], folder) as server:
        yield server


def test_a_request_must_come_in_within_a_minute(tmp_path: Path) -> None:
    copy = broken_copy(tmp_path, CROWDS, "REQUEST_TIME = 60", "REQUEST_TIME = 1")
    with running(serve_command("--port", "0", root=copy), tmp_path) as server:
        with server.connect() as connection, suppress(ConnectionError):
            while not select([connection], [], [], 0.05)[0]:
                connection.sendall(b"X")
            assert connection.recv(1) == b""
        assert status_of(server.send(get("/healthz"))) == 200
