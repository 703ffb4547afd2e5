"""The leader of a real cluster is killed, hangs or is cut off: nothing is lost or doubled.

Users add todos through three real servers, each of which has another node first. They look for the
new todo on the two other servers at once. In the end, all nodes must hold what was acknowledged,
each todo once and with the same time, although a node that was killed runs its log again.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from itertools import count, takewhile
from pathlib import Path
from socket import SHUT_RDWR, create_connection
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from clusters import Cluster, Machine, Node, running_cluster, running_network
from servers import (
    POSIX_ONLY,
    ROOT,
    TIMEOUT,
    Server,
    broken_copy,
    receive_all,
    running,
    serve_command,
    wait_until,
)

USERS = 6
FAULTS: dict[str, tuple[Callable[[Node], None], Callable[[Node], None]]] = {
    "kill": (Node.kill, Node.start),
    "hang": (Node.hang, Node.go_on),
    "cut": (Node.pull_the_cable, Node.plug_it_in),
}

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]

pytestmark = [POSIX_ONLY, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        # What a broken copy does is not measured, and servers are quicker without.
        stack.enter_context(pytest.MonkeyPatch.context()).delenv("COVERAGE_PROCESS_CONFIG", False)
        is_root = os.geteuid() == 0
        machines = stack.enter_context(running_network()) if is_root else [Machine()] * 3
        folder = tmp_path_factory.mktemp("cluster")
        cluster = stack.enter_context(running_cluster(folder, machines=machines))
        subprocess.run(serve_command("--prepare", "--db", cluster.url), cwd=folder, check=True)
        yield cluster


@pytest.fixture(scope="module")
def servers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running_servers(cluster.addresses, tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@contextmanager
def running_servers(
    addresses: Sequence[str], folder: Path, root: Path = ROOT
) -> Iterator[list[Server]]:
    urls = [f"rqlite://{','.join([*addresses[n:], *addresses[:n]])}" for n in range(3)]
    commands = [serve_command("--port", "0", "--db", url, root=root) for url in urls]
    with ExitStack() as stack:
        yield [stack.enter_context(running(command, folder)) for command in commands]


@pytest.mark.parametrize(
    ("faults", "todos"),
    [
        *(pytest.param([fault], 150, id=fault) for fault in FAULTS),
        pytest.param([*FAULTS] * 10, 10_000, marks=LONG, id="thirty"),
    ],
)
def test_the_death_of_the_leader_loses_and_doubles_nothing(
    cluster: Cluster, servers: list[Server], faults: list[str], todos: int
) -> None:
    assert find_faults(cluster, servers, faults, todos=todos) == []


@pytest.mark.parametrize("todos", [100, pytest.param(10_000, marks=LONG)])
def test_an_answer_that_is_lost_doubles_nothing(
    cluster: Cluster, tmp_path: Path, todos: int
) -> None:
    with losing_answers(cluster) as addresses, running_servers(addresses, tmp_path) as servers:
        assert find_faults(cluster, servers, todos=todos) == []


@pytest.mark.parametrize(
    ("found", "file", "line", "instead", "faults", "todos"),
    [
        (
            "is there 2 times",
            "rqlite.py",
            "INSERT INTO applied (key) VALUES (?)",
            "INSERT INTO applied (key) VALUES (? || random())",  # another one for each attempt
            [],
            60,
        ),
        (
            "is missing in",
            "rqlite.py",
            'for level in ("linearizable", "strong")',
            'for level in ("none",)',  # what the node itself holds
            [],
            2000,  # it is found among the first 10, or 200 where all is slow
        ),
        (
            "has other rows",
            "models.py",
            "(text, created_at) VALUES (?, ?)",
            "(text) VALUES (substr(?, 1, ?))",  # each node takes the time of its own clock
            ["kill"],
            60,
        ),
    ],
)
def test_what_is_broken_is_noticed(
    cluster: Cluster,
    tmp_path: Path,
    found: str,
    file: str,
    line: str,
    instead: str,
    faults: list[str],
    todos: int,
) -> None:
    root = broken_copy(tmp_path / "copy", f"todo_wsgi/storage/{file}", line, instead)
    with (
        losing_answers(cluster) as addresses,
        running_servers(addresses, tmp_path, root) as servers,
    ):
        assert found in "\n".join(find_faults(cluster, servers, faults, todos=todos))


def test_without_a_majority_there_is_a_503_and_all_is_well_when_it_is_back(
    cluster: Cluster, servers: list[Server]
) -> None:
    with adding(servers) as load:
        load.wait_for(30)
    leader = cluster.leader()
    dead = [node for node in cluster.nodes if node is not leader]
    for node in dead:
        node.kill()
    wait_until(lambda: not leader.is_leader())  # for a moment, it reads as if nothing was wrong
    with ThreadPoolExecutor() as executor:  # each takes all the time that a server has
        asked = [
            executor.submit(ask, server, method, "/", text=f"{load.name} {server.port}")
            for server in servers
            for method in ("GET", "POST")
        ]
    answers = [future.result()[0] for future in asked]
    assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "5")}
    for node in dead:
        node.start()
    cluster.wait_until_ready()
    assert [ask(server, "GET", "/healthz")[1] for server in servers] == ["ok"] * 3
    assert find_faults(cluster, servers, todos=30) == []
    assert load.wrong + compare(cluster, load) == []


def find_faults(
    cluster: Cluster, servers: Sequence[Server], faults: Sequence[str] = (), *, todos: int
) -> list[str]:
    """Let the faults befall the leader, one after the other, while users add so many todos.

    Return what went wrong.
    """
    share = todos // (2 * len(faults) + 1)
    with adding(servers) as load:
        load.wait_for(share)
        for fault in takewhile(lambda _: not load.wrong, faults):
            strike, heal = FAULTS[fault]
            leader = cluster.leader()
            load.deaths.append(fault)
            strike(leader)
            load.wait_for(share)  # which takes a new leader
            heal(leader)
            cluster.wait_until_ready()
            load.wait_for(share)
    print(*load.describe(), sep="\n")
    return load.wrong + compare(cluster, load)


@contextmanager
def adding(servers: Sequence[Server]) -> Iterator[Load]:
    """Let users add todos."""
    load = Load(servers)
    with ThreadPoolExecutor(USERS) as executor:
        load.users = [executor.submit(load.add, user) for user in range(USERS)]
        try:
            yield load
        finally:
            load.is_over = True
    for user in load.users:
        user.result()


class Answer(NamedTuple):
    method: str
    status: int
    death: int  # how many there had been
    wait: float  # seconds


class Load:
    """What users ask for, what they get, and what is wrong with that."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.name = secrets.token_hex(4)  # with which their todos begin
        self.acknowledged: list[str] = []
        self.answers: list[Answer] = []
        self.deaths: list[str] = []
        self.wrong: list[str] = []
        self.users: list[Future[None]] = []
        self.is_over = False
        self._servers = servers

    def wait_for(self, number: int) -> None:
        """Wait until so many more todos are acknowledged, or something is wrong."""
        goal = len(self.acknowledged) + number
        wait_until(lambda: len(self.acknowledged) >= goal or any(u.done() for u in self.users))

    def add(self, user: int) -> None:
        """Add one todo after the other, each at the next server."""
        for turn in takewhile(lambda _: not self.wrong and not self.is_over, count(user)):
            text = f"{self.name} {user} {turn}."
            one, other, third = ((turn + n) % 3 for n in range(3))
            answer, _ = self._ask(one, "POST", "/", text=text)
            self.acknowledged += [text] if answer.status == 303 else []
            address = answer.headers.get("Location", "/?added=0")
            _, page = self._ask(other, "GET", address)
            self.wrong += [] if text in page else [f"{text} is missing in {address}"]
            # The page of all is kept; when others added 100 meanwhile, the todo is not on it.
            _, page = self._ask(third, "GET", "/")
            ids = [int(number) for number in re.findall('<li id="todo-([0-9]+)"', page)]
            own = int(address.rpartition("=")[2])
            is_there = own in ids or own < min(ids, default=0)
            self.wrong += [] if is_there else [f"{text} is missing in {ids}"]

    def _ask(self, server: int, method: str, path: str, **form: str) -> tuple[HTTPResponse, str]:
        start = time.monotonic()
        answer, page = ask(self._servers[server], method, path, **form)
        wait = time.monotonic() - start
        self.answers.append(Answer(method, answer.status, len(self.deaths), wait))
        expected = {"POST": 303, "GET": 200}[method]
        self.wrong += [] if answer.status == expected else [f"{method} {path}: {answer.status}"]
        return answer, page

    def describe(self) -> Iterator[str]:
        """Yield what came, and the longest wait for a page and for a change in each death."""
        statuses = Counter((answer.method, answer.status) for answer in self.answers)
        yield f"{self.name}: {len(self.acknowledged)} todos; answers: {dict(statuses)}"
        for method in ("GET", "POST"):
            for fault in dict.fromkeys(self.deaths):
                deaths = [number for number, name in enumerate(self.deaths, 1) if name == fault]
                waits = sorted(self._longest_wait(method, death) for death in deaths)
                yield f"{fault}: {method}s waited {' '.join(f'{wait:.1f}' for wait in waits)} s"

    def _longest_wait(self, method: str, death: int) -> float:
        found = (answer for answer in self.answers if answer.death == death)
        return max((answer.wait for answer in found if answer.method == method), default=0)


