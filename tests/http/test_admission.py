"""Who may ask: host names and the password, in process; test_public.py asks real servers."""

from __future__ import annotations

import base64
import html
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from conftest import InProcessClient, in_process, run_sql
from werkzeug.test import TestResponse

from todo_wsgi import create_app
from todo_wsgi.application import ROUTES
from todo_wsgi.http import password
from todo_wsgi.http.admission import read_sites
from todo_wsgi.http.password import hash_password
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.storage import guesses

MACHINE = socket.gethostname()

pytestmark = pytest.mark.of_file  # beside it, wrong guesses are counted


@pytest.fixture
def site(database: Path) -> Iterator[InProcessClient]:
    """A list that has a name of its own."""
    with closing(create_app(database, sites={"todo.example"})) as app:
        yield in_process(app)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "a.b.localhost:80",
        "127.0.0.1",
        "192.0.2.7:8080",
        "[::1]",
        "[2001:db8::1]:8080",
        MACHINE,
        f"{MACHINE.partition('.')[0]}.local:8080",
        "todo.example",
        "Todo.Example:443",
        "todo.example.",
    ],
)
def test_names_of_this_machine_and_of_the_list_are_answered(
    site: InProcessClient, host: str
) -> None:
    assert site.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "www.todo.example",
        "todo.example.evil.example",
        "127.1",
        "2130706433",
        "todo",
        "local",
    ],
)
def test_other_names_are_refused(site: InProcessClient, host: str) -> None:
    answer = site.get("/", headers={"Host": host})
    name = host.removesuffix(":8080")
    assert answer.status_code == 421
    assert f"--site {name} or the variable TODO_SITE={name};" in html.unescape(answer.text)
    assert site.get("/healthz", headers={"Host": host}).status_code == 200
    form = {"headers": {"Host": host, "Origin": f"http://{host}"}, "data": {"text": "forged"}}
    assert site.post("/", **form).status_code == 421
    assert "forged" not in site.get("/").text


