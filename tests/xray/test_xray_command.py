"""The x-ray in a terminal: `python -m todo_wsgi.xray`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import demo_app

import pytest
from conftest import read_texts
from servers import POSIX_ONLY, get, read_manual, running
from xrays import answering, one_line, watching

from todo_wsgi.xray import __main__ as command
from todo_wsgi.xray import loading, viewing
from todo_wsgi.xray.show.terminal import Printer, columns, wrap

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


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as users do, with its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "todo_wsgi.xray", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_sends_one_request_and_prints_its_story_in_100_columns(tmp_path: Path) -> None:
    done = run("POST", "/", "text=milk & honey 牛奶和蜂蜜", "show=all", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert widest(done.stdout) <= 100
    assert "\x1b" not in done.stdout
    text = one_line(done.stdout)
    assert text.startswith("POST / → 303 See Other")
    assert [part for part in PARTS if part in text] == PARTS
    assert "('milk & honey 牛奶和蜂蜜',)" in text
    assert "todo_wsgi/handlers.py" in text
    assert os.listdir(tmp_path) == ["other.py"]


def widest(text: str) -> int:
    """Return the columns of the widest line but the command, which has to be one line."""
    return max(columns(line) for line in text.splitlines() if not line.startswith("curl "))


def test_the_option_db_selects_a_database(tmp_path: Path) -> None:
    assert run("post", "/", "text=milk", "--db", "todos.db").returncode == 0
    assert read_texts(tmp_path / "todos.db") == ["milk"]
    assert "templates/todo.html" in run("GET", "/", "--db", "todos.db", "--all").stdout
    done = run("GET", "/", "--db", "other.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "other.py" in done.stderr


def test_fields_of_a_get_are_in_its_url() -> None:
    assert command.main(["GET", "/?from=1", "show=active"]) == 0
    text = one_line(run("HEAD", "/", "show=active", "-H", "X-Odd: ä", "--all").stdout)
    assert text.startswith("HEAD /?show=active → 200 OK")
    assert "X-Odd: ä" in text


def test_headers_may_repeat_and_replace_the_defaults() -> None:
    text = run(
        "POST", "/", "--all", "-H", "A: 1", "-H", "A: 2", "-H", "content-type: text/plain"
    ).stdout
    assert "A: 1\\r\\n" in text
    assert "A: 2\\r\\n" in text
    assert "415 " in text
    assert "Content-Type: application" not in text


def test_a_long_server_name_fits() -> None:
    with watching(demo_app) as client:
        client.get("/", environ_overrides={"SERVER_SOFTWARE": "server" * 20})
        text = "\n".join(Printer(width=50).lines(client.story()))
    assert widest(text) <= 50


def test_the_option_app_selects_any_application(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--app", "other", "POST", "/", "password=hunter2", "--all"]) == 0
    text = one_line(capsys.readouterr().out)
    assert "other.py:7 connection.execute" in text
    assert "execute changed 1 row without a commit" in text
    assert "hunter2" not in text
    assert "a body of 5 bytes" in text
    assert "3. The route: not known" in text


def test_the_lesson_ends_with_three_mistakes(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(read_manual(r"import sqlite3\n.*?encode\(\)\]\n"))
    line = read_manual(r"(?<=-m todo_wsgi\.xray )--app hello GET.*?(?=\n)").split()
    for arguments in [line, [*line[:-1], "name=Ada & Günther"]]:
        text = one_line(run(*arguments, "--all").stdout)
        assert text.endswith(
            "3 mistakes: a GET changed 1 row (6. SQL); execute changed 1 row without a commit "
            "(6. SQL); the value of name is part of the SQL text (6. SQL)"
        )
        assert text.count("✗") == 3
    assert "Hello Ada & Günther" in text


def test_the_story_includes_an_exception_of_the_application() -> None:
    done = run("--app", "other:lost", "GET", "/", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    text = one_line(done.stdout)
    assert text.startswith("GET / → 500 Internal Server Error")
    assert "LookupError('lost') reached the server" in text
    assert "a body of 110 bytes" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["GET"], "name a method and a path, such as GET /"),
        (["GET", "nothing"], "the path must begin with /: ['nothing']"),
        (["GET", "/", "text"], "write fields as name=value: ['text']"),
        (["GET", "/", "-H", "text"], "write headers as 'Name: value': ['text']"),
        (["GET", "/", "-H", "a: b\r\nc: d"], "write headers as 'Name: value'"),
        (["GET", "/", "--part", "4,10"], "--part takes numbers from 1 to 9"),
        (["POST", "/", "--body", "nowhere"], "No such file or directory: 'nowhere'"),
        (["POST", "/", "a=b", "--body", "other.py"], "omit either them or --body"),
        (["POST", "/", "-H", "Content-Length: 4"], "the server waits for more. See Content-Length"),
        (["G T", "/"], "waitress refused the request: HTTP/1.0 400 Bad Request"),
        (["GET", "/", "--app", "other", "--db", "x"], "--db is for the todo list"),
        (["GET", "/", "--db", "rqlite://h1:4001"], "--db takes a file"),
        (["GET", "/", "--serve"], "--serve takes no method and path"),
        (["--serve", "--port", "99999"], "--port and --xray take a number from 0 to 65535"),
    ],
)
def test_an_error_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(command, "TIMEOUT", 2)
    try:
        status = command.main(arguments)
    except SystemExit as error:
        status = int(str(error.code))
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert message in printed.err
    assert printed.err.count("\n") == 1


# Which application

FACTORIES = """
def start(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"started"]
def create_app(name=None):
    return start
