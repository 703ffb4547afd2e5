"""The x-ray: what it records, and what it must not affect."""

from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import demo_app
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from conftest import fill, read_texts, run_sql
from servers import ROOT
from werkzeug.test import Client
from xrays import Watched, answering, client_environ, watching

from todo_wsgi import Application, create_app
from todo_wsgi.presentation.templating import SafeHTML
from todo_wsgi.storage.models import Todo
from todo_wsgi.xray import XRay
from todo_wsgi.xray.record import calls, middleware, sql, todo
from todo_wsgi.xray.record.source import is_application
from todo_wsgi.xray.record.trace import MAX_BODY, MAX_EVENTS, MAX_REQUESTS, Call, Trace, on
from todo_wsgi.xray.record.values import describe
from todo_wsgi.xray.show import pages

# The story of a request


def test_the_bytes_are_reconstructed_if_the_server_does_not_expose_them(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    text = todos.text(part=1)
    assert "Reconstructed from the environ" in text
    assert r"POST / HTTP/1.1\r\n" in text
    assert "text=milk" in text


def test_environ_entries_are_shown_with_the_line_that_reads_them(todos: Watched) -> None:
    todos.get("/")
    [method] = [row for row in todos.rows(2) if row[0] == "REQUEST_METHOD"]
    number = line_number("todo_wsgi/http/request.py", "self.method: str")
    assert method[1:] == [
        "'GET'",
        "the request line",
        f'todo_wsgi/http/request.py:{number} self.method: str = environ["REQUEST_METHOD"]',
    ]
    assert "SERVER_NAME" in [row[0] for row in todos.rows(2, 1)]


def line_number(file: str, code: str) -> int:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if code in line)


@pytest.mark.parametrize(
    ("path", "method", "outcome", "rest"),
    [
        ("/", "POST", "POST / create_todo matched", "20 routes after it: not tried."),
        ("/nope", "GET", "GET /nope", ""),
        ("/todos/7/up", "GET", "/todos/{id}/up move_todo_up same path, different method", ""),
    ],
)
def test_the_routes_that_were_tried(
    todos: Watched, path: str, method: str, outcome: str, rest: str
) -> None:
    todos.open(path, method=method, data={"text": "milk"} if method == "POST" else None)
    text = todos.text(part=3)
    assert outcome in text
    assert rest in text
    assert len(todos.rows(3)) == (2 if rest else 22)


