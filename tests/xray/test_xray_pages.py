"""The web site of the x-ray: its pages and its access control."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_plus
from urllib.request import urlopen
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

import pytest
from browsers import NARROW, WIDE, assert_is_accessible, new_page
from conftest import assert_keeps_the_promises_of_all
from playwright.sync_api import Browser, Route, expect
from servers import (
    BIN,
    POSIX_ONLY,
    Server,
    get,
    need,
    post,
    read_manual,
    request,
    running,
    serve_command,
    status_of,
    wait_until,
)
from werkzeug.test import Client, TestResponse
from xrays import Watched, one_line, watching

from todo_wsgi.xray.show.terminal import Printer
from todo_wsgi.xray.show.viewer import Viewer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the x-ray: `serve.py --xray`."""
    folder = tmp_path_factory.mktemp("site")
    with running(serve_command("--port", "0", "--xray", "0"), folder) as server:
        yield server
    assert "Traceback" not in server.output


HOST = "127.0.0.1:8081"


class Visitor(Client):
    """A client of the web site of an x-ray."""

    def __init__(self, watched: Watched) -> None:
        self.viewer = Viewer(watched.xray.traces, 8081, "http://127.0.0.1:8080/")
        self.base = self.viewer.address.removeprefix("http://127.0.0.1:8081")
        super().__init__(validator(self.viewer))

    def look(self, path: str = "", host: str = HOST, method: str = "GET") -> TestResponse:
        """Open a page, and check that it is valid HTML, protected, and without a script."""
        path = path if path.startswith("/") else self.base + path
        answer = self.open(path, method=method, headers={"Host": host}, buffered=True)
        assert_keeps_the_promises_of_all(answer)
        assert "<script" not in answer.text
        assert "http-equiv" not in answer.text
        return answer


@pytest.fixture
def visitor(todos: Watched) -> Visitor:
    return Visitor(todos)


def test_both_addresses_are_printed_and_each_request_has_a_page(site: Server) -> None:
    assert site.xray_address
    assert re.fullmatch(
        r"Serving \S+/todos.db on http://127\.0\.0\.1:\d+/ \(Ctrl-C stops\)\n"
        r"X-ray of each request on http://127\.0\.0\.1:\d+/[\w-]{22}/\n",
        site.output,
    )
    assert status_of(site.send(post(b"text=milk"))) == 303
    [newest] = re.findall(r"(\d+) POST / 303 See Other", site.xray())[:1]
    page = site.xray(newest)
    for number, title in enumerate(
        [
            "What the browser sent",
            "What the server passed to the application",
            "The route",
            "The form",
            "The functions that ran",
            "SQL",
            "The template",
            "What the server sent back",
            "What the browser does next",
        ],
        1,
    ):
        assert f"{number}. {title}" in page
    head, _, body = post(b"text=milk").decode().partition("\r\n\r\n")
    for line in head.split("\r\n"):
        assert rf"{line}\r\n" in page
    assert f"After the empty line, the body: 9 bytes. {body}" in page
    assert "waitress/parser.py" in page
    assert "HTTP/1.1 303 See Other the application" in page
    assert "No mistake found" in page


def test_a_chunked_body_is_shown_as_it_arrived_and_as_it_was_read(site: Server) -> None:
    chunked = get("/", "Content-Type: application/x-www-form-urlencoded")
    chunked = chunked.replace(b"GET", b"POST").replace(
        b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntext=\r\n4\r\nmilk\r\n0\r\n\r\n"
    )
    assert status_of(site.send(chunked)) == 303
    page = site.xray(newest(site))
    assert r"5\r\n text=\r\n 4\r\n milk\r\n 0\r\n" in page
    assert "transfer-encoding dropped" in page
    assert "content-length added: 9, once the whole body had arrived" in page
    assert "text=milk b'milk' text 'milk'" in page


def newest(site: Server) -> str:
    """Return the number of the last request."""
    found = re.search(r"Verdict Time (\d+) ", site.xray("?pause=1"))
    assert found
    return found[1]


