"""Rare answers of a cluster: each change is made once, however often it has to be sent.

A fake node answers as real ones rarely do, and runs the SQL for real, in memory. What real ones do
is in `tests/torture/test_cluster.py`, and in the tests of the pages with --cluster.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import in_process, shown
from servers import need, serve_command, wait_until

from todo_wsgi import create_app
from todo_wsgi.storage import models, rqlite
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.storage.rqlite import Cluster

_BYTES = re.compile(r"(?i)\s*x'((?:[0-9a-f]{2})*)'\s*")


class FakeNode(ThreadingHTTPServer):
    """A cluster of one node. `faults` are what goes wrong with the next answers to a change."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.faults: list[str] = []
        self.clients: set[Any] = set()
        self.requests: list[tuple[str, bytes, str | None]] = []
        self.leader, self.is_down, self.instead = "h1:4001", False, b""
        self.before_query: Callable[[], object] = bool
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.sql = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.url = f"rqlite://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        """Return what was asked for since the last call."""
        paths = [path for path, *_ in self.requests]
        self.requests.clear()
        return paths

    def execute(self, statements: list[Any]) -> list[dict[str, Any]]:
        """Run them as one transaction, as rqlite does; an error is the last result."""
        results: list[dict[str, Any]] = []
        with self.lock, suppress(sqlite3.Error), self.sql:
            self.sql.execute("BEGIN")
            for sql, *values in statements:
                parameters = values[0] if values and isinstance(values[0], dict) else values
                try:
                    rows = self.sql.execute(sql, _as_rqlite_reads(parameters))
                except sqlite3.Error as error:
                    results.append({"error": str(error)})
                    raise
                numbers = {"last_insert_id": rows.lastrowid, "rows_affected": rows.rowcount}
                found = rows.fetchall()
                results.append({"values": found} if found else numbers)
        return results


def _as_rqlite_reads(parameters: Any) -> Any:
    """Return the parameters with bytes for what looks like a BLOB (rqlite 8.31 and later)."""
    if isinstance(parameters, dict):
        return parameters
    return [
        bytes.fromhex(found[1]) if (found := _BYTES.fullmatch(str(value))) else value
        for value in parameters
    ]


class _Answer(BaseHTTPRequestHandler):
    server: FakeNode
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.clients.add(self.client_address)
        self.server.requests.append((self.path, body, self.headers["Authorization"]))
        is_change = self.path.startswith("/db/execute")
        fault = self.server.faults.pop(0) if is_change and self.server.faults else ""
        if fault == "503" or self.server.is_down:
            return self.send(503, b"leader not found")
        if self.server.instead:
            return self.send(200, self.server.instead)
        if fault == "401":
            return self.send(401, b"")
        if fault == "error before":
            return self.send(200, b'{"results": [], "error": "not leader"}')
        if not is_change:
            self.server.before_query()
        answer = {"results": self.server.execute(json.loads(body))}
        if fault == "error after":
            return self.send(200, b'{"results": [], "error": "leadership lost"}')
        self.close_connection = fault in ("cut", "half", "hang")
        if fault == "half":
            return self.send(200, json.dumps(answer).encode()[:20])
        if fault == "hang":
            self.server.ended.wait(10)
        return None if self.close_connection else self.send(200, json.dumps(answer).encode())

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Rqlite-Served-By", self.server.leader)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode() as node:
        thread = threading.Thread(target=node.serve_forever, args=(0.01,))
        thread.start()
        with closing(Cluster(node.url)) as cluster:
            cluster.prepare()
        yield node
        node.ended.set()
        node.shutdown()
        thread.join()
        node.sql.close()


@pytest.fixture
def cluster(node: FakeNode) -> Iterator[Cluster]:
    with closing(Cluster(node.url)) as cluster:
        yield cluster


def count(connection: sqlite3.Connection) -> int:
    [number] = connection.execute("SELECT count(*) FROM todos").fetchone()
    return int(number)


# Each change is made once


@pytest.mark.parametrize(
    "faults",
    [
        ["503"],
        ["error before"],
        ["error after"],
        ["cut"],
        ["half"],
        ["hang"],
        ["cut", "error after", "503"],
    ],
)
def test_a_change_is_made_once(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    monkeypatch.setattr(rqlite, "TIMEOUT", 0.3)
    with closing(create_app(node.url)) as app:
        client = in_process(app)
        client.post("/", data={"text": "bread"})
        node.faults = list(faults)
        answer = client.post("/", data={"text": "milk"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/?added=2")
        assert not node.faults
        assert shown(client) == ["milk", "bread"]


def test_without_a_key_it_would_be_made_twice(
    node: FakeNode, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlite, "_BEGIN", "INSERT INTO applied (key) VALUES (? || random())")
    node.faults = ["error after"]
    cluster.write(models.insert_todo, "milk")
    assert cluster.read(count) == 2


def test_how_many_rows_changed_is_known_though_the_answer_is_lost(
    node: FakeNode, cluster: Cluster
) -> None:
    for text in ("milk", "bread"):
        cluster.write(models.insert_todo, text)
    node.faults = ["cut"]
    assert cluster.write(lambda own: own.execute("UPDATE todos SET text = 'x'").rowcount) == 2


def test_an_error_in_the_sql_is_final_and_nothing_is_written(
    node: FakeNode, cluster: Cluster
) -> None:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO todos (text) VALUES ('milk')")
        connection.execute("INSERT INTO todos (text) VALUES (NULL)")

    node.paths()
    with pytest.raises(DatabaseUnusable, match="NOT NULL"):
        cluster.write(change)
    assert len(node.paths()) == 1
    assert cluster.read(count) == 0


def test_old_keys_are_forgotten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rqlite, "_FORGET", rqlite._FORGET.replace("100000", "3"))
    for number in range(10):
        cluster.write(models.insert_todo, str(number))
    assert cluster.connection().execute("SELECT count(*) FROM applied").fetchone() == (4,)


# The same on each node


def test_todos_swap_their_places(node: FakeNode) -> None:
    with closing(create_app(node.url)) as app:
        for text in ("milk", "bread"):
            in_process(app).post("/", data={"text": text})
        in_process(app).post("/todos/1/up", data={"past": "2"})
        in_process(app).post("/todos/2/complete")
        assert shown(in_process(app)) == ["milk", "bread"]


def test_a_text_that_looks_like_bytes_stays_a_text(node: FakeNode) -> None:
    with closing(create_app(node.url)) as app:
        for text in ("x'6869'", "X'68'", "x'zz"):
            in_process(app).post("/", data={"text": text})
        assert shown(in_process(app)) == ["x'zz", "X'68'", "x'6869'"]
        assert shown(in_process(app), "/?q=x'68") == ["X'68'", "x'6869'"]


def test_no_clock_of_a_node_is_in_a_change(node: FakeNode, cluster: Cluster) -> None:
    node.paths()
    cluster.write(models.insert_todo, "milk")
    [(_, body, _)] = node.requests
    assert re.search(rb'"milk", "20[0-9]{2}-[0-9 :-]{14}"', body)
    assert b"CURRENT" not in body


# Fresh, and as of one moment


def test_an_answer_of_another_leader_is_asked_for_again_through_the_log(
    node: FakeNode, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlite, "LEASE", 60)
    cluster.read(count)
    node.leader = "h2:4001"
    node.paths()
    for _ in range(2):
        cluster.read(count)
    levels = [re.findall("level=([a-z]+)", path) for path in node.paths()]
    assert levels == [["linearizable"], ["strong"], ["linearizable"]]
    monkeypatch.setattr(rqlite, "LEASE", 0)  # so long ago that it may be none any more
    cluster.read(count)
    assert len(node.paths()) == 2


def test_a_page_is_as_of_one_moment_though_the_list_changes_meanwhile(node: FakeNode) -> None:
    with closing(create_app(node.url)) as app:
        client = in_process(app)
        client.post("/", data={"text": "milk"})
        deletion = [["DELETE FROM todos"], ["INSERT INTO applied (key) VALUES ('by hand')"]]
        changes = iter([[], deletion])
        node.before_query = lambda: node.execute(next(changes, []))
        page = client.get("/?q=m").text
        assert ("0 items left" in page, "Complete milk" in page) == (True, False)


def test_a_page_is_read_once_a_version(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rqlite, "LEASE", 60)
    with closing(create_app(node.url)) as app:
        client = in_process(app)
        client.get("/")
        node.paths()
        client.get("/")
        assert len(node.paths()) == 1
        node.execute([["INSERT INTO todos (text) VALUES ('by hand')"]])
        assert shown(client) == ["by hand"]


def test_those_who_ask_together_share_one_reading(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlite, "LEASE", 60)
    with closing(create_app(node.url)) as app:
        client = in_process(app)
        client.get("/")
        node.paths()
        started, go_on = threading.Semaphore(0), threading.Event()

        def wait() -> None:
            started.release()
            assert go_on.wait(20)

        node.before_query = wait
        with ThreadPoolExecutor(9) as executor:
            first = executor.submit(in_process(app).get, "/")
            assert started.acquire(timeout=20)
            others = [executor.submit(in_process(app).get, "/") for _ in range(8)]
            wait_until(lambda: executor._work_queue.empty())
            go_on.set()
            assert {answer.result().status_code for answer in [first, *others]} == {200}
        assert len(node.paths()) < 9  # mostly two: the first one, and one that the others share


# What is wrong with the cluster


def test_a_cluster_without_an_answer_gets_a_503(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(create_app(node.url)) as app:
        monkeypatch.setattr(rqlite, "DEADLINE", 0.1)
        node.is_down = True
        answer = in_process(app).post("/", data={"text": "milk"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert in_process(app).get("/").status_code == 503
        assert in_process(app).get("/healthz").status_code == 503
        node.is_down = False
        assert in_process(app).post("/", data={"text": "milk"}).status_code == 303


def test_a_forked_process_opens_connections_of_its_own(
    node: FakeNode, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 1, 2):
        monkeypatch.setattr("os.getpid", lambda number=number: number)
        cluster.check()
    assert len(node.clients) - 1 == 2  # besides that of the fixture


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"5", b"<p>Hello", b'{"error": ""}'])
def test_the_next_node_is_asked_when_one_is_gone_or_is_no_node(
    node: FakeNode, answer: bytes
) -> None:
    with FakeNode() as other:
        other.instead = answer
        threading.Thread(target=other.serve_forever, args=(0.01,)).start()
        nodes = ",".join(["127.0.0.1:1", other.url.partition("//")[2], ""])
        with closing(Cluster(node.url.replace("//", f"//{nodes}"))) as cluster:
            assert cluster.write(models.insert_todo, "milk") == 1
        other.shutdown()
        other.sql.close()


def test_the_password_is_sent_and_never_shown(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = node.url.replace("//", "//user:p%40ss@")
    with closing(Cluster(url)) as cluster:
        assert "p%40ss" not in cluster.path
        cluster.check()
        assert node.requests[-1][2] == "Basic " + base64.b64encode(b"user:p@ss").decode()
        monkeypatch.setattr(rqlite, "DEADLINE", 0)
        node.faults = ["401"]
        with pytest.raises(DatabaseUnusable, match="401"):
            cluster.write(models.insert_todo, "milk")


def test_a_node_must_prove_who_it_is(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlite, "DEADLINE", 0.1)
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subject = ["-subj", "/CN=node", "-addext", "subjectAltName=IP:127.0.0.1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", "ed25519", *subject, *files], check=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    node.socket = context.wrap_socket(node.socket, server_side=True)
    url = node.url.replace("rqlite", "rqlites")
    with (
        closing(Cluster(url)) as cluster,
        pytest.raises(DatabaseUnusable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        cluster.check()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with closing(Cluster(url)) as cluster:
        cluster.check()


@pytest.mark.parametrize(
    "url",
    ["rqlite:", "rqlite://", "rqlite://h1,h2", "rqlite://h1:1, h2:1", "rqlite://h1:4001/path"],
)
def test_a_malformed_address(url: str) -> None:
    with pytest.raises(DatabaseUnusable, match=r"rqlite://h1:4001"):
        create_app(url)


# Setting up


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit status of a command, and what it prints."""
    command = serve_command(*arguments)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


