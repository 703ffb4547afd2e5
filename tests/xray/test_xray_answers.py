"""What the x-ray tells of the answer: what the browser really got, also if something failed."""

from __future__ import annotations

import email
import io
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest
from servers import get, post, receive_all, request, wait_until
from xrays import Watched, client_environ, watching

from todo_wsgi.xray.record.trace import MAX_BODY
from todo_wsgi.xray.show.viewer import serving


class Seen(NamedTuple):
    """What came over the wire, and what the x-ray tells."""

    answer: str
    client: Watched

    @property
    def outcome(self) -> str:
        return self.client.story().summary.status

    def text(self, part: int = 0) -> str:
        return self.client.text(part=part)


@contextmanager
def served(app: Any) -> Iterator[tuple[Watched, int]]:
    """Serve the application with waitress under the x-ray; yield its client and the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with watching(app) as client, serving(client.xray, listener):
        yield client, port


def send(port: int, request: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(request)
        return receive_all(connection).decode(errors="replace")


def ask(app: Any, request: bytes = get()) -> Seen:
    with served(app) as (client, port):
        return Seen(send(port, request), client)


PLAIN = [("Content-Type", "text/plain")]
OWN_PAGE = "500 Internal Server Error (the server's own page)"


def returning(body: Any, status: Any = "200 OK", headers: Any = PLAIN) -> Any:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response(status, headers)
        return body

    return app


def no_start(_environ: Any, _start_response: Any) -> Any:
    return [b"hello"]


def twice(_environ: Any, start_response: Any) -> Any:
    return [start_response("404 Not Found", PLAIN), start_response("200 OK", PLAIN)]


def fails(_environ: Any, _start_response: Any) -> Any:
    raise LookupError("lost")


@pytest.mark.parametrize(
    ("app", "mistake"),
    [
        (returning(None), "The application returned None: a return is missing."),
        (returning([5]), "The body contains 5, not bytes."),
        (returning(b"hello"), "The body is bytes without a list around it."),
        (returning(5), "The application returned 5, not a list of bytes."),
        (no_start, "start_response was never called."),
        (
            returning([b""], status=200),
            "The status is 200, not text. Write number and words in quotes",
        ),
        (
            returning([b""], headers={"Content-Type": "text/plain"}),
            "The headers are {'Content-Type': 'text/plain'}, not a list.",
        ),
        (
            twice,
            "start_response was called twice, the second time at tests/xray/test_xray_answers.py:",
        ),
        (fails, ""),
        (lambda _: [], ""),
    ],
)
def test_an_answer_that_fails_in_the_server_is_told_as_what_the_browser_got(
    app: Any, mistake: str
) -> None:
    seen = ask(app)
    assert seen.answer.startswith("HTTP/1.1 500 Internal Server Error")
    assert seen.outcome == OWN_PAGE
    assert f"GET / → {OWN_PAGE}" in seen.text()
    told = seen.text(part=8)
    assert f"{mistake}" in told or not mistake
    assert "(the server's own page), a body of 110 bytes" in told
    assert "text/plain; charset=utf-8 waitress" in told
    assert "the application " not in told.partition("Set by")[2].partition("✗")[0]
    assert "found no error" not in told
    assert f"It shows what it got: {OWN_PAGE}" in seen.text(part=9)


@pytest.mark.parametrize(
    ("app", "mistake"),
    [
        (returning("hello"), "The body is text, not a list of bytes. Put .encode() behind it"),
        (returning(["hello"]), "The body is text, not bytes. Put .encode() behind it"),
    ],
)
def test_text_instead_of_bytes_is_cut_off_after_the_head(app: Any, mistake: str) -> None:
    seen = ask(app)
    assert seen.answer.endswith("\r\n\r\n")
    assert seen.outcome == "200 OK, then cut off"
    assert f"{mistake}" in seen.text(part=8)
    assert "waitress could not send this: TypeError(" in seen.text(part=8)
    assert ", no body" in seen.text(part=8)


def test_an_exception_after_the_first_chunk_cuts_the_answer_off() -> None:
    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"hello"
        raise LookupError("lost")

    seen = ask(app)
    assert "hello" in seen.answer
    assert seen.outcome == "200 OK, then cut off"
    assert "The response broke off." in seen.text(part=8)
    assert "found no error" not in seen.text(part=8)
    assert "It shows what it got: 200 OK, then cut off" in seen.text(part=9)
    assert [message.text for message in seen.client.story().messages][2::2] == [
        "200 OK",
        "LookupError('lost')",
    ]


def test_a_browser_that_leaves_gets_only_the_beginning() -> None:
    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        while True:
            yield b"milk\n" * 20_000

    with served(app) as (client, port):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(get())
            connection.recv(10)
        wait_until(lambda: not client.xray.traces.last()[0].is_running)
        assert client.story().summary.status == "200 OK, then cut off"
        assert "waitress could not send this: ClientDisconnected()." in client.text()


def test_a_second_start_response_with_an_exception_replaces_the_first() -> None:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise LookupError("lost")
        except LookupError:
            start_response("404 Not Found", PLAIN, sys.exc_info())
        return [b"lost"]

    seen = ask(app)
    assert seen.outcome == "404 Not Found"
    assert "✗" not in seen.text(part=8)


def test_reading_a_form_without_a_size_is_no_mistake() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [environ["wsgi.input"].read()]

    seen = ask(app, post(b"text=milk"))
    assert "read() 9 bytes" in seen.text(part=4)
    assert "✗" not in seen.text(part=8)


def test_a_file_that_the_server_sends_by_itself_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_bytes(b"x" * 1696)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/css")])
        return environ["wsgi.file_wrapper"]((tmp_path / "style.css").open("rb"))

    seen = ask(app)
    assert "a file that the server sends by itself, 1,696 bytes" in seen.text(part=8)
    assert "1,696 bytes" in seen.text(part=8)
    assert "✗" not in seen.text(part=8)


def with_length(length: str, *chunks: bytes) -> Any:
    """Return applications that declare this length: one with a list, one that generates it."""

    def listed(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [*PLAIN, ("Content-Length", length)])
        return [*chunks]

    def generated(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN, ("Content-Length", length)])
        yield from chunks

    return listed, generated


@pytest.mark.parametrize("app", with_length("3", b"gr\xc3\xbc\xc3\x9fe"))
def test_a_content_length_that_counts_characters_is_a_mistake(app: Any) -> None:
    seen = ask(app)
    assert seen.answer.endswith("\r\n\r\ngr\ufffd")
    text = seen.text(part=8)
    assert "Content-Length is 3, but the body has 7 bytes: the browser takes only the" in text
    assert "a body of 3 bytes" in text
    assert r"gr\xc3 " in text


@pytest.mark.parametrize("app", with_length("10", b"gr\xc3\xbc\xc3\x9fe"))
def test_a_content_length_that_promises_too_much_is_a_mistake(app: Any) -> None:
    text = ask(app).text(part=8)
    assert "Content-Length is 10, but the body has 7 bytes: the browser waits for more. " in text
    assert "Return all that was counted; or leave the header out" in text


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified")])
def test_a_response_without_a_body_may_declare_its_length(method: str, status: str) -> None:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, [*(PLAIN * (method == "HEAD")), ("Content-Length", "7")])
        return []

    seen = ask(app, request(method, "/"))
    assert seen.outcome == status
    assert "✗" not in seen.text(part=8)
    assert ", no body" in seen.text(part=8)


def test_time_runs_forwards_while_the_body_is_generated() -> None:
    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"first"
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT 1")
        yield b"second"

    messages = ask(app).client.story().messages
    lanes = [(message.sender, message.receiver) for message in messages]
    assert lanes == [(0, 1), (1, 2), (2, 1), (1, 0), (2, 3), (2, 1)]
    assert messages[-1].text == "the end of the body"


def test_a_request_that_still_runs_is_in_the_list_with_its_line() -> None:
    begun, may_end = Event(), Event()

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        may_end.wait(20)  # here
        start_response("200 OK", [*PLAIN, ("Set-Cookie", "a=geheimnis")])
        return [b"done"]

    with watching(app) as client, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.get, "/")
        begun.wait(20)
        [trace] = client.xray.traces.last()
        line = trace.where()
        assert trace.is_running
        assert line
        assert line.code == "may_end.wait(20)  # here"
        outcome = rf"running, \d s, at tests/xray/test_xray_answers\.py:{line.number}"
        assert re.fullmatch(outcome, trace.outcome)
        assert re.search(f"GET / → {outcome}", client.text())
        assert re.search(f"waits for the rest of the response: {outcome}", client.text(part=9))
        assert "✗" not in client.text()
        may_end.set()
        assert answer.result().text == "done"
        assert (trace.is_running, trace.where(), trace.outcome) == (False, None, "200 OK")


def test_between_two_chunks_a_request_runs_at_no_line() -> None:
    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN, ("Set-Cookie", "key=geheimnis")])
        yield from (b"first", b"second")

    with watching(app) as client:
        body: Any = client.xray(client_environ(), lambda *_: lambda _: None)
        next(body)
        [trace] = client.xray.traces.last()
        assert re.fullmatch(r"running, \d s", trace.outcome)
        assert "geheimnis" not in client.text()
        assert "body of 5 bytes" in client.text(part=8)
        body.close()
        assert trace.outcome == "200 OK"
        assert "found no error" not in client.text(part=8)  # nobody asked for the rest


def test_a_running_request_can_be_told_at_any_moment() -> None:
    may_end = Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        with closing(sqlite3.connect(":memory:")) as connection:
            number = 0
            while not may_end.is_set():
                number += 1
                connection.execute("SELECT ?", ({"password": f"secret{number}"}["password"],))
                environ["wsgi.input"].read(1)
                environ.get(f"key {number}")
                check(password=f"secret{number}")
        start_response("200 OK", PLAIN)
        return [b"done"]

    def check(password: str) -> None:
        pass

    with watching(app) as client, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.get, "/")
        wait_until(lambda: bool(client.xray.traces.last()))
        try:
            for _ in range(20):
                assert "running" in client.text()
        finally:
            may_end.set()
        assert answer.result().text == "done"


def leave(_environ: Any, _start_response: Any) -> list[bytes]:
    sys.exit(3)


def leave_later(_environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b""
    sys.exit(3)


@pytest.mark.parametrize("app", [leave, leave_later])
def test_sys_exit_in_the_application_ends_the_trace_with_a_mistake(app: Any) -> None:
    with served(app) as (client, port), socket.create_connection(("127.0.0.1", port)) as browser:
        browser.sendall(get())
        wait_until(lambda: any(not trace.is_running for trace in client.xray.traces.last()))
        assert client.story().summary.status == "an exception"
        assert (
            "The application called sys.exit, at tests/xray/test_xray_answers.py:"
            in client.text(part=5)
        )
        assert "It waits: waitress got an exception" in client.text(part=9)


def test_an_interruption_ends_the_trace() -> None:
    def app(_environ: Any, _start_response: Any) -> list[bytes]:
        raise KeyboardInterrupt

    with watching(app) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
        assert client.story().summary.status == "an exception"


def read_into(stream: Any) -> bytes:
    buffer = bytearray(20)
    return bytes(buffer[: stream.readinto(buffer)])


def read_buffered(stream: Any) -> bytes:
    return io.BufferedReader(stream).read()


def read_message(stream: Any) -> bytes:
    return str(email.message_from_binary_file(stream)).strip().encode()


def read_text(stream: Any) -> bytes:
    return "".join(io.TextIOWrapper(stream)).encode()


def read_lines(stream: Any) -> bytes:
    return b"".join(stream.readlines())


@pytest.mark.parametrize("read", [read_into, read_buffered, read_message, read_text, read_lines])
def test_other_ways_to_read_the_body_are_recorded(read: Any) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [read(environ["wsgi.input"])]

    seen = ask(app, post(b"text=milk"))
    assert seen.answer.endswith("\r\n\r\ntext=milk")
    assert "Calls that read from wsgi.input: read" in seen.text(part=4)
    assert re.search("times  ?9 bytes|[)] 9 bytes", seen.text(part=4))
    assert "No read" not in seen.text(part=4)


def test_reads_of_one_line_are_added_up() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        size = 0
        while data := environ["wsgi.input"].read(8192):
            size += len(data)
        start_response("200 OK", PLAIN)
        return [str(size).encode()]

    seen = ask(app, request("POST", "/", "Content-Length: 229000") + b"milk\n" * 45_800)
    assert "read(8192), 29 times 229,000 bytes" in seen.text(part=4)
    assert len(seen.client.xray.traces.last()[0].read_body) == MAX_BODY


def test_an_x_ray_of_an_x_ray_records_once() -> None:
    with watching(returning([b"hello"])) as inner, watching(inner.xray) as outer:
        assert outer.get("/").text == "hello"
        assert len(outer.xray.traces.last()) == 1
        assert not inner.xray.traces.last()
        assert inner.get("/").text == "hello"
        assert len(inner.xray.traces.last()) == 1


def test_under_another_server_only_the_fault_is_known() -> None:
    with watching(returning(["hello"])) as client:
        client.xray(client_environ(), lambda *_: lambda _: None)
        assert client.story().summary.status == "an invalid response"
        assert "The body is text, not bytes." in client.text(part=8)
