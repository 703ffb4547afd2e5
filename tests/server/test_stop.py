"""Stopping and restarting serve.py: who is asking meanwhile, systemd, and Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import read_texts
from servers import (
    POSIX_ONLY,
    TIMEOUT,
    get,
    need,
    post,
    receive_all,
    receive_until,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi.server import serving

pytestmark = POSIX_ONLY

PROCESSES = pytest.mark.parametrize("flags", [(), ("--processes", "2")], ids=["1", "2"])
KEEP_ALIVE = get("/healthz").replace(b"Connection: close\r\n", b"")
# Hands the file descriptor in its first argument to the program in the others, as systemd does.
PASS_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@PROCESSES
def test_at_sigterm_it_lingers_and_each_answer_is_the_last(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with running(serve_command("--port", "0", *flags), tmp_path) as server:
        clients = [server.connect() for _ in range(20)]  # among them some of each process
        for client in clients:
            client.sendall(KEEP_ALIVE)
            assert b"Connection: close" not in receive_until(client, b"ok")
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            last = b""
            while b"\r\nConnection: close\r\n" not in last:
                client.sendall(KEEP_ALIVE)
                last = receive_until(client, b"ok")
            client.close()
        with server.connect() as newcomer:
            newcomer.sendall(KEEP_ALIVE)
            assert b"\r\nConnection: close\r\n" in receive_until(newcomer, b"ok")
        assert server.wait() == 0


@PROCESSES
def test_ctrl_c_does_not_linger(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with running(serve_command("--port", "0", *flags), tmp_path) as server:
        assert status_of(server.send(get())) == 200
        server.process.send_signal(signal.SIGTERM)  # it lingers
        assert status_of(server.send(get())) == 200
        assert server.stop(signal.SIGINT) == 0  # and lingers no longer
        with pytest.raises(ConnectionRefusedError):
            server.connect()


PATIENT = """
import sys
from todo_wsgi.server import serving
serving.{} = 1000  # seconds
import serve
sys.exit(serve.main(["--port", "0"]))
"""


def test_ctrl_c_ends_the_lingering(tmp_path: Path) -> None:
    with running([sys.executable, "-c", PATIENT.format("LINGER")], tmp_path) as server:
        server.process.send_signal(signal.SIGTERM)
        assert status_of(server.send(get())) == 200
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("limit", ["ASK", "ASK_FIRST"])
def test_at_ctrl_c_those_who_have_just_connected_may_still_ask(tmp_path: Path, limit: str) -> None:
    with (
        running([sys.executable, "-c", PATIENT.format(limit)], tmp_path) as server,
        server.connect() as client,
    ):
        server.process.send_signal(signal.SIGINT)
        with suppress(ConnectionRefusedError, ConnectionResetError):  # reset: closed meanwhile
            while True:
                server.connect().close()
        time.sleep(2 * serving.ASK)
        client.sendall(get())
        assert status_of(receive_all(client)) == 200
        assert server.wait() == 0


# A socket that outlives the server


def passing(listener: socket.socket, *command: str) -> list[str]:
    """Return the command that runs `command` on a socket of somebody else."""
    return [sys.executable, "-c", PASS_SOCKET, str(listener.fileno()), *command]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield listener


@PROCESSES
def test_restarts_refuse_nobody_and_cut_nobody_off(
    tmp_path: Path, listener: socket.socket, flags: tuple[str, ...]
) -> None:
    command = passing(listener, *serve_command(*flags))
    port = listener.getsockname()[1]
    is_over = False

    def post_until_over(name: str) -> list[str]:
        """Post over connections that are kept open until the server closes them."""
        confirmed: list[str] = []
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            while not is_over:
                text = f"{name} {len(confirmed)}"
                connection.request("POST", "/", f"text={text.replace(' ', '+')}", headers)
                with connection.getresponse() as response:
                    response.read()
                    assert response.status == 303
                confirmed.append(text)
        return confirmed

    with ThreadPoolExecutor(8) as executor:
        clients = [executor.submit(post_until_over, f"client {n}") for n in range(6)]
        for _ in range(3):
            with running(command, tmp_path, pass_fds=[listener.fileno()]) as server:
                time.sleep(0.5)
                assert server.stop(signal.SIGTERM) == 0
        with running(command, tmp_path, pass_fds=[listener.fileno()]):
            time.sleep(0.2)
            is_over = True
            confirmed = [text for client in clients for text in client.result()]
    assert sorted(read_texts(tmp_path / "todos.db")) == sorted(confirmed)


@PROCESSES
def test_systemd_passes_the_socket(tmp_path: Path, flags: tuple[str, ...]) -> None:
    activate = need("systemd-socket-activate", or_run="apt-get install systemd")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [activate, f"--listen=127.0.0.1:{port}", *serve_command("--port", "1", *flags)]
    with running(command, tmp_path) as server:  # it starts serve.py when somebody connects
        assert status_of(server.send(get())) == 200
        assert f"todos.db on http://127.0.0.1:{port}/ (Ctrl-C stops)" in server.output
        assert status_of(server.send(post(b"text=milk"))) == 303
        assert server.stop() == 0
    assert read_texts(tmp_path / "todos.db") == ["milk"]


def test_a_socket_meant_for_another_process_is_left_alone(tmp_path: Path) -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    with running(serve_command("--port", "0"), tmp_path, environ) as server:
        assert status_of(server.send(get())) == 200


@pytest.mark.parametrize("kind", ["unix", "datagram", "file", "two"])
def test_a_socket_that_cannot_be_served_is_reported(
    tmp_path: Path, listener: socket.socket, kind: str
) -> None:
    unix = socket.socket(socket.AF_UNIX)
    datagram = socket.socket(type=socket.SOCK_DGRAM)
    with unix, datagram, open(os.devnull) as file:
        unix.bind(str(tmp_path / "socket"))
        passed: Any = {"unix": unix, "datagram": datagram, "file": file, "two": listener}[kind]
        command = passing(passed, *serve_command())
        command[2] = PASS_SOCKET.replace('"1"', '"2"') if kind == "two" else PASS_SOCKET
        done = subprocess.run(
            command, cwd=tmp_path, pass_fds=[passed.fileno()], capture_output=True, text=True
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("serve.py: cannot use the socket that systemd has passed: ")
    assert done.stderr.count("\n") == 1


@PROCESSES
@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_systemd_hears_when_it_is_ready(tmp_path: Path, flags: tuple[str, ...], kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "file" else f"@todo {tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address.replace("@", "\0", 1))
        environ = {"NOTIFY_SOCKET": address}
        with running(serve_command("--port", "0", *flags), tmp_path, environ) as server:
            assert notify.recv(100) == b"READY=1"
            assert status_of(server.send(get())) == 200


def test_a_systemd_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "gone")}
    with running(serve_command("--port", "0"), tmp_path, environ) as server:
        assert status_of(server.send(get())) == 200


# Ctrl-C at an awkward moment


def interrupt(command: list[str], folder: Path, is_moment: Callable[[int], bool]) -> str:
    """Press Ctrl-C in the terminal of a server when `is_moment(process_id)`; return its output.

    It may end by the signal or with 0, but not with a traceback, and not go on.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_until(lambda: is_moment(process.pid))
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=TIMEOUT)
        finally:  # also if the test fails
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in (0, -signal.SIGINT)
    return output


def children_of(process_id: int) -> int:
    return len(Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what has been started")
@pytest.mark.parametrize("started", [1, 2, 3])  # a helper, and two processes
def test_ctrl_c_while_processes_start(tmp_path: Path, started: int) -> None:
    command = serve_command("--port", "0", "--processes", "2")
    output = interrupt(command, tmp_path, lambda number: children_of(number) >= started)
    assert "Traceback" not in output


@PROCESSES
def test_ctrl_c_when_the_port_opens(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()

    def is_open(_: int) -> bool:
        with suppress(ConnectionRefusedError):
            socket.create_connection(address).close()
            return True
        return False

    output = interrupt(serve_command("--port", str(address[1]), *flags), tmp_path, is_open)
    assert "Traceback" not in output
