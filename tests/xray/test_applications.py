"""The x-ray is true of applications that nobody here wrote, and leaves their bytes as they were."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from applications import bottle_todo, django_polls, falcon_things, flask_todo, sqlalchemy_notes
from servers import ROOT, exchange, get, request, status_of
from xrays import Watched

from todo_wsgi.xray import XRay
from todo_wsgi.xray.show.viewer import serving

FOLDER = Path(flask_todo.__file__).parent  # of the applications
TOKEN = "Wm0wJcmQ3ZzV8bYxT5uKqL2nRfHd7eGa"  # of Django, against forms of other sites
CHANGED_ONE = re.compile("rows? changed:? 1|1 rows? changed|changed 1 row|1 changed", re.IGNORECASE)
READ_ONE = re.compile("rows? read:? 1|1 rows? read|read 1 row|1 read", re.IGNORECASE)


def with_body(method: str, path: str, kind: str, body: bytes, *headers: str) -> bytes:
    """Return the bytes of a request that has a body."""
    of_body = (f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    return request(method, path, *of_body, *headers) + body


def form(path: str, fields: str, *headers: str) -> bytes:
    kind = "application/x-www-form-urlencoded"
    return with_body("POST", path, kind, fields.encode(), *headers)


def django_form(path: str, fields: str) -> bytes:
    return form(path, f"csrfmiddlewaretoken={TOKEN}&{fields}", f"Cookie: csrftoken={TOKEN}")


def json(method: str, path: str, text: str) -> bytes:
    return with_body(method, path, "application/json", text.encode())


UPLOAD = with_body(
    *("POST", "/upload", "multipart/form-data; boundary=7c0f"),
    b'--7c0f\r\nContent-Disposition: form-data; name="title"\r\n\r\nMy notes\r\n'
    b'--7c0f\r\nContent-Disposition: form-data; name="file"; filename="notes.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\nbread\0butter\r\n--7c0f--\r\n",
)

# What is sent to each application, and the statuses of the answers.
REQUESTS: dict[ModuleType, list[tuple[bytes, int]]] = {
    django_polls: [
        (get("/"), 200),
        (request("HEAD", "/"), 200),
        (get("/questions.json"), 200),
        (get("/nowhere/"), 404),
        (form("/add/", "text=no+token"), 403),
        (get("/vote/1/"), 302),
        (get("/vote/7/"), 404),
        (get("/"), 200),
    ],
    flask_todo: [
        (get("/"), 200),
        (request("HEAD", "/"), 200),
        (get("/nowhere"), 404),
        (get("/static/style.css"), 200),
        (get("/static/style.css", "Range: bytes=2-5"), 206),
        (request("HEAD", "/static/style.css"), 200),
        (form("/", "text=milk+%26+honey"), 303),
        (form("/show", "text=tea"), 200),
        (form("/", "nothing=here"), 400),
        (form("/login", "name=grace&password=wrong"), 403),
        (get("/forgotten"), 500),
    ],
    bottle_todo: [
        (get("/todo"), 200),
        (request("HEAD", "/todo"), 200),
        (get("/nowhere"), 404),
        (form("/todo", "task=milk"), 303),
        (get("/details/1"), 200),
        (get("/details/99"), 500),
        (UPLOAD, 200),
        (get("/style.css"), 200),
        (request("HEAD", "/style.css"), 200),
    ],
    falcon_things: [
        (get("/things"), 200),
        (request("HEAD", "/numbers"), 405),
        (get("/nowhere"), 404),
        (json("POST", "/things", '{"name": "pot", "price": "3.20"}'), 201),
        (json("POST", "/things", "{"), 400),
        (json("PUT", "/things/1", '{"price": "2.80"}'), 200),
        (get("/numbers"), 200),
        (get("/style.css"), 200),
    ],
    sqlalchemy_notes: [
        (get("/"), 200),
        (request("HEAD", "/"), 200),
        (form("/", "text=thyme"), 303),
        (get("/"), 200),
    ],
}
for_each_application = pytest.mark.parametrize(
    "application", REQUESTS, ids=lambda module: str(module.__name__.rpartition(".")[2])
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where the applications have their databases."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Seen(Watched):
    """A client of an application under the x-ray and a real waitress."""

    def __init__(self, xray: XRay, send: Callable[[bytes], bytes]) -> None:
        super().__init__(xray)
        self.send = send


@contextmanager
def under_xray(application: ModuleType) -> Iterator[Seen]:
    application.create_database()
    with closing(XRay(application.app)) as xray, under_waitress(xray) as send:
        yield Seen(xray, send)


@contextmanager
def under_waitress(app: Any) -> Iterator[Callable[[bytes], bytes]]:
    """Serve the application; yield a function that sends a request and returns the answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()

    def send(request: bytes) -> bytes:
        with socket.create_connection(address) as connection:
            return exchange(connection, request)

    try:
        with serving(app, listener):
            yield send
    finally:
        sqlalchemy_notes.engine.dispose()  # the next test has a database of its own


