"""serve.py --access-log: a line for each request, whoever answers it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import run_sql
from servers import (
    POSIX_ONLY,
    exchange,
    get,
    need,
    nginx_before,
    post,
    read_manual,
    request,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi.http.password import hash_password

LINE = re.compile(
    r"(\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"([^"]*)" (\d{3}) ([1-9]\d*|-) "([^"]*)" "([^"]*)" \d+\.\d{4}'
)
LOGGING = serve_command("--port", "0", "--access-log", "access.log")


def read_lines(folder: Path, count: int) -> list[tuple[str, ...]]:
    """Return all lines, once there are so many: address, request, status, size, referer, agent."""
    file = folder / "access.log"
    wait_until(lambda: file.read_text(encoding="ascii").count("\n") >= count)
    lines = [LINE.fullmatch(line) for line in file.read_text().splitlines()]
    assert len(lines) == count
    return [line.groups() if line else () for line in lines]


def test_each_request_is_a_line_whoever_answers_it(tmp_path: Path) -> None:
    environ = {"TODO_PASSWORD": hash_password(b"x")}
    expected = [
        (
            get("/?show=all", "Referer: http://localhost/", "User-Agent: me"),
            "GET /?show=all",
            "401",
        ),
        (get("/healthz"), "GET /healthz", "200"),
        (request("HEAD", "/healthz"), "HEAD /healthz", "200"),
        (get("/healthz").replace(b"localhost", b"evil.example"), "GET /healthz", "200"),
        (get().replace(b"localhost", b"evil.example"), "GET /", "421"),
        (get("/", "Authorization: Basic Onk="), "GET /", "401"),
        (request("POST", "/", "Content-Length: 300000"), "POST /", "413"),
        (request("POST", "/", "Transfer-Encoding: gzip"), "POST /", "501"),
    ]
    with running(LOGGING, tmp_path, environ) as server:
        for sent, *_ in expected:
            server.send(sent)
        run_sql(tmp_path / "todos.db-guesses", "UPDATE wrong SET count = 10")
        server.send(get("/", "Authorization: Basic Onk="))
        server.send(b"no request\r\n\r\n")
        server.send(get("/", "no colon"))
        server.send(get("/", "X: " + "x" * 17_000))
        lines = read_lines(tmp_path, len(expected) + 4)
    for line, (_, what, status) in zip(lines, expected, strict=False):
        assert line[:3] == ("127.0.0.1", f"{what} HTTP/1.1", status)
    assert lines[-4][1:3] == ("GET / HTTP/1.1", "429")
    assert [line[1:3] for line in lines[-3:]] == [("-", "400"), ("-", "400"), ("-", "431")]
    assert lines[0][4:] == ("http://localhost/", "me")
    assert [line[3] for line in lines[1:3]] == ["2", "-"]  # bytes of the body


def test_what_the_list_answers_is_logged(tmp_path: Path) -> None:
    with running(LOGGING, tmp_path) as server:
        page = server.send(get())
        server.send(post(b"text=milk"))
        server.send(post(b"text=x", "Origin: http://evil.example"))
        export = server.send(get("/todos.txt"))  # which waitress sends from a file
        lines = read_lines(tmp_path, 4)
    sizes = [str(len(answer.partition(b"\r\n\r\n")[2])) for answer in (page, export)]
    assert [line[2:4] for line in lines] == [
        ("200", sizes[0]),
        ("303", "-"),
        ("403", lines[2][3]),
        ("200", sizes[1]),
    ]


FORGED = [
    'User-Agent: "1.2.3.4 - - [24/Nov/2026:06:12:13 +0000] "GET / HTTP/1.1" 200 1 "-" "',
    "User-Agent: \\",
    "User-Agent: \x1b[2J\x7f\x80\xff\t",
    "Referer: é",
    "X-Forwarded-For: 1.2.3.4 - - [",
    'X-Forwarded-For: a"b\x85\u2028c, "',
    "X-Forwarded-For: ,",
]


def test_a_client_cannot_forge_a_line(tmp_path: Path) -> None:
    with running([*LOGGING, "--trusted-proxy", "127.0.0.1"], tmp_path) as server:
        for header in FORGED:
            server.send(get('/"%0A\\', header))
        requests = {line[1] for line in read_lines(tmp_path, len(FORGED))}
    assert requests == {r"GET /\x22%0A\x5c HTTP/1.1", "-"}  # waitress rejects control characters


def test_the_address_is_that_of_the_proxys_client(tmp_path: Path) -> None:
    said = "X-Forwarded-For: 192.0.2.1, 203.0.113.7"
    with running([*LOGGING, "--trusted-proxy", "127.0.0.1"], tmp_path) as server:
        server.send(get("/", said))
        server.send(request("POST", "/", said, "Content-Length: 300000"))  # waitress refuses it
        server.send(get())
        addresses = [line[0] for line in read_lines(tmp_path, 3)]
    assert addresses == ["203.0.113.7", "203.0.113.7", "127.0.0.1"]


def test_the_address_behind_nothing_is_the_connections(tmp_path: Path) -> None:
    with running(LOGGING, tmp_path) as server:
        server.send(get("/", "X-Forwarded-For: 203.0.113.7"))
        assert read_lines(tmp_path, 1)[0][0] == "127.0.0.1"


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="needs 127.0.0.2")
def test_it_works_behind_nginx(tmp_path: Path) -> None:
    trusting = [*LOGGING, "--site", "todo.example", "--trusted-proxy", "127.0.0.1"]
    with running(trusting, tmp_path) as server, nginx_before(server, tmp_path) as port:
        address = ("127.0.0.1", port)
        with socket.create_connection(address, 20, source_address=("127.0.0.2", 0)) as client:
            lie = get("/", "X-Forwarded-For: 192.0.2.1").replace(b"localhost", b"todo.example")
            assert status_of(exchange(client, lie)) == 200
        assert read_lines(tmp_path, 1)[0][:3] == ("127.0.0.2", "GET / HTTP/1.0", "200")


@POSIX_ONLY
def test_processes_share_the_file_and_logrotate_copies_and_truncates_it(tmp_path: Path) -> None:
    rotation = tmp_path / "logrotate.conf"
    rotation.write_text(f"{tmp_path}/access.log {{\ncopytruncate\nrotate 1\n}}\n")
    rotation.chmod(0o600)  # it does not read one that others could have written
    rotate = [need("logrotate"), "--force", f"--state={tmp_path}/state", str(rotation)]
    with running([*LOGGING, "--processes", "2"], tmp_path) as server:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda number: server.send(get(f"/{number}")), range(200)))
        lines = read_lines(tmp_path, 200)
        assert {line[1] for line in lines} == {f"GET /{n} HTTP/1.1" for n in range(200)}
        subprocess.run(rotate, check=True)
        for _ in range(10):
            server.send(get("/after"))
        assert {line[1] for line in read_lines(tmp_path, 10)} == {"GET /after HTTP/1.1"}
    assert (tmp_path / "access.log.1").read_text().count("\n") == 200


@pytest.mark.parametrize("flags", [[], pytest.param(["--processes", "2"], marks=POSIX_ONLY)])
def test_a_dash_means_stdout(tmp_path: Path, flags: list[str]) -> None:
    with running([*LOGGING, "--access-log", "-", *flags], tmp_path) as server:
        server.send(get())
        wait_until(lambda: server.output.count("\n") == 2)
    assert LINE.fullmatch(server.output.splitlines()[1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_log_that_cannot_be_written_is_reported_once_and_holds_nobody_up(tmp_path: Path) -> None:
    with running([*LOGGING, "--access-log", "/dev/full"], tmp_path) as server:
        for _ in range(3):
            assert status_of(server.send(get())) == 200
        assert server.stop() == 0
    [_, line] = server.output.splitlines()
    assert "Cannot write the access log: [Errno 28] No space left on device" in line


FAILING = """
import socket
from todo_wsgi.server import serving
def fail(environ, start_response):
    raise ValueError
