"""The x-ray's values: how it describes those of the application, and hides its secrets."""

from __future__ import annotations

import datetime
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from wsgiref.types import WSGIEnvironment

import pytest
from test_xray_pages import check
from xrays import answering, watching

from todo_wsgi.xray.record.values import Secrets, describe

# Describing


@dataclass
class Todo:
    """A todo of a learner."""

    id: int
    text: str
    owner: Any = None


@dataclass
class Long:
    """More than one wants to read."""

    a: int = 1
    b: int = 2
    c: int = 3
    d: int = 4
    e: int = 5
    f: int = 6


class Guest:
    """A plain object."""

    def __init__(self, **attributes: object) -> None:
        self._hidden = "no"
        vars(self).update(attributes)

    shout = property()


class Trap:
    """An object that must not be touched."""

    __dict__ = property()
    __getattribute__: Any = None
    __repr__: Any = None
    __eq__: Any = None
    __hash__: Any = None


def row() -> sqlite3.Row:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        found: sqlite3.Row = connection.execute("SELECT 1 AS id, 'milk' AS text").fetchone()
        return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (row(), "Row(id=1, text='milk')"),
        ([row()], "[Row(id=1, text='milk')]"),
        (datetime.date(2026, 5, 1), "datetime.date(2026, 5, 1)"),
        (datetime.datetime(2026, 5, 1, 9), "datetime.datetime(2026, 5, 1, 9, 0)"),
        (
            datetime.time(9, tzinfo=datetime.UTC),
            "datetime.time(9, 0, tzinfo=datetime.timezone.utc)",
        ),
        (datetime.timedelta(1), "datetime.timedelta(days=1)"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (Path("todos.db"), f"{type(Path()).__name__}('todos.db')"),
        (UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
        (Todo(1, "milk"), "Todo(id=1, text='milk', owner=None)"),
        (Todo(1, "", Guest(name="Ada")), "Todo(id=1, text='', owner=Guest(name='Ada'))"),
        (Todo(1, "", Todo(2, "", Todo(3, "", Todo(4, "")))), "<Todo>)))"),
        (Long(), "Long(a=1, b=2, c=3, d=4, e=5, … 6 in all)"),
        (Guest(name="Ada", friends=["Bob"]), "Guest(name='Ada', friends=['Bob'])"),
        (Guest(), "<Guest>"),
        (Guest(**vars(Long())), "<Guest>"),
        (Guest(environ={}), "<Guest>"),
        (object(), "<object>"),
    ],
)
def test_what_learners_have_is_described(value: object, text: str) -> None:
    assert describe(value).endswith(text)


def test_an_object_is_not_asked() -> None:
    assert describe(Trap()) == "<Trap>"


def test_a_time_zone_of_the_application_is_not_asked() -> None:
    class Zone(datetime.tzinfo):
        utcoffset: Any = None
        dst: Any = None
        tzname: Any = None
        __repr__: Any = None

    assert describe(datetime.datetime(2026, 5, 1, tzinfo=Zone())) == "<datetime>"


# Hiding

HASHES = [
    "scrypt:32768:8:1$CVOKbhbqNIAyyPwT$87fe8f2d8b49",
    "pbkdf2:sha256:600000$CVOKbhbq$87fe8f2d8b49",
    "pbkdf2_sha256$1000000$RSidOGnboDkNs3$2mSFiRhnV3nVJyplFA46S075oe5RCqQlqPpQbJr63W8=",
    "$2b$12$KbQi5kTyPqfQyR0CvWxqTuUQxYcv5Y4vQ1o3c6nN",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    ".eJxVjDsOwjAQBe_iGlmx4y8lPWeI1rtrHEC2FCcV4u4QKQW0b2be" * 5 + ":1abCdE:" + "x" * 43,
]


@pytest.mark.parametrize("secret", HASHES)
def test_hashes_of_passwords_are_hidden(secret: str) -> None:
    def act(_: WSGIEnvironment) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT ?, 'ada'", (secret,))
        keep(secret)

    with watching(answering(f"Hash {secret}.", act)) as client:
        client.get("/")
        assert secret[:30] not in client.text()
        assert "Hash [hidden]" in client.text(part=8)
        assert "keep(text='[hidden]" in client.text(part=5)


def keep(text: str) -> str:
    return text


def compare(pwhash: str, password_hash: str, hashed: str) -> None:
    pass


def test_arguments_with_the_name_of_a_hash_are_hidden() -> None:
    values = ["f00f00f00a", "f00f00f00b", "f00f00f00c"]
    with watching(answering("", lambda _: compare(*values))) as client:
        client.get("/")
        assert "f00f00" not in client.text()


