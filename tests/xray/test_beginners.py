"""What the x-ray tells somebody in the first hour of web programming."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import request_uri

import pytest
from xrays import answering, client_environ, one_line, watching


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
    assert "TypeError at hello.py:2, app() takes 1 positional argument but 2 were given." in text
    assert "A WSGI application takes two arguments" in text
    assert "def app(environ, start_response)" in text


def test_a_factory_instead_of_an_application() -> None:
    def create_app(config: object = None) -> object:
        return config

    with watching(create_app) as client:
        with pytest.raises(TypeError):
            client.get("/")
        text = client.text(part=5)
    assert "create_app() takes from 0 to 1 positional arguments but 2 were given." in text
    assert "It looks like a factory, a function that returns the application. Pass on what" in text


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
    assert f"NameError at {where}, name 'item' is not defined. Nothing caught it" in text


def test_an_exception_of_a_library_alone_is_shown_with_the_line_of_the_library() -> None:
    app: Any = textwrap.indent
    with watching(app) as client, pytest.raises(AttributeError):
        client.get("/")
    text = client.text(part=5)
    assert re.search(r"AttributeError at \S+/textwrap.py:\d+, 'dict' object has no attr", text)


def test_a_stop_iteration_that_leaves_the_application_is_no_control_flow() -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        return next(iter([]))

    with watching(app) as client, pytest.raises(StopIteration):
        client.get("/")
    assert "StopIteration at " in client.text(part=5)


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
    assert "ZeroDivisionError at templates/list.html:3, division by zero." in text
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
    mine = {name: os.environ[name] for name in ("MY_NAME", "MY_PASSWORD")}
    wsgiref = {"SERVER_SOFTWARE": "WSGIServer/0.2", "CONTENT_TYPE": "text/plain"}
    with watching(answering("Ada has hunter2")) as client:
        client.xray({**client_environ(), **mine, **wsgiref}, lambda *_: lambda _: None)
    text = client.text()
    assert "And 2 environment variables of the server's process." in text
    assert "MY_NAME" not in text
    assert "Ada has hunter2" in text  # so it was not searched for secrets
    assert "Content-Type: text/plain" not in client.text(part=1)
    assert "CONTENT_TYPE 'text/plain' the server" in text