def test_the_functions_are_a_tree_with_arguments_and_results(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    [root] = todos.story().parts[4].content[0]
    [label, _, calls] = root
    assert str(label.text).startswith("Application.__call__(environ={…}, start_response=")
    respond = calls[1]
    assert respond[0].text == "Application.respond(request=<Request>)"
    assert respond[0].tail == " → <Response>"
    assert respond[1][0].text == "response = self.respond(Request(environ))"
    text = todos.text(part=5)
    assert "clean_text(text='milk') → 'milk'" in text
    assert "library: urllib.parse.parse_qsl(qs='text=milk', keep_blank_values=True" in text
    assert "SQL: INSERT INTO todos (text, created_at) VALUES (?, ?) → 1 row inserted" in text


def test_equal_calls_are_counted(todos: Watched, database: Path) -> None:
    fill(database, 100)
    todos.get("/")
    text = todos.text()
    assert "_render_todo, 97 more times" in text
    assert "templates/todo.html, rendering 3 of 100" in text
    assert todos.xray.traces.last()[0].events < MAX_EVENTS


def test_a_call_says_what_is_folded_in_it() -> None:
    def select() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT 1")

    def select_later() -> None:
        select()

    def parse() -> None:
        parse_qs("text=milk")

    def act(_: WSGIEnvironment) -> None:
        select()
        select_later()
        parse()

    with watching(answering("", act)) as client:
        client.get("/")
        part = client.story().parts[4]
    folds = [fold.text for item in part.content for fold in item.iter("summary")]
    assert folds == ["the SQL in it", "1 call and the SQL in it", "1 call in it"]


def test_a_cached_page_needs_no_sql(todos: Watched) -> None:
    todos.get("/")
    todos.get("/")
    for part in (6, 7):
        assert "none: the application has kept this answer since request 1" in todos.text(part=part)


def test_a_request_without_sql_says_what_can_be_seen() -> None:
    with watching(demo_app) as client:
        client.get("/")
        assert "No SQL was seen. The x-ray sees what Python's sqlite3" in client.text(part=6)


def test_only_the_templates_of_the_todo_list_are_known(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    assert "7. The template: none was used" in todos.text(part=7)
    with watching(demo_app) as client:
        client.get("/")
        assert "7. The template: not known: part 8 has the response" in client.text(part=7)


def test_what_is_true_of_every_request_is_said_once(todos: Watched) -> None:
    for number in (1, 2):
        todos.get(f"/?added={number}")
    text = "it does not run Python"
    assert [text in todos.text(number) for number in (2, 1, 2)] == [True, True, False]


def test_a_page_or_file_that_the_application_kept_is_recognized(todos: Watched) -> None:
    page = todos.get("/").text
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    for path in ("/nope", "/", "/", "/nope", style, style):
        todos.get(path)
    todos.post("/", data={"text": "milk"})
    todos.get("/")
    traces = reversed(todos.xray.traces.last())
    assert [t.kept_since for t in traces] == [None, None, 1, 1, None, None, 6, None, None]


def test_an_exception_is_shown_with_the_variables_of_its_frame(todos: Watched) -> None:
    todos.post("/", data={"text": "x" * 501})
    text = todos.text(part=5)
    assert "raised InvalidText('Shorten it to 500 characters: it has 501.')" in text
    assert "was caught; local variables of clean_text: text 'xxx" in text
    assert 'raise InvalidText(f"Shorten it to' in text


def test_an_exception_of_the_application_is_raised_unchanged() -> None:
    error = LookupError("lost")

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        return seek("in the cellar")

    def seek(where: str) -> list[bytes]:  # noqa: ARG001  shown by the x-ray
        raise error

    with watching(app) as client:
        with pytest.raises(LookupError) as raised:
            client.get("/")
        assert raised.value is error
        text = client.text(part=5)
        assert "LookupError('lost') reached the server" in text
        assert "where 'in the cellar'" in text
        assert "did not call start_response" in client.text(part=8)
        assert "an exception" in [m.text for m in client.story().messages]


def test_sql_is_shown_with_parameters_rows_and_plan(todos: Watched, database: Path) -> None:
    touch = "UPDATE todos SET moved_to = NULL WHERE id = new.id;"
    run_sql(database, f"CREATE TRIGGER touch AFTER INSERT ON todos BEGIN {touch} {touch} END")
    todos.post("/", data={"text": "milk"})
    text = todos.text(part=6)
    assert "') 1 row inserted, and 2 by triggers" in text
    assert "COMMIT (by the sqlite3 module, at the end of the “with” block)" in text
    assert "with connection: # COMMIT at the end" in text
    todos.get("/?added=1")
    text = todos.text(part=6)
    assert "1 row read" in text
    assert "SEARCH todos USING INDEX todos_all (place<?)" in text


def test_all_ways_to_execute_and_fetch_are_recorded(tmp_path: Path) -> None:
    def act(_: WSGIEnvironment) -> None:
        with closing(sqlite3.connect(tmp_path / "words.db")) as connection:
            connection.executescript("CREATE TABLE words (word TEXT); BEGIN; COMMIT")
            connection.executescript("INSERT INTO words VALUES (1)")
            connection.executemany("INSERT INTO words VALUES (?)", ((str(i),) for i in range(20)))
            connection.commit()
            connection.execute("BEGIN")
            connection.execute("COMMIT")
            for number in range(7):
                connection.execute("SELECT word FROM words WHERE word = ?", (number,)).fetchone()
            cursor = connection.cursor()
            assert len(cursor.execute("SELECT * FROM words").fetchmany(5)) == 5
            assert len(cursor.fetchall()) == 16
            assert cursor.fetchone() is None
            with pytest.raises(sqlite3.OperationalError):
                cursor.execute("SELECT nowhere")
            with pytest.raises(TypeError):
                cursor.execute()  # type: ignore[call-arg]
            connection.executemany("INSERT INTO words VALUES (?)", [])
            connection.execute("SELECT word FROM words WHERE rowid = ?", range(1))
            connection.text_factory = bytes
            connection.execute("SELECT count(*) FROM words").fetchone()

    with watching(answering("", act)) as client:
        client.post("/")
        text = client.text(part=6)
    assert "CREATE TABLE words" in text
    assert "('4',) 20 rows inserted, 20 times" in text
    assert "('5',)" not in text
    assert "4 times" in text  # after the first three
    assert "SELECT * FROM words 21 rows read" in text
    assert "OperationalError('no such column: nowhere')" in text
    assert "SELECT count(*) FROM words SCAN words" in text


def test_the_x_ray_does_not_affect_changes(tmp_path: Path) -> None:
    def act(_environ: WSGIEnvironment) -> None:
        with closing(sqlite3.connect(tmp_path / "words.db")) as connection, connection:
            connection.execute("CREATE TABLE words (word TEXT)")
            connection.execute("INSERT INTO words VALUES (:word)", {"word": "milk"})
            assert connection.execute("SELECT changes()").fetchone() == (1,)
            connection.execute("SELECT word FROM words WHERE word = :word", {"word": "milk"})

    with watching(answering("", act)) as client:
        client.post("/")
        assert "{'word': 'milk'} 0 rows read" in client.text(part=6)


def test_commit_and_rollback_are_attributed(tmp_path: Path) -> None:
    def act(_environ: WSGIEnvironment) -> None:
        with closing(sqlite3.connect(tmp_path / "words.db")) as connection:
            connection.execute("CREATE TABLE words (word TEXT)")
            for end in (connection.commit, connection.rollback):
                connection.execute("INSERT INTO words VALUES (1)")
                end()

    with watching(answering("", act)) as client:
        client.post("/")
        text = client.text(part=6)
    assert "BEGIN (by the sqlite3 module, implicitly)" in text
    assert "COMMIT (by the application, with commit())" in text
    assert "ROLLBACK (by the application, with rollback())" in text
    picture = [message.text for message in client.story().messages]
    assert picture[3:5] == ["BEGIN", "INSERT INTO words VA…: 1 row inserted"]


def test_many_statements_are_counted_and_truncated() -> None:
    def query(connection: sqlite3.Connection, number: int) -> None:
        connection.execute(f"SELECT {number}")

    def act(_: WSGIEnvironment) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            for number in range(MAX_EVENTS + 100):
                query(connection, number)

    with watching(answering("", act)) as client:
        client.get("/")
        trace = client.xray.traces.last()[0]
        assert trace.events == MAX_EVENTS + 100 + 6  # the calls of 6 functions
        assert len(trace.statements) == MAX_EVENTS - 6
        assert client.story().messages[-3].text == f"{MAX_EVENTS - 18} more statements"


def test_a_connection_is_released_without_references_to_it(tmp_path: Path) -> None:
    with watching(answering("")):
        connection = sqlite3.connect(tmp_path / "words.db")
        assert isinstance(connection, sql.Connection)
        there = weakref.ref(connection)
        connection.close()  # otherwise Python warns
        del connection
        assert there() is None


def test_a_template_is_shown_with_its_placeholders_before_and_after_escaping(
    todos: Watched,
) -> None:
    todos.post("/", data={"text": ""})
    text = todos.text(part=7)
    assert "templates/list.html" in text
    assert "$text '' $heading 'Todos' Todos $listing HTML, inserted as is" in text
    assert "content = _LIST.render(" in text


def test_files_and_a_304_are_recognized(todos: Watched) -> None:
    page = todos.get("/")
    todos.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert "304: its cached copy is still current" in todos.text(part=9)
    style = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    todos.get(style)
    assert todos.story().summary.kind == "text/css"
    assert "Not a page, but a part of one (text/css)" in todos.text(part=9)
    icon = page.text.partition('rel="icon" href="')[2].partition('"')[0]
    todos.get(icon)
    assert todos.story().summary.kind == "image/svg+xml"
    todos.get("/todos.txt")
    assert "It shows or saves the response (text/plain)" in todos.text(part=9)


def test_a_compressed_page_is_shown_decompressed(todos: Watched) -> None:
    todos.get("/", headers={"Accept-Encoding": "gzip"})
    assert "<!doctype html>" in todos.text(part=8)


def test_a_body_that_is_not_a_form_and_one_that_is_not_text() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "image/png")])
        return [environ["wsgi.input"].read(4) + b"\xff"]

    with watching(app) as client:
        client.post("/", data=b"\x00abc", content_type="application/octet-stream")
        assert "The body is no form: it is application/octet-stream" in client.text(part=4)
        assert r"b'\x00abc\xff'" in client.text(part=8)
        client.post("/?a=%ff&b", data=b"\x00abc")
        assert "The body is no form: it is without a Content-Type" in client.text(part=4)
        assert "a=%ff b'\\xff' a not UTF-8" in client.text(part=4)
        assert "@body.bin" in client.text()


