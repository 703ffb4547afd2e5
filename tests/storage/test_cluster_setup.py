"""The manual's three machines: its commands, with real ssh, systemd, TLS, nginx and rqlite.

Four machines are booted from this one, and share a network. At home, in a folder beside a clone of
the project, the commands of docs/cluster.md are typed as they stand, and later ones on a machine.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from clusters import find_rqlited
from conftest import read_sql
from machines import Machine, booted
from servers import ROOT, copy_project, need, post, running, serve_command, wait_until

pytestmark = pytest.mark.timeout(240)

PROXY, ONE, TWO, THREE = ADDRESSES = ["10.0.0.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


def block(part: str) -> str:
    """Return the manual's block of commands, or of configuration, that has this in it."""
    [found] = [text for text in re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL) if part in text]
    return str(found)


class Network:
    """Machines with these addresses, and a folder at home from which `ssh` leads there."""

    def __init__(self, machines: list[Machine], folder: Path) -> None:
        self.machines = dict(zip(ADDRESSES, machines, strict=True))
        self.home = folder / "cluster"
        self.home.mkdir()
        self.clone = copy_project(folder / "todo_wsgi")
        configs = [
            (machine.folder / "config").read_text().replace("todo.example", address)
            for address, machine in self.machines.items()
        ]
        (folder / "config").write_text("".join(configs))
        self._bin = folder / "bin"
        self._bin.mkdir()
        ssh = self._bin / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {need("ssh")} -F {folder}/config "$@"\n')
        ssh.chmod(0o755)

    def connect(self) -> None:
        """Lead a cable from each machine to a bridge in the first one."""
        need("ip", or_run="apt-get install iproute2")
        first, *others = self.machines.values()
        lines = ["ip link add eth0 type bridge"]
        for number, machine in enumerate(others):
            cable = f"port{number} master eth0 type veth peer name eth0 netns {machine.leader}"
            lines += [f"ip link add {cable}", f"ip link set port{number} up"]
        there = ["nsenter", "--target", first.leader, "--net", "bash", "-ec", "\n".join(lines)]
        subprocess.run(there, check=True)
        for address, machine in self.machines.items():
            machine.run(f"ip addr add {address}/24 dev eth0 && ip link set eth0 up")
            machine.run("rm -rf /etc/apt/sources.list*")  # apt-get would wait for the internet

    def at_home(self, commands: str) -> None:
        path = f"{self._bin}:{os.environ['PATH']}"
        shell = ["bash", "-eo", "pipefail", "-c", commands]
        subprocess.run(shell, cwd=self.home, env={**os.environ, "PATH": path}, check=True)

    def on(self, address: str, commands: str) -> str:
        """Run commands on a machine, as root; return what the terminal shows."""
        return self.machines[address].run(f"exec 2>&1; cd /srv; set -o pipefail; {commands}")

    def wait_until_ready(self) -> None:
        for address in (ONE, TWO, THREE):
            ask = f"curl -s --cacert /etc/todo-ca.crt https://{address}:4001/readyz"
            wait_until(lambda: "leader ok" in self.on(PROXY, ask))  # noqa: B023

    def add(self, text: str, address: str = "http://127.0.0.1") -> str:
        """Post a todo, by default to the proxy; return the status."""
        headers = "-H 'Host: todo.example' -H 'Origin: http://todo.example'"
        curl = f"curl -s -o /dev/null -w '%{{http_code}}' -d text={text} {headers}"
        return self.on(PROXY, f"{curl} {address}")

    def lists(self) -> list[list[str]]:
        """Return what each server shows."""
        pages = [self.on(PROXY, f"curl -s http://{address}:8080") for address in (ONE, TWO, THREE)]
        return [re.findall('dir="auto">(.*?)</span>', html.unescape(page)) for page in pages]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The cluster as the manual's commands make it."""
    program = find_rqlited()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        starting = [booted(tmp_path_factory.mktemp("one")) for _ in ADDRESSES]
        machines = [*pool.map(stack.enter_context, starting)]
        network = Network(machines, tmp_path_factory.mktemp("home"))
        network.connect()
        release = re.findall(r"tar xzf (\S+)\.tar\.gz", PAGE)[0]
        (network.home / release).mkdir()
        shutil.copy(program, network.home / release / "rqlited")
        git = f"git -C {network.clone} -c user.name=me -c user.email=me@todo.example"
        network.at_home(f"{git} init -q && {git} add --all && {git} commit -q -m Start")
        network.at_home(block("openssl req"))
        network.at_home(block("auth.json <<").replace("editor ", "true "))
        every = block("cluster-setup")
        assert every.startswith(f"for address in {ONE} {TWO} {THREE};")
        each = [every.replace(f"{ONE} {TWO} {THREE};", f"{one};") for one in (ONE, TWO, THREE)]
        _ = [*pool.map(network.at_home, each)]
        shutil.copy(network.home / "ca.crt", network.machines[PROXY].root / "etc/todo-ca.crt")
        network.wait_until_ready()
        assert network.on(TWO, block("--prepare")) == (
            "rqlites://10.0.0.1:4001,10.0.0.2:4001,10.0.0.3:4001 is ready.\n"
        )
        nginx = f"{block('upstream todo')}\n{(ROOT / 'deploy/nginx.conf').read_text()}"
        nginx = nginx.replace("http://127.0.0.1:8080", "http://todo")
        (network.machines[PROXY].root / "etc/nginx/conf.d/todo.conf").write_text(nginx)
        network.on(PROXY, "systemctl start nginx")
        yield network


