"""The systems that are compared: how each is started, filled with todos and loaded."""

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
PATIENCE = 60  # seconds until a server has to answer
# What may be set here, and would change what is measured: our settings, and Python's that keeps it
# from storing what it has compiled.
UNWANTED = {"HOST", "PORT", "TRUSTED_PROXY", "WEB_CONCURRENCY", "PYTHONDONTWRITEBYTECODE"}

TUTORIAL_SCHEMA = """
    CREATE TABLE todos (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        text TEXT NOT NULL
    )
"""


class Refused(Exception):
    """What was measured must not be reported."""


class System(NamedTuple):
    """One of those that are compared; `command` serves it on the port that is put in for {port}."""

    name: str
    command: list[str]
    schema: str | None  # of its database; None for todo_wsgi's own


OURS = [sys.executable, "serve.py", "--port", "{port}"]
WAITRESS = [sys.executable, "benchmarks/peers/serve_with_waitress.py", "{port}"]
UNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "4"]

LIMIT = System("limit: constant bytes, waitress", [*WAITRESS, "limit"], None)
OUR_LIMIT = System(
    "limit in todo_wsgi's server",
    [sys.executable, "benchmarks/peers/limit_in_our_server.py", "{port}"],
    None,
)
ONE = System("todo_wsgi", OURS, None)
TWO = System("todo_wsgi --processes 2", [*OURS, "--processes", "2"], None)
GUNICORN = System("tutorial (Flask), gunicorn -w 4", [*UNICORN, "tutorial:app"], TUTORIAL_SCHEMA)
FLASK = System("tutorial (Flask), waitress", [*WAITRESS, "tutorial"], TUTORIAL_SCHEMA)
BOTTLE = System("Bottle, waitress", [*WAITRESS, "with_bottle"], TUTORIAL_SCHEMA)
FALCON = System("Falcon, waitress", [*WAITRESS, "with_falcon"], TUTORIAL_SCHEMA)
LIMITS = [LIMIT, OUR_LIMIT]
SYSTEMS = [*LIMITS, ONE, TWO, GUNICORN, FLASK, BOTTLE, FALCON]


def make_database(path: Path, schema: str | None, todos: int) -> None:
    """Make a database with so many todos, whose texts have to be escaped."""
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
    """What wrk has measured."""

    requests: int
    rate: float  # requests a second
    latency: float  # median, in milliseconds


class Server:
    """A system that runs, in processes of its own."""

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
        self.start_time = time.perf_counter() - started  # in seconds, to the first answer

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self.read_page())
        return False

    def read_page(self) -> str:
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as answer:
            page: bytes = answer.read()
        return page.decode()

    def check_page(self, todos: int) -> None:
        """Refuse a page that has not all of its todos, escaped."""
        page = self.read_page()
        for number in range(1, todos + 1):
            if html.escape(todo_text(number)) not in page:
                raise Refused(f"{todo_text(number)!r} is not on {self.url}")

    def load(self, work: str, seconds: int, connections: int = 16) -> Load:
        """Send what load.lua calls `work`; Refused if there is an error among the answers."""
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
        """Return two numbers in MB: the resident memory of the process that was started, and the
        proportional one of all its processes, in which what they share is counted once.
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
    """Run a system on a fresh database with so many todos, or on a copy of the one at `master`."""
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