# What it must not affect


def test_without_the_option_it_is_not_imported_and_nothing_is_patched(tmp_path: Path) -> None:
    code = """
import sqlite3, sys, threading, urllib.request, _sqlite3
import serve
from todo_wsgi import create_app, server
from waitress.parser import HTTPRequestParser
from waitress.task import Task
app = create_app("todos.db")
app({"REQUEST_METHOD": "GET", "wsgi.input": None}, lambda *args: None)
app.close()
assert not [name for name in sys.modules if "xray" in name]
assert sqlite3.connect is _sqlite3.connect
assert HTTPRequestParser.received.__module__ == "waitress.parser"
assert Task.build_response_header.__module__ == "waitress.task"
assert sys.getprofile() is None
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, check=True)


def test_closing_it_undoes_all_patches(app: Application) -> None:
    connect = sqlite3.connect
    first, second = XRay(app), XRay(app)
    first.close()
    Client(second).get("/")
    assert second.traces.last()[0].statements
    assert sqlite3.connect is not connect
    assert "write" in vars(app.database)
    second.close()
    assert sqlite3.connect is connect
    assert "write" not in vars(app.database)
    assert sys.getprofile() is None


def test_the_application_does_not_mention_it() -> None:
    for file in sorted((ROOT / "todo_wsgi").glob("*.py")):
        if file.name != "__init__.py":  # which lists the folders
            assert "xray" not in file.read_text(encoding="utf-8").lower().replace("x-ray", "xray")


def test_requests_that_change_the_list_get_the_same_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    monkeypatch.setattr(secrets, "randbelow", lambda _: 7)  # else each import has another name
    for is_watched in (False, True):
        folder = tmp_path / str(is_watched)
        folder.mkdir()
        with closing(create_app(folder / "todos.db")) as app:
            xray = XRay(app) if is_watched else app
            client = Client(validator(xray))
            answers.append(
                [
                    (answer.status, [*answer.headers], answer.data)
                    for path, form in [
                        ("/", {"text": "milk"}),
                        ("/", {"text": "bread"}),
                        ("/todos/1", {"text": "honey"}),
                        ("/todos/1/complete", {}),
                        ("/todos/1/reopen", {}),
                        ("/todos/1/up", {"past": "2"}),
                        ("/undo", {"completed_at": "2020-01-01 00:00:00"}),
                        ("/import", {"text": "x 2026-11-22 2026-11-20 tea"}),
                    ]
                    for answer in [client.post(path, data=form, buffered=True)]
                ]
            )
            if isinstance(xray, XRay):
                xray.close()
        assert read_texts(folder / "todos.db") == ["honey", "bread", "tea"]
    assert answers[0] == answers[1]
    assert [answer[0] for answer in answers[0]] == ["303 See Other"] * 8


class Pieces:
    """A body that is generated piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        self.is_closed = True


