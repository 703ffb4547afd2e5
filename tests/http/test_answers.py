"""The HTTP contract: every status code, and the headers of every response."""

from __future__ import annotations

import gzip
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from conftest import InProcessClient, in_process, run_sql
from servers import POSIX_ONLY, wait_until
from werkzeug.test import Client, TestResponse

from todo_wsgi import Application, create_app
from todo_wsgi.presentation.static import ICON, STYLE, StaticFile
from todo_wsgi.storage import database as database_module
from todo_wsgi.storage import models

FORM = "application/x-www-form-urlencoded"
Stored = Callable[[], list[str]]


def post(client: Client, body: bytes, **environ: object) -> TestResponse:
    """Send the raw bytes of a form; `environ` overrides what the server says about them."""
    return client.post("/", data=body, content_type=FORM, environ_overrides=environ)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/?anything=%ff", 200),
        ("GET", "/healthz", 200),
        ("GET", "/nothing", 404),
        ("GET", "/healthz/", 404),
        ("POST", "/nothing", 404),
        ("GET", "/../setup.cfg", 404),
        ("GET", "/%2e%2e/setup.cfg", 404),
        ("GET", "/style.css", 404),
        ("GET", "/%00", 404),
        ("GET", "/%zz", 404),
        ("GET", "/%F0%9F%8D%9E", 404),
        ("DELETE", "/", 405),
        ("OPTIONS", "/", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_each_method_and_path_returns_its_status(
    client: Client, method: str, path: str, status: int
) -> None:
    assert client.open(path, method=method).status_code == status


@pytest.mark.parametrize("path", ["/\xff", "/\xed\xa0\x80", "/\xc3"])
def test_a_path_that_is_not_utf_8_returns_400(client: Client, path: str) -> None:
    answer = client.get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code == 400
    assert "The address is not encoded in UTF-8." in answer.text


@pytest.mark.parametrize(("path", "allow"), [("/", "GET, HEAD, POST"), ("/healthz", "GET, HEAD")])
def test_405_lists_the_allowed_methods(client: Client, path: str, allow: str) -> None:
    answer = client.put(path)
    assert answer.headers["Allow"] == allow
    assert f"This address supports {allow} only." in answer.text


def test_an_empty_path_is_the_home_page(client: Client) -> None:
    answer = client.get("/", environ_overrides={"PATH_INFO": "", "SCRIPT_NAME": "/x"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", STYLE.path, "/nothing"])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.headers == get.headers
    assert head.data == b""


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz"])
def test_dynamic_responses_must_be_revalidated(client: Client, path: str) -> None:
    assert client.get(path).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_pages_are_utf_8_html_with_the_sites_style_sheet(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")
    assert f'<link rel="stylesheet" href="{STYLE.path}">' in answer.text


def test_an_error_page_says_what_to_do(client: Client) -> None:
    page = client.get("/nothing").text
    assert "<h1>404 Not Found</h1>" in page
    assert "Check it for a typo" in page
    assert '<a href="/">Go to the list</a>' in page


# The style sheet and the icon


@pytest.mark.parametrize(
    ("file", "content_type"), [(STYLE, "text/css; charset=utf-8"), (ICON, "image/svg+xml")]
)
def test_static_files_have_hashed_paths_and_are_immutable(
    client: Client, file: StaticFile, content_type: str
) -> None:
    answer = client.get(file.path)
    assert answer.headers["Content-Type"] == content_type
    assert answer.headers["Cache-Control"] == "max-age=31536000, immutable"
    assert answer.headers["ETag"].strip('"') in file.path
    assert f'href="{file.path}"' in client.get("/").text


def test_the_style_sheet_is_small(client: Client) -> None:
    assert len(client.get(STYLE.path).data) <= 6000


# Conditional requests and compression

LONG = ["/", "/?show=active", "/import", STYLE.path]  # longer than a packet, so they are compressed


@pytest.mark.parametrize("path", [*LONG, ICON.path])
@pytest.mark.parametrize("given", ["{}", "W/{}", '"other", {}', "*"])
def test_a_matching_etag_returns_304(client: Client, path: str, given: str) -> None:
    first = client.get(path)
    given = given.format(first.headers["ETag"])
    for method in ("GET", "HEAD"):
        answer = client.open(path, method=method, headers={"If-None-Match": given})
        assert answer.status_code == 304
        assert answer.data == b""
        for name in ("ETag", "Cache-Control", "Vary"):
            assert answer.headers.get(name) == first.headers.get(name)


@pytest.mark.parametrize("path", LONG)
@pytest.mark.parametrize("given", ['"other"', "", "x" * 9, '""'])
def test_a_different_etag_returns_the_full_response(client: Client, path: str, given: str) -> None:
    assert client.get(path, headers={"If-None-Match": given}).status_code == 200


def test_error_pages_and_redirects_have_no_etag(client: Client) -> None:
    for answer in (client.get("/nothing"), client.post("/"), client.post("/complete-all")):
        assert "ETag" not in answer.headers


def test_a_changed_page_has_a_different_etag(client: Client) -> None:
    etag = client.get("/").headers["ETag"]
    client.post("/", data={"text": "milk"})
    assert client.get("/", headers={"If-None-Match": etag}).status_code == 200
    client.post("/todos/1/delete")
    assert client.get("/", headers={"If-None-Match": etag}).status_code == 304  # unchanged again


@pytest.mark.parametrize("path", LONG)
def test_a_client_that_accepts_gzip_gets_gzip(client: Client, path: str) -> None:
    plain = client.get(path)
    compressed = client.get(path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data
    assert len(compressed.data) < len(plain.data)
    assert plain.headers["Vary"] == compressed.headers["Vary"] == "Accept-Encoding"
    # Each encoding has its own ETag, and a 304 requires the matching one.
    tag = {"If-None-Match": compressed.headers["ETag"]}
    again = client.get(path, headers={"Accept-Encoding": "gzip", **tag})
    assert again.status_code == 304
    assert "Content-Encoding" not in again.headers
    assert client.get(path, headers=tag).status_code == 200


@pytest.mark.parametrize("path", LONG)
def test_a_compressed_head_is_get_without_the_body(client: Client, path: str) -> None:
    get, head = (
        client.open(path, method=method, headers={"Accept-Encoding": "gzip"})
        for method in ("GET", "HEAD")
    )
    assert list(head.headers) == list(get.headers)
    assert head.data == b""


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("gzip", True),
        ("GZIP;Q=0.1", True),
        ("br, gzip ; q=0.001", True),
        ("*", True),
        ("gzip;q=1, *;q=0", True),
        ("", False),
        ("identity", False),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("*, gzip; q=0.000", False),
        ("gzip;q=0.0", False),
        ("*;q=0", False),
        ("xgzip", False),
        ("gzip2, ;q=1,,", False),
    ],
)
def test_accept_encoding_controls_compression(
    client: Client, accept_encoding: str, is_compressed: bool
) -> None:
    answer = client.get("/", headers={"Accept-Encoding": accept_encoding})
    assert ("Content-Encoding" in answer.headers) == is_compressed


def test_a_page_is_compressed_only_once(
    client: InProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.asks_twice = False
    compressed = []
    compress = zlib.compress

    def record_and_compress(data: bytes, **options: int) -> bytes:
        compressed.append(data)
        return compress(data, **options)

    monkeypatch.setattr(zlib, "compress", record_and_compress)
    for _ in range(3):
        for method in ("GET", "HEAD"):
            client.open("/", method=method, headers={"Accept-Encoding": "gzip"})
    assert len(compressed) == 1


def test_short_responses_are_not_compressed(client: Client) -> None:
    for answer in (
        client.get("/healthz", headers={"Accept-Encoding": "gzip"}),
        client.post("/", data={"text": "milk"}, headers={"Accept-Encoding": "gzip"}),
    ):
        assert "Content-Encoding" not in answer.headers
        assert "Vary" not in answer.headers


# Forms: which bodies are read, and which are refused


@pytest.mark.parametrize(
    "content_type", [FORM, "Application/X-WWW-Form-URLencoded ; charset=UTF-8"]
)
def test_a_urlencoded_form_is_read(client: Client, stored: Stored, content_type: str) -> None:
    assert client.post("/", data=b"text=milk", content_type=content_type).status_code == 303
    assert stored() == ["milk"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_another_content_type_returns_415(
    client: Client, stored: Stored, content_type: str
) -> None:
    assert client.post("/", data=b"text=milk", content_type=content_type).status_code == 415
    assert stored() == []


def test_an_empty_body_is_a_form_without_fields(client: Client, stored: Stored) -> None:
    client.post("/", data={"text": "milk"})
    assert client.post("/").status_code == 422
    assert client.post("/todos/1/complete").status_code == 303
    assert client.post("/clear-completed").status_code == 303
    assert "Nothing to do yet" in client.get("/").text
    assert stored() == ["milk"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"text=a+b%2Bc", "a b+c"),
        (b"text=%C3%A9", "é"),
        ("text=é".encode(), "é"),
        (b"text=a=b", "a=b"),
        (b"&&text=milk&&", "milk"),
        (b"other=1&text=milk&empty=", "milk"),
        (b"te%78t=milk", "milk"),
    ],
)
def test_a_form_is_decoded(client: Client, stored: Stored, body: bytes, text: str) -> None:
    assert post(client, body).status_code == 303
    assert stored() == [text]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"text=\xff", "not encoded in UTF-8"),
        (b"text=%ff", "not encoded in UTF-8"),
        (b"%ff=milk", "not encoded in UTF-8"),
        (b"text=%ED%A0%80", "not encoded in UTF-8"),  # a lone surrogate
        (b"text=%zz", "contains &#x27;%zz&#x27;: write a percent sign as %25"),
        (b"text=100%", "contains &#x27;%&#x27;: write"),
        (b"text=milk&text=honey", "a field twice"),
        (b"a=1&" * 101 + b"text=milk", "more than 100 fields"),
        (b"&".join(b"%d=" % number for number in range(9000)), "more than 100 fields"),
    ],
)
def test_a_form_that_cannot_be_decoded_returns_400(
    client: Client, stored: Stored, body: bytes, detail: str
) -> None:
    answer = post(client, body)
    assert answer.status_code == 400
    assert detail in answer.text
    assert stored() == []


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("-1", 400),
        ("+9", 400),
        ("1_0", 400),
        ("9.0", 400),
        ("nine", 400),
        ("٩", 400),
        ("9, 9", 400),
        ("9" * 5000, 413),
        ("65537", 413),
        ("9" * 30, 413),
        ("100", 400),  # more than was sent: cut off
        ("", 411),
    ],
)
def test_a_wrong_content_length_is_refused(
    app: Application, stored: Stored, length: str, status: int
) -> None:
    # The validator rejects some of these itself, so this test bypasses it.
    client = Client(app)
    assert post(client, b"text=milk", CONTENT_LENGTH=length).status_code == status
    assert stored() == []