@POSIX_ONLY
def test_under_another_server_the_request_is_reconstructed(tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(
        "import time\nfrom todo_wsgi import create_app\nfrom todo_wsgi.xray import XRay\n"
        "from todo_wsgi.xray.story.parts import tell\nxray = XRay(create_app('todos.db'))\n"
        "def app(environ, start_response):\n"
        "    body = xray(environ, start_response)\n"
        "    part = tell(xray.traces.last()[0], xray.traces).parts[0]\n"
        "    print(part.content[0].text, flush=True)\n"
        "    return body\n"
    )
    command = [str(BIN / "gunicorn"), "--bind=127.0.0.1:0", "watched:app"]
    with running(command, tmp_path) as server:
        assert status_of(server.send(get())) == 200
    assert "Reconstructed from the environ: this server does not expose the bytes" in server.output


def test_the_readme_example_for_other_applications(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = read_manual(r"import waitress\n.*?:8080\"\)\n")
    code = f"from wsgiref.simple_server import demo_app as app\n{lines}"
    code = code.replace("8081", "0").replace("8080", str(port))
    command = [sys.executable, "-u", "-c", code]
    with running(command, tmp_path) as server:  # which prints the address of the x-ray
        wait_until(lambda: is_open(port))
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert b"Hello world!" in answer.read()
        address = re.search(r"http://\S+", server.output)  # waitress may have warned since
        assert address
        with urlopen(address[0]) as answer:
            assert b"200 OK" in answer.read()


def is_open(port: int) -> bool:
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0


def test_the_list_reloads_unless_paused(visitor: Visitor, todos: Watched) -> None:
    assert "No requests yet" in visitor.look().text
    todos.get("/")
    assert visitor.look().headers["Refresh"] == "2"
    assert "Refresh" not in visitor.look("?pause=1").headers
    assert 'href="?pause=1"' in visitor.look().text
    assert 'href="."' in visitor.look("?pause=1").text


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("", "127.0.0.1:8081", 200),
        ("", "localhost:8081", 200),
        ("", "LOCALHOST:8081", 200),
        ("", "evil.example:8081", 403),
        ("", "127.0.0.1", 403),
        ("", "127.0.0.1:8080", 403),
        ("", "", 403),
        ("/xray.css", "127.0.0.1:8081", 200),
        ("/xray.css", "evil.example:8081", 403),
        ("/", "127.0.0.1:8081", 403),
        ("/1", "127.0.0.1:8081", 403),
        ("/wrong/1", "127.0.0.1:8081", 403),
        ("/é/1", "127.0.0.1:8081", 403),
        ("1", "127.0.0.1:8081", 200),
        ("2", "127.0.0.1:8081", 404),
        ("-1", "127.0.0.1:8081", 404),
        ("nothing", "127.0.0.1:8081", 404),
        ("compare?left=1&right=1", "127.0.0.1:8081", 200),
        ("compare?left=1&right=2", "127.0.0.1:8081", 404),
        ("compare?left=x", "127.0.0.1:8081", 404),
    ],
)
def test_access_requires_the_key_and_a_local_host_name(
    visitor: Visitor, todos: Watched, path: str, host: str, status: int
) -> None:
    todos.post("/", data={"text": "milk"})
    answer = visitor.look(path, host)
    assert answer.status_code == status
    assert ("milk" in answer.text) == (status == 200 and path in ("1", "compare?left=1&right=1"))
    assert visitor.look(path, host, "POST").status_code in (403, 404, 405)
    assert visitor.look(path, host, "HEAD").status_code == status


