"""The systems under test: start one, fill its database, send it load."""

import html
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from todo_wsgi import create_app
from todo_wsgi.server.serving import SETTINGS

HERE = Path(__file__).parent
PATIENCE = 60  # seconds that a server may take to answer, or to stop
# Environment variables that would skew the results: the settings of todo_wsgi, and the one that
# stops Python from caching bytecode.
UNWANTED = {name for name in os.environ if name.startswith("TODO_")}
UNWANTED |= {"PORT", "TRUSTED_PROXY", "WEB_CONCURRENCY", "PYTHONDONTWRITEBYTECODE"}

TUTORIAL_SCHEMA = """
    CREATE TABLE todos (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        text TEXT NOT NULL
    )
"""


class Refused(Exception):
    """The run is invalid: report no numbers."""


class System(NamedTuple):
    """A system under test; `command` serves it, with the port in place of {port}."""

    name: str
    command: list[str]
    schema: str | None  # of the database; None for the schema of todo_wsgi


OURS = [sys.executable, "serve.py", "--port", "{port}"]
WAITRESS = [sys.executable, "benchmarks/peers/serve_with_waitress.py", "{port}"]
# The same number of threads as in serve.py, so that only the server differs. With two, GETs and the
# mix are faster (fewer threads compete for the GIL), but POSTs are a third slower (fewer share a
# commit). With more than eight, POSTs gain little. --backpressure keeps its default: it limits
# connections, not requests, and wrk's connections beyond the limit would never be accepted.
RUST = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "1"]
RUST += ["--blocking-threads", str(SETTINGS["threads"]), "--no-ws", "--log-level", "error"]
RUST += ["--host", "127.0.0.1", "--port", "{port}"]
UNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "4"]

LIMIT = System("limit: constant bytes, waitress", [*WAITRESS, "limit"], None)
OUR_LIMIT = System(
    "limit in todo_wsgi's server",
    [sys.executable, "benchmarks/peers/limit_in_our_server.py", "{port}"],
    None,
)
ONE = System("todo_wsgi", OURS, None)
TWO = System("todo_wsgi --processes 2", [*OURS, "--processes", "2"], None)
GRANIAN = System("todo_wsgi, granian", [*RUST, "todo_wsgi:app"], None)
GUNICORN = System("tutorial (Flask), gunicorn -w 4", [*UNICORN, "with_flask:app"], TUTORIAL_SCHEMA)
FLASK = System("tutorial (Flask), waitress", [*WAITRESS, "with_flask"], TUTORIAL_SCHEMA)
BOTTLE = System("Bottle, waitress", [*WAITRESS, "with_bottle"], TUTORIAL_SCHEMA)
FALCON = System("Falcon, waitress", [*WAITRESS, "with_falcon"], TUTORIAL_SCHEMA)
LIMITS = [LIMIT, OUR_LIMIT]
SYSTEMS = [*LIMITS, ONE, TWO, GRANIAN, GUNICORN, FLASK, BOTTLE, FALCON]


def make_database(path: Path, schema: str | None, todos: int) -> None:
    """Create a database with that many todos. Their texts need escaping."""
    if schema is None:
        create_app(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        if schema:
            connection.execute(schema)
        connection.executemany(
            "INSERT INTO todos (text) VALUES (?)",
            ((todo_text(number),) for number in range(1, todos + 1)),
        )


def todo_text(number: int) -> str:
    return f"todo {number} & <b>more</b>"


class Load(NamedTuple):
    """The result of one run of wrk."""

    requests: int
    rate: float  # requests per second
    latency: float  # median, in milliseconds


class Server:
    """A running system, in its own processes."""

    def __init__(self, system: System, database: Path, length: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.database = database
        self.url = f"http://127.0.0.1:{self.port}/"
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [part.format(port=self.port) for part in system.command],
            cwd=HERE.parent,
            env={
                **{name: os.environ[name] for name in os.environ.keys() - UNWANTED},
                "TODO_DB": str(database),
                "LENGTH": str(length),
                "WAITRESS": json.dumps(SETTINGS),
                "PYTHONPATH": str(HERE / "peers"),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not self._answers():
            time.sleep(0.001)
            if self.process.poll() is not None or time.perf_counter() > started + PATIENCE:
                self.process.kill()
                raise Refused(f"{system.name} does not start")
        self.start_time = time.perf_counter() - started  # seconds until the first response

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self.read_page())
        return False

    def read_page(self) -> str:
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as answer:
            page: bytes = answer.read()
        return page.decode()

    def check_page(self, todos: int) -> None:
        """Raise Refused if a todo is missing from the page, or not escaped."""
        page = self.read_page()
        for number in range(1, todos + 1):
            if html.escape(todo_text(number)) not in page:
                raise Refused(f"{todo_text(number)!r} is not on {self.url}")

    def load(self, work: str, seconds: int, connections: int = 16) -> Load:
        """Run wrk with the requests that load.lua calls `work`; raise Refused on any error."""
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds}s", "--script", str(HERE / "load.lua"), self.url]
        report = subprocess.run(
            command, env={**os.environ, "WORK": work}, capture_output=True, text=True, check=True
        )
        numbers = report.stdout.rpartition("RESULT ")[2].split()
        requests, errors, microseconds, latency = (int(number) for number in numbers)
        if errors or not requests:
            raise Refused(f"{errors} errors in {requests} requests to {self.url}:\n{report.stdout}")
        return Load(requests, requests / microseconds * 1e6, latency / 1000)

    def count_todos(self) -> int:
        with closing(sqlite3.connect(self.database)) as connection:
            count: int = connection.execute("SELECT count(*) FROM todos").fetchone()[0]
        return count

    def memory(self) -> tuple[float, float]:
        """Return two sizes in MB: the RSS of the main process, and the total PSS of all processes.

        PSS counts memory that the processes share only once.
        """
        process = psutil.Process(self.process.pid)
        processes = [process, *process.children(recursive=True)]
        shared = sum(process.memory_full_info().pss for process in processes)
        return process.memory_info().rss / 1e6, shared / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@contextmanager
def running(
    system: System, folder: Path, *, todos: int = 50, master: Path | None = None, length: int = 1
) -> Iterator[Server]:
    """Run a system on a new database with that many todos, or on a copy of `master`."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        database = Path(own, "todos.db")
        if master:
            shutil.copyfile(master, database)
        else:
            make_database(database, system.schema, todos)
        server = Server(system, database, length)
        try:
            yield server
        finally:
            server.stop()