def ask(server: Server, method: str, path: str, **form: str) -> tuple[HTTPResponse, str]:
    """Return the answer, and its page."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)) as connection:
        connection.request(method, path, urlencode(form), headers)
        answer = connection.getresponse()
        return answer, answer.read().decode()


def compare(cluster: Cluster, load: Load) -> list[str]:
    """Return what of the load is lost or doubled, and which nodes have other rows."""
    sql = "SELECT text, CAST(created_at AS TEXT) FROM todos"
    sql += f" WHERE text LIKE '{load.name} %' ORDER BY id"
    rows = cluster.nodes[0].rows(sql, "strong")
    counts = Counter(text for text, _ in rows)
    wrong = [f"{text} is lost" for text in load.acknowledged if not counts[text]]
    wrong += [f"{text} is there {number} times" for text, number in counts.items() if number > 1]
    others = [node.address for node in cluster.nodes if settled_rows(node, sql, len(rows)) != rows]
    return wrong + [f"{address} has other rows" for address in others]


def settled_rows(node: Node, sql: str, number: int) -> list[list[str]]:
    """Return what the node's own file holds, once it has got all."""
    wait_until(lambda: len(node.rows(sql)) >= number)
    return node.rows(sql)


@contextmanager
def losing_answers(cluster: Cluster) -> Iterator[list[str]]:
    """Run a proxy before each node: every third change reaches it, but the answer is lost."""
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(node.address)) for node in cluster.nodes]
        for proxy in proxies:
            stack.callback(proxy.shutdown)
            Thread(target=proxy.serve_forever, args=(0.05,)).start()
        yield [f"127.0.0.1:{proxy.server_address[1]}" for proxy in proxies]


class Proxy(ThreadingTCPServer):
    request_queue_size = 128

    def __init__(self, node: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.node = node
        self.changes = count()


class Handler(StreamRequestHandler):
    """Hands one request to the node, and the answer back."""

    server: Proxy

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        [length] = re.findall(rb"(?i)content-length: ([0-9]+)", head)
        host, port = self.server.node.split(":")
        with suppress(OSError), create_connection((host, int(port)), TIMEOUT) as node:
            node.sendall(head + b"Connection: close\r\n\r\n" + self.rfile.read(int(length)))
            if b"/execute" in head and next(self.server.changes) % 3 == 2:
                self.request.shutdown(SHUT_RDWR)
            self.wfile.write(receive_all(node))
