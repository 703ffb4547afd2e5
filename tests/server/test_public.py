"""In public: host names and the password under real servers, of one process and of several."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import read_texts
from playwright.sync_api import Browser
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    Server,
    get,
    nginx_before,
    post,
    running,
    serve_command,
    status_of,
)

from todo_wsgi.http.password import hash_password
from todo_wsgi.server import command_line
from todo_wsgi.storage.guesses import AT_LEAST

PASSWORD = "open sésame: 7"
HASH = hash_password(PASSWORD.encode())
PUBLIC = {"TODO_SITE": "todo.example", "TODO_PASSWORD": HASH}
WAITRESS_SERVE = [str(BIN / "waitress-serve"), "--listen=127.0.0.1:0", "todo_wsgi:app"]
GUNICORN = [str(BIN / "gunicorn"), "--bind=127.0.0.1:0", "--workers=2", "todo_wsgi:app"]


def credentials(password: str = PASSWORD) -> str:
    return "Authorization: Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.fixture(
    params=[
        pytest.param(serve_command("--port", "0"), id="serve.py"),
        pytest.param(
            serve_command("--port", "0", "--processes", "2"), id="processes", marks=POSIX_ONLY
        ),
        pytest.param(WAITRESS_SERVE, id="waitress-serve"),
        pytest.param(GUNICORN, id="gunicorn", marks=POSIX_ONLY),
    ]
)
def public(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A list with a name and a password."""
    with running(request.param, tmp_path, PUBLIC) as server:
        yield server
    assert "Traceback" not in server.output


def ask(server: Server, sent: bytes, host: str = "todo.example") -> bytes:
    return server.send(sent.replace(b"Host: localhost", f"Host: {host}".encode()))


def test_it_answers_by_its_names_and_with_its_password(public: Server) -> None:
    login = credentials()
    with ThreadPoolExecutor(16) as executor:  # at once, when no process knows the password yet
        answers = executor.map(lambda _: ask(public, get("/", login)), range(32))
        assert {status_of(answer) for answer in answers} == {200}
    for _ in range(8):  # whichever process answers
        assert status_of(ask(public, get())) == 401
        assert status_of(ask(public, get("/", login), "evil.example")) == 421
    assert b'\nwww-authenticate: basic realm="todos", charset="utf-8"' in ask(public, get()).lower()
    assert status_of(ask(public, get("/", login), "127.0.0.1:8080")) == 200
    assert status_of(ask(public, post(b"text=milk", "Origin: https://todo.example", login))) == 303
    forged = post(b"text=forged", "Origin: http://evil.example", login)
    assert status_of(ask(public, forged, "evil.example")) == 421
    assert status_of(ask(public, post(b"text=forged"))) == 401
    assert status_of(ask(public, get("/healthz"), "health.check.example")) == 200
    assert read_texts(public.database) == ["milk"]


def test_guesses_are_slow_and_limited_and_hold_up_nobody_who_knows(public: Server) -> None:
    def ask_until(end: float, password: str) -> list[int]:
        statuses = []
        while time.monotonic() < end:
            statuses.append(status_of(ask(public, get("/", credentials(password)))))
        return statuses

    with ThreadPoolExecutor(8) as executor:  # so many that each process learns the password
        known_first = executor.map(lambda _: ask(public, get("/", credentials())), range(16))
        assert {*map(status_of, known_first)} == {200}
    began = time.monotonic()
    with ThreadPoolExecutor(5) as executor:
        guesses = [executor.submit(ask_until, began + 1, f"wrong {n}") for n in range(4)]
        known = executor.submit(ask_until, began + 1, PASSWORD)
    statuses = [status for guess in guesses for status in guess.result()]
    assert set(statuses) <= {401, 429}
    wrong = statuses.count(401)
    assert 1 <= wrong <= (time.monotonic() - began) / AT_LEAST
    while status_of(ask(public, get("/", credentials("wrong")))) == 401:
        wrong += 1
    assert wrong == 10  # whichever process counted them
    assert b"\nretry-after: " in ask(public, get("/", credentials("wrong"))).lower()
    known_now = [status_of(ask(public, get("/", credentials()))) for _ in range(8)]
    assert {*known.result(), *known_now} == {200}


def test_it_works_behind_nginx(tmp_path: Path) -> None:
    command = serve_command("--port", "0", "--trusted-proxy", "127.0.0.1")
    with running(command, tmp_path, PUBLIC) as server, nginx_before(server, tmp_path) as port:
        server.port = port
        assert status_of(ask(server, get("/", credentials()))) == 200
        assert status_of(ask(server, get("/", credentials()), "evil.example")) == 421
        lie = get("/", credentials(), "X-Forwarded-Host: todo.example")
        assert status_of(ask(server, lie, "evil.example")) == 421
        for number in range(11):
            lie = get("/", credentials("wrong"), f"X-Forwarded-For: 192.0.2.{number}")
            assert status_of(ask(server, lie)) == (401 if number < 10 else 429)


