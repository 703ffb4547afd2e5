"""Read this test first: the journey of one todo, from a browser's bytes to the disk and back."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from servers import running, serve_command


def test_the_journey_of_one_post(tmp_path: Path) -> None:
    # Somebody starts the server in an empty folder, as with `python serve.py`, on any free port.
    with running(serve_command("--port", "0"), tmp_path) as server:
        # It prints its address. A browser that visits it opens a connection: two machines, here
        # the same one, can now send each other bytes.
        assert f"http://127.0.0.1:{server.port}/" in server.output
        browser = socket.create_connection(("127.0.0.1", server.port))

        # Somebody types "milk & honey" and clicks "Add todo". The browser knows no Python or SQL;
        # all it can do is send text. The form's field is named "text", so this is the body ...
        body = b"text=milk+%26+honey"
        # ... and the head goes before it: what to do, where, and how long the body is.
        browser.sendall(
            b"POST / HTTP/1.1\r\n"
            b"Host: 127.0.0.1\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: %d\r\n"
            b"\r\n%b" % (len(body), body)
        )

        # waitress reads those bytes, turns them into an environ, and calls the application with it
        # in one of its threads (application.py). The router finds the handler `create_todo`
        # (routing.py, handlers.py), which reads the form from the body (request.py) and inserts a
        # row (models.py, database.py). The handler returns a response (response.py), and waitress
        # sends it. Its head ends with an empty line.
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += browser.recv(1024)  # as much as has arrived by now
        status, *headers = received.decode().split("\r\n")

        # The response is not a page. It says: done, now go there with a GET.
        assert status == "HTTP/1.1 303 See Other"
        assert "Location: /?added=1" in headers
        assert "Content-Length: 0" in headers

        # By the time it arrives, the todo is on disk. Any program can read it there.
        with closing(sqlite3.connect(tmp_path / "todos.db")) as connection:
            [(number, text)] = connection.execute("SELECT id, text FROM todos")
        assert (number, text) == (1, "milk & honey")

        # The browser follows the redirect by itself, on the same connection.
        browser.sendall(b"GET /?added=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        with closing(browser), browser.makefile(encoding="utf-8", newline="") as answer_to_get:
            page = answer_to_get.read()

        # This response is a page, rendered from templates (pages.py, templating.py). In HTML, "&"
        # starts the name of a character, so a plain "&" is written as its name: it is escaped.
        assert page.startswith("HTTP/1.1 200 OK\r\n")
        assert '<span class="text" dir="auto">milk &amp; honey</span>' in page
        # The title says what has happened, for somebody who cannot see the page.
        assert "<title>Added: milk &amp; honey, 1 item left</title>" in page
        # Reloading repeats the GET, which changes nothing: that is what the 303 was for.