class SizedPieces(Pieces):
    def __len__(self) -> int:
        return len(self.pieces)


@pytest.mark.parametrize("kind", [Pieces, SizedPieces])
def test_a_body_in_pieces_is_recorded_while_it_is_generated(kind: type[Pieces]) -> None:
    body = kind(b"mi", b"lk")

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"no ")
        return body

    with watching(app) as client:
        sent: list[bytes] = []
        answer: Any = client.xray(client_environ(), lambda *_: sent.append)
        assert hasattr(answer, "__len__") == hasattr(body, "__len__")
        assert not hasattr(answer, "__len__") or len(answer) == 2
        assert [*answer] == [b"mi", b"lk"]
        assert client.xray.traces.last()[0].is_running
        answer.close()
        assert sent == [b"no "]
        assert body.is_closed
        assert "a body of 7 bytes" in client.text(part=8)
        assert "Pieces.__iter__() → a generator" in client.text(part=5)


def test_the_beginning_of_a_long_body_in_pieces_is_recorded() -> None:
    pieces = [b"x" * 6000] * 3
    with watching(lambda _, respond: respond("200 OK", []) and Pieces(*pieces)) as client:
        client.open("/", method="PURGE")  # a method that no RFC defines
        assert client.xray.traces.last()[0].text == describe(b"x" * MAX_BODY)
        assert "body of 18,000 bytes" in client.text(part=8)