@pytest.mark.parametrize(
    "host", ["localhost, evil.example", "me@localhost", "localhost:80:80", ":80", '"><script>']
)
def test_what_is_no_host_name_is_refused(site: InProcessClient, host: str) -> None:
    assert site.get("/", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(("protocol", "status"), [("HTTP/1.0", 200), ("HTTP/1.1", 400)])
def test_only_http_1_0_may_leave_out_the_host(
    site: InProcessClient, protocol: str, status: int
) -> None:
    environ = {"SERVER_PROTOCOL": protocol, "HTTP_HOST": ""}
    assert site.get("/", environ_overrides=environ).status_code == status


@pytest.mark.parametrize(
    ("text", "sites"),
    [
        ("", set()),
        (" , ", set()),
        ("todo.example", {"todo.example"}),
        (" Todo.Example. , b_c.d-e", {"todo.example", "b_c.d-e"}),
    ],
)
def test_sites_are_host_names_separated_by_commas(text: str, sites: set[str]) -> None:
    assert read_sites(text) == sites


@pytest.mark.parametrize(
    "text",
    ["https://todo.example", "todo.example:80", "*.example", "tödö.example", "a b"],
)
def test_a_site_that_is_no_host_name_is_reported(
    text: str, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    monkeypatch.setenv("TODO_SITE", text + ",todo.example")
    with pytest.raises(ValueError, match=r"set --site or TODO_SITE to a name like todo\.example"):
        create_app(database)


# The password


@pytest.fixture
def asked(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessClient]:
    """A list with a password."""
    monkeypatch.setitem(password._SCRYPT, "n", 2)  # to hash quickly
    monkeypatch.setattr(guesses, "AT_LEAST", 0)
    monkeypatch.setenv("TODO_PASSWORD", hash_password("geheim:ß".encode()))
    monkeypatch.setattr(InProcessClient, "asks_twice", False)  # guesses are counted
    with closing(create_app(database)) as app:
        yield in_process(app)


@pytest.fixture
def another_process(asked: InProcessClient, database: Path) -> Iterator[InProcessClient]:
    """The same list as `asked`, as another process serves it."""
    assert asked
    with closing(create_app(database)) as app:
        yield in_process(app)


def guess(client: InProcessClient, text: str, address: str = "192.0.2.7") -> TestResponse:
    credentials = base64.b64encode(f"any user:{text}".encode()).decode()
    return client.get(
        "/",
        headers={"Authorization": f"Basic {credentials}"},
        environ_overrides={"REMOTE_ADDR": address},
    )


def test_every_route_asks_for_the_password_but_the_health_check_and_the_style(
    asked: InProcessClient,
) -> None:
    for route in ROUTES:
        answer = asked.open(route.path.replace("{id}", "7"), method=route.method)
        if route.path in {"/healthz", STYLE.path, ICON.path}:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="Todos", charset="UTF-8"'
            assert "This list has a password" in answer.text
    assert asked.get("/no/such/page").status_code == 401


def test_the_password_lets_anybody_in(asked: InProcessClient) -> None:
    assert guess(asked, "geheim:ß").status_code == 200
    assert guess(asked, "geheim").status_code == 401
    assert guess(asked, "").status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic =", "Basic %", "Basic Z2VoZWlt", "Bearer Z2VoZWlt", "basic  x", "\xff"],
)
def test_malformed_credentials_are_asked_for_again_and_not_counted(
    asked: InProcessClient, database: Path, header: str
) -> None:
    assert asked.get("/", headers={"Authorization": header}).status_code == 401
    assert not Path(f"{database}-guesses").exists()


def test_ten_wrong_guesses_make_an_address_wait(
    asked: InProcessClient, another_process: InProcessClient, database: Path
) -> None:
    for number in range(10):
        client = another_process if number % 2 else asked
        assert guess(client, f"wrong {number}").status_code == 401
    for client in (asked, another_process):
        answer = guess(client, "wrong")
        assert answer.status_code == 429
        assert 50 <= int(answer.headers["Retry-After"]) <= 60
        assert f"Wait {answer.headers['Retry-After']} s, then reload the page." in answer.text
        assert guess(client, "geheim:ß").status_code == 429  # it is not looked at
        assert guess(client, "wrong", "192.0.2.8").status_code == 401
    run_sql(Path(f"{database}-guesses"), "UPDATE wrong SET last = last - 60")
    assert guess(asked, "wrong").status_code == 401
    assert guess(asked, "geheim:ß").status_code == 200


def test_who_knows_the_password_is_not_held_up(
    asked: InProcessClient, another_process: InProcessClient
) -> None:
    assert guess(asked, "geheim:ß").status_code == 200
    for _ in range(10):
        assert guess(asked, "wrong").status_code == 401
    assert guess(asked, "wrong").status_code == 429
    assert guess(another_process, "wrong").status_code == 429
    for client in (asked, another_process, another_process):
        assert guess(client, "geheim:ß").status_code == 200
    assert guess(another_process, "wrong").status_code == 429


def test_an_address_that_waits_is_told_nothing_even_if_others_know_the_password(
    asked: InProcessClient,
) -> None:
    assert guess(asked, "geheim:ß").status_code == 200
    for _ in range(10):
        assert guess(asked, "wrong", "192.0.2.8").status_code == 401
    assert guess(asked, "wrong", "192.0.2.8").status_code == 429
    assert guess(asked, "geheim:ß", "192.0.2.8").status_code == 429
    assert guess(asked, "geheim:ß", "192.0.2.9").status_code == 200


def test_variants_of_the_password_are_wrong_but_for_how_an_accent_is_written(
    asked: InProcessClient, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    for variant in ("geheim:ß\0", "geheim:ß\n", " geheim:ß", "Geheim:ß"):
        assert guess(asked, variant).status_code == 401
    monkeypatch.setenv("TODO_PASSWORD", hash_password("u\u0308ber".encode()))
    with closing(create_app(database)) as app:
        assert guess(in_process(app), "\xfcber").status_code == 200
        assert guess(in_process(app), "u\u0308ber").status_code == 200
    monkeypatch.setenv("TODO_PASSWORD", hash_password(b"\xff"))  # typed on a terminal of Latin-1
    with closing(create_app(database)) as app:
        header = {"Authorization": "Basic " + base64.b64encode(b":\xff").decode()}
        assert in_process(app).get("/", headers=header).status_code == 200


def test_a_clock_that_goes_back_holds_nobody_up(asked: InProcessClient, database: Path) -> None:
    for _ in range(10):
        guess(asked, "wrong")
    run_sql(Path(f"{database}-guesses"), "UPDATE wrong SET last = last + 3600")
    assert guess(asked, "wrong").status_code == 401


def test_one_guess_is_judged_at_a_time(asked: InProcessClient, database: Path) -> None:
    assert guess(asked, "geheim:ß").status_code == 200
    with closing(sqlite3.connect(f"{database}-guesses", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")  # as a process does that judges one
        answer = guess(asked, "wrong")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert guess(asked, "geheim:ß").status_code == 200
    assert guess(asked, "wrong").status_code == 401


def test_those_who_come_with_the_password_at_once_after_a_restart_all_get_in(
    asked: InProcessClient,
) -> None:
    with ThreadPoolExecutor(20) as executor:
        answers = executor.map(lambda _: guess(asked, "geheim:ß").status_code, range(20))
    assert set(answers) == {200}


def test_a_wrong_guess_takes_a_while_even_if_hashing_is_fast(
    asked: InProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(guesses, "AT_LEAST", 1000)
    monkeypatch.setattr(time, "sleep", slept.append)
    assert guess(asked, "wrong").status_code == 401
    assert guess(asked, "geheim:ß").status_code == 200
    assert 900 < sum(slept) < 1000


@pytest.mark.parametrize("content", [b"no database", None])
def test_guesses_that_cannot_be_counted_are_not_judged(
    asked: InProcessClient, database: Path, content: bytes | None
) -> None:
    file = Path(f"{database}-guesses")
    guess(asked, "wrong")
    if content is None:  # byte 18 is the version of its format: for this SQLite to read only
        content = file.read_bytes()[:18] + b"\3" + file.read_bytes()[19:]
    file.write_bytes(content)
    assert guess(asked, "geheim:ß").status_code == 503


@pytest.mark.parametrize("text", ["", "geheim", "scrypt:00:00", hash_password(b"x") + "0"])
def test_a_password_that_is_not_hashed_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    monkeypatch.setenv("TODO_PASSWORD", text)
    with pytest.raises(ValueError, match=r"^TODO_PASSWORD has to be a hash: .* --password. prints"):
        create_app(database)