def test_it_listens_only_on_127_0_0_1_and_on_its_own_port(
    tmp_path: Path,
) -> None:
    command = serve_command("--host", "0.0.0.0", "--port", "0", "--xray", "0")
    with running(command, tmp_path) as server:
        port = int(re.split("[:/]", server.xray_address)[4])
        key = server.xray_address.split("/")[3]
        assert status_of(server.send(get(f"/{key}/"))) == 404
        socket.create_connection(("127.0.0.1", port), 5).close()
        with socket.socket() as elsewhere, pytest.raises(ConnectionRefusedError):
            elsewhere.connect(("127.0.0.2", port))
        socket.create_connection(("127.0.0.2", server.port), 5).close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--xray", "x"], "'x' is not a port"),
        (["--xray", "0", "--processes", "2"], "--xray watches one process: leave out --processes"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(arguments: list[str], message: str) -> None:
    run = subprocess.run(serve_command(*arguments), capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            serve_command("--port", "0", "--xray", port),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (run.returncode, run.stdout) == (2, "")
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use. Stop" in run.stderr


# Secrets


SECRETS = [
    "hunter2-passphrase",
    "geheim&größer",
    "Basic YWRhOmxvdmVsYWNl",
    "YWRhOmxvdmVsYWNl",
    "lovelace",
    "8f14e45fceea167a",
    "c9f0f895fb98ab91",
    "45c48cce2e2d7fbd",
    "d3d9446802a44259",
    "6512bd43d9caa6e0",
    "ab1",
    "mF_9.B5f-4.1JqM",
    "swordfish-dict",
    "letmein-tuple",
]


def leaky(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An application that leaks secrets wherever it can."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    log_in(body.decode(), environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_COOKIE"))
    log_in_with({"password": "swordfish-dict"}, Login("ada", "letmein-tuple"))
    headers = [("Content-Type", "text/html"), ("Set-Cookie", "id=45c48cce2e2d7fbd; Path=/")]
    start_response("200 OK", headers)
    page = f"{body!r} {environ!r}"
    try:
        raise ValueError(page)
    except ValueError as error:
        return [str(error).encode()]


class Login(NamedTuple):
    user: str
    password: str


def log_in_with(*logins: object, **options: object) -> object:
    return [logins, options]


def log_in(*values: object) -> object:
    api_key = "6512bd43d9caa6e0"
    return check(values, password="hunter2-passphrase", token=api_key)


def check(values: object, password: str, token: str) -> object:
    return [values, password, token]


def test_secrets_are_hidden_wherever_they_appear() -> None:
    headers = {
        "Authorization": "Basic YWRhOmxvdmVsYWNl",
        "Cookie": "session=8f14e45fceea167a; theme=ab1",
        "X-Api-Key": "c9f0f895fb98ab91",
    }
    with watching(leaky) as client:
        visitor = Visitor(client)
        client.post(
            "/?token=d3d9446802a44259",
            data={"password": "geheim&größer", "user": "ada"},
            headers=headers,
        )
        client.post("/", json={"user": "ada", "password": "geheim&größer"}, headers=headers)
        client.post(
            "/",
            data={"password": "geheim&größer", "user": "ada"},
            headers=headers,
            content_type="multipart/form-data",
        )
        client.get("/", headers={"Authorization": "Bearer mF_9.B5f-4.1JqM"})
        for path in ("", "1", "2", "3", "4", "compare?left=1&right=2"):
            page = visitor.look(path).text
            assert not [secret for secret in seen_as(SECRETS) if secret in page]
        for number in (1, 2, 3):
            text = client.text(number)
            assert not [secret for secret in seen_as(SECRETS) if secret in text]
            assert "ada" in text
            assert "[hidden]" in text


@pytest.mark.parametrize(
    ("content_type", "body", "secrets"),
    [
        ("application/json", b'{"password": 83716253, "token": {"value": ["hunter22x"]}}', ""),
        ("application/json", rb'{"password": "h\u00fcnter22x", "pin": "48151623"}', "hünter22x"),
        ("text/plain", b"password=hunter22x", ""),
        ("", b"password=hunter22x", ""),
        ("application/x-www-form-urlencoded", b"passwordConfirm=h%FCnter22x", "hünter22x"),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 11_000 + b"&pw=hunter22x", ""),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=password\r\nX-A: b\r\n\r\nhunter22x\r\n"
            b"second22x\r\n--b--\r\n",
            "second22x",
        ),
    ],
)
def test_secrets_in_bodies_of_all_types(content_type: str, body: bytes, secrets: str) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        data = bytes(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        text = data.decode("latin-1")
        with suppress(ValueError):
            check(json.loads(data), "", "")
        headers = [("Content-Type", "text/html"), ("Location", "/?token=location22x")]
        check(unquote_plus(text, "latin-1"), "", "")
        start_response("303 See Other", headers)
        return [text.encode() + b'<input type="hidden" name="csrf_token" value="input22x">']

    with watching(app) as client:
        headers = {
            "Referer": "http://ada:userinfo22x@x/?password=referer22x",
            "Authorization": 'Digest  username="ada", response="digest22x"',
            "Cookie": "s=ab%20cookie22x",
        }
        client.post("/", data=body, content_type=content_type, headers=headers)
        client.text()
        text = client.text() + Visitor(client).look("1").text
    others = ["unter22x", "83716253", "48151623", "location22x", "input22x", "userinfo22x"]
    others += ["referer22x", "digest22x", "cookie22x", *([secrets] if secrets else [])]
    assert not [secret for secret in others if secret in text]


def test_a_secret_that_arrived_in_chunks_is_not_shown(site: Server) -> None:
    head = request("POST", "/", "Content-Type: application/x-www-form-urlencoded")
    head = head.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    site.send(head + b"c\r\npassword=hun\r\n8\r\nter22xyz\r\n0\r\n\r\n")
    page = site.xray(newest(site))
    assert "After the empty line, the body: 35 bytes. [hidden]" in page
    assert "ter22xyz" not in page


# What is wrong, first


def deleting(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An application that changes data on a GET."""
    with closing(sqlite3.connect(":memory:")) as connection, connection:
        connection.execute("CREATE TABLE words (word TEXT)")
        connection.execute("INSERT INTO words VALUES ('milk')")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def test_a_mistake_is_told_first_and_everywhere() -> None:
    with watching(deleting) as client:
        client.get("/")
        visitor = Visitor(client)
        page, listed = visitor.look("1").text, visitor.look().text
        words = one_line(re.sub("<[^>]*>", "", page))
    verdict = "1 mistake: a GET changed 1 row (6. SQL)"
    assert page.index("<title>✗ GET /") < page.index("<h1>") < page.index('class="verdict wrong"')
    assert words.index(verdict) < words.index("1. What the browser sent")
    assert "✗ 1 mistake: a GET changed 1 row (" in listed
    assert '<a href="#part-6">6. SQL ✗</a>' in page
    opened = re.findall(r'<details class="part" open="open">.*?<h2>(.*?)</h2>', page)
    assert opened == ["6. SQL"]
    assert "2. Environ ✗" not in page
    assert [*Printer().lines(client.story())][-1] == verdict


def test_without_a_mistake_that_is_said_and_every_part_is_one_line(
    visitor: Visitor, todos: Watched
) -> None:
    todos.post("/", data={"text": "milk & honey"})
    page = visitor.look("1").text
    assert '<p class="verdict">No mistake found</p>' in page
    assert 'open="open"' not in page
    assert visitor.look("1?open=all").text.count('open="open"') == 9
    assert "<h2>4. The form</h2><span class=\"essence\">text = 'milk &amp; honey'" in page
    assert '<h2>6. SQL</h2><span class="essence">1 row inserted, saved by COMMIT' in page
    lines = [*Printer().lines(todos.story())]
    assert len(lines) <= 80
    assert lines[-1] == "No mistake found"


def test_in_the_list_a_request_stands_below_the_one_that_it_belongs_to(
    visitor: Visitor, todos: Watched
) -> None:
    browser = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "5000"}
    answer = todos.post("/", data={"text": "milk"}, environ_overrides=browser)
    todos.get(answer.location, environ_overrides=browser)
    todos.get("/todos.txt")
    rows = re.findall(r"<tr><td><a.*?>(\d)</a></td><td>(.*?)</td>", visitor.look().text)
    assert rows == [("3", "GET /todos.txt"), ("1", "POST /"), ("2", "↳ GET /?added=1")]


def test_html_is_shown_as_its_source(visitor: Visitor, todos: Watched) -> None:
    todos.get("/?show=active")
    page = visitor.look("1").text
    assert '&lt;a href="/?show=active"' in page
    assert "Mark all as complete</button>" not in page


def seen_as(secrets: list[str]) -> list[str]:
    """Return the forms in which the secrets may appear."""
    others = ["geheim%26gr", "geheim&amp;gr", r"gr\xc3\xb6", "größer", r"gr\u00f6", "hunter2"]
    return secrets + others


def test_a_truncated_secret_is_hidden_too() -> None:
    long = "verylongsecret" * 30

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Filler", "z" * 150 + long)])
        return [b"z" * 9_990 + long.encode()]

    with watching(app) as client:
        client.get("/", headers={"Authorization": long, "X-Filler": "z" * 150 + long})
        assert "verylong" not in client.text()


# Comparing requests, and repeating them


def test_two_requests_side_by_side_below_their_differences(
    visitor: Visitor, todos: Watched
) -> None:
    todos.post("/", data={"text": "milk"})
    todos.post("/", data={"text": ""})
    assert '<option value="1">1: POST /</option>' in visitor.look("2").text
    page = visitor.look("compare?left=1&right=2").text
    assert "<h1>Requests 1 and 2</h1>" in page
    differs = re.findall("<tr><td>(.*?)</td>", page.partition("The same in both")[0])
    assert "4. The form" in differs
    assert "8. What the server sent back" in differs
    assert "3. The route" not in differs
    assert "InvalidText(" in page.partition("The same in both")[0]
    assert page.count("<h2") == 9


@POSIX_ONLY
def test_the_curl_command_sends_the_same_request(site: Server) -> None:
    need("curl")
    odd = post("text=&odd=it's+%26+größer $HOME".encode(), "Cookie: a=b", "X-Empty:")
    answer = site.send(odd.replace(b"localhost", f"localhost:{site.port}".encode()))
    assert status_of(answer) == 422
    page = site.xray(newest(site))
    line = page.partition("as a shell command ")[2].partition(" First put the real")[0]
    assert "[hidden]" in line
    run = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    head, _, body = run.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 422 ")
    assert body == answer.partition(b"\r\n\r\n")[2]
    assert "curl -i --globoff --path-as-is -H" in line
    assert line.endswith(f" http://localhost:{site.port}/")


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_the_curl_command_for_other_methods(todos: Watched, method: str) -> None:
    todos.open("/?a=[1]", method=method, headers={"Accept-Encoding": "gzip"})
    words = todos.story().curl
    assert ("--head" in words, "-X" in words) == (method == "HEAD", method == "PUT")
    assert words[-2:] == ["--compressed", "http://localhost/?a=[1]"]


def test_a_body_that_begins_with_an_at_sign_names_no_file(todos: Watched) -> None:
    todos.post("/", data=b"@/etc/passwd", content_type="application/x-www-form-urlencoded")
    assert todos.story().curl[-3:] == ["--data-raw", "@/etc/passwd", "http://localhost/"]


def test_a_single_request_has_nothing_to_compare_with(visitor: Visitor, todos: Watched) -> None:
    todos.get("/")
    assert "<form" not in visitor.look("1").text
    todos.get("/")
    assert "<form" in visitor.look("1").text


def test_a_response_without_a_body_and_one_in_http_1_0(site: Server) -> None:
    site.send(request("HEAD", "/"))
    assert "200 OK, no body" in site.xray(newest(site))
    site.send(b"GET / HTTP/1.0\r\n\r\n")
    assert "HTTP/1.0 200 OK the application" in site.xray(newest(site))


# In a browser


def test_a_user_follows_a_todo_through_the_xray(browser: Browser, site: Server) -> None:
    with new_page(browser, site, width=WIDE) as page:
        page.goto("/")
        page.get_by_label("New todo").fill("Milk & honey")
        with page.expect_navigation():
            page.get_by_role("button", name="Add todo").click()
        page.goto(f"{site.xray_address}?pause=1")
        row = page.get_by_role("row").filter(has_text="303 See Other").first
        row.get_by_role("link").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("POST /")
        expect(page.get_by_role("img")).to_be_visible()
        page.get_by_role("link", name="Led to request").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("GET /?added=")
        page.get_by_role("link", name="Came from request").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("POST /")
        page.get_by_label("Compare with another request").select_option(index=0)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Requests")


def test_a_link_to_a_part_opens_it(browser: Browser, site: Server) -> None:
    site.send(post(b"text=milk"))
    number = newest(site)
    with new_page(browser, site, width=WIDE) as page:
        page.goto(f"{site.xray_address}{number}")
        sql = "INSERT INTO todos (text, created_at) VALUES (?, ?)"
        insert = page.get_by_role("cell", name=sql, exact=True)
        expect(insert).not_to_be_visible()
        page.get_by_role("link", name="6. SQL").click()
        expect(insert).to_be_visible()
        page.goto(f"{site.xray_address}{number}")
        page.get_by_role("link", name="Open all").click()
        expect(page.locator(".part[open]")).to_have_count(9)


def test_a_lesson_leads_to_the_tutorial_which_does_not_learn_the_key(
    browser: Browser, site: Server
) -> None:
    site.send(post(b"text=milk"))
    with new_page(browser, site, width=WIDE) as page:
        page.route("https://github.com/**", lambda route: route.fulfill(body="Add"))
        page.goto(f"{site.xray_address}{newest(site)}?open=all")
        with page.expect_request("https://github.com/**") as asked:
            page.get_by_role("link", name="execute does not save; commit does").click()
        assert asked.value.url.endswith("/tutorial/4-add")
        assert "referer" not in asked.value.all_headers()


def test_a_page_of_a_small_request_fits_one_screen(browser: Browser, site: Server) -> None:
    site.send(post(b"text=milk"))
    number = newest(site)
    with new_page(browser, site, width=WIDE, java_script_enabled=True) as page:
        page.goto(f"{site.xray_address}{number}")
        assert page.evaluate("document.documentElement.scrollHeight") <= 1110


def test_a_mistake_in_the_list_links_to_the_part_of_its_request() -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE words (word TEXT)")
            connection.execute("INSERT INTO words VALUES ('milk')")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"milk"]

    with watching(app) as client:
        client.get("/")
        assert 'a GET changed 1 row (<a href="1#part-6">6. SQL</a>)' in Visitor(client).look().text
        assert 'a GET changed 1 row (<a href="#part-6">' in Visitor(client).look("1").text


def test_a_running_request_is_in_the_list_with_the_line_that_it_is_at() -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        running.append(Visitor(client).look().text)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"milk"]

    running: list[str] = []
    with watching(app) as client:
        client.get("/")
    assert re.search(r"<td>running, \d s, at tests/xray/test_xray_pages\.py:\d+</td>", running[0])


def test_the_list_shows_a_new_request_automatically(browser: Browser, site: Server) -> None:
    with new_page(browser, site, width=NARROW) as page:
        page.goto(site.xray_address)
        site.send(get("/by-itself"))
        expect(page.get_by_role("cell", name="/by-itself")).to_be_visible()


@pytest.mark.parametrize(
    "path", ["?pause=1", "", "{large}?open=all", "compare?left={small}&right={small}", "nothing"]
)
def test_a_page_is_accessible_and_nothing_is_cut_off(
    browser: Browser, site: Server, path: str
) -> None:
    site.send(post(b"text=" + b"Wine" * 100))
    large = newest(site)
    site.send(get("/nothing"))
    path = path.format(large=large, small=newest(site))
    with new_page(browser, site, width=WIDE, java_script_enabled=True, bypass_csp=True) as page:
        page.route("**/*", hold_still)
        page.goto(site.xray_address + path)
        assert_is_accessible(page)


def hold_still(route: Route) -> None:
    """Pass the page on without its Refresh header, so that axe can examine it."""
    answer = route.fetch()
    route.fulfill(
        response=answer, headers={n: v for n, v in answer.headers.items() if n != "refresh"}
    )