def broken():
    raise LookupError("lost")
class Proxy:  # like Flask's
    __call__ = start
    def __getattr__(self, name):
        raise RuntimeError("outside of a request")
request = Proxy()
"""
GUARD = 'Move it below this line: if __name__ == "__main__":'


@pytest.mark.parametrize("name", ["pages/made.py", "./pages/made", "pages.made"])
@pytest.mark.parametrize("path", ["start", "Proxy.__call__", "create_app()"])
def test_the_application_has_a_name_in_its_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, path: str
) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/made.py").write_text(FACTORIES)
    assert command.main(["GET", "/", "--app", f"{name}:{path}", "--part", "8"]) == 0
    assert "started" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nowhere", "", "there is no module 'nowhere'. Those here are: made, other"),
        ("../made", "", "there is no module '...made'"),
        ("made", "import nothing", "fails at made.py:1: ModuleNotFoundError: No module named 'n"),
        ("made", "made", "fails at made.py:1: NameError: name 'made' is not defined"),
        ("made", "number = 7\n1 / 0", "fails at made.py:2: ZeroDivisionError: division by zero"),
        ("made", "def app(:\n", 'made.py", line 1\n    def app(:\n            ^\nSyntaxError: '),
        ("made", "import sys\nsys.exit(3)", f"fails at made.py:2: SystemExit: 3. {GUARD}"),
        ("made:app()", FACTORIES, "made has no 'app'. Write --app made:start or 'made:create_app"),
        ("made", "number = 7", "takes (environ, start_response). Write --app made:NAME"),
        ("made:create_app", FACTORIES, "application, write --app 'made:create_app()'"),
        ("made:broken()", FACTORIES, "calling broken() fails at made.py:8: LookupError: lost"),
        ("other:number", "", "'other:number' is not a WSGI application: it is not callable"),
    ],
)
def test_an_application_that_cannot_be_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: str, message: str
) -> None:
    (tmp_path / "made.py").write_text(code)
    sys.modules.pop("made", None)
    assert command.main(["GET", "/", "--app", name]) == 2
    assert message in capsys.readouterr().err


def test_an_import_that_does_not_end_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exits: list[int] = []
    monkeypatch.setattr(loading, "TIMEOUT", 0.5)
    monkeypatch.setattr(os, "_exit", exits.append)  # so that this process goes on
    (tmp_path / "served.py").write_text("import time\ntime.sleep(2)\nfrom other import app\n")
    assert command.main(["GET", "/", "--app", "served"]) == 0
    assert exits == [2]
    message = "importing served takes more than 0.5 s. It is at served.py:2: time.sleep(2). "
    assert message + GUARD in capsys.readouterr().err


def test_ctrl_c_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text("raise KeyboardInterrupt")
    assert command.main(["GET", "/", "--app", "left"]) == 130


# What is sent, and what comes back


def test_a_file_is_sent_as_the_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.json").write_bytes(b'{"text": "\xe2\x98\x95"}')
    assert command.main(["POST", "/", "--body", "new.json", "--part", "1"]) == 0
    text = capsys.readouterr().out
    assert r"Content-Type: application/json\r\n" in text
    assert r"Content-Length: 15\r\n" in text
    assert '{"text": "☕"}' in text
    line = [sys.executable, "-m", "todo_wsgi.xray", "GET", "/", "--body", "-", "--part", "1"]
    text = subprocess.run(line, input=b"a\0b", capture_output=True).stdout.decode()
    assert r"Content-Type: application/octet-stream\r\n" in text
    assert r"a\x00b" in text


def test_the_option_part_selects_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--part", "4,6", "POST", "/", "text=milk"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^\d\. ", text, re.MULTILINE) == ["4. ", "6. "]
    assert "PRAGMA" not in text  # the list has been connected before


ENDLESS = """
import sys, time
def app(environ, start_response):
    while environ["PATH_INFO"] == "/loop":
        pass
    if environ["PATH_INFO"] == "/exit":
        sys.exit(3)
    start_response("200 OK", [])
    return iter(lambda: time.sleep(0.1) or b"tick", b"")