def test_an_application_in_a_library_is_one_call() -> None:
    with watching(demo_app) as client:
        client.get("/", headers={"Referer": "http://elsewhere.example/"})
        text = client.text()
    assert "library: wsgiref.simple_server.demo_app(environ={…}" in text
    assert "Hello world!" in text


def test_the_recorder_creates_the_same_tree_from_replayed_events(
    app: Application, database: Path, todos: Watched
) -> None:
    """Replay the events of one run outside the profile function, where coverage can see it."""
    events: list[tuple[FrameType, str, Any]] = []
    fill(database, 5)
    client = Client(app)
    client.post("/", data={"text": ""})  # imports and opens everything
    sys.setprofile(lambda *event: events.append(event))
    try:
        client.post("/", data={"text": ""})
        client.get("/nothing")
        spread(6)
    finally:
        sys.setprofile(None)
    # As if the recording had been switched off during a function.
    returns = (event for event in events if event[1] == "return")
    events.remove(next(event for event in returns if event[0].f_code.co_name == "parse_qsl"))
    todos.post("/", data={"text": ""})
    is_application.cache_clear()
    trace = Trace()
    recorder = calls.CallRecorder(trace, todo.watchers())
    with on(trace):
        recorder.handle(sys._getframe(), "return", None)  # its call was not recorded
        for event in events:
            recorder.handle(*event)
        try:
            raise LookupError("handled now")
        except LookupError:
            recorder.handle(*next(event for event in events if event[1] == "call"))
        recorder.look_at(LookupError("raised nowhere"))
        recorder.handle(None, "call", None)  # type: ignore[arg-type]
    live = names(todos.xray.traces.last()[0].calls)["Application.__call__"]
    again = names(trace.calls)["werkzeug.test.Client.post"]["Application.__call__"]
    assert again["Application.respond"] == live["Application.respond"]
    assert [rendering.name for rendering in trace.renderings].count("page.html") == 2
    assert trace.routing
    assert "same path" not in str(trace.routing.tried)  # the last request matched none
    assert trace.events > MAX_EVENTS
    assert [failure.error for failure in trace.failures] == ["LookupError('handled now')"]
    assert "The x-ray itself failed at calls.py:" in trace.warnings[0]


def test_the_recorder_distinguishes_exceptions_and_generators() -> None:
    """Replay single events, as above."""

    def lose() -> None:
        raise LookupError("lost")

    trace = Trace()
    recorder = calls.CallRecorder(trace, {})
    events: list[tuple[FrameType, str, Any]] = []
    sys.setprofile(lambda *event: events.append(event))
    try:
        lose()
    except LookupError as error:
        sys.setprofile(None)
        lost = error
    for event in events:
        if event[0].f_code is lose.__code__:
            recorder.handle(*event)
    recorder.look_at(lost)
    assert trace.calls.calls[0].error == "LookupError('lost')"
    for number in range(calls.MAX_FAILURES):
        try:
            raise LookupError(number)
        except LookupError as error:
            recorder.look_at(error)
    assert len(trace.failures) == calls.MAX_FAILURES
    pieces: Any = iter(Pieces(b"milk"))
    next(pieces)
    recorder.handle(pieces.gi_frame, "call", None)
    recorder.handle(pieces.gi_frame, "return", b"milk")
    assert trace.calls.calls[-1].result == "a generator"


def names(call: Call) -> dict[str, Any]:
    return {child.name: names(child) for child in reversed(call.calls)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ({"a": [1, (2,), {3}]}, "{'a': [1, (2,), {3}]}"),
        ([[[[1]]]], "[[[<list>]]]"),
        ([*range(9)], "[0, 1, 2, 3, 4, … 9 in all]"),
        (b"x" * 300, f"b'{'x' * 200}…'"),
        ("x" * 300, f"'{'x' * 200}…'"),
        (HTTPStatus.OK, "HTTPStatus.OK"),
        (int, "int"),
        (ValueError("a", 1), "ValueError('a', 1)"),
        (line_number, "line_number"),
        (Todo(1, "milk", False, 1), "Todo(id=1, text='milk', is_completed=False, place=1)"),
        (SafeHTML("<b>"), "'<b>'"),
    ],
)
def test_how_values_are_described(value: object, text: str) -> None:
    assert describe(value) == text