def test_a_command_prepares_a_cluster(node: FakeNode, tmp_path: Path) -> None:
    node.execute([["DROP TABLE applied"]])
    status, output = run(tmp_path, "--db", node.url)
    assert (status, output.count("\n")) == (2, 1)
    assert "no such table: applied" in output
    assert "docs/cluster.md" in output
    assert run(tmp_path, "--db", node.url, "--prepare") == (0, f"{node.url} is ready.\n")
    with closing(create_app(node.url)) as app:
        assert in_process(app).post("/", data={"text": "milk"}).status_code == 303


def test_a_list_of_another_version_is_refused(node: FakeNode, tmp_path: Path) -> None:
    node.sql.execute("PRAGMA user_version = 99")
    for command in ([], ["--prepare"]):
        status, output = run(tmp_path, "--db", node.url, *command)
        assert (status, output.count("\n")) == (2, 1)
        assert "schema 99, not 4 (docs/cluster.md)" in output


@pytest.mark.parametrize("command", [["--backup", "x"], ["--restore", "x"], ["--xray"]])
def test_what_needs_a_file_says_so(tmp_path: Path, command: list[str]) -> None:
    status, output = run(tmp_path, "--db", "rqlite://h1:4001", *command)
    assert (status, output.count("\n")) == (2, 1)
    assert "take a database file" in output


def test_a_file_needs_no_preparation(tmp_path: Path) -> None:
    usage = "serve.py: Write the cluster as rqlite://h1:4001,h2:4001,h3:4001.\n"
    assert run(tmp_path, "--prepare") == (2, usage)