def line_of(application: ModuleType, code: str) -> str:
    """Return `name.py:number` of the one line that has this code."""
    file = Path(str(application.__file__))
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    [number] = [number for number, line in lines if code in line]
    return f"{file.name}:{number} "


# All of them


@for_each_application
def test_an_answer_has_the_same_bytes_with_and_without_the_x_ray(
    application: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request for request, _ in REQUESTS[application]]
    application.create_database()
    with under_waitress(application.app) as send:
        without = [without_date(send(request)) for request in requests]
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    with under_xray(application) as client:
        assert [without_date(client.send(request)) for request in requests] == without
    assert [status_of(answer) for answer in without] == [code for _, code in REQUESTS[application]]


def without_date(answer: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", answer, count=1)


@for_each_application
def test_it_says_of_an_answer_what_came(application: ModuleType) -> None:
    with under_xray(application) as client:
        for request, _ in REQUESTS[application]:
            head, _, body = client.send(request).partition(b"\r\n\r\n")
            _, _, status = head.partition(b"\r\n")[0].decode().partition(" ")
            assert f" → {status}" in client.text()[:80]
            if body and b"chunked" not in head:
                assert f"{len(body):,} bytes" in client.text(part=8)
                assert "no body" not in client.text(part=8)


@for_each_application
def test_the_steps_are_told_in_their_order(application: ModuleType) -> None:
    with under_xray(application) as client:
        for request, _ in REQUESTS[application]:
            client.send(request)
            picture = client.text().partition("1. What")[0]
            step = "(?:Browser|waitress|Application) [→↔] (?:Browser|waitress|Application|SQLite)"
            first, *more, answer, last = re.findall(step, picture)
            assert first == "Browser → waitress"
            assert more[0] == "waitress → Application"
            assert set(more[1:]) <= {"Application ↔ SQLite", "Application → waitress"}
            assert (answer, last) in [
                ("Application → waitress", "waitress → Browser"),
                ("waitress → Browser", "Application → waitress"),  # the end of its body
            ]
            assert "Application → waitress" in (*more, answer)


@for_each_application
def test_it_leaves_no_file_behind(application: ModuleType, folder: Path) -> None:
    with under_xray(application) as client:
        before = set(folder.iterdir())
        for request, _ in REQUESTS[application]:
            client.send(request)
            client.text()  # asks SQLite for its plans
        assert set(folder.iterdir()) - before <= {folder / "uploaded.txt"}


@for_each_application
def test_it_does_not_say_that_nobody_read_what_the_framework_read(application: ModuleType) -> None:
    with under_xray(application) as client:
        request, _ = REQUESTS[application][0]
        client.send(request)
        assert "application did not read" not in client.text(part=2)
        assert "it did not read" not in client.text(part=2)


@pytest.mark.parametrize("application", [django_polls, flask_todo, bottle_todo])
def test_it_does_not_deny_the_templates_of_other_engines(application: ModuleType) -> None:
    with under_xray(application) as client:
        request, _ = REQUESTS[application][0]
        client.send(request)
        assert "No template" not in client.text(part=7)


# Django


def test_a_link_of_django_that_changes_a_row_is_a_mistake() -> None:
    with under_xray(django_polls) as client:
        client.send(get("/vote/1/"))
        sql = client.text(part=6)
        assert 'UPDATE "polls_question" SET' in sql
        assert line_of(django_polls, "question.save()") in sql
        assert CHANGED_ONE.search(sql)
        assert "✗" in client.text()
        assert "a get changed 1 row" in client.text().lower()


def test_a_form_of_django_is_no_mistake_and_its_secrets_are_hidden() -> None:
    with under_xray(django_polls) as client:
        answer = client.send(django_form("/add/", "text=Cats+or+dogs%3F"))
        assert status_of(answer) == 302
        sql = client.text(part=6)
        assert 'INSERT INTO "polls_question"' in sql
        assert line_of(django_polls, "objects.create(text=request") in sql
        assert "Cats or dogs?" in sql
        assert "✗" not in client.text()
        [key] = re.findall(r"sessionid=(\w+)", answer.decode())
        with closing(sqlite3.connect("polls.db")) as connection:
            [data] = connection.execute("SELECT session_data FROM django_session").fetchone()
        for secret in (TOKEN, key, data, data[:20]):
            assert secret not in client.text()


def test_a_session_of_django_is_hidden_where_the_orm_looks_for_it() -> None:
    with under_xray(django_polls) as client:
        answer = client.send(django_form("/add/", "text=Cats+or+dogs%3F")).decode()
        [key] = re.findall(r"sessionid=(\w+)", answer)
        client.send(
            form(
                "/add/",
                f"csrfmiddlewaretoken={TOKEN}&text=Again%3F",
                f"Cookie: csrftoken={TOKEN}; sessionid={key}",
            )
        )
        assert 'FROM "django_session"' in client.text(part=6)
        assert key not in client.text()


def test_the_token_in_a_form_of_django_is_hidden() -> None:
    with under_xray(django_polls) as client:
        page = client.send(get("/add/")).decode()
        [token] = re.findall(r'value="(\w+)"', page)
        assert "csrfmiddlewaretoken" in client.text(part=8)
        assert token not in client.text()


def test_the_rows_that_an_orm_reads_are_counted() -> None:
    with under_xray(django_polls) as client:
        client.send(get("/questions.json"))
        sql = client.text(part=6)
        assert 'SELECT "polls_question"."text"' in sql
        assert READ_ONE.search(sql)
        assert "✗" not in client.text()


@pytest.mark.parametrize(
    ("name", "word", "elsewhere"),
    [
        ("session_title", "html", "text/html; charset=utf-8"),
        ("usable_password", "Found", "302 Found"),
        ("secret", "INSERT", 'INSERT INTO "polls_question"'),
        ("token", "create", "Question.objects.create(text="),
    ],
)
def test_a_secret_that_is_a_word_hides_no_other_word(name: str, word: str, elsewhere: str) -> None:
    with under_xray(django_polls) as client:
        client.send(django_form("/add/", f"text=Why%3F&{name}={word}"))
        assert f"{name}={word}" not in client.text()
        assert elsewhere in client.text()
        assert not re.search(r" [a-z]+ \[hidden\] [a-z]", client.text())


# Flask


def test_a_cookie_that_is_a_word_hides_no_other_word() -> None:
    with under_xray(flask_todo) as client:
        client.send(get("/", "Cookie: consent=true; lang=html; theme=SELECT; page=todos"))
        text = client.text()
        for words in ("text/html; charset=utf-8", "SELECT id, text FROM todos", "doctype html"):
            assert words in text
        assert "lang=html;" not in text
        assert not re.search(r" [a-z]+ \[hidden\] [a-z]", text)


def test_the_values_in_a_template_of_flask_and_no_wrong_lines_of_it() -> None:
    with under_xray(flask_todo) as client:
        client.send(get("/"))
        calls = client.text(part=5)
        assert "read & write" in calls  # in a list of sqlite3.Row
        assert not re.search(r"templates/\w+\.html:\d", calls)  # of a step, the lines are Python's
        assert "✗" not in client.text()


def test_a_form_of_flask_is_no_mistake_but_a_page_in_answer_to_it_is() -> None:
    with under_xray(flask_todo) as client:
        client.send(form("/", "text=milk+%26+honey"))
        assert "✗" not in client.text()
        assert line_of(flask_todo, "INSERT INTO todos (text) VALUES (?)") in client.text(part=6)
        assert CHANGED_ONE.search(client.text(part=6))
        client.send(form("/show", "text=tea"))
        assert "✗" in client.text(part=9)
        assert client.text().count("wsgiref") == 0


def test_a_file_has_its_size(folder: Path) -> None:
    size = (FOLDER / "static/style.css").stat().st_size
    for application, path in (
        (flask_todo, "/static/style.css"),
        (bottle_todo, "/style.css"),
        (falcon_things, "/style.css"),
    ):
        (folder / application.__name__).mkdir()
        with under_xray(application) as client:
            client.send(get(path))
            answer = client.text(part=8)
            assert f"{size:,} bytes" in answer
            assert not re.search(r"\b0 bytes|no body", answer)
            assert "✗" not in client.text()


def test_a_password_its_hash_and_the_session_are_hidden() -> None:
    with under_xray(flask_todo) as client:
        answer = client.send(form("/login", "name=grace&password=a+compiler")).decode()
        assert answer.startswith("HTTP/1.1 303 ")
        [session] = re.findall(r"Set-Cookie: session=([^;]+)", answer)
        with closing(sqlite3.connect("todo.db")) as connection:
            [hash_of_it] = connection.execute("SELECT password FROM users").fetchone()
        for secret in ("a compiler", "a+compiler", hash_of_it, hash_of_it[-20:], session):
            assert secret not in client.text()
        assert "grace" in client.text()
        assert "✗" not in client.text()
        client.send(get("/", f"Cookie: session={session}"))
        assert session not in client.text()


def test_an_error_of_sqlite_is_told_with_the_line_of_the_view() -> None:
    with under_xray(flask_todo) as client:
        with closing(sqlite3.connect("todo.db")) as connection:
            connection.execute("DROP TABLE todos")
        client.send(get("/"))
        calls = client.text(part=5).replace("close_db(_error=OperationalError", "")
        assert "OperationalError" in calls
        assert "no such table: todos" in calls
        assert calls.count(line_of(flask_todo, "SELECT id, text FROM todos")) >= 1
        assert "raised an exception" not in calls


def test_a_view_that_forgets_to_return_is_told_with_its_exception() -> None:
    with under_xray(flask_todo) as client:
        client.send(get("/forgotten"))
        calls = client.text(part=5).replace("close_db(_error=TypeError", "")
        assert "TypeError" in calls
        assert "did not return a valid response" in calls


# Bottle


def test_a_name_error_stands_beside_its_line_and_its_values() -> None:
    with under_xray(bottle_todo) as client:
        client.send(get("/details/99"))
        calls = client.text(part=5)
        assert "NameError" in calls
        assert line_of(bottle_todo, "number=item") in calls
        assert re.search(r"\bnumber\b.{0,5}\b99\b", calls)
        assert "✗" in client.text()


def test_an_upload_is_told_as_it_was_sent_and_read() -> None:
    with under_xray(bottle_todo) as client:
        answer = client.send(UPLOAD).decode()
        assert '"name": "notes.txt"' in answer
        assert 'filename="notes.txt"' in client.text(part=1)
        assert r"bread\x00butter" in client.text(part=1)
        size = len(UPLOAD.partition(b"\r\n\r\n")[2])
        assert f"{size} bytes" in client.text(part=4)
        assert "\0" not in client.text()
        assert "changed nothing" not in client.text()  # it saved the file


# Falcon


def test_a_json_api_need_not_redirect() -> None:
    with under_xray(falcon_things) as client:
        client.send(json("POST", "/things", '{"name": "pot", "price": "3.20"}'))
        assert "✗" not in client.text()
        assert not re.search(r"\b303\b", client.text())
        client.send(json("PUT", "/things/1", '{"price": "2.80"}'))
        assert CHANGED_ONE.search(client.text(part=6))
        assert "✗" not in client.text()
        assert not re.search(r"\b303\b", client.text())


def test_an_insert_that_returns_its_row_has_changed_one() -> None:
    with under_xray(falcon_things) as client:
        client.send(json("POST", "/things", '{"name": "pot", "price": "3.20"}'))
        assert "RETURNING" in client.text(part=6)
        assert CHANGED_ONE.search(client.text(part=6))
        assert "changed nothing" not in client.text()
        assert "changed 0 rows" not in client.text()


def test_the_values_of_a_dataclass_a_decimal_and_a_date_are_shown() -> None:
    with under_xray(falcon_things) as client:
        client.send(json("POST", "/things", '{"name": "pot", "price": "3.20"}'))
        thing = client.text(part=5).partition("thing_of(")[2][:200]
        for value in ("Thing", "pot", "3.20", "2026"):
            assert value in thing


def test_a_stream_is_told_with_its_parts() -> None:
    with under_xray(falcon_things) as client:
        client.send(get("/numbers"))
        assert "numbers()" in client.text(part=5)
        assert "6 bytes" in client.text(part=8)


# SQLAlchemy


def test_a_get_of_sqlalchemy_that_changes_a_row_is_a_mistake() -> None:
    with under_xray(sqlalchemy_notes) as client:
        client.send(get("/"))
        sql = client.text(part=6)
        assert "UPDATE notes SET views = views + 1" in sql
        assert line_of(sqlalchemy_notes, "UPDATE notes") in sql
        assert "SELECT notes.text, notes.views" in sql
        assert "COMMIT" in sql
        assert CHANGED_ONE.search(sql)
        assert "a get changed 1 row" in client.text().lower()


def test_an_object_of_sqlalchemy_is_saved_by_a_line_of_the_learner() -> None:
    with under_xray(sqlalchemy_notes) as client:
        client.send(form("/", "text=thyme"))
        sql = client.text(part=6)
        assert "INSERT INTO notes" in sql
        assert "thyme" in sql
        assert line_of(sqlalchemy_notes, "session.commit()") in sql
        assert CHANGED_ONE.search(sql)
        assert "✗" not in client.text()


def test_what_a_compiled_library_handles_is_not_told() -> None:
    sqlalchemy_notes.create_database()
    command = [sys.executable, "-m", "todo_wsgi.xray", "--app", "applications.sqlalchemy_notes"]
    paths = os.pathsep.join([str(ROOT), str(FOLDER.parent)])
    story = subprocess.check_output(  # a new process, in which SQLAlchemy's caches are empty
        [*command, "GET", "/", "--all"], env={**os.environ, "PYTHONPATH": paths}, encoding="utf-8"
    )
    assert "GET / → 200 OK" in story
    assert "KeyError" not in story
