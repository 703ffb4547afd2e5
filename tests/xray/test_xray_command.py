"""The x-ray in a terminal: `python -m todo_wsgi.xray`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import demo_app

import pytest
from conftest import read_texts
from servers import POSIX_ONLY, read_readme
from xrays import one_line, watching

from todo_wsgi.xray import __main__ as command
from todo_wsgi.xray.text import Printer, columns

PARTS = ["1. What the browser sent", "5. The functions that ran", "9. What the browser does next"]

OTHER = """
import sqlite3
connection = sqlite3.connect(":memory:", check_same_thread=False)
connection.execute("CREATE TABLE words (word TEXT)")

def app(environ, start_response):
    connection.execute("INSERT INTO words VALUES (?)", ("milk",))
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"hello"

def lost(environ, start_response):
    raise LookupError("lost")

number = 7
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder with an application."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "other.py").write_text(OTHER)
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its users do, with its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "todo_wsgi.xray", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_request_is_sent_and_its_story_printed_in_100_columns(tmp_path: Path) -> None:
    done = run("POST", "/", "text=milk & honey 牛奶和蜂蜜", "show=all")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(columns, done.stdout.splitlines())) <= 100
    assert "\x1b" not in done.stdout
    told = one_line(done.stdout)
    assert told.startswith("POST / → 303 See Other")
    assert [part for part in PARTS if part in told] == PARTS
    assert "Parameters ('milk & honey 牛奶和蜂蜜',)" in told
    assert r"HTTP/1.1 303 See Other\r\n" in told
    assert "todo_wsgi/handlers.py" in told
    assert sorted(os.listdir(tmp_path)) == [
        "leaving.py",
        "other.py",
    ]


def test_it_uses_a_database_if_it_is_told_so(tmp_path: Path) -> None:
    assert run("post", "/", "text=milk", "--db", "todos.db").returncode == 0
    assert read_texts(tmp_path / "todos.db") == ["milk"]
    assert "templates/todo.html" in run("GET", "/", "--db", "todos.db").stdout
    done = run("GET", "/", "--db", "other.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "other.py" in done.stderr


def test_fields_of_a_get_are_in_its_address() -> None:
    assert command.main(["GET", "/?from=1", "show=active"]) == 0
    told = one_line(run("HEAD", "/", "show=active", "-H", "X-Odd: ä").stdout)
    assert told.startswith("HEAD /?show=active → 200 OK")
    assert "X-Odd: ä" in told


def test_headers_may_come_twice_and_replace_the_usual_ones() -> None:
    told = run("POST", "/", "-H", "A: 1", "-H", "A: 2", "-H", "content-type: text/plain").stdout
    assert "A: 1\\r\\n" in told
    assert "A: 2\\r\\n" in told
    assert "415 " in told
    assert "Content-Type: application" not in told


def test_a_long_name_of_a_server_fits() -> None:
    with watching(demo_app) as client:
        client.get("/", environ_overrides={"SERVER_SOFTWARE": "server" * 20})
        lines = [*Printer(width=50).lines(client.story())]
    assert max(map(columns, lines)) <= 50


def test_it_shows_anybodys_application(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--app", "other", "POST", "/", "password=hunter2"]) == 0
    told = one_line(capsys.readouterr().out)
    assert "other.py:7 connection.execute" in told
    assert "✗ execute changed 1 row, and nobody committed" in told
    assert "hunter2" not in told
    assert "a body of 5 bytes (generator)" in told
    assert "The x-ray knows no table of routes of this application" in told


@POSIX_ONLY
def test_the_readmes_lesson_ends_with_three_mistakes(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(read_readme(r"import sqlite3\n.*?encode\(\)\]\n"))
    line = read_readme(r"-m todo_wsgi\.xray --app hello [^`]*")
    told = subprocess.run(
        ["bash", "-c", f"{sys.executable} {line}"], capture_output=True, text=True
    )
    mistakes = re.findall("✗ (.*)", told.stdout)
    assert len(mistakes) == 3
    assert "A GET changed 1 row" in mistakes[0]
    assert "nobody committed" in mistakes[1]
    assert "within the text of the SQL" in mistakes[2]


def test_an_exception_of_the_application_is_a_part_of_the_story() -> None:
    done = run("--app", "other:lost", "GET", "/")
    assert (done.returncode, done.stderr) == (0, "")
    told = one_line(done.stdout)
    assert told.startswith("GET / → 500 Internal Server Error")
    assert "LookupError('lost') left the application" in told
    assert "So the server made an answer by itself" in told
    assert r"HTTP/1.1 500 Internal Server Error\r\n" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["GET"], "path"),
        (["GET", "nothing"], "the path 'nothing' has to begin with /"),
        (["GET", "/", "text"], "'text' is no field: write name=value"),
        (["GET", "/", "-H", "text"], "'text' is no header: write 'Name: value'"),
        (["GET", "/", "-H", "a: b\r\nc: d"], "is no header"),
        (["G T", "/"], "waitress refused the request: HTTP/1.0 400 Bad Request"),
        (["GET", "/", "--app", "nowhere"], "cannot import 'nowhere': ModuleNotFoundError"),
        (["GET", "/", "--app", "leaving"], "cannot import 'leaving': SystemExit(3)"),
        (["GET", "/", "--app", "other:nothing"], "cannot import 'other:nothing': AttributeError"),
        (["GET", "/", "--app", "other:number"], "'other:number' is no WSGI application"),
        (["GET", "/", "--app", "other", "--db", "x"], "--db is for the todo list"),
    ],
)
def test_what_cannot_be_sent_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        status = command.main(arguments)
    except SystemExit as error:
        status = int(str(error.code))
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_an_application_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "TIMEOUT", 0.2)
    (tmp_path / "slow.py").write_text("import time\ndef app(*args):\n    time.sleep(1)\n")
    assert command.main(["GET", "/", "--app", "slow"]) == 2
    assert "no answer came within 0.2 seconds" in capsys.readouterr().err


@POSIX_ONLY
@pytest.mark.parametrize(("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_it_is_coloured_unless_one_does_not_want_that(
    environ: dict[str, str], is_coloured: bool
) -> None:
    import pty  # which Windows does not have

    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "todo_wsgi.xray", "GET", "/"],
        env={**os.environ, **environ, "COLUMNS": "60"},
        stdout=terminal,
    )
    os.close(terminal)
    printed = b""
    with suppress(OSError):  # so Linux tells that the other side is closed
        while True:
            printed += os.read(ours, 65536)
    os.close(ours)
    assert process.wait() == 0
    assert (b"\x1b[1m" in printed) == is_coloured
    lines = re.sub(r"\x1b\[\d+m", "", printed.decode()).splitlines()
    assert max(map(columns, lines)) <= 60


def test_what_a_terminal_would_obey_or_does_not_know_is_escaped() -> None:
    done = run("POST", "/", "text=\x1b[2Jmilk 牛奶", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert r"\u725b" in done.stdout


@POSIX_ONLY
def test_whoever_reads_only_the_beginning_sees_no_error() -> None:
    line = f"{sys.executable} -m todo_wsgi.xray GET / | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == ("GET / → 200 OK\n".encode(), b"")


@POSIX_ONLY
def test_the_command_in_it_can_be_copied() -> None:
    done = run("POST", "/nothing", "text=" + "it's a very long text, " * 20)
    lines = done.stdout.partition("to a server that runs\n")[2]
    printed = subprocess.run(
        ["bash", "-c", lines.replace("curl ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed[-2].startswith("text=it%27s+a+very+long+text%2C+it%27s")
    assert len(printed[-2]) > 500
    assert printed[-1].endswith("/nothing")
