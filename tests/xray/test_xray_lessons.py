"""The fifteen things that learners get wrong, each as the x-ray shows it."""

from __future__ import annotations

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

import pytest
from servers import exchange, get, nginx_before, running, serve_command
from xrays import Watched, answering, client_environ, watching

from todo_wsgi.xray.blocks import Table


@pytest.fixture
def table(tmp_path: Path) -> Callable[[], sqlite3.Connection]:
    """Call it for a connection to a database with a table of words."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "words.db")
        connection.execute("CREATE TABLE IF NOT EXISTS words (word TEXT)")
        return connection

    return connect


def test_1_python_does_not_run_in_the_browser(todos: Watched) -> None:
    todos.get("/")
    told = todos.told(part=1)
    assert "The browser has sent text, and gets text back: it runs no Python." in told
    assert todos.story().picture.lanes[0] == "Browser"
    assert not [m for m in todos.story().picture.messages if m.start == 0 and "GET" not in m.text]


def test_2_one_page_is_several_requests(todos: Watched) -> None:
    page = todos.get("/").text
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    todos.get(style, headers={"Referer": "http://localhost/", "Sec-Fetch-Dest": "style"})
    assert "This page needs" in todos.told(1, part=9)
    assert f"{style} too; 1 of them came by now" in todos.told(1, part=9)
    assert "Needed 2: a part of the page" in todos.told(1, part=9)
    assert "This one is for a part of a page. (One page is several requests)" in todos.told(
        2, part=9
    )
    assert "Part of 1: the page that its Referer names" in todos.told(2, part=9)


def test_3_without_a_redirect_a_reload_posts_again(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "milk"})
    assert "a reload repeats the GET that follows, and never this POST" in todos.told(part=9)
    todos.post("/", data={"text": ""})
    assert "would send the POST again; it has changed nothing" in todos.told(part=9)

    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection, connection:
            connection.execute("INSERT INTO words VALUES ('milk')")

    with watching(answering("Thanks.", insert)) as client:
        client.post("/")
        assert "✗ The POST changed rows and was answered with a page instead" in client.told(part=9)


def test_4_a_redirect_is_an_answer_and_then_a_new_request(todos: Watched) -> None:
    browser = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000"}
    todos.post("/", data={"text": "milk"}, environ_overrides=browser)
    todos.get("/?added=1", environ_overrides=browser)
    assert "A redirect is a whole answer: 303 See Other, headers, and a body of 0 bytes" in (
        todos.told(1, part=9)
    )
    assert "Led to 2: on the same connection" in todos.told(1, part=9)
    assert "This is a new request; the answer to request 1 was the cause" in todos.told(2, part=9)


def test_5_get_and_post_differ_in_what_may_change(todos: Watched) -> None:
    todos.post("/?show=active", data={"text": "milk"})
    told = todos.told(part=4)
    assert "In the address, after the “?”: show=active" in told
    assert "In the body: text=milk" in told
    assert "Parameters came in the address and in the body" in told
    assert "a POST may change something. This one changed 1 row." in told
    todos.get("/?show=active")
    assert "a GET must not change anything. This one changed 0 rows" in todos.told(part=4)


def test_6_a_link_must_not_delete(table: Callable[[], sqlite3.Connection]) -> None:
    def delete(environ: WSGIEnvironment) -> None:
        with closing(table()) as connection, connection:
            if environ["PATH_INFO"] == "/delete":
                connection.execute("DELETE FROM words")
            else:
                connection.execute("INSERT INTO words VALUES ('milk'), ('honey')")

    with watching(answering("Gone.", delete)) as client:
        client.post("/add")
        client.get("/delete")
        assert "✗ A GET changed 2 rows. It is what a link sends" in client.told(part=6)
        client.post("/delete")
        assert "✗" not in client.told(part=6)


def test_7_the_name_is_what_is_sent_and_an_unticked_box_is_not() -> None:
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
        told = client.told(part=4)
        assert "Sent are names and values: text." in told
        assert "Not sent: input done (checkbox), since it was not ticked." in told
        assert "Not sent: input nameless (text), since it has no name." in told
        assert "Not sent: input delete (submit), since it was not clicked." in told
        assert "Not sent: select of (select), though it has a name: it may be disabled." in told
        assert told.count("Not sent") == 4
        assert "elsewhere" not in told
        client.post("/", data={"unknown": "milk"}, headers=headers)  # no form there sends this
        assert "Not sent" not in client.told(part=4)
        client.post("/", data={"text": "milk", "done": "on"}, headers=headers)
        assert "done (checkbox)" not in client.told(part=4)
        differs = dict(client.story(2).facts)["Fields in the body"]
        assert (differs, dict(client.story(4).facts)["Fields in the body"]) == (
            "text=milk",
            "text=milk&done=on",
        )


def test_8_the_body_is_a_stream_that_is_read_once(todos: Watched) -> None:
    todos.post("/", data={"text": "milk"})
    assert "read(9) 9 bytes" in todos.told(part=4)
    assert "The body is a stream: 9 bytes were read, and cannot be read again" in todos.told(part=4)

    def read_twice(environ: WSGIEnvironment) -> None:
        assert environ["wsgi.input"].read(9) == b"text=milk"
        assert environ["wsgi.input"].read(9) == b""

    with watching(answering("", read_twice)) as client:
        client.post("/", data={"text": "milk"})
        told = client.told(part=4)
        assert "✗ The body is a stream: the first read got 9 bytes, the last one 0" in told

    def read_to_the_end(environ: WSGIEnvironment) -> None:
        while environ["wsgi.input"].read(4):
            pass

    with watching(answering("", read_to_the_end)) as client:
        client.post("/", data={"text": "milk"})
        assert "The body is a stream: 9 bytes were read" in client.told(part=4)
        assert "✗" not in client.told(part=4)


def test_9_bytes_percent_encoding_str_and_html_are_four_stages(todos: Watched) -> None:
    todos.post("/", data={"text": "Käse & Brot"})
    assert (
        "Four stages of text: percent-encoded as it was sent, K%C3%A4se+%26+Brot; the bytes "
        r"b'K\xc3\xa4se & Brot'; the text 'Käse & Brot'; and HTML, in which it has to be "
        "written as Käse &amp; Brot."
    ) in todos.told(part=4)
    [table] = [block for block in todos.story().parts[3].blocks if isinstance(block, Table)][:1]
    assert table.rows == [
        ("text=K%C3%A4se+%26+Brot", r"b'K\xc3\xa4se & Brot'", "text", "'Käse & Brot'")
    ]


def test_10_a_header_that_is_no_text(todos: Watched) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Length", 0), ("Content-Type", "text/plain")])  # type: ignore[list-item]
        return [b""]

    with watching(app) as client:
        client.xray(client_environ(), lambda *_: lambda _: None)
        told = client.told(part=8)
    assert "✗ WSGI wants" in told
    assert "The header ('Content-Length', 0) is no tuple of two str." in told
    assert "nothing to say" not in told


@pytest.mark.parametrize(
    ("status", "headers", "body", "complaint"),
    [
        (200, [], [b""], "Status must be of type str"),
        ("200 OK", (("Content-Type", "text/plain"),), [b""], "Headers"),
        ("200 OK", [("Content-Type", "text/plain")], ["text"], "yielded non-bytestring"),
        ("200 OK", [("Content-Type", "text/plain")], "text", "not return a string"),
        ("200 OK", [["Content-Type", "text/plain"]], [b""], "Individual headers"),
        ("204 No Content", [("Content-Type", "text/plain")], [], "Content-Type header found"),
        ("200 OK", None, None, "Headers (None)"),
        ("200 OK", [5], [b""], "Individual headers"),
    ],
)
def test_10_what_types_wsgi_wants_and_what_validate_says(
    status: Any, headers: Any, body: Any, complaint: str
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response(status, headers)
        return body

    with watching(app) as client:
        answer = client.xray(client_environ(), lambda *_: lambda _: None)
        assert answer is body or body is None
        if hasattr(answer, "close"):
            answer.close()
        assert "✗ wsgiref.validate complains about the application: " in client.told(part=8)
        assert complaint in client.told(part=8)
        assert "WSGI wants a str like '200 OK'" in client.told(part=8)


def test_10_the_servers_part_is_checked_too(todos: Watched) -> None:
    todos.get("/", environ_overrides={"SERVER_SOFTWARE": None})
    assert "complains about the server: Environmental variable SERVER_SOFTWARE is not a string" in (
        todos.told(part=8)
    )
    assert "It got str, list of tuple of (str, str), and list. wsgiref.validate has nothing" in (
        todos.told(part=8)
    )


def test_10_to_read_without_a_size_is_told(todos: Watched) -> None:
    with watching(answering("", lambda environ: environ["wsgi.input"].read())) as client:
        client.post("/", data={"text": "milk"})
        assert "complains about the application: AssertionError() in assert_(len(args) == 1)" in (
            client.told(part=8)
        )


def test_11_execute_does_not_save_commit_does(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "milk"})
    assert "execute changed 1 row, but saved nothing: until COMMIT" in todos.told(part=6)

    def insert(environ: WSGIEnvironment) -> None:
        connection = table()
        connection.execute("INSERT INTO words VALUES ('milk')")
        if environ["PATH_INFO"] == "/rollback":
            connection.rollback()
        connection.close()

    with watching(answering("Stored?", insert)) as client:
        client.post("/")
        assert "✗ execute changed 1 row, and nobody committed: it is not saved" in (
            client.told(part=6)
        )
        assert "BEGIN Author nobody wrote it: the module sqlite3 executes it" in (
            client.told(part=6)
        )
        client.get("/rollback")
        assert "✗" not in client.told(part=6) + client.told(part=9)
        assert "1 row changed, and ROLLBACK undid it: nothing was saved" in client.told(part=6)


def test_11_before_a_script_python_commits(table: Callable[[], sqlite3.Connection]) -> None:
    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.execute("INSERT INTO words VALUES ('milk')")
            connection.executescript("BEGIN; CREATE TABLE more (word TEXT); COMMIT")

    with watching(answering("", insert)) as client:
        client.post("/")
        told = client.told(part=6)
        assert "COMMIT saved it" in told
        assert told.count("nobody wrote it") == 2  # BEGIN and COMMIT
        assert "✗" not in told


def test_11_in_autocommit_each_statement_is_saved_by_itself(
    table: Callable[[], sqlite3.Connection],
) -> None:
    def insert(_: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.isolation_level = None
            connection.execute("INSERT INTO words VALUES ('milk')")

    with watching(answering("", insert)) as client:
        client.post("/")
        assert "each statement is saved by itself (autocommit)" in client.told(part=6)


def test_12_the_question_mark_is_no_string_formatting(
    todos: Watched, table: Callable[[], sqlite3.Connection]
) -> None:
    todos.post("/", data={"text": "'); DROP TABLE todos; --"})
    told = todos.told(part=6)
    assert "INSERT INTO todos (text) VALUES (?)" in told
    assert """Parameters ("'); DROP TABLE todos; --",)""" in told
    assert "SQLite gets the text of the statement and the parameters apart" in told
    assert "✗" not in told

    def find(environ: WSGIEnvironment) -> None:
        word = environ["QUERY_STRING"].partition("=")[2]
        with closing(table()) as connection:
            connection.execute(f"SELECT word FROM words WHERE word = '{word}'")

    with watching(answering("", find)) as client:
        client.get("/?word=milk")
        assert "✗ The value of word stands within the text of the SQL: 'milk'" in (
            client.told(part=6)
        )


@pytest.mark.parametrize("query", ["?q=name", "?q=word", "?q=wo"])
def test_12_a_word_that_stands_in_the_sql_anyway_is_no_injection(
    table: Callable[[], sqlite3.Connection], query: str
) -> None:
    def find(environ: WSGIEnvironment) -> None:
        with closing(table()) as connection:
            connection.execute("SELECT word AS name FROM words WHERE word = ?", (query,))

    with watching(answering("", find)) as client:
        client.get(f"/{query}")
        assert "✗" not in client.told(part=6)


counter = 0


def test_13_a_global_variable_is_no_storage(todos: Watched) -> None:
    def count(_: WSGIEnvironment) -> None:
        global counter
        counter += 1

    with watching(answering("", count)) as client:
        client.get("/")
        told = client.told(part=2)
        assert "can write the global variable counter. It lives in process" in told
        assert "test_xray_lessons.py" in told
    todos.get("/")
    told = todos.told(part=2)
    assert f"This ran in thread {threading.current_thread().name} of process {os.getpid()}" in told
    assert "another process has its own, and a restart loses them" in told


def test_14_where_escaping_happens(todos: Watched) -> None:
    todos.post("/", data={"text": "<b>milk</b>"})
    todos.get("/")
    told = todos.told(part=7)
    assert "Escaped where it becomes HTML, and only there: $text, '<b>milk</b>'" in told
    assert "&lt;b&gt;milk&lt;/b&gt;" in told

    def greet(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        name = environ["QUERY_STRING"].partition("=")[2]
        return [f"Hello {name}, or {html.escape(name)}".encode()]

    with watching(greet) as client:
        client.get("/?name=<b>Ada</b>")
        assert "✗ name came with the request as '<b>Ada</b>' and stands in the page as it is" in (
            client.told(part=7)
        )


def test_15_what_server_wsgi_application_and_proxy_each_did(tmp_path: Path) -> None:
    command = serve_command("--port", "0", "--xray", "0", "--trusted-proxy", "127.0.0.1")
    with running(command, tmp_path) as server, nginx_before(server, tmp_path) as nginx:
        server.send(get("/", "Cookie: a=milk", "Cookie: b=honey", "X_Forwarded_For: 6.6.6.6"))
        with socket.create_connection(("127.0.0.1", nginx), 20) as connection:
            exchange(connection, get())
        server.send(get("/", "X-Forwarded-Host: other.example"))
        server.send(b"GET / HTTP/1.0\r\n\r\n")
        alone, behind, pretending, bare = (server.xray(f"{number}") for number in range(1, 5))
    assert "there is no sign of a proxy; waitress read bytes and made the environ" in alone
    assert "the application chose status, headers and body; waitress added its headers" in alone
    assert "cookie merged: it came 2 times" in alone
    assert "x_forwarded_for dropped: with its underscore it would look like x-forwarded-for" in (
        alone
    )
    assert "HTTP_HOST 'localhost' header Host" in alone
    assert "renamed, like host to HTTP_HOST" in alone
    assert "Content-Security-Policy default-src 'none'" in alone
    assert re.search(r"ETag \S+ the application .*Date [^:]*:\d\d:\d\d GMT the server", alone)
    assert "host changed: 'localhost' became 'other.example'" in pretending
    assert "Headers that the server changed" not in bare
    assert "a proxy took the request from the browser and passed it on" in behind
    assert "HTTP_X_FORWARDED_FOR '127.0.0.1' a proxy" in behind