"""


@pytest.mark.parametrize(
    ("path", "title", "message"),
    [
        ("/loop", "running, ", r"running, \d+ s, at endless\.py:4"),
        ("/exit", "an exception", r"SystemExit\(3\)"),
        ("/stream", "running, ", r"running, \d+ s"),
    ],
)
def test_a_request_without_an_answer_is_told_with_the_line_that_it_is_at(
    tmp_path: Path, path: str, title: str, message: str
) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    code = "import sys; from todo_wsgi.xray import __main__; __main__.TIMEOUT = 2; "
    code += f"sys.exit(__main__.main(['--app', 'endless', 'GET', '{path}', '--all']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.startswith(f"GET {path} → {title}")
    assert "1. What the browser sent" in done.stdout
    assert ("→ still running" in one_line(done.stdout)) == (path == "/loop")
    assert re.search(f"no end of the answer within 2 s: {message}", done.stderr)


# In the browser


def test_the_command_serves_an_application_and_its_xray(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "todo_wsgi.xray", "--serve", "--port", "0", "--xray", "0"]
    with running([*line, "--app", "other"], tmp_path) as server:
        assert server.send(get()).endswith(b"hello\r\n0\r\n\r\n")
        assert "GET / 200 OK" in server.xray()
        assert "INSERT INTO words" in server.xray("1")
        with ThreadPoolExecutor(20) as visitors:  # waitress warns that some have to wait
            assert len([*visitors.map(server.send, [get()] * 20)]) == 20
    assert "queue" not in server.output
    with running(line, tmp_path) as server:
        taken = str(server.port)
        assert server.send(get("/healthz")).endswith(b"ok")
        again = run("--serve", "--port", taken)
    assert server.process.returncode == 0
    assert again.returncode == 2
    assert f"cannot listen at 127.0.0.1, port {taken}: Address already in use." in again.stderr
    assert again.stderr.count("\n") == 1


def test_viewing_opens_a_port_and_says_if_it_is_in_use() -> None:
    with viewing(demo_app, 0, "http://127.0.0.1:8080/") as (_, address):
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match=f"port {port}: .*Flask's reloader"):
            viewing(demo_app, port, "").__enter__()


# On the terminal


@POSIX_ONLY
@pytest.mark.parametrize(("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_output_on_a_terminal_is_coloured_unless_disabled(
    environ: dict[str, str], is_coloured: bool
) -> None:
    import pty  # not available on Windows

    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "todo_wsgi.xray", "GET", "/"],
        env={**os.environ, **environ, "COLUMNS": "60"},
        stdout=terminal,
    )
    os.close(terminal)
    printed = b""
    with suppress(OSError):  # Linux raises it once the other side is closed
        while True:
            printed += os.read(ours, 65536)
    os.close(ours)
    assert process.wait() == 0
    assert (b"\x1b[1m" in printed) == is_coloured
    assert widest(re.sub(r"\x1b\[\d+m", "", printed.decode())) <= 60


def test_below_a_long_first_cell_of_a_table_the_others_have_the_width_of_the_terminal() -> None:
    text = run("--app", "other", "GET", "/", "--all").stdout
    lines = [line.strip() for line in text.splitlines()]
    sql = lines.index("INSERT INTO words VALUES (?)")
    assert lines[sql + 1 : sql + 3] == [
        "('milk',)  1 row inserted",
        'other.py:7 connection.execute("INSERT INTO words VALUES (?)", ("milk",))',
    ]
    assert re.search(r"^ +REQUEST_METHOD +'GET'  the request line$", text, re.MULTILINE)


def test_the_lines_of_a_page_are_indented_alike() -> None:
    with watching(answering("<ul>\n<li>milk</li>\n</ul>")) as client:
        client.get("/")
        lines = [*Printer().lines(client.story(), [8])]
    assert "   <ul>\n   <li>milk</li>\n   </ul>" in "\n".join(lines)


@pytest.mark.parametrize("text", ["x" * 10_000, "a" + "牛" * 5_000, "milk 牛奶 " * 1000])
def test_no_line_is_wider_than_the_terminal(text: str) -> None:
    lines = [*wrap(text, 60, "  ", "     ")]
    assert {columns(line) for line in lines[:-1]} <= {*range(53, 61)}
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_control_and_unencodable_characters_are_escaped() -> None:
    done = run("POST", "/", "text=\x1b[2Jmilk 牛奶", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert r"\u725b" in done.stdout


@POSIX_ONLY
def test_a_closed_pipe_causes_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, once it has its lines
    command = [sys.executable, "-m", "todo_wsgi.xray", "GET", "/"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@POSIX_ONLY
def test_the_curl_command_can_be_copied() -> None:
    done = run("POST", "/nothing", "text=" + "it's a very long text, " * 20)
    lines = done.stdout.partition("The same request again:\n")[2].partition("--part")[0]
    printed = subprocess.run(
        ["bash", "-c", lines.replace("curl ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed[-2].startswith("text=it%27s+a+very+long+text%2C+it%27s")
    assert len(printed[-2]) > 500
    assert printed[-1].endswith("/nothing")


def test_the_curl_command_of_a_request_with_a_secret_is_to_be_completed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["GET", "/", "-H", "Cookie: id=12345678", "--port", "5000", "--all"]
    assert command.main(line) == 0
    text = one_line(capsys.readouterr().out)
    words = "-H 'Cookie: [hidden]' http://127.0.0.1:5000/"
    assert f"{words} First put the real values in place of [hidden]." in text
