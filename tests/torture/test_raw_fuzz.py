"""Thousands of raw requests, few of them valid: the server survives, and loses nothing.

Valid requests are cut, doubled, joined and mixed with what has confused servers before. Four
clients send them, and after every few an add and a probe, which must be answered as always. In
the end, each add is in the list once. No answer is a 5xx, and the server logs nothing.
"""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from signal import SIGINT
from urllib.parse import urlencode

import pytest
from servers import ROOT, Server, broken_copy, get, post, receive_all, request, running
from servers import serve_command as command

CLIENTS, TOGETHER = 4, 8  # how many raw requests are between two probes


LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("count", "processes", "seed"),
    [
        pytest.param(5000, "1", 0, marks=pytest.mark.timeout(300)),
        pytest.param(250_000, "1", int(time.time()), marks=LONG),
        pytest.param(100_000, "2", int(time.time()), marks=LONG),
    ],
    ids=["5,000", "250,000", "100,000"],
)
def test_the_server_survives_raw_requests(
    tmp_path: Path, count: int, processes: str, seed: int
) -> None:
    assert fuzz(tmp_path, count, processes, seed) == []


@pytest.mark.parametrize(
    ("file", "line", "instead", "sign"),
    [
        ("server/waitress_fixes.py", "except ValueError", "except KeyError", "ERROR"),
        (
            "storage/models.py",
            "created_at) VALUES (?",
            "created_at) VALUES (lower(?)",
            "not listed",
        ),
    ],
)
def test_a_mistake_is_noticed(
    tmp_path: Path, file: str, line: str, instead: str, sign: str
) -> None:
    copy = broken_copy(tmp_path, f"todo_wsgi/{file}", line, instead)
    assert sign in "".join(fuzz(tmp_path, 800, root=copy))


def fuzz(
    folder: Path, count: int, processes: str = "1", seed: int = 0, root: Path = ROOT
) -> list[str]:
    """Send so many raw requests, or fewer if something is wrong; return what is."""
    problems: list[str] = []
    with (
        running(command("--port", "0", "--processes", processes, root=root), folder) as server,
        ThreadPoolExecutor(CLIENTS) as executor,
    ):
        clients = [
            executor.submit(torment, server, Random(seed + client), count // CLIENTS, problems)
            for client in range(CLIENTS)
        ]
        added = [text for client in clients for text in client.result()]
        export = send(server, get("/todos.txt")).splitlines()
        listed = Counter(line.partition(" ")[2] for line in export)
        problems += [f"{text} is not listed once" for text in added if listed[text] != 1]
        problems += [f"its exit status is {status}" for status in {server.stop(SIGINT)} - {0}]
    return problems + logged(server)


def torment(server: Server, random: Random, count: int, problems: list[str]) -> list[str]:
    """Be one of the clients; return the texts of the todos that it added."""
    added: list[str] = []
    for _ in range(0, count, TOGETHER):
        if problems or logged(server):
            break
        for raw in [make_raw(random) for _ in range(TOGETHER)]:
            errors = re.findall(r"^HTTP/1\.\d 5(?!01).*", send(server, raw), re.MULTILINE)
            problems += [f"{raw!r}: {error}" for error in errors]
        added.append(f"Valid {random.random()} <b> & 🍞")
        add = post(urlencode({"text": added[-1]}).encode())
        for status, probe in (("303", add), ("200", get("/healthz"))):
            answer = send(server, probe)
            problems += [f"{probe!r}: {answer!r}"] * (answer[8:12] != f" {status}")
    return added


def logged(server: Server) -> list[str]:
    """Return what the server has printed besides its address."""
    return server.output.splitlines()[1:]


def send(server: Server, sent: bytes) -> str:
    """Send bytes and no more, and return what comes back until the connection is closed."""
    with server.connect() as connection:
        with suppress(OSError):  # the server may have closed it by now
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        return receive_all(connection).decode(errors="replace")


FORM = "Content-Type: application/x-www-form-urlencoded"
VALID = [
    *(get("/"), get("/?show=active&q=%F0%9F%8D%9E"), get("/import"), get("/healthz"), get("/x")),
    *(post(b"text=milk"), post(b"text=%3Cb%3E&show=active"), post(b"text=x\ny", path="/import")),
    request("POST", "/", FORM, "Transfer-Encoding: chunked")
    + b"5\r\ntext=\r\n4\r\nmilk\r\n0\r\n\r\n",
    get("/", "Connection: keep-alive", "If-None-Match: *", "Accept-Encoding: gzip"),
    b"GET / HTTP/1.0\r\n\r\n",
]
LINES = b"""\
Content-Length: 0
Content-Length: 9
Content-Length: -1
Content-Length: 9, 9
Content-Length : 5
content-length:\t5
Content_Length: 5
Transfer-Encoding: chunked
Transfer-Encoding: gzip, chunked
Transfer-Encoding: x
Transfer-Encoding:\x0bchunked
 folded
Expect: 100-continue
Connection: close, Content-Length
Upgrade: h2c
Host: evil
X: \0
: x
no colon
\xff: \xff
GET http://[ HTTP/1.1
GET //[x]/ HTTP/9.9
PRI * HTTP/2.0
ffffffffffffffffff
5;x=y
-5
0x5
0
""".split(b"\n")
LINES += [b"Content-Length: " + b"9" * 5000, b"X: " + b"y" * 20000, b"X: y\r\n" * 3000, b"0\r\n"]
NOISE = [b"\r\n", b"\r\n\r\n", *(bytes([byte]) for byte in b"\n\r\0 \t\xff:;%[0")]


def make_raw(random: Random) -> bytes:
    """Return one to three valid requests after some mistakes, or junk."""
    raw = b"".join(random.choices(VALID, k=random.choice([1, 1, 1, 2, 3])))
    for _ in range(random.randint(0, 4)):
        lines = raw.split(b"\r\n")
        start, end = sorted(random.randint(0, len(raw)) for _ in range(2))
        line = random.randrange(len(lines))
        raw = random.choice(
            [
                raw[:start] + random.choice(NOISE) + raw[start:],
                raw[:start] + raw[end:],
                raw[:end] + raw[start:],
                raw[:end],
                raw[:start] + random.randbytes(random.randint(0, 9)) + raw[start:],
                *[b"\r\n".join([*lines[:line], random.choice(LINES), *lines[line:]])] * 5,
                raw.replace(b"\r\n", random.choice(NOISE), random.randint(-1, 1)),
            ]
        )
    return raw