listener = socket.create_server(("127.0.0.1", 0))
started = lambda: print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
serving.serve(fail, listener, None, started, access_log="access.log")
"""


def test_an_application_that_fails_is_one_line(tmp_path: Path) -> None:
    with running([sys.executable, "-c", FAILING], tmp_path) as server:
        assert status_of(server.send(get())) == 500
        assert [line[2] for line in read_lines(tmp_path, 1)] == ["500"]


# The programs that the manual names


def test_goaccess_reads_each_line(tmp_path: Path) -> None:
    command = shlex.split(read_manual(r"goaccess access\.log .*?\n.*?\n").replace("\\\n", " "))
    command[0] = need("goaccess")
    with running(LOGGING, tmp_path) as server:
        for sent in (get(), post(b"text=milk", 'User-Agent: "'), b"no request\r\n\r\n"):
            server.send(sent)
        read_lines(tmp_path, 3)
    command = [word.replace("report.html", "report.json") for word in command]
    subprocess.run([*command, "--no-global-config"], cwd=tmp_path, check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["general"]["total_requests"], report["general"]["failed_requests"]) == (3, 0)
    methods = {(row.get("method"), row["data"]) for row in report["requests"]["data"]}
    assert {("GET", "/"), ("POST", "/")} <= methods


def test_lnav_reads_each_line(tmp_path: Path) -> None:
    query = "SELECT c_ip, cs_method, sc_status FROM access_log"
    command = [need("lnav"), "-n", "-c", f";{query}", "-c", ":write-csv-to -", "access.log"]
    with running(LOGGING, tmp_path) as server:
        for sent in (get(), post(b"text=milk", 'User-Agent: "'), get("/", "X: " + "x" * 17_000)):
            server.send(sent)
        read_lines(tmp_path, 3)
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    _, *rows = done.stdout.splitlines()
    assert rows == ["127.0.0.1,GET,200", "127.0.0.1,POST,303", "127.0.0.1,<NULL>,431"]