def test_a_server_without_our_command_line_refuses_a_plain_password(tmp_path: Path) -> None:
    environ = {**os.environ, "TODO_PASSWORD": "open sesame"}
    done = subprocess.run(
        WAITRESS_SERVE, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "set it to what `todo-wsgi --password` prints" in done.stderr
    assert "open sesame" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "hashed", "warns"),
    [
        (["--host", "0.0.0.0"], HASH, True),
        (["--host", "::"], HASH, True),
        (["--host", "0.0.0.0"], "", False),
        (["--host", "0.0.0.0", "--trusted-proxy", "192.0.2.1"], HASH, False),
        (["--host", "127.0.0.2"], HASH, False),
        (["--host", "::1"], HASH, False),
    ],
)
def test_it_warns_of_passwords_in_the_clear(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    hashed: str,
    warns: bool,
) -> None:
    if hashed:
        monkeypatch.setenv("TODO_PASSWORD", hashed)
    command_line.take_listener(command_line.read_settings([*flags, "--port=0"], "serve.py")).close()
    warning = "serve.py: the password travels in the clear, so others can read it: put a proxy with"
    printed = capsys.readouterr().err
    assert printed.startswith(warning) == warns
    assert printed.count("\n") == warns


# In a browser


def test_a_page_that_led_its_own_name_here_sees_no_list(tmp_path: Path, browser: Browser) -> None:
    with running(serve_command("--port", "0"), tmp_path) as server:
        page = browser.new_page()
        page.goto(f"http://evil.example:{server.port}/")  # which the browser finds at 127.0.0.1
        assert page.title() == "Error: 421 Misdirected Request"
        assert page.get_by_text("--site evil.example").is_visible()
        has_style = page.evaluate("getComputedStyle(document.body).fontFamily") != "Times New Roman"
        assert has_style
        page.close()


def test_a_browser_asks_for_the_password_and_then_sends_it(
    tmp_path: Path, browser: Browser
) -> None:
    with running(serve_command("--port", "0"), tmp_path, {"TODO_PASSWORD": HASH}) as server:
        address = f"http://127.0.0.1:{server.port}/"
        stranger = browser.new_page(http_credentials={"username": "me", "password": "wrong"})
        answer = stranger.goto(address)
        assert answer
        assert answer.status == 401
        assert stranger.get_by_text("This list has a password").is_visible()
        stranger.close()
        owner = browser.new_page(http_credentials={"username": "me", "password": PASSWORD})
        owner.goto(address)
        owner.get_by_label("New todo").fill("milk")
        with owner.expect_navigation():
            owner.get_by_role("button", name="Add todo").click()
        assert owner.get_by_text("milk", exact=True).is_visible()
        owner.close()


def test_curl_sends_the_password(tmp_path: Path) -> None:
    with running(serve_command("--port", "0"), tmp_path, {"TODO_PASSWORD": HASH}) as server:
        address = f"http://127.0.0.1:{server.port}/todos.txt"
        curl = ["curl", "--silent", "--fail", address]
        assert subprocess.run(curl, check=False).returncode == 22
        subprocess.run([*curl, "--user", f"me:{PASSWORD}"], check=True)


# The command that hashes it


@pytest.mark.parametrize(
    "command",
    [[str(BIN / "todo-wsgi")], [sys.executable, str(ROOT / "serve.py")]],
    ids=["todo-wsgi", "serve.py"],
)
def test_a_password_is_read_from_two_lines(tmp_path: Path, command: list[str]) -> None:
    lines = f"{PASSWORD}\r\n{PASSWORD}\n"
    hashed = subprocess.run(
        [*command, "--password"], input=lines, capture_output=True, text=True, check=True
    )
    assert hashed.stderr == ""
    environ = {"TODO_PASSWORD": hashed.stdout.strip()}
    with running(serve_command("--port", "0"), tmp_path, environ) as server:
        assert status_of(server.send(get("/", credentials()))) == 200


@pytest.mark.skipif(sys.platform != "linux", reason="needs setsid to get a terminal of its own")
@pytest.mark.parametrize(
    ("typed", "status", "printed"),
    [(f"{PASSWORD}\n", 0, "scrypt:"), ("one\n", 2, ""), ("\3", 2, "")],
    ids=["the same", "another one", "Ctrl-C"],
)
def test_on_a_terminal_the_password_is_asked_for_and_not_shown(
    typed: str, status: int, printed: str
) -> None:
    import termios

    terminal, other_end = os.openpty()
    command = ["setsid", "--ctty", "--wait", BIN / "todo-wsgi", "--password"]
    pipes = {"stdin": other_end, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    shown = b""
    with subprocess.Popen(command, **pipes, text=True) as asking:  # type: ignore[call-overload]
        for prompt, answer in ((b"Password: ", f"{PASSWORD}\n"), (b"Again: ", typed)):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 100)
            os.write(terminal, answer.encode())
        output, _ = asking.communicate(timeout=20)
    assert asking.returncode == status
    assert output.startswith(printed)
    assert termios.tcgetattr(other_end)[3] & termios.ECHO  # the terminal shows what is typed again
    os.close(other_end)
    os.close(terminal)
    assert PASSWORD.encode() not in shown


@pytest.mark.parametrize("lines", ["", "one\n", "one\ntwo\n", "\n\n", f"{'x' * 1001}\n" * 2])
def test_passwords_that_are_empty_or_differ_are_refused(lines: str) -> None:
    done = subprocess.run(
        [BIN / "todo-wsgi", "--password"], input=lines, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "todo-wsgi: nothing was printed: enter the same password twice, up to 1,000 characters\n"
    )