def test_the_attributes_of_an_object_are_searched() -> None:
    with watching(answering("", lambda _: keep(Guest(password="hunter22x")))) as client:  # type: ignore[arg-type]
        client.get("/")
        assert "keep(text=Guest(password='[hidden]'))" in client.text(part=5)


def test_the_xrays_own_sentences_are_not_changed() -> None:
    def act(environ: WSGIEnvironment) -> None:
        environ["wsgi.input"].read(1000)
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT 1, 'true'")

    with watching(answering("<p>html", act)) as client:
        client.set_cookie("lang", "html")
        client.set_cookie("seen", "true")
        client.set_cookie("n", "1")
        headers = {"X-Api-Key": "abc", "Accept": "x/html"}
        data = {"session_title": "Python", "pin": "request"}
        client.post("/?auth=server", data=data, headers=headers)
        text = client.text()
        assert "it does not run Python. All the Python below" in text
        assert "text/html" in text
        assert "x/html" in text
        assert "SELECT 1, '[hidden]'" in text
        for shown in ("lang=html", "=Python", "=request", "=server", ": abc", "'abc'"):
            assert shown not in text
        assert "X-Api-Key: [hidden]" in text
        assert "session_title=[hidden]" in text


def test_the_stages_of_a_secret_are_not_told() -> None:
    with watching(answering("")) as client:
        client.get("/?password=hunter+22x")
        assert "Four stages" not in client.text(part=4)
        assert "password=[hidden]" in client.text(part=4)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"a":1,"pin":%s,"b":"c"}'),
        ("application/json", b'{"pins":{"a":["%s"],"b":null},"c":["c"]}'),
        ("application/json", b'[1, {"pin" : "%s"}, {"pins": ["%s"'),
        ("application/json", b'{"a": {"token": ["first22x", "%s'),
        ("multipart/form-data; boundary=b", b'--b\r\nX: ; name="pin"\r\n\r\n%s\r\n--b--\r\n'),
        ("application/x-www-form-urlencoded", b"a=b&pin=%s"),
        ("text/html", b"<input name=\"pin\" value=\"%s\"><meta content='%s' name='csrf-token'>"),
    ],
)
@pytest.mark.parametrize("secret", ["83716253", "123"])
def test_secrets_are_found_in_bodies(content_type: str, body: bytes, secret: str) -> None:
    body = body.replace(b"%s", secret.encode())

    def read(environ: WSGIEnvironment) -> None:
        while environ["wsgi.input"].read(7):
            pass

    with watching(answering(f'<input name="pin" value="{secret}">', read)) as client:
        client.post("/", data=body, content_type=content_type)
        assert secret not in client.text(part=1)
        assert secret not in client.text(part=8)
        assert "[hidden]" in client.text(part=1)
        assert f"what was read, {len(body)} bytes" in client.text(part=4)


def test_a_value_of_json_that_is_no_text_is_no_secret() -> None:
    secrets = Secrets()
    secrets.add_body("application/json", b'{"pin": true, "token": null, "auth": {}, "a": 1}')
    assert secrets.hide("=true =null") == "=true =null"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"password": "%07x"},'),
        ("application/x-www-form-urlencoded", b"&password=%07x"),
    ],
)
def test_only_the_beginning_of_a_long_body_is_searched(content_type: str, body: bytes) -> None:
    data = b"".join(body % number for number in range(100_000))
    with watching(answering("", lambda environ: environ["wsgi.input"].read(len(data)))) as client:
        client.post("/", data=data, content_type=content_type)
        assert 1000 < len(client.xray.traces.last()[0].secrets.values) < 10_000
        assert "00012" not in client.text(part=1)


def test_an_empty_secret_hides_nothing() -> None:
    secrets = Secrets()
    secrets.add_header("Cookie", "a=; b=''")
    assert secrets.hide("a=1") == "a=1"


def test_of_a_long_body_in_pieces_the_first_are_searched() -> None:
    body = b"&password=hunter22x" * 2000

    def read(environ: WSGIEnvironment) -> None:
        while environ["wsgi.input"].read(8000):
            pass

    with watching(answering("", read)) as client:
        client.post("/", data=body, content_type="application/x-www-form-urlencoded")
        assert "hunter" not in client.text(part=1)


def test_a_line_of_source_code_with_a_secret_is_hidden() -> None:
    def act(_: WSGIEnvironment) -> None:
        check([], password="hunter22xyz", token="")

    with watching(answering("", act)) as client:
        client.get("/")
        assert 'check([], password="[hidden]", token="")' in client.text(part=5)
