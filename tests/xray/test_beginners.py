"""What the x-ray tells somebody in the first hour of web programming."""

from __future__ import annotations

import gzip
import html
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from wsgiref.handlers import BaseHandler
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import request_uri

import pytest
from xrays import App, Watched, answering, client_environ, one_line, watching

from todo_wsgi.xray.record.source import is_application
from todo_wsgi.xray.story.document import count


def ask(tmp_path: Path, code: str, *arguments: str) -> str:
    """Return what the command prints of a request to the application in `code`."""
    (tmp_path / "hello.py").write_text(code)
    command = [sys.executable, "-m", "todo_wsgi.xray", *(arguments or ("GET", "/"))]
    name = ["--app", "hello"] if "--app" not in arguments else []
    done = subprocess.run(
        [*command, *name], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return one_line(done.stdout)


# Exceptions


def test_an_application_with_the_wrong_number_of_arguments(tmp_path: Path) -> None:
    text = ask(tmp_path, "\ndef app(environ):\n    return []\n")
    assert "TypeError at hello.py:2: app() takes 1 positional argument but 2 were given." in text
    assert "A WSGI application takes two arguments" in text
    assert "def app(environ, start_response)" in text


def test_a_factory_instead_of_an_application() -> None:
    def create_app(config: object = None) -> None:
        """Return an application."""

    with watching(create_app) as client:
        with pytest.raises(TypeError):
            client.get("/")
        text = client.text(part=5)
    assert "create_app() takes from 0 to 1 positional arguments but 2 were given." in text
    assert "It looks like a factory, a function that returns the application. Call it: " in text


def test_an_async_function_is_no_wsgi_application(tmp_path: Path) -> None:
    text = ask(tmp_path, "async def app(environ, start_response):\n    return [b'hello']\n")
    assert "The application is an async function." in text
    assert "Write def instead of async def" in text
    assert "500 Internal Server Error" in text


def test_an_exception_has_type_message_and_line() -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        return item  # type: ignore[name-defined]  # noqa: F821

    number = app.__code__.co_firstlineno + 1
    with watching(app) as client, pytest.raises(NameError):
        client.get("/")
    text = client.text(part=5)
    where = f"tests/xray/test_beginners.py:{number}"
    assert f"NameError at {where}: name 'item' is not defined. Nothing caught it" in text


def test_the_verdict_has_an_exception_and_its_line_and_a_full_stop_is_not_doubled() -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        raise LookupError("Nothing is here. Go away.")

    number = app.__code__.co_firstlineno + 1
    with watching(app) as client, pytest.raises(LookupError):
        client.get("/")
    where = f"LookupError at tests/xray/test_beginners.py:{number}"
    assert client.story().summary.verdict == f"1 mistake: {where} (5. Functions)"
    assert f"{where}: Nothing is here. Go away. Nothing caught it" in client.text(part=5)


def test_the_tree_shows_the_beginning_of_a_message_and_the_variables_no_environ() -> None:
    def find(environ: WSGIEnvironment) -> None:
        raise LookupError("A long message, which is shown in full below the tree", environ)

    with watching(answering("", find)) as client, pytest.raises(LookupError):
        client.get("/")
    text = client.text(part=5)
    assert "→ raised LookupError('A long message, which is shown in full below th…" in text
    assert "LookupError('A long message, which is shown in full below the tree', {" in text
    assert "find: environ {…}" in text


def test_an_exception_of_a_library_alone_is_shown_with_the_line_of_the_library() -> None:
    app: Any = textwrap.indent
    with watching(app) as client, pytest.raises(AttributeError):
        client.get("/")
    text = client.text(part=5)
    assert re.search(r"AttributeError at \S+/textwrap.py:\d+: 'dict' object has no attr", text)


def test_a_stop_iteration_that_leaves_the_application_is_no_control_flow() -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        return next(iter([]))

    with watching(app) as client, pytest.raises(StopIteration):
        client.get("/")
    assert "StopIteration at " in client.text(part=5)


def test_the_text_of_an_exception_is_shown_without_running_its_code() -> None:
    class Odd(Exception):
        __str__ = None  # type: ignore[assignment]

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        raise Odd("lost", {"milk": 1})

    with watching(app) as client, pytest.raises(Odd):
        client.get("/")
    assert ": 'lost', {'milk': 1}. Nothing caught it" in client.text(part=5)


# Exceptions that a framework catches

FRAMEWORK = """
def app(environ, start_response):
    status = "200 OK"
    try:
        page = run(view, environ)
        if page is None:
            raise TypeError("The view returned nothing")
    except Exception:
        status, page = "500 Internal Server Error", sorry()
    start_response(status, [("Content-Type", "text/plain")])
    return [page]

def run(view, environ):
    try:
        return view(environ)
    finally:
        sorry()

def sorry():
    return b"Sorry"
"""


def framework(view: Callable[[WSGIEnvironment], bytes | None]) -> Any:
    """Return an application that answers with what `view` returns, as a library would."""
    namespace: dict[str, Any] = {"__name__": "frame.app", "view": view}
    exec(compile(FRAMEWORK, "/site-packages/frame/app.py", "exec"), namespace)
    return namespace["app"]


def test_a_statement_that_fails_in_a_view_is_told_with_its_line() -> None:
    def find() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT * FROM nowhere")

    def view(_: WSGIEnvironment) -> None:
        return find()

    number = find.__code__.co_firstlineno + 2
    with watching(framework(view)) as client:
        assert client.get("/").status_code == 500
        text = client.text(part=5)
        assert "6. SQL: 1 statement failed SELECT * FROM nowhere" in client.text(part=6)
    error = "OperationalError('no such table: nowhere')"
    assert f"{error} was caught; local variables of " in text
    assert f"OperationalError at tests/xray/test_beginners.py:{number}: no such table" in text
    assert "Your code did not catch it: frame did, and answered 500." in text
    assert text.count(f"→ raised {error}") == 2
    assert "raised an exception" not in text


def test_a_statement_whose_failure_the_application_catches_is_told_and_no_mistake() -> None:
    def view(_: WSGIEnvironment) -> bytes:
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute("SELECT * FROM nowhere")
        except sqlite3.OperationalError:
            page = b"Nothing"
        connection.close()
        return page

    with watching(framework(view)) as client:
        assert client.get("/").text == "Nothing"
        text = client.text(part=5)
    assert "OperationalError('no such table: nowhere') was caught; local variables of" in text
    assert "✗" not in text


def test_an_answer_500_of_the_application_itself_is_no_uncaught_exception() -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        try:
            price = int("milk")
        except ValueError:
            price = 0
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [str(price).encode()]

    with watching(app) as client:
        client.get("/")
    assert "was caught; local variables of" in client.text(part=5)
    assert "✗" not in client.text(part=5)


def test_a_view_that_forgets_to_return_is_told_with_the_exception_of_the_framework() -> None:
    with watching(framework(lambda _: None)) as client:
        client.get("/")
    text = client.text(part=5)
    assert "TypeError('The view returned nothing') was caught: frame/app.py:7" in text


# Libraries


def test_a_step_of_a_library_has_a_public_name() -> None:
    @contextmanager
    def opened() -> Iterator[None]:
        yield

    def act(_: WSGIEnvironment) -> None:
        with opened():
            textwrap.indent("milk", " ")

    with watching(answering("", act)) as client:
        client.get("/")
    text = client.text(part=5)
    assert "library: textwrap.indent(text='milk'" in text
    assert "contextlib" not in text
    assert "start_response=…)" in text


def test_the_relative_file_names_of_compiled_modules_are_those_of_libraries() -> None:
    assert not is_application("sqlalchemy/sql/_cache_key_cy.py")
    assert is_application(__file__)


# Templates of other applications


class JinjaTemplate:
    """What Jinja leaves in the namespace of a compiled template: it knows the lines."""

    def get_corresponding_lineno(self, number: int) -> int:
        return number - 100


def compiled(code: str) -> Any:
    """Return the function `root` of a template whose line 3 Jinja compiles to line 103."""
    namespace: dict[str, Any] = {"__jinja_template__": JinjaTemplate()}
    file = str(Path.cwd() / "templates" / "list.html")
    exec(compile("\n" * 101 + f"def root(read):\n    yield {code}", file, "exec"), namespace)
    return namespace["root"]


def test_a_template_of_jinja_is_a_library_step_at_the_right_line() -> None:
    root = compiled("read('SERVER_NAME')")

    def read(environ: WSGIEnvironment) -> None:
        assert [*root(environ.get)] == ["localhost"]

    with watching(answering("", read)) as client:
        client.get("/")
    assert "SERVER_NAME 'localhost' the server templates/list.html:3" in client.text(part=2)
    assert "library: template.root(read=" in client.text(part=5)


def test_an_exception_in_a_template_of_jinja_has_the_line_of_the_template() -> None:
    root = compiled("read / 0")
    with watching(answering("", lambda _: [*root(1)])) as client, pytest.raises(ZeroDivisionError):
        client.get("/")
    text = client.text(part=5)
    assert "ZeroDivisionError at templates/list.html:3: division by zero." in text
    assert "local variables" not in text


# The environ


def test_the_environ_is_read_by_the_application_or_by_a_library_or_by_nobody() -> None:
    with watching(answering("", lambda environ: environ["SERVER_NAME"])) as client:
        client.get("/")
    ours, others = client.text(part=2).split("Entries that nobody read")
    assert "Entries that a line of the application read: SERVER_NAME 'localhost'" in ours
    assert "REQUEST_METHOD" in others
    assert "library" not in ours
    library: Any = request_uri
    with watching(library) as client:
        client.xray(client_environ(), lambda *_: lambda _: None)
    _, theirs = client.text(part=2).split("Entries that only a library read")
    theirs, others = theirs.split("Entries that nobody read")
    assert "HTTP_HOST '127.0.0.1' header Host wsgiref.util" in theirs
    assert "REQUEST_METHOD" in others


def test_variables_of_the_process_are_counted_and_are_no_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_NAME", "Ada")
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    # The server takes the variables over when it is imported.
    monkeypatch.setattr(BaseHandler, "os_environ", dict(os.environ))
    with watching(answering("Ada has hunter2")) as client:
        server = make_server("127.0.0.1", 0, client.xray)
        with server, ThreadPoolExecutor(1) as thread:
            answer = thread.submit(urlopen, f"http://127.0.0.1:{server.server_port}/", timeout=20)
            server.handle_request()
            answer.result().close()
        text = client.text()
    assert f"And {len(os.environ)} environment variables of the server's process." in text
    assert "MY_NAME" not in text
    assert "Ada has hunter2" in text  # so it was not searched for secrets
    assert "Content-Type: text/plain" not in client.text(part=1)
    assert "CONTENT_TYPE 'text/plain' the server" in text


# Reloading


def answer_with(kind: str, status: str = "200 OK") -> App:
    """Return an application that adds a row, and answers with some kind of content."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with closing(sqlite3.connect(":memory:")) as connection, connection:
            connection.execute("CREATE TABLE words (word TEXT)")
            connection.execute("INSERT INTO words VALUES ('milk')")
        start_response(status, [("Content-Type", kind)])
        return [b"{}"]

    return app


@pytest.mark.parametrize(
    ("method", "kind", "sent", "is_mistake"),
    [
        ("POST", "text/html", "application/x-www-form-urlencoded", True),
        ("POST", "text/html; charset=utf-8", "multipart/form-data; boundary=x", True),
        ("POST", "application/json", "application/x-www-form-urlencoded", False),
        ("POST", "application/json", "application/json", False),
        ("POST", "text/html", "application/json", False),
        ("PUT", "text/html", "application/x-www-form-urlencoded", False),
        ("DELETE", "text/html", "", False),
    ],
)
def test_only_a_form_that_is_answered_with_a_page_is_told_to_redirect(
    method: str, kind: str, sent: str, is_mistake: bool
) -> None:
    with watching(answer_with(kind)) as client:
        client.open("/", method=method, content_type=sent, data=b"")
        text = client.text(part=9)
    assert ("A POST changed data and got a page, not a redirect." in text) == is_mistake
    assert ("✗" in text) == is_mistake


# Global variables

todos: list[str] = []
names: dict[str, int] = {}
words_cache: dict[str, int] = {}
_private: list[str] = []


def change_nothing(_: WSGIEnvironment) -> None:
    todos.append("milk")
    todos.pop()


def add(_: WSGIEnvironment) -> None:
    todos.append("milk")


def replace_an_item(_: WSGIEnvironment) -> None:
    names["Ada"] = names.get("Ada", 1000) + 1


def keep(_: WSGIEnvironment) -> None:
    words_cache["milk"] = len(_private)
    _private.append("milk")


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (add, "The global variable todos of tests/xray/test_beginners.py changed"),
        (replace_an_item, "The global variable names of tests/xray/test_beginners.py changed"),
        (change_nothing, ""),
        (keep, ""),
    ],
)
def test_a_global_list_that_changes_is_no_storage(
    act: Callable[[WSGIEnvironment], None], text: str
) -> None:
    names["Ada"] = 1000
    with watching(answering("Added", act)) as client:
        client.post("/")
        assert text in client.text(part=2)
        assert ("✗" in client.text(part=2)) == bool(text)
        assert ("A POST changed data and got a page" in client.text(part=9)) == bool(text)


def test_the_todo_list_makes_no_mistakes(todos: Watched) -> None:
    for path, form in [
        ("/", {"text": "<b>milk</b>"}),
        ("/", {"text": '" onclick="'}),
        ("/", {"text": ""}),
        ("/todos/1", {"text": "honey & <i>bread</i>"}),
        ("/todos/1/complete", {}),
        ("/todos/1/delete", {}),
        ("/import", {"text": "x 2026-11-22 2026-11-20 tea"}),
    ]:
        answer = todos.post(path, data=form)
        todos.get(answer.location or "/")
        todos.get("/", headers={"Accept-Encoding": "gzip"})
    for trace in todos.xray.traces.last():
        assert "✗" not in todos.text(trace.number)
    assert trace.number == 1


# Escaping

QUOTE = '" onclick="alert(1)'


@pytest.mark.parametrize(
    ("value", "page", "is_mistake"),
    [
        ("<b>Ada</b>", "x" * 20_000 + "<b>Ada</b>", True),
        ("<b>Ada</b>", "x" * 20_000 + html.escape("<b>Ada</b>"), False),
        (QUOTE, f'<p><input name="a" value="{QUOTE}">', True),
        (QUOTE, f'<p><input name="a" value="{html.escape(QUOTE)}">', False),
        (QUOTE, f"<p><input name='a' value='{QUOTE}'>", False),
        (QUOTE, f'<p title="a">{QUOTE}</p>', False),
        ("Ada's", "<p title='Ada's'>", True),
        ('" id="', '<p title="a" id="b">', False),
        ("<form>", "<form>", False),
        ("<b>", "<b>", False),
        ("Ada", "Ada", False),
    ],
)
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_field_in_the_page_is_escaped_or_a_mistake(
    value: str, page: str, is_mistake: bool, encoding: str
) -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        headers = [("Content-Type", "text/html"), ("Content-Encoding", encoding)]
        start_response("200 OK", headers[: 1 + bool(encoding)])
        body = gzip.compress(page.encode()) if encoding else page.encode()
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    with watching(app) as client:
        client.get("/", query_string={"name": value})
        text = client.text(part=7)
    assert ("The page contains the value of name unescaped: " in text) == is_mistake


# Words


def test_one_is_singular() -> None:
    assert [count(1, "SQL statement"), count(2000, "row")] == ["1 SQL statement", "2,000 rows"]
    with watching(answering('<link href="/style.css">')) as client:
        client.get("/")
        assert "This page also needs /style.css. Each is a request" in client.text(part=9)
        assert "so far" not in client.text(part=9)