def test_a_body_of_64_kib_is_read_and_a_larger_one_refused(client: Client, stored: Stored) -> None:
    fits = b"text=milk&other=" + b"x" * (64 * 1024 - 16)
    assert post(client, fits).status_code == 303
    answer = post(client, fits + b"x")
    assert answer.status_code == 413
    assert "Nothing was changed: shorten it" in answer.text
    assert stored() == ["milk"]


@pytest.mark.parametrize(("size", "status"), [(12, 303), (64 * 1024, 303), (64 * 1024 + 1, 413)])
def test_a_terminated_body_is_read_without_a_length(client: Client, size: int, status: int) -> None:
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    assert post(client, b"text=milk&x=".ljust(size, b"x"), **environ).status_code == status


def test_a_connection_that_breaks_returns_400(client: Client, stored: Stored) -> None:
    class Broken(BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise ConnectionResetError

    for length in ("9", ""):  # with a Content-Length, and in chunks
        environ = {"wsgi.input": Broken(), "CONTENT_LENGTH": length, "wsgi.input_terminated": True}
        answer = post(client, b"", **environ)
        assert answer.status_code == 400
        assert "The request was cut off" in answer.text
    assert stored() == []


# Cross-site requests


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.example"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Origin": "https://LOCALHOST"}, 303),
        ({"Origin": "http://localhost", "Host": "LOCALHOST"}, 303),
        ({"Origin": "http://localhost", "Host": "localhost:80"}, 303),
        ({"Origin": "https://localhost", "Host": "localhost:443"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost:443"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost@evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost", "Host": "other.localhost"}, 403),
    ],
)
def test_a_cross_site_post_returns_403(
    client: Client, stored: Stored, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/", data={"text": "milk"}, headers=headers)
    assert answer.status_code == status
    assert stored() == (["milk"] if status == 303 else [])


def test_a_link_from_another_site_works(client: Client) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


# Database failures: 503, no data loss, and recovery as soon as the database is back


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, database: Path) -> Iterator[Client]:
    """A client for an application that gives up on a lock almost at once."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    app = create_app(database)
    yield in_process(app)
    app.close()


def assert_is_unavailable(answer: TestResponse) -> None:
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "cannot be reached at the moment" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.of_file
def test_503_while_another_program_locks_the_database(impatient: Client, database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = impatient.post("/", data={"text": "milk"})
        assert_is_unavailable(answer)
        assert '<p class="typed" dir="auto">milk</p>' in answer.text
        assert impatient.get("/").status_code == 200
        other.execute("ROLLBACK")
    assert impatient.post("/", data={"text": "milk"}).status_code == 303


@pytest.mark.of_file
def test_503_while_the_disk_is_full(client: Client, app: Application, stored: Stored) -> None:
    connection = app.database.connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    added = 0
    while (answer := client.post("/", data={"text": "x" * 500})).status_code == 303:
        added += 1
    assert_is_unavailable(answer)
    assert stored() == ["x" * 500] * added
    connection.execute("PRAGMA max_page_count = 1000000")
    assert client.post("/", data={"text": "milk"}).status_code == 303


@pytest.mark.of_file
@POSIX_ONLY
def test_503_while_the_file_is_missing(client: Client, database: Path, stored: Stored) -> None:
    client.post("/", data={"text": "milk"})
    assert client.get("/").status_code == 200
    moved = database.rename(database.with_name("moved.db"))
    for answer in (
        client.get("/"),  # although this page is cached
        client.post("/", data={"text": "lost?"}),
        client.get("/healthz"),
    ):
        assert_is_unavailable(answer)
    assert not database.exists()
    assert client.get(STYLE.path).status_code == 200

    moved.rename(database)
    assert client.get("/healthz").text == "ok"
    assert stored() == ["milk"]


@pytest.mark.of_file
@POSIX_ONLY
def test_503_if_the_file_disappears_while_a_change_waits(
    client: Client, app: Application, database: Path
) -> None:
    client.get("/")
    moved = database.with_name("moved.db")
    with (
        ThreadPoolExecutor() as executor,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        answer = executor.submit(client.post, "/", data={"text": "lost?"})
        wait_until(lambda: len(app.database.commits) == 1)
        database.rename(moved)
        other.execute("ROLLBACK")
        assert_is_unavailable(answer.result())
    moved.rename(database)
    assert "0 items left" in client.get("/").text


@pytest.mark.of_file
@POSIX_ONLY
def test_503_if_the_file_disappears_while_being_opened(
    client: Client, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = database.with_name("moved.db")
    connect = database_module.connect

    def connect_and_move(path: Path, mode: str) -> sqlite3.Connection:
        connection = connect(path, mode)
        path.rename(moved)
        return connection

    monkeypatch.setattr(database_module, "connect", connect_and_move)
    assert_is_unavailable(client.get("/"))
    monkeypatch.undo()
    moved.rename(database)
    assert client.get("/").status_code == 200


@pytest.mark.of_file
@POSIX_ONLY
def test_503_while_another_file_is_in_its_place(
    client: Client, database: Path, stored: Stored
) -> None:
    client.post("/", data={"text": "milk"})
    moved = database.rename(database.with_name("moved.db"))
    database.touch()
    assert_is_unavailable(client.post("/", data={"text": "lost?"}))
    assert database.read_bytes() == b""

    moved.replace(database)
    client.post("/", data={"text": "honey"})
    assert stored() == ["milk", "honey"]


@pytest.mark.of_file
def test_503_for_a_damaged_database(client: Client, database: Path) -> None:
    database.write_bytes(b"no database" * 1000)
    assert_is_unavailable(client.get("/"))
    assert_is_unavailable(client.get("/healthz"))


@pytest.mark.of_file
def test_503_for_a_damaged_schema(client: Client, database: Path) -> None:
    damaged = database.read_bytes().replace(b"AUTOINCREMENT", b"AUTOINCREM\xf8NT")
    database.write_bytes(damaged)
    assert_is_unavailable(client.get("/"))


def test_503_for_a_missing_table(client: Client, database: Path) -> None:
    client.get("/")
    run_sql(database, "DROP TABLE todos")
    assert_is_unavailable(client.get("/"))
    assert_is_unavailable(client.post("/", data={"text": "milk"}))


@pytest.mark.of_file
def test_503_for_a_table_replaced_by_an_older_one(client: Client, database: Path) -> None:
    client.get("/")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("DROP TABLE todos; CREATE TABLE todos (id, text, created_at)")
    assert_is_unavailable(client.get("/"))
    assert_is_unavailable(client.get("/todos.txt"))
    assert_is_unavailable(client.get("/healthz"))


# Bugs in the application


@pytest.mark.parametrize(
    "bug",
    [RuntimeError("secret"), sqlite3.ProgrammingError("secret")],
)
def test_500_for_a_bug_with_the_traceback_only_in_the_log(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bug: Exception,
) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise bug

    monkeypatch.setattr(models, "count_active", fail)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert caplog.records[-1].exc_info
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("bug", "status"), [(ValueError("<secret>"), 500), (OSError("<secret>"), 503)]
)
def test_only_a_developer_sees_the_traceback_and_keeps_the_text(
    database: Path, monkeypatch: pytest.MonkeyPatch, bug: Exception, status: int
) -> None:
    def fail(*_: object) -> None:
        raise bug

    monkeypatch.setattr(models, "insert_todo", fail)
    for debug in (False, True):
        with closing(create_app(database, debug=debug)) as app:
            client = in_process(app)
            client.asks_twice = False  # under the x-ray, more functions are in the traceback
            answer = client.post("/", data={"text": "milk & honey"})
        assert answer.status_code == status
        assert "milk &amp; honey" in answer.text
        assert ("in fail\n    raise bug\n" in answer.text) is debug
        assert (f"{type(bug).__name__}: &lt;secret&gt;\n</pre>" in answer.text) is debug


@pytest.mark.of_file
@pytest.mark.parametrize(
    "sql", ["SELEKT", "SELECT id FROM todo", "INSERT INTO todos (text) VALUES (NULL)"]
)
def test_500_for_faulty_sql(client: Client, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    monkeypatch.setattr(models, "count_active", lambda connection: connection.execute(sql))
    assert client.get("/").status_code == 500
