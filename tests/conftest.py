"""Shared fixtures and helpers: an application with its own database, and a real server."""

from __future__ import annotations

import gzip
import html
import json
import os
import re
import sqlite3
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import html_checks
import pytest
from browsers import running_browser
from clusters import Cluster as RunningCluster
from clusters import running_cluster
from playwright.sync_api import Browser
from servers import TIMEOUT, Server, running, serve_command
from werkzeug.test import Client, TestResponse
from xrays import Watched, watching

from todo_wsgi import Application, create_app
from todo_wsgi.storage.database import Database
from todo_wsgi.storage.rqlite import Cluster
from todo_wsgi.xray import XRay

# The developer's own settings must not reach the servers that the tests start.
OURS = {name for name in os.environ if name.startswith("TODO_")}
for name in OURS | {"PORT", "TRUSTED_PROXY", "WEB_CONCURRENCY"}:
    os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--watched",
        action="store_true",
        help="repeat each request that changes nothing under the x-ray; expect the same bytes",
    )
    parser.addoption("--cluster", action="store_true", help="keep the lists in a cluster of rqlite")
    parser.addoption("--long", action="store_true", help="run the long tests, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    is_short, is_cluster = not config.getoption("--long"), config.getoption("--cluster")
    left_out = [item for item in items if is_short and item.get_closest_marker("long")]
    for item in items if is_cluster else []:
        names = getattr(item, "fixturenames", [])
        if "database" not in names or item.get_closest_marker("of_file"):
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    InProcessClient.asks_twice = config.getoption("--watched")
    # The applications of all tests share this process; each keeps two descriptors open (cache.py).
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


class InProcessClient(Client):
    """A client that reads each response to the end, as servers do, and checks its headers."""

    asks_twice = False  # set by --watched; tests that count calls turn it off

    def __init__(self, app: Application) -> None:
        super().__init__(validator(app))
        self._app = app

    @cached_property
    def _twin(self) -> Application:
        """A second application on the same database, whose connections open under the x-ray."""
        twin = Application(Database(self._app.database.path, mode="rw"), self._app.admit)
        _twins.append(twin)
        return twin

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, buffered=True, **kwargs)
        assert_keeps_the_promises_of_all(answer)
        changes_nothing = answer.request.method in ("GET", "HEAD") or answer.status_code >= 400
        is_file = isinstance(self._app.database, Database)
        if changes_nothing and self.asks_twice and is_file:
            # A 503 may come from the state of this one application, which a twin does not share.
            app = self._app if answer.status_code == 503 else self._twin
            with closing(XRay(app)) as xray:
                again = Client(validator(xray)).open(*args, buffered=True, **kwargs)
            assert (again.status, [*again.headers]) == (answer.status, [*answer.headers])
            assert again.data == answer.data
            [trace] = xray.traces.last()
            assert not trace.warnings
        return answer


_twins: list[Application] = []


@pytest.fixture(autouse=True)
def close_twins() -> Iterator[None]:
    """After each test, close the applications that repeated its requests."""
    yield
    while _twins:
        _twins.pop().close()


def assert_keeps_the_promises_of_all(answer: TestResponse) -> None:
    """Every response has a length, says how it may be cached, and carries security headers."""
    if answer.status_code != 304 and answer.request.method != "HEAD":
        assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {
        "default-src 'none'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    } <= set(policy)
    assert not any("script" in rule or "unsafe" in rule for rule in policy)
    if answer.mimetype == "text/html" and answer.data:
        is_compressed = "Content-Encoding" in answer.headers
        page = gzip.decompress(answer.data) if is_compressed else answer.data
        html_checks.assert_is_correct(page.decode())


def shown(client: Client, path: str = "/") -> list[str]:
    """Return the texts of the todos on a page, top to bottom, as a browser shows them."""
    page = client.get(path).text
    texts = re.findall(r'<span class="text" dir="auto">(.*?)</span>', page, re.DOTALL)
    return [html.unescape(re.sub("<a [^>]*>|</a>", "", text)) for text in texts]


def in_process(app: Application) -> InProcessClient:
    """Return a client for `app`; wsgiref.validate checks both sides of every request."""
    return InProcessClient(app)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Three nodes of rqlite for all tests."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Path | str:
    """The path of a database that does not exist yet; with --cluster, the URL of an empty one."""
    if not request.config.getoption("--cluster"):
        return tmp_path / "todos.db"
    url: str = request.getfixturevalue("cluster").url
    with closing(Cluster(url)) as cluster:
        cluster.prepare()
    run_sql(url, "DELETE FROM todos; DELETE FROM sqlite_sequence WHERE name = 'todos'")
    return url


@pytest.fixture
def app(database: Path | str) -> Iterator[Application]:
    app = create_app(database)
    yield app
    app.close()


@pytest.fixture
def client(app: Application) -> InProcessClient:
    return in_process(app)


@pytest.fixture
def todos(app: Application) -> Iterator[Watched]:
    """A client for the application under the x-ray."""
    with watching(app) as client:
        yield client


@pytest.fixture
def stored(database: Path | str) -> Callable[[], list[str]]:
    """A function that reads all texts straight from the database, oldest first."""
    return lambda: read_texts(database)


def run_sql(database: Path | str, script: str) -> None:
    """Run SQL on the database, as another program would."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(script)
        return
    statements = [sql for sql in script.split(";") if sql.strip() not in ("", "BEGIN", "COMMIT")]
    if not all(sql.strip().startswith(("INSERT INTO todos", "WITH")) for sql in statements):
        statements.append("INSERT INTO applied (key) VALUES (hex(random()))")  # as the manual says
    [*_, last] = _ask_cluster(database, "/db/execute?transaction", statements)
    assert "error" not in last, last


def read_sql(database: Path | str, sql: str) -> list[tuple[Any, ...]]:
    """Return what a query yields, as another program would get it."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(sql).fetchall()
    [result] = _ask_cluster(database, "/db/query?level=strong", [sql])
    return [tuple(row) for row in result.get("values", [])]


def _ask_cluster(url: str, path: str, statements: list[str]) -> list[dict[str, Any]]:
    address = f"http://{url.partition('//')[2].partition(',')[0]}{path}"
    request = urllib.request.Request(address, json.dumps(statements).encode())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        results: list[dict[str, Any]] = json.load(answer)["results"]
    return results


def fill(database: Path | str, count: int, text: str = "'todo ' || i") -> None:
    """Insert `count` todos; `text` is an SQL expression for the text of todo `i` (from 1)."""
    numbers = f"SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}"
    insert = f"INSERT INTO todos (text) SELECT {text} FROM n"
    run_sql(database, f"BEGIN; WITH RECURSIVE n(i) AS ({numbers}) {insert}; COMMIT")


def read_texts(path: Path | str) -> list[str]:
    return [text for (text,) in read_sql(path, "SELECT text FROM todos ORDER BY id")]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One serve.py for all tests that send it malformed requests; it must survive them all."""
    folder = tmp_path_factory.mktemp("server")
    with running(serve_command("--port", "0"), folder) as server:
        yield server
    assert server.exit_status == 0 or os.name != "posix"
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output
