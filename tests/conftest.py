"""What the tests share: an application with a database of its own, and a real server."""

from __future__ import annotations

import gzip
import html
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import html_checks
import pytest
from browsers import running_browser
from playwright.sync_api import Browser
from servers import Server, running, serve_command
from werkzeug.test import Client, TestResponse
from xrays import Watched, watching

from todo_wsgi import Application, create_app
from todo_wsgi.storage.database import Database
from todo_wsgi.xray import XRay

# The settings of who runs the tests are not those of the servers that they start.
for name in ("TODO_HOST", "PORT", "TODO_DB", "TRUSTED_PROXY", "WEB_CONCURRENCY"):
    os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--watched",
        action="store_true",
        help="send each request that changes nothing again under the x-ray; expect the same bytes",
    )


def pytest_configure(config: pytest.Config) -> None:
    InProcessClient.asks_twice = config.getoption("--watched")
    # The applications of all tests are in this process, and each keeps two files mapped (cache.py).
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 8192 if most == resource.RLIM_INFINITY else min(8192, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class InProcessClient(Client):
    """A client that reads each answer to its end, as servers do, and checks what all promise."""

    asks_twice = False  # --watched; a test that counts what happens keeps it off

    def __init__(self, app: Application) -> None:
        super().__init__(validator(app))
        self._app = app

    @cached_property
    def _twin(self) -> Application:
        """The same list, in an application that opens its connections under the x-ray."""
        twin = Application(Database(self._app.database.path, mode="rw"))
        _twins.append(twin)
        return twin

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, buffered=True, **kwargs)
        assert_keeps_the_promises_of_all(answer)
        changes_nothing = answer.request.method in ("GET", "HEAD") or answer.status_code >= 400
        if changes_nothing and self.asks_twice:
            # What is wrong with the database may be so for the application alone.
            app = self._app if answer.status_code == 503 else self._twin
            with closing(XRay(app)) as xray:
                again = Client(validator(xray)).open(*args, buffered=True, **kwargs)
            assert (again.status, [*again.headers]) == (answer.status, [*answer.headers])
            assert again.data == answer.data
            [trace] = xray.traces.last()
            assert not trace.remarks
        return answer


_twins: list[Application] = []


@pytest.fixture(autouse=True)
def close_twins() -> Iterator[None]:
    """Close after each test what was opened to ask twice."""
    yield
    while _twins:
        _twins.pop().close()


def assert_keeps_the_promises_of_all(answer: TestResponse) -> None:
    """Every answer has its length, says how long it may be kept, and protects the visitor."""
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
    """The texts of the todos on a page, from the top, as a browser shows them."""
    page = client.get(path).text
    texts = re.findall(r'<span class="text" dir="auto">(.*?)</span>', page, re.DOTALL)
    return [html.unescape(text) for text in texts]


def in_process(app: Application) -> InProcessClient:
    """A client for `app`; wsgiref.validate watches both sides of every request."""
    return InProcessClient(app)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that is not there yet."""
    return tmp_path / "todos.db"


@pytest.fixture
def app(database: Path) -> Iterator[Application]:
    app = create_app(database)
    yield app
    app.close()


@pytest.fixture
def client(app: Application) -> InProcessClient:
    return in_process(app)


@pytest.fixture
def todos(app: Application) -> Iterator[Watched]:
    """A client of the application under the x-ray."""
    with watching(app) as client:
        yield client


@pytest.fixture
def stored(database: Path) -> Callable[[], list[str]]:
    """Call it for the texts in the database file, oldest first, as another program reads them."""
    return lambda: read_texts(database)


def run_sql(database: Path, script: str) -> None:
    """Run SQL on the database file, as another program does."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


def fill(database: Path, count: int, text: str = "'todo ' || i") -> None:
    """Add many todos; `text` is SQL for the text of the todo with the number i, from 1 on."""
    numbers = f"SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}"
    insert = f"INSERT INTO todos (text) SELECT {text} FROM n"
    run_sql(database, f"BEGIN; WITH RECURSIVE n(i) AS ({numbers}) {insert}; COMMIT")


def read_texts(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM todos ORDER BY id")]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """serve.py, running for all tests that send it strange things; it has to survive them all."""
    folder = tmp_path_factory.mktemp("server")
    with running(serve_command("--port", "0"), folder) as server:
        yield server
    assert server.exit_status == 0 or os.name != "posix"
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output
