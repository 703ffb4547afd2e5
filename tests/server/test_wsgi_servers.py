"""The same application under other servers, each really started, and behind nginx."""

from __future__ import annotations

import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import fill, read_texts
from servers import (
    BIN,
    POSIX_ONLY,
    Server,
    assert_works,
    exchange,
    get,
    nginx_before,
    post,
    read_manual,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi.http.response import SHARED_FROM
from todo_wsgi.server.serving import SETTINGS

WSGIREF = """
from wsgiref.simple_server import make_server
from todo_wsgi import app
with make_server("127.0.0.1", 0, app) as server:
    print(f"127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
"""
CHEROOT = """
from cheroot.wsgi import Server
from todo_wsgi import app
server = Server(("127.0.0.1", 0), app)
server.prepare()
print("127.0.0.1:%d" % server.bind_addr[1], flush=True)
server.serve()
"""
# granian takes port 0, but then does not say which port it got.
GRANIAN = """
import socket
from granian import Granian
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
Granian("todo_wsgi:app", port=port, interface="wsgi", blocking_threads=4).serve()
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            [BIN / "waitress-serve", "--listen=127.0.0.1:0", "todo_wsgi:app"], id="waitress"
        ),
        pytest.param(
            [BIN / "waitress-serve", "--listen=127.0.0.1:0", "--call", "todo_wsgi:create_app"],
            id="waitress-call",
        ),
        pytest.param([sys.executable, "-c", WSGIREF], id="wsgiref"),
        pytest.param([sys.executable, "-c", CHEROOT], id="cheroot"),
        pytest.param([sys.executable, "-c", GRANIAN], id="granian", marks=POSIX_ONLY),
        pytest.param(
            [BIN / "gunicorn", "--bind=127.0.0.1:0", "--workers=4", "todo_wsgi:app"],
            id="gunicorn",
            marks=POSIX_ONLY,
        ),
        pytest.param(
            [BIN / "gunicorn", "--bind=127.0.0.1:0", "--preload", "--threads=4", "todo_wsgi:app"],
            id="gunicorn-preload",
            marks=POSIX_ONLY,
        ),
        pytest.param(
            [
                BIN / "uwsgi",
                "--http-socket=127.0.0.1:0",
                "--module=todo_wsgi:create_app()",
                "--master",
                "--die-on-term",
            ],
            id="uwsgi",
            marks=POSIX_ONLY,
        ),
    ],
)
def test_the_application_runs_under(
    command: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command[0] == BIN / "uwsgi":
        # coverage, as it is set up for the browser's greenlets, fails in its threads.
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    # The folder is empty, so that only what is installed can be found.
    folder = tmp_path / "empty"
    folder.mkdir()
    database = tmp_path / "todos.db"
    with running(
        [str(word) for word in command], folder, {"TODO_DB": str(database), "HOME": str(tmp_path)}
    ) as server:
        if GRANIAN in command:  # granian prints its address a moment before it listens
            wait_until(lambda: accepts_connections(server))
        assert_works(server)
        fill(database, 100, "printf('%.490c', 'x')")  # a page that is sent as if it were a file
        head, _, page = server.send(get()).partition(b"\r\n\r\n")
        assert len(page) > SHARED_FROM
        assert f"\r\ncontent-length: {len(page)}\r\n".encode() in head.lower() + b"\r\n"
    assert "Traceback" not in server.output
    assert read_texts(database)[0] == "milk & 🍞"


def accepts_connections(server: Server) -> bool:
    with suppress(ConnectionRefusedError), server.connect():
        return True
    return False


def test_the_readmes_line_for_production(tmp_path: Path) -> None:
    line = read_manual(r"waitress-serve --listen.*?todo_wsgi:app").replace("\\\n", " ")
    words = line.replace("127.0.0.1:8080", "127.0.0.1:0").split()
    command = [str(BIN / words[0]), *words[1:]]
    with running(command, tmp_path, {"TODO_DB": str(tmp_path / "todos.db")}) as server:
        assert_works(server)
        assert b"\r\nServer:" not in server.send(get())
        assert status_of(server.send(get("/", "Cookie: " + "x" * 17_000))) == 431


def test_the_readmes_line_has_the_limits_of_serve_py() -> None:
    flags = {}
    for flag in re.findall(
        r"--([a-z-]+)(=\S*)?", read_manual(r"waitress-serve --listen.*?_wsgi:app")
    ):
        name, value = flag[0].replace("-", "_"), flag[1].removeprefix("=")
        flags[name] = int(value) if value.isdigit() else value
    assert flags.pop("listen") == "127.0.0.1:8080"
    assert flags.pop("ident") == ""
    assert flags.pop("asyncore_use_poll") == ""
    assert flags.pop("no_log_socket_errors") == ""
    expected = {"ident": None, "asyncore_use_poll": True, "log_socket_errors": False, **flags}
    assert expected == SETTINGS


def send(port: int, request: bytes) -> int:
    """Send bytes to nginx as if it were on port 80 of todo.example; return the status."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        return status_of(exchange(connection, request.replace(b"localhost", b"todo.example")))


TRUSTING = ("--trusted-proxy", "127.0.0.1", "--site", "todo.example")
# An older browser, or one on plain HTTP, says only where the page with the form came from.
FROM_THE_PAGE = post(b"text=milk", "Origin: http://todo.example")


def test_it_works_behind_nginx(tmp_path: Path) -> None:
    trusting = serve_command("--port", "0", *TRUSTING)
    with running(trusting, tmp_path) as server, nginx_before(server, tmp_path) as nginx:
        assert send(nginx, get()) == 200
        assert send(nginx, FROM_THE_PAGE) == 303
        assert send(nginx, post(b"text=bread", "Sec-Fetch-Site: same-origin")) == 303
        assert send(nginx, post(b"text=forged", "Origin: http://evil.example")) == 403
        assert send(nginx, post(b"text=forged", "Sec-Fetch-Site: cross-site")) == 403
        lie = ("X-Forwarded-Host: localhost", "Origin: http://evil.example")
        assert send(nginx, post(b"text=forged", *lie)) == 403
    assert read_texts(tmp_path / "todos.db") == ["milk", "bread"]


ECHO = """
import socket, sys
from todo_wsgi.server import serving as server
class Echo:
    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        names = ("REMOTE_ADDR", "HTTP_HOST", "wsgi.url_scheme")
        return [" ".join(environ[name] for name in names).encode()]
    def close(self):
        pass
listener = socket.create_server(("127.0.0.1", 0))
started = lambda: print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
server.serve(Echo(), listener, sys.argv[1], started)
"""


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [("127.0.0.1", b"203.0.113.7 todo.example https"), ("::1", b"127.0.0.1 localhost http")],
)
def test_a_trusted_proxy_says_who_asked_and_how(
    tmp_path: Path, trusted: str, believed: bytes
) -> None:
    said = ("For: 203.0.113.7", "Host: todo.example", "Proto: https")
    with running([sys.executable, "-c", ECHO, trusted], tmp_path) as server:
        answer = server.send(get("/", *[f"X-Forwarded-{header}" for header in said]))
    assert answer.endswith(b"\r\n\r\n" + believed)


@pytest.mark.parametrize(
    ("flags", "status"),
    [(TRUSTING, 303), ((), 403), (("--trusted-proxy", "::1"), 403)],
)
def test_a_proxy_that_replaces_host_has_to_be_trusted(
    tmp_path: Path, flags: tuple[str, ...], status: int
) -> None:
    host_line = "proxy_set_header Host $http_host;\n"
    with (
        running(serve_command("--port", "0", *flags), tmp_path) as server,
        nginx_before(server, tmp_path, without=host_line) as nginx,
    ):
        assert send(nginx, FROM_THE_PAGE) == status
