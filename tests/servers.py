"""Real servers for the tests: start one, talk to it over a socket, stop it."""

from __future__ import annotations

import html
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn
from urllib.request import urlopen

import html_checks
import pytest

from todo_wsgi.presentation.static import STYLE

ROOT = Path(__file__).parent.parent
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="not supported on Windows")
BIN = Path(sys.executable).parent  # where pip installs console scripts
TIMEOUT = 20  # seconds; only a hung server takes this long


class Server:
    """A server in its own process, listening on 127.0.0.1 at `port`."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        patience: float = TIMEOUT,
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
        )
        self.database = folder / "todos.db"  # unless the command names another file
        # What stops it soonest: at SIGTERM, serve.py lingers.
        is_ours = any(str(part).endswith("serve.py") for part in command)
        self.stop_signal = signal.SIGINT if is_ours else signal.SIGTERM
        self._lines: list[str] = []
        self._port: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        port = self._port.get(timeout=patience)
        assert port, f"the server did not start: {self.output}"
        self.port = port

    def _read(self) -> None:
        """Collect the server's output until it exits, and find the port in it."""
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                if found := re.findall(r"\b127\.0\.0\.1:(\d+)", line):
                    self._port.put(int(found[-1]))  # those before it are of the database
        self._port.put(None)

    @property
    def output(self) -> str:
        """Everything printed so far to stdout and stderr."""
        return "".join(self._lines)

    @property
    def exit_status(self) -> int:
        """The exit status, once the process has exited."""
        return self.process.wait(TIMEOUT)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)

    def send(self, request: bytes) -> bytes:
        """Send bytes, and return everything received until the server closes the connection."""
        with self.connect() as connection:
            answer = exchange(connection, request)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"content-type: text/html" in head.lower() and body:
            html_checks.assert_is_correct(body.decode())
        return answer

    @property
    def xray_address(self) -> str:
        """The address of the x-ray, including its key."""
        wait_until(lambda: "X-ray" in self.output)
        _, address = re.findall(r"http://\S+", self.output)
        return str(address)

    def xray(self, path: str = "") -> str:
        """Return the text of an x-ray page as one line."""
        with urlopen(self.xray_address + path, timeout=TIMEOUT) as answer:
            page: str = answer.read().decode()
        html_checks.assert_is_correct(page)
        return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.exit_status
        self._reader.join(TIMEOUT)
        return status


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    patience: float = TIMEOUT,
) -> Iterator[Server]:
    """Run a server in `folder`, wait until it prints its address, and stop it at the end."""
    server = Server(command, folder, environ or {}, pass_fds, patience)
    try:
        yield server
    finally:
        server.stop(server.stop_signal)


def serve_command(*arguments: str, root: Path = ROOT) -> list[str]:
    """Return the command that serves; `root` is the project, or a copy of it."""
    return [sys.executable, "-W", "error", str(root / "serve.py"), *arguments]


def get(path: str = "/", *headers: str) -> bytes:
    """Return the bytes of a GET with `Connection: close`."""
    return request("GET", path, *headers)


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    """Return the bytes of the POST that adds a todo, or does what `path` says."""
    form = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    return request("POST", path, *form, *headers) + body


def request(method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send bytes, and return everything received until the server closes the connection.

    A server that rejects a request may close before it has read it all; then sending the rest
    fails, or a reset follows the response.
    """
    with suppress(ConnectionError):
        connection.sendall(request)
    return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def receive_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = connection.recv(65536)
        assert data, f"the connection was closed after {received!r}"
        received += data
    return received


def status_of(answer: bytes) -> int:
    """Return the status code of a raw response."""
    return int(answer.split()[1])


def assert_works(server: Server) -> None:
    assert status_of(server.send(get())) == 200
    answer = server.send(post("text=milk %26 🍞".encode(), "Sec-Fetch-Site: same-origin"))
    assert status_of(answer) == 303
    assert b"\r\nlocation: /?added=1\r\n" in answer.lower()  # granian sends lower case
    page = server.send(get())
    assert status_of(page) == 200
    assert ">milk &amp; 🍞</span>" in page.decode()
    assert " milk & 🍞\n" in server.send(get("/todos.txt")).decode()
    assert status_of(server.send(post(b"text="))) == 422
    assert status_of(server.send(get(STYLE.path))) == 200
    assert status_of(server.send(get("/healthz"))) == 200


def copy_project(folder: Path) -> Path:
    """Make the folder what a clone of the project would be, without its history."""
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in files.strip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def broken_copy(folder: Path, file: str, line: str, instead: str) -> Path:
    """Copy the project into the folder and replace a part of one file, so that a test must fail."""
    path = copy_project(folder) / file
    text = path.read_text(encoding="utf-8")
    assert text.count(line) == 1
    path.write_text(text.replace(line, instead), encoding="utf-8")
    return folder


def workers(server: Server) -> set[int]:
    """Return the process IDs of the workers."""
    command = ["ps", "-A", "-ww", "-o", "ppid=", "-o", "pid=", "-o", "args="]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    fields = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return {
        int(number)
        for parent, number, command in fields
        if int(parent) == server.process.pid and "spawn_main" in command
    }


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until another thread or process makes the condition true."""
    while not condition():
        time.sleep(0.001)


def need(program: str, *, or_run: str = "") -> str:
    """Return the path of a program; if it is missing, skip the test, or fail it in CI.

    `or_run` is another command that installs it.
    """
    # Debian installs nginx in a folder that is only on root's PATH.
    found = shutil.which(program, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    message = f"this test needs {program}: install it (on Debian: apt-get install {program})"
    message += or_run and f", or run: {or_run}"
    return found or cannot_run(message)


def cannot_run(message: str) -> NoReturn:
    """Skip the test, or fail it in CI; `message` says what to do."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def read_manual(pattern: str) -> str:
    """Return the first match in README.md or docs/, so that tests run what they document."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    manual = "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    match = re.search(pattern, manual, re.DOTALL)
    assert match
    return match[0]


NGINX = """
daemon on; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/a; uwsgi_temp_path {folder}/b; scgi_temp_path {folder}/c;
    {server}
}}
"""


@contextmanager
def nginx_before(server: Server, folder: Path, *, without: str = "") -> Iterator[int]:
    """Run nginx with deploy/nginx.conf, minus the line `without`; yield its port."""
    program = need("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    block = (ROOT / "deploy/nginx.conf").read_text().replace(without, "")
    block = block.replace("listen 80;", f"listen 127.0.0.1:{port};")
    block = block.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, server=block))
    nginx = [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    subprocess.run(nginx, check=True)  # returns once nginx is listening
    try:
        yield port
    finally:
        subprocess.run([*nginx, "-s", "quit"], check=True)
