"""A real cluster for the tests: three nodes of rqlite on this machine.

The environment variable RQLITED, or else the PATH, names the program (docs/cluster.md says where it
comes from). Without it, these tests are skipped, or fail in CI. Root can give each node a network
namespace, which is a machine of its own with a cable that can be pulled.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from servers import TIMEOUT, cannot_run, need

PATIENCE = 60  # seconds for what the nodes do in five at most when the machine is quiet

T = TypeVar("T")


class Machine(NamedTuple):
    """Where a node runs; `enter` is the beginning of commands there."""

    host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()
    cable: str = ""  # arguments of `ip`


@contextmanager
def running_cluster(
    folder: Path,
    options: Sequence[str] = (),
    *,
    scheme: str = "rqlite",
    login: str = "",
    machines: Sequence[Machine] = (Machine(), Machine(), Machine()),
) -> Iterator[Cluster]:
    """Run three nodes, which have their data in `folder`, until the end.

    `options` are more arguments for each. With those for TLS, the scheme is "rqlites"; with those
    for passwords, the login of somebody who may do everything is like "user:password@".
    """
    program = find_rqlited()
    ports = _free_ports(6)
    join = ",".join(
        f"{machine.host}:{port}" for machine, port in zip(machines, ports[3:], strict=True)
    )
    with ExitStack() as stack:
        nodes = []
        for number, machine in enumerate(machines):
            http, raft = (f"{machine.host}:{ports[number + n]}" for n in (0, 3))
            command = [*machine.enter, program, "-node-id", str(number), "-http-addr", http]
            command += ["-raft-addr", raft, "-bootstrap-expect", "3", "-join", join, *options]
            url = f"{scheme.replace('rqlite', 'http')}://{login}{http}"
            nodes.append(Node(command, folder / f"node{number}", machine, http, url))
            stack.callback(nodes[-1].kill)
        cluster = Cluster(nodes, f"{scheme}://{login}{','.join(node.address for node in nodes)}")
        cluster.wait_until_ready()
        yield cluster


def find_rqlited() -> str:
    """Return the path of the program, or skip the test, or fail it in CI."""
    found = os.environ.get("RQLITED") or shutil.which("rqlited")
    return found or cannot_run(
        "this test needs rqlited (docs/cluster.md, “The tests”): set RQLITED"
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that no outgoing connection gets: a node that is down keeps its own."""

    def is_free(port: int) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) != 0

    # Its own seed: pytest-randomly gives that of `random` to all processes.
    ports = random.Random().sample(range(10_000, 32_768), 1000)
    return list(islice(filter(is_free, ports), count))


class Cluster:
    """Three nodes, and the address of all of them for TODO_DB."""

    def __init__(self, nodes: list[Node], url: str) -> None:
        self.nodes, self.url = nodes, url
        self.addresses = [node.address for node in nodes]

    def leader(self) -> Node:
        """Return the node that leads, once there is one."""
        found = _wait_for(lambda: [node for node in self.nodes if node.is_leader()])
        return found[0]

    def wait_until_ready(self) -> None:
        """Wait until each node is up, and knows the leader."""
        _wait_for(lambda: all("leader ok" in node.ask("/readyz") for node in self.nodes))


class Node:
    """One node; its data stay in its folder while it is down."""

    def __init__(
        self, command: list[str], folder: Path, machine: Machine, address: str, url: str
    ) -> None:
        self.address = address
        self._command, self._log = [*command, str(folder)], folder.with_suffix(".log")
        self._machine, self._url = machine, url
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again; `wait_until_ready` waits for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it at once, also when it hangs or was ended before."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def pull_the_cable(self) -> None:
        """Let all packets to it and from it vanish."""
        cable = self._machine.cable or cannot_run("only root can pull a cable: run this as root")
        _ip(f"{cable} nomaster")

    def plug_it_in(self) -> None:
        _ip(f"{self._machine.cable} master switch")

    def is_leader(self) -> bool:
        """Whether it says so: an old one may not know of a new one."""
        return '"state": "Leader"' in self.ask("/status?pretty")

    def rows(self, sql: str, level: str = "none") -> list[list[Any]]:
        """Return what a query yields at this node: by default, what its own file holds."""

        def results() -> Any:  # none while the leader changes
            answer = self.ask(f"/db/query?level={level}&q={quote(sql)}")
            return answer.startswith("{") and json.loads(answer)["results"]

        values: list[list[Any]] = _wait_for(results)[0].get("values", [])
        return values

    def ask(self, path: str) -> str:
        """Return the answer to a GET, or "" if there is none within two seconds."""
        command = [need("curl"), "-sk", "--noproxy", "*", "--max-time", "2", self._url + path]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def running_network() -> Iterator[list[Machine]]:
    """Yield three machines on a switch, to which this one is connected, too.

    The switch is a bridge in a namespace of its own, where this machine's firewall has no say.
    """
    switch = f"todo{os.getpid()}"  # as is the interface here; two processes may run this
    names = [f"{switch}-{number}" for number in range(3)]
    # Eight addresses for each process, of the block that is reserved for measuring (RFC 2544).
    first = (198 << 24) + (18 << 16) + os.getpid() % 2**14 * 8 + 1
    hosts = [socket.inet_ntoa((first + number).to_bytes(4)) for number in range(4)]
    try:
        for name in (switch, *names):
            _ip(f"netns add {name}")
        _ip(f"-n {switch} link add switch up type bridge")
        for number, name in enumerate(("", *names)):
            peer, there = name or os.getpid(), f"-n {name}" if name else ""
            _ip(f"-n {switch} link add port{number} type veth peer name {switch} netns {peer}")
            _ip(f"-n {switch} link set port{number} up master switch")
            _ip(f"{there} address add {hosts[number]}/29 dev {switch}")
            _ip(f"{there} link set {switch} up")
            _ip(f"{there} link set lo up")
        yield [
            Machine(host, ("ip", "netns", "exec", name), f"-n {switch} link set port{number}")
            for number, (name, host) in enumerate(zip(names, hosts[1:], strict=True), 1)
        ]
    finally:
        for name in (switch, *names):
            _ip(f"netns delete {name}")


def _ip(arguments: str) -> None:
    program = need("ip", or_run="apt-get install iproute2")
    subprocess.run([program, *arguments.split()], check=True)


def _wait_for(what: Callable[[], T]) -> T:
    """Return what `what` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "the cluster does not get there"
        time.sleep(0.05)
    return found