def test_describing_a_value_runs_no_code_of_the_application() -> None:
    class Trap(str):
        __repr__ = __str__ = __len__ = __iter__ = __getitem__ = __eq__ = __hash__ = None  # type: ignore[assignment]

    assert describe([Trap("milk")]) == "['milk']"


def test_a_file_wrapper_is_passed_on_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"milk")

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return FileWrapper(file.open("rb"))

    with watching(app) as client:
        answer: Any = client.xray(client_environ(), lambda *_: lambda _: None)
        assert type(answer) is FileWrapper
        answer.close()
        assert "a file that the server sends by itself, 4 bytes" in client.text(part=8)


def test_the_environ_and_a_list_are_passed_on_unchanged() -> None:
    body = [b"milk"]
    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        assert type(environ) is dict
        assert environ["wsgi.input"].readline(3) == b"ab\n"
        assert environ["wsgi.input"].readlines(1) == [b"c\n"]
        assert [*environ["wsgi.input"]] == [b"d"]
        assert environ["wsgi.input"].closed is False
        environ["mine"] = 1
        start_response("200 OK", [("Content-Type", "text/plain")], exc_info=None)  # type: ignore[call-arg]
        return body

    environ = client_environ()
    environ["wsgi.input"].write(b"ab\nc\nd")
    environ["wsgi.input"].seek(0)
    with watching(app) as client:
        assert client.xray(environ, lambda *_, **__: lambda _: None) is body
        assert seen[0] is environ
        assert environ["mine"] == 1
        assert "readlines(1) 2 bytes" in client.text(part=4)


def test_an_exception_while_generating_the_body_reaches_the_server() -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"mi"
        raise LookupError("lost")

    with watching(app) as client:
        answer: Any = client.xray(client_environ(), lambda *_: lambda _: None)
        assert next(answer) == b"mi"
        with pytest.raises(LookupError, match="lost"):
            next(answer)
        answer.close()
        assert "LookupError('lost') reached the server" in client.text(part=5)
        assert "The application kept to that" not in client.text(part=8)


def test_an_exception_is_shown_at_each_function_that_raised_it() -> None:
    def forget() -> None:
        raise KeyError("forgotten")

    def fail() -> None:
        raise ValueError("failed")

    def act(_: WSGIEnvironment) -> None:
        with suppress(KeyError):
            forget()
        with suppress(ValueError):
            fail()

    with watching(answering("", act)) as client:
        try:
            raise LookupError("of somebody else")
        except LookupError:
            client.get("/")
        text = client.text(part=5)
    assert "forget() → raised KeyError('forgotten')" in text
    assert "fail() → raised ValueError('failed')" in text
    assert "somebody else" not in text


def test_repeated_calls_of_a_generator_are_counted() -> None:
    def generate() -> Generator[int, None, int]:
        yield 1
        yield 2
        return 3

    def act(_environ: WSGIEnvironment) -> None:
        for _ in range(10):
            assert [*generate()] == [1, 2]

    with watching(answering("", act)) as client:
        client.get("/")
        assert "generate, 7 more times" in client.text(part=5)


def test_a_list_subclass_is_iterated_once() -> None:
    class Once(list[bytes]):
        times = 0

        def __iter__(self) -> Iterator[bytes]:
            self.times += 1
            return super().__iter__()

    body = Once([b"milk"])

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    with watching(app) as client:
        assert client.get("/").data == b"milk"
    assert body.times == 1


def test_requests_through_a_proxy_are_not_linked(todos: Watched) -> None:
    proxy = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}
    todos.post("/", data={"text": "milk"}, environ_overrides=proxy)
    todos.get("/?added=1", environ_overrides=proxy)
    assert todos.xray.traces.last()[0].came_from is None


def test_other_redirects() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        headers = [("Content-Type", "text/plain"), ("Location", "/there")]
        start_response(environ["PATH_INFO"][1:] + " Redirect", headers)
        return []

    with watching(app) as client:
        client.post("/307")
        assert "It sends a new request: POST /there" in client.text(part=9)
        assert "307 makes the browser send the POST again" in client.text(part=9)
        client.post("/302")
        assert "It sends a new request: GET /there" in client.text(part=9)
        client.post("/300")
        assert "It shows or saves the response (text/plain)" in client.text(part=9)