def test_each_server_has_the_list(network: Network) -> None:
    assert [network.on(PROXY, f"curl -s {one}:8080/healthz") for one in (ONE, TWO, THREE)] == [
        "ok"
    ] * 3
    assert network.add("milk") == "303"
    assert network.add("bread", f"http://{THREE}:8080") == "303"
    assert [shown[:2] for shown in network.lists()] == [["bread", "milk"]] * 3


def test_a_stranger_gets_nothing(network: Network) -> None:
    ask = f"curl -sk -o /dev/null -w '%{{http_code}}' https://{TWO}:4001"
    assert network.on(PROXY, f"{ask}/nodes") == "401"
    assert network.on(PROXY, f"{ask}/db/query?q=SELECT+1") == "401"
    for file in ("/etc/rqlite/auth.json", "/etc/rqlite/curl.conf", "/etc/todo.env"):
        assert "Permission denied" in network.on(ONE, f"runuser -u todo cat {file}")
    assert "/etc/rqlite" not in network.on(ONE, "runuser -u rqlite -- find /etc/rqlite -writable")


def test_the_list_can_have_a_password(network: Network) -> None:
    hashed = "$(printf 'sesame\\nsesame\\n' | /srv/todo/current/start --password)"
    network.on(ONE, f"echo TODO_PASSWORD={hashed} >>/etc/todo.env; systemctl restart todo")
    ask = f"curl -s -o /dev/null -w '%{{http_code}} ' http://{ONE}:8080 -u me:"
    assert network.on(PROXY, f"{ask}wrong; {ask}sesame") == "401 200 "
    assert "guesses" in network.on(ONE, "ls /var/lib/todo")
    network.on(ONE, "sed -i /PASSWORD/d /etc/todo.env; systemctl restart todo")


def test_what_is_wrong_is_one_line(network: Network) -> None:
    prepare = "set -a; . /etc/todo.env; {}; /srv/todo/current/start --prepare; echo $?"
    shown = network.on(ONE, prepare.format("TODO_DB=$(sed s/todo:./todo:x/ <<<$TODO_DB)"))
    assert re.fullmatch(r"serve\.py: .*\b401\b.*\n2\n", shown)
    shown = network.on(ONE, prepare.format("unset SSL_CERT_FILE"))
    assert re.fullmatch(r"serve\.py: .*CERTIFICATE_VERIFY_FAILED.*\n2\n", shown)


def test_a_machine_that_is_cut_off_goes_unnoticed(network: Network) -> None:
    network.on(ONE, "ip link set eth0 down")
    assert network.add("butter") == "303"
    network.on(ONE, "ip link set eth0 up")
    network.wait_until_ready()
    assert [shown[0] for shown in network.lists()] == ["butter"] * 3


def test_a_machine_is_replaced(network: Network) -> None:
    network.on(THREE, "systemctl stop rqlite; rm -r /var/lib/rqlite/*")
    network.on(ONE, block("-X DELETE"))
    nodes = "curl -K /etc/rqlite/curl.conf https://10.0.0.1:4001/nodes"
    assert THREE not in network.on(ONE, nodes)
    network.on(THREE, "systemctl start rqlite")
    network.wait_until_ready()
    assert THREE in network.on(ONE, nodes)
    assert network.add("tea") == "303"
    network.on(TWO, "systemctl stop rqlite")  # now the new one is needed
    assert network.add("cake") == "303"
    network.on(TWO, "systemctl start rqlite")
    network.wait_until_ready()
    assert [shown[:2] for shown in network.lists()] == [["cake", "tea"]] * 3


def test_a_change_by_hand_is_on_the_next_page(network: Network) -> None:
    network.add("milk")
    network.lists()  # which each server keeps
    change = block("by hand 1")
    without_mark = re.sub(r', "INSERT INTO applied.*"\]', "]", change)
    assert "rows_affected" in network.on(ONE, without_mark)
    assert [shown[0] for shown in network.lists()] == ["milk"] * 3  # so the mark is needed
    network.on(ONE, change)
    assert [shown[0] for shown in network.lists()] == ["bread"] * 3


def test_each_machine_makes_copies(network: Network) -> None:
    assert "todo-backup.timer" in network.on(THREE, "systemctl list-timers")
    network.on(THREE, "systemctl start todo-backup")
    [copy] = (network.machines[THREE].root / "var/lib/todo-backups").iterdir()
    assert re.fullmatch(r"todos-\d{8}T\d{6}\.db", copy.name)
    assert copy.stat().st_mode & 0o77 == 0
    texts = [text for (text,) in read_sql(copy, "SELECT text FROM todos ORDER BY id DESC")]
    assert texts == network.lists()[2]


def test_from_a_file_to_the_cluster_and_back(network: Network, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = serve_command("--db", *arguments)
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    with running(serve_command("--port", "0"), tmp_path) as server:
        for text in ("oats", "x'6869'", "🍞"):
            server.send(post(f"text={text}".encode()))
    copy = run("todos.db", "--backup", "copies")
    folder = network.machines[TWO].root / "srv"
    shutil.copy(copy, folder / "list.db")
    with ThreadPoolExecutor() as pool:
        stop = "systemctl stop todo.socket todo"
        _ = [*pool.map(lambda one: network.on(one, stop), (ONE, TWO, THREE))]
    network.on(TWO, block("/db/load"))
    network.on(TWO, block("--prepare"))
    for address in (ONE, TWO, THREE):
        network.on(address, "systemctl start todo.socket")
    assert network.lists() == [["🍞", "x'6869'", "oats"]] * 3
    assert network.on(TWO, block("-o copy.db")) == "ok\n"
    shutil.copy(folder / "copy.db", tmp_path)
    run("new.db", "--restore", "copy.db")
    everything = "SELECT * FROM todos"
    assert read_sql(tmp_path / "new.db", everything) == read_sql(tmp_path / "todos.db", everything)
