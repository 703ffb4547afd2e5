"""The leader of a real cluster dies, hangs or steps down under load: nothing is lost or doubled.

Writers add todos through three applications, one for each node, as three servers would. Each looks
for its todo on the next application at once. In the end, the list is compared with the answers.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from clusters import Cluster, Node, running_cluster
from conftest import in_process, read_sql, shown
from servers import POSIX_ONLY, TIMEOUT

from todo_wsgi import Application, create_app
from todo_wsgi.storage.rqlite import Cluster as Storage

WRITERS = 4

pytestmark = POSIX_ONLY


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        with closing(Storage(cluster.url)) as storage:
            storage.prepare()
        yield cluster


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_the_death_of_the_leader_loses_and_doubles_nothing(
    cluster: Cluster, number: signal.Signals
) -> None:
    assert find_faults(cluster, number, name=number.name) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thirty_deaths_of_the_leader(cluster: Cluster) -> None:
    for turn in range(30):
        number = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM][turn % 3]
        assert find_faults(cluster, number, name=f"turn {turn}") == []


def find_faults(cluster: Cluster, number: int, name: str) -> list[str]:
    """Send the leader a signal while todos are added; return what went wrong."""
    nodes = [node.address for node in cluster.nodes]
    urls = [f"rqlite://{','.join(nodes[turn:] + nodes[:turn])}" for turn in range(3)]
    with ExitStack() as stack:
        apps = [stack.enter_context(closing(create_app(url))) for url in urls]
        load = _Load(apps, name)
        load.wait_for(20)
        leader = cluster.leader()
        leader.send(number)
        load.wait_for(20)  # more, which takes a new leader
        _revive(leader, number)
        cluster.wait_until_ready()
        load.stop()
    # Each node says itself what it holds, once it has all that was acknowledged.
    sql = f"SELECT text, created_at || '' FROM todos WHERE text LIKE '{name} %' ORDER BY id"
    rows = cluster.nodes[0].rows(sql, "strong")
    counts = Counter(text for text, _ in rows)
    load.faults += [f"{text} was lost" for text in load.acknowledged if not counts[text]]
    load.faults += [f"{text} is there {n} times" for text, n in counts.items() if n > 1]
    for node in cluster.nodes:
        _wait_for_rows(node, sql, rows)
    print(f"{name}: {len(load.acknowledged)} added, the longest wait {load.longest:.1f} s")
    return load.faults


class _Load:
    """Threads that add todos until `stop`, and note what was acknowledged and what went wrong."""

    def __init__(self, apps: list[Application], name: str) -> None:
        self.acknowledged: list[str] = []
        self.faults: list[str] = []
        self.longest = 0.0
        self._apps, self._name = apps, name
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._add, args=(n,)) for n in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until each writer has had its share of so many more."""
        with self._changed:
            wanted = len(self.acknowledged) + count
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= wanted, 60)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _add(self, writer: int) -> None:
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            text = f"{self._name} writer {writer} todo {turn}"
            one, other = (in_process(self._apps[(turn + n) % 3]) for n in (0, 1))
            start = time.monotonic()
            status = one.post("/", data={"text": text}).status_code
            wait = time.monotonic() - start
            is_there = text in shown(other)
            with self._changed:
                self.acknowledged += [text] if status == 303 else []
                self.faults += [] if status == 303 else [f"{text}: {status}"]
                self.faults += [] if is_there else [f"{text} is not on the next page"]
                self.longest = max(self.longest, wait)
                self._changed.notify_all()


def _revive(node: Node, number: int) -> None:
    if number == signal.SIGSTOP:
        node.send(signal.SIGCONT)
    else:
        node.start()


def _wait_for_rows(node: Node, sql: str, rows: list[list[object]]) -> None:
    """Wait until this node's own file has the same todos, with the same times."""
    deadline = time.monotonic() + 20
    while node.rows(sql) != rows:
        assert time.monotonic() < deadline, "a node has other todos than the rest"
        time.sleep(0.05)


def test_a_list_moves_from_a_file_to_a_cluster_and_back(cluster: Cluster, tmp_path: Path) -> None:
    with closing(create_app(tmp_path / "file.db")) as app:
        for text in ("milk", "bread"):
            in_process(app).post("/", data={"text": text})
        in_process(app).post("/todos/1/complete")
    with closing(sqlite3.connect(tmp_path / "file.db")) as connection:
        before = connection.execute("SELECT * FROM todos").fetchall()
        connection.execute("PRAGMA journal_mode = DELETE")  # one file
    headers = {"Content-Type": "application/octet-stream"}
    body = (tmp_path / "file.db").read_bytes()
    address = f"http://{cluster.nodes[0].address}"
    urlopen(Request(f"{address}/db/load", body, headers), timeout=TIMEOUT).close()
    with closing(Storage(cluster.url)) as storage:
        storage.prepare()
    with closing(create_app(cluster.url)) as app:
        assert shown(in_process(app)) == ["bread", "milk"]
        assert in_process(app).post("/", data={"text": "honey"}).headers["Location"] == "/?added=3"
    with urlopen(f"{address}/db/backup", timeout=TIMEOUT) as answer:
        (tmp_path / "back.db").write_bytes(answer.read())
    with closing(create_app(tmp_path / "back.db")) as app:
        assert shown(in_process(app)) == ["honey", "bread", "milk"]
        assert read_sql(tmp_path / "back.db", "SELECT * FROM todos WHERE id < 3") == before