def test_the_keys_of_the_environ_behave_like_str() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        names = [name for name in environ if name.startswith("HTTP_X")]
        assert names == ["HTTP_X_WORD"]
        headers = [("Content-Type", "text/plain"), *((name, environ[name]) for name in names)]
        start_response("200 OK", headers)
        return [b""]

    def strict_start_response(_status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        assert {type(text) for header in headers for text in header} == {str}
        assert ("HTTP_X_WORD", "milk") in headers
        return lambda _: None

    with watching(app) as client:
        client.xray({**client_environ(), "HTTP_X_WORD": "milk"}, strict_start_response)
        assert client.story().summary.status == "200 OK"


def test_the_stream_supports_all_operations() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        stream = environ["wsgi.input"]
        assert next(stream) == b"milk\n"
        assert stream.read(size=2) == b"ho"
        assert stream.tell() == 7
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    class Stream(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size)

    with watching(app) as client:
        environ = {**client_environ(), "wsgi.input": Stream(b"milk\nhoney")}
        client.xray(environ, lambda *_: lambda _: None)
        assert "read(2) 2 bytes" in client.text(part=4)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("²²² OK", [("Content-Type", "text/html")], b"milk"),
        ("200 OK", [("Content-Type", "text/html"), ("Content-Encoding", "gzip")], b"no gzip"),
        ("200 \udcff", [("Content-Type", "text/html"), ("X", "\udcff")], b"milk"),
        (object(), object(), b"milk"),
    ],
)
def test_any_response_can_be_shown(status: Any, headers: Any, body: bytes) -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with closing(sqlite3.connect(":memory:")) as connection, suppress(UnicodeEncodeError):
            connection.execute("SELECT '\udcff'")
        start_response(status, headers)
        return [body]

    with watching(app) as client:
        client.xray(client_environ(), lambda *_: lambda _: None)
        story = client.story()
        for page in (
            pages.request_page(story, [], is_open=True),
            pages.list_page("", [story.summary], is_paused=True),
        ):
            assert Client(page).get("/").status_code == 200


def test_an_exception_that_leaves_a_with_block_is_shown_once() -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        with closing(sqlite3.connect(":memory:")):
            return [int("milk").to_bytes()]

    with watching(app) as client, pytest.raises(ValueError, match="milk"):
        client.get("/")
    text = client.text()
    assert text.count("reached the server; local variables") == 1
    assert "was caught" not in text
    assert "GET / → an exception" in text
    assert "server got an exception instead of a response" in text


def test_the_number_of_reads_and_exceptions_is_limited() -> None:
    def lose() -> None:
        raise LookupError

    def act(environ: WSGIEnvironment) -> None:
        for _ in range(1000):
            environ["wsgi.input"].read(1)
            try:
                lose()
            except LookupError as error:
                str(error)
                line_number("README.md", "todo")

    with watching(answering("", act)) as client:
        client.post("/", data=b"x" * 1000)
        trace = client.xray.traces.last()[0]
        assert len(trace.reads) <= MAX_EVENTS
        assert len(trace.failures) == calls.MAX_FAILURES


def test_a_closed_x_ray_records_nothing() -> None:
    with watching(answering("")) as client:
        pass
    assert client.get("/").status_code == 200
    assert not client.xray.traces.last()


