"""The lessons: things that learners get wrong, as the x-ray shows them."""

from __future__ import annotations

import base64
import html
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from xml.etree.ElementTree import Element

import pytest
from servers import ROOT, exchange, get, nginx_before, running, serve_command
from xrays import Watched, answering, client_environ, watching

from todo_wsgi import create_app
from todo_wsgi.http.password import hash_password


@pytest.fixture
def table(tmp_path: Path) -> Callable[[], sqlite3.Connection]:
    """A function that connects to a database with a table of words."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "words.db")
        connection.execute("CREATE TABLE IF NOT EXISTS words (word TEXT)")
        return connection

    return connect


def test_1_python_does_not_run_in_the_browser(todos: Watched) -> None:
    todos.get("/")
    text = todos.text(part=1)
    assert "The browser sends text and receives text: it does not run Python." in text
    assert todos.story().lanes[0] == "Browser"
    assert not [m for m in todos.story().messages if m.sender == 0 and "GET" not in m.text]


def test_2_one_page_is_several_requests(todos: Watched) -> None:
    page = todos.get("/").text
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    todos.get(style, headers={"Referer": "http://localhost/", "Sec-Fetch-Dest": "style"})
    assert "This page also needs" in todos.text(1, part=9)
    assert f"{style}; requested so far: 1." in todos.text(1, part=9)
    assert "Loaded request 2, for this page" in todos.text(1, part=9)
    assert "One page is several requests. This request loads a part of a page." in todos.text(
        2, part=9
    )
    assert "Part of request 1, the page in its Referer header" in todos.text(2, part=9)


def test_3_without_a_redirect_a_reload_posts_again(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "milk"})
    assert "a reload repeats only the GET that follows, never this POST" in todos.text(part=9)
    todos.post("/", data={"text": ""})
    assert "Reloading this page sends the POST again." in todos.text(part=9)

    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection, connection:
            connection.execute("INSERT INTO words VALUES ('milk')")

    with watching(answering("Thanks.", insert)) as client:
        client.post("/")
        assert "A POST changed data and got a page, not a redirect." in client.text(part=9)


def test_4_a_redirect_is_a_response_followed_by_a_new_request(todos: Watched) -> None:
    browser = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000"}
    todos.post("/", data={"text": "milk"}, environ_overrides=browser)
    todos.get("/?added=1", environ_overrides=browser)
    assert "A redirect is a complete response: 303 See Other, headers, and a body of 0 bytes" in (
        todos.text(1, part=9)
    )
    assert "Led to request 2, which followed on the same connection" in todos.text(1, part=9)
    assert "This is a new request, caused by the response to request 1" in todos.text(2, part=9)


def test_5_get_and_post_differ_in_what_they_may_change(todos: Watched) -> None:
    todos.post("/?show=active", data={"text": "milk"})
    text = todos.text(part=4)
    assert "In the URL, after the “?”: show=active" in text
    assert "In the body: text=milk" in text
    assert "A POST may change something. This one changed 1 row." in text
    todos.get("/?show=active")
    assert "A GET must not change anything. This one changed no row." in todos.text(part=4)


def test_6_a_link_must_not_delete_anything(table: Callable[[], sqlite3.Connection]) -> None:
    def delete(environ: WSGIEnvironment) -> None:
        with closing(table()) as connection, connection:
            if environ["PATH_INFO"] == "/delete":
                connection.execute("DELETE FROM words")
            else:
                connection.execute("INSERT INTO words VALUES ('milk'), ('honey')")

    with watching(answering("Gone.", delete)) as client:
        client.post("/add")
        client.get("/delete")
        assert "A GET changed 2 rows. Links, search engines" in client.text(part=6)
        client.post("/delete")
        assert "✗" not in client.text(part=6)


def test_7_a_form_field_is_sent_under_its_name_and_an_unchecked_box_is_not() -> None:
    form = """<form method="post">
        <input name="text"> <input type="checkbox" name="done"> <input id="nameless">
        <input type="submit" name="delete"> <select name="of" disabled></select> <button>Send
        </button></form> <form action="/other"><input name="elsewhere"></form>"""

    def read(environ: WSGIEnvironment) -> None:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))

    with watching(answering(form, read)) as client:
        client.get("/")
        headers = {"Referer": "http://localhost/"}
        client.post("/", data={"text": "milk"}, headers=headers)
        text = client.text(part=4)
        assert "Fields sent by name: text." in text
        assert "Not sent: input done (checkbox), because it was not checked." in text
        assert "Not sent: input nameless (text), because it has no name." in text
        assert "Not sent: input delete (submit), because it was not clicked." in text
        assert "Not sent: select of (select), although it has a name: it may be disabled." in text
        assert text.count("Not sent") == 4
        assert "elsewhere" not in text
        client.post(
            "/", data={"unknown": "milk"}, headers=headers
        )  # a field that no form on the page has
        assert "Not sent" not in client.text(part=4)
        client.post("/", data={"text": "milk", "done": "on"}, headers=headers)
        assert "done (checkbox)" not in client.text(part=4)


def test_8_the_body_is_a_stream_that_can_be_read_once(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    assert "read(9) 9 bytes" in todos.text(part=4)
    assert "The body is a stream: what was read, 9 bytes, is gone from it" in todos.text(part=4)

    def read_twice(environ: WSGIEnvironment) -> None:
        assert environ["wsgi.input"].read(9) == b"text=milk"
        assert environ["wsgi.input"].read(9) == b""

    with watching(answering("", read_twice)) as client:
        client.post("/", data={"text": "milk"})
        text = client.text(part=4)
        assert "The body was read again, when nothing was left of it." in text

    def read_to_the_end(environ: WSGIEnvironment) -> None:
        while environ["wsgi.input"].read(4):
            pass

    with watching(answering("", read_to_the_end)) as client:
        client.post("/", data={"text": "milk"})
        assert "what was read, 9 bytes, is gone" in client.text(part=4)
        assert "✗" not in client.text(part=4)


def test_9_bytes_percent_encoding_str_and_html_are_four_stages(todos: Watched) -> None:
    todos.post("/", data={"text": "Käse & Brot"})
    assert (
        "Four stages of text: percent-encoded as sent, K%C3%A4se+%26+Brot; the bytes "
        r"b'K\xc3\xa4se & Brot'; the text 'Käse & Brot'; and as HTML, "
        "Käse &amp; Brot."
    ) in todos.text(part=4)
    assert todos.rows(4) == [
        ["text=K%C3%A4se+%26+Brot", r"b'K\xc3\xa4se & Brot'", "text", "'Käse & Brot'"]
    ]


def test_10_a_header_that_is_not_text() -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Length", 0), ("Content-Type", "text/plain")])  # type: ignore[list-item]
        return [b""]

    with watching(app) as client:
        client.xray(client_environ(), lambda *_: lambda _: None)
        text = client.text(part=8)
    assert "The header ('Content-Length', 0) is not a tuple of two str." in text


@pytest.mark.parametrize(
    ("status", "headers", "body", "complaint"),
    [
        ("200 OK", (("Content-Type", "text/plain"),), [b""], "not a list. Write [('Content-Type'"),
        ("200 OK", [["Content-Type", "text/plain"]], [b""], "is not a tuple of two str"),
        ("200 OK", None, None, "The headers are None, not a list."),
        ("200 OK", [5], [b""], "The header 5 is not a tuple of two str"),
    ],
)
def test_10_wsgi_requires_certain_types(
    status: Any, headers: Any, body: Any, complaint: str
) -> None:
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response(status, headers)
        return body

    with watching(app) as client:
        answer = client.xray(client_environ(), lambda *_: lambda _: None)
        assert answer is body or body is None
        if hasattr(answer, "close"):
            answer.close()
        assert complaint in client.text(part=8).partition("✗")[2]


def test_11_execute_does_not_save_commit_does(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "milk"})
    assert "execute changed 1 row, and COMMIT saved that." in todos.text(part=6)

    def insert(environ: WSGIEnvironment) -> None:
        connection = table()
        connection.execute("INSERT INTO words VALUES ('milk')")
        if environ["PATH_INFO"] == "/rollback":
            connection.rollback()
        connection.close()

    with watching(answering("Stored?", insert)) as client:
        client.post("/")
        assert "execute changed 1 row without a commit: the change is not saved" in (
            client.text(part=6)
        )
        assert "BEGIN (by the sqlite3 module, implicitly)" in (client.text(part=6))
        client.get("/rollback")
        assert "✗" not in client.text(part=6) + client.text(part=9)
        assert "execute changed 1 row, and ROLLBACK undid that: nothing was saved" in client.text(
            part=6
        )


def test_11_python_commits_before_a_script(table: Callable[[], sqlite3.Connection]) -> None:
    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.execute("INSERT INTO words VALUES ('milk')")
            connection.executescript("BEGIN; CREATE TABLE more (word TEXT); COMMIT")

    with watching(answering("", insert)) as client:
        client.post("/")
        text = client.text(part=6)
        assert "COMMIT saved that" in text
        assert text.count("the sqlite3 module, implicitly") == 2  # BEGIN and COMMIT
        assert "✗" not in text


def test_11_in_autocommit_mode_each_statement_is_committed_on_its_own(
    table: Callable[[], sqlite3.Connection],
) -> None:
    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.isolation_level = None
            connection.execute("INSERT INTO words VALUES ('milk')")

    with watching(answering("", insert)) as client:
        client.post("/")
        assert "execute changed 1 row, saved at once: each statement" in client.text(part=6)


def test_12_the_question_mark_is_not_string_formatting(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "'); DROP TABLE todos; --"})
    text = todos.text(part=6)
    assert "INSERT INTO todos (text, created_at) VALUES (?, ?)" in text
    assert """("'); DROP TABLE todos; --", '20""" in text
    assert "SQLite gets the parameters apart from the SQL" in text
    assert "✗" not in text

    def find(environ: WSGIEnvironment) -> None:
        word = environ["QUERY_STRING"].partition("=")[2]
        with closing(table()) as connection:
            connection.execute(f"SELECT word FROM words WHERE word = '{word}'")

    with watching(answering("", find)) as client:
        client.get("/?word=milk")
        assert "The value of word is part of the SQL text: 'milk'" in (client.text(part=6))


@pytest.mark.parametrize("query", ["?q=name", "?q=word", "?q=wo"])
def test_12_a_word_that_the_sql_contains_anyway_is_not_an_injection(
    table: Callable[[], sqlite3.Connection], query: str
) -> None:
    def find(_environ: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.execute("SELECT word AS name FROM words WHERE word = ?", (query,))

    with watching(answering("", find)) as client:
        client.get(f"/{query}")
        assert "✗" not in client.text(part=6)


counter = 0


def test_13_a_global_variable_is_not_storage(todos: Watched) -> None:
    def count(_: WSGIEnvironment) -> None:
        global counter
        counter += 1

    with watching(answering("", count)) as client:
        client.get("/")
        text = client.text(part=2)
        assert "The global variable counter of tests/xray/test_xray_lessons.py changed" in text
    for number in (1, 2):
        todos.get("/")
        text = todos.text(part=2)
        thread = f"This ran in thread {threading.current_thread().name} of process {os.getpid()}"
        assert (thread in text) == (number == 1)  # it is true of every request
        assert ("each process has its own, and a restart loses them" in text) == (number == 1)


def test_14_values_are_escaped_where_they_become_html(todos: Watched) -> None:
    todos.post("/", data={"text": "<b>milk</b>"})
    todos.get("/")
    text = todos.text(part=7)
    assert "Escaped where it becomes HTML, and only there: $text, '<b>milk</b>'" in text
    assert "&lt;b&gt;milk&lt;/b&gt;" in text

    def greet(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        name = environ["QUERY_STRING"].partition("=")[2]
        return [f"Hello {name}, or {html.escape(name)}".encode()]

    with watching(greet) as client:
        client.get("/?name=<b>Ada</b>")
        assert "The page contains the value of name unescaped: '<b>Ada</b>'" in client.text(part=7)


def test_15_server_wsgi_application_and_proxy_each_have_their_own_job(tmp_path: Path) -> None:
    command = serve_command("--port", "0", "--xray", "0", "--trusted-proxy", "127.0.0.1")
    with running(command, tmp_path) as server, nginx_before(server, tmp_path) as nginx:
        server.send(get("/", "Cookie: a=milk", "Cookie: b=honey", "X_Forwarded_For: 6.6.6.6"))
        with socket.create_connection(("127.0.0.1", nginx), 20) as connection:
            exchange(connection, get())
        server.send(get("/", "X-Forwarded-Host: other.example"))
        server.send(b"GET / HTTP/1.0\r\n\r\n")
        alone, behind, pretending, bare = (server.xray(f"{number}") for number in range(1, 5))
    assert "waitress read the bytes and made the environ from them." in alone
    assert "The application chose status, headers and body. waitress added headers of its" in alone
    assert "A proxy received this request" not in alone
    assert "cookie merged: sent 2 times" in alone
    assert "x_forwarded_for dropped" in alone
    assert "HTTP_HOST 'localhost' header Host" in alone
    assert "renamed, as host to HTTP_HOST" in alone
    assert "Content-Security-Policy: default-src 'none'" in alone
    assert re.search(r"Etag: \S+ the application", alone)
    assert re.search(r"Date: [^:]* \d\d:\d\d:\d\d GMT waitress", alone)
    assert "host changed from 'localhost' to 'other.example'" in pretending
    assert "Headers that the server changed" not in bare
    assert "A proxy received this request and forwarded it" in behind
    assert "HTTP_X_FORWARDED_FOR '127.0.0.1' a proxy" in behind


def test_16_a_password_is_sent_with_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = hash_password(b"open sesame")
    monkeypatch.setenv("TODO_PASSWORD", hashed)
    with closing(create_app(tmp_path / "todos.db")) as app, watching(app) as todos:
        todos.get("/")
        assert "The browser asks its user for a password, and sends the same" in todos.text(part=9)
        for password in ("open sesame", "wrong guess"):
            answer = todos.get("/", auth=("me", password))
            assert answer.status_code == (200 if password == "open sesame" else 401)
            assert "Base64 hides nothing: only HTTPS does." in todos.text(part=1)
            assert "This request came by http." in todos.text(part=1)
            text = todos.text()
            assert "[hidden]" in text
            secrets = [password, base64.b64encode(f"me:{password}".encode()).decode()]
            for secret in [*secrets, *hashed.split(":")[1:]]:
                assert secret not in text
                assert repr(bytes.fromhex(hashed[-64:]))[2:20] not in text


# The tutorial


def test_a_lesson_links_to_the_step_of_the_tutorial_that_teaches_it(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    links = {link.text: link for part in todos.story().parts for link in links_of(part.content)}
    project = re.search(r"^url = (.*)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert project
    assert links["execute does not save; commit does"].attrib == {
        "href": f"{project[1]}/tree/main/tutorial/4-add",
        "rel": "noreferrer",  # the address of the x-ray contains its key
    }
    assert links["WSGI requires certain types"].get("href", "").endswith("/tutorial/1-hello")
    assert "Python does not run in the browser" not in links  # no step teaches it


def links_of(content: list[Element]) -> list[Element]:
    return [link for item in content for link in item.iterfind("strong/a")]


def test_each_step_that_a_lesson_names_is_in_the_tutorial() -> None:
    code = (ROOT / "todo_wsgi/xray/story/lessons.py").read_text(encoding="utf-8")
    steps = {*re.findall(r'step="(.+?)"', code)}
    assert len(steps) >= 7
    assert steps <= {folder.name for folder in (ROOT / "tutorial").iterdir()}


def test_on_the_terminal_a_mistake_names_the_step_that_teaches_its_lesson() -> None:
    with watching(answering("Hello")) as client:
        client.get("/", query_string={"name": "<b>Ada</b>"})
        assert "tutorial" not in client.text()
    with watching(answering("Hello <b>Ada</b>")) as client:
        client.get("/", query_string={"name": "<b>Ada</b>"})
        text = client.text(part=7)
    title = "✗ Values are escaped where they become HTML (tutorial, step 2)."
    assert f"{title} The page contains the value of name unescaped" in text