def test_a_later_patch_by_others_is_preserved(monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(answering("")):
        monkeypatch.setattr(sqlite3, "connect", len)
    assert sqlite3.connect.__name__ == "len"


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (middleware, "find_raw_request"),
        (middleware, "line_of"),
        (middleware, "_is_header"),
        (sql, "describe"),
        (sql, "line_of"),
        (calls, "describe"),
        (calls, "walk_tb"),
        (todo, "line_of"),
    ],
)
def test_if_the_recorder_fails_the_application_does_not_notice(
    app: Application,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: object,
    name: str,
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("the recorder is broken")

    with watching(app) as client:
        monkeypatch.setattr(broken, name, fail)
        assert client.post("/", data={"text": "milk"}).status_code == 303
        assert client.post("/", data={"text": ""}).status_code == 422
        assert ">milk</span>" in client.get("/?added=1").text
        warnings = str([trace.warnings for trace in client.xray.traces.last()])
        # Outside a request, the failure is logged.
        assert "The x-ray itself failed at" in warnings or "the recorder is broken" in caplog.text


def test_another_profiler_is_left_alone(todos: Watched) -> None:
    events: list[str] = []
    profile = lambda frame, *_: events.append(frame.f_code.co_name)  # noqa: E731
    todos.get("/")  # from now on the page is cached
    sys.setprofile(profile)
    try:
        todos.get("/")
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert "show_todos" in events
    text = todos.text(part=5)
    assert "No function of the application was recorded." in text
    assert "Another profiler is active, so no functions are recorded." in text


def test_it_stores_50_requests_500_events_and_10_kb() -> None:
    def work(environ: WSGIEnvironment) -> None:
        environ["wsgi.input"].read(20_000)
        spread(6 if environ.get("CONTENT_LENGTH") else 0)
        descend(500)
        environ["wsgi.input"].read(1)

    with watching(answering("y" * 20_000, work)) as client:
        for _ in range(MAX_REQUESTS + 5):
            client.get("/")
        client.post("/", data=b"x" * 20_000)
        traces = client.xray.traces.last()
        assert [trace.number for trace in traces] == [*range(56, 6, -1)]
        trace = traces[0]
        assert (len(trace.text), trace.body_size) == (MAX_BODY, 20_000)
        assert len(trace.read_body) == MAX_BODY
        assert count(trace.calls) <= MAX_EVENTS < trace.events
        assert "Not recorded: " in client.text(part=5)


def spread(depth: int) -> None:
    for _ in range(4 if depth else 0):
        spread(depth - 1)


def descend(depth: int) -> None:
    if depth:
        descend(depth - 1)


def count(call: Call) -> int:
    return len(call.children) + sum(count(child) for child in call.calls)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Make the threads switch as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(interval)


def post_redirect_get(path: Path) -> Any:
    """Return an application that stores a text and redirects to a page with it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
            if environ["REQUEST_METHOD"] == "GET":
                [stored] = connection.execute("SELECT text FROM todos WHERE id = 1").fetchone()
                return answer(start_response, "200 OK", "X-Stored", stored)
            text = read(environ).partition("=")[2]
            connection.execute("UPDATE todos SET text = ? WHERE id = 1", (text,))
            return answer(start_response, "303 See Other", "Location", f"/?saved={text}")

    def read(environ: WSGIEnvironment) -> str:
        return bytes(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))).decode()

    def answer(start_response: StartResponse, status: str, name: str, value: str) -> list[bytes]:
        start_response(status, [("Content-Type", "text/html"), (name, value)])
        return [b""]

    return app


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("is_todo_list", [True, False])
def test_requests_of_several_threads_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_todo_list: bool
) -> None:
    """Each trace contains its own request only, and all of it."""
    monkeypatch.setattr("todo_wsgi.xray.record.trace.MAX_REQUESTS", 1000)  # threads may be slow
    database = tmp_path / "todos.db"

    def click(number: int) -> None:
        browser = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": str(number)}
        address = f"/todos/{number - 1000}"
        form = {"text": f"me{number}", "show": "completed"}  # so the page is empty
        for _ in range(25 if is_todo_list else 100):
            answer = client.post(address, data=form, environ_overrides=browser)
            post = find(client.xray, number)
            client.get(answer.location, environ_overrides=browser)
            get = find(client.xray, number)
            assert (get.came_from, post.led_to) == (post.number, get.number)
            typed = {number for number in range(1001, 1005) if f"me{number}" in described(post)}
            keywords = [statement.keyword for statement in post.statements]
            counts = [keywords.count(word) for word in ("BEGIN", "UPDATE", "COMMIT")]
            assert (typed, counts) == ({number}, [1, 1, 1])
            assert not post.warnings + get.warnings

    with closing(create_app(database)) as app:
        fill(database, 4)
        with (
            watching(app if is_todo_list else post_redirect_get(database)) as client,
            ThreadPoolExecutor(4) as threads,
        ):
            assert len([*threads.map(click, range(1001, 1005))]) == 4
    assert read_texts(database)[0] == "me1001" or not is_todo_list


def find(xray: XRay, port: int) -> Trace:
    """Return the trace of the last request from this port."""
    return next(trace for trace in xray.traces.last() if trace.client[1] == str(port))


def described(trace: Trace) -> str:
    """Return all recorded arguments of calls and parameters of statements as text."""

    def texts(call: Call) -> Iterator[str]:
        yield from (value for _, value in call.arguments)
        for child in call.calls:
            yield from texts(child)

    parameters = (text for statement in trace.statements for text in statement.parameters)
    return " ".join([*texts(trace.calls), *parameters])
