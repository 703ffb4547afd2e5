"""The list on several machines: rqlite keeps a copy on each (https://rqlite.io/docs).

`Cluster` has the same interface as `Database`, so no caller knows which one it has. Any node takes
any request, and confirms a change once a majority of the nodes has it on disk.

When a node dies or hangs, nobody knows whether it has made a change. So the change is sent again,
to the next node, until one confirms it. In the same transaction it inserts a key: if the key is
there already, the change was made, and is not made twice.

Each node runs the SQL of a change on its own copy. So times and random values are bound here: those
of SQL would differ from copy to copy. And a change is one request. So it writes first, then reads.
"""

import base64
import json
import os
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from todo_wsgi.storage.cache import Cache, FileCache
from todo_wsgi.storage.database import EXPORT_TIMEOUT
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.storage.schema import read_statements

T = TypeVar("T")
_Statement = list[Any]  # its SQL and its parameters

TIMEOUT = 1.5  # seconds that a node may take to answer, before the next one is asked
DEADLINE = 8.0  # seconds until a request fails; an election takes one to four
PAUSE = 0.05  # seconds before the next node is asked
LEASE = 0.4  # seconds after the leader was asked; so soon, rqlite does not elect another one
KEPT_KEYS = 100_000  # no change is sent again after so many others

_URL = re.compile(r"(rqlites?)://(?:([^@/]*)@)?([^@/,\s]+:\d{1,5}(?:,[^@/,\s]+:\d{1,5})*)/?")
# `last_id` and `changed` are what the last statement of the change has reported.
_KEYS = """CREATE TABLE IF NOT EXISTS applied (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, last_id INTEGER, changed INTEGER
)"""
_BEGIN = "INSERT INTO applied (key) VALUES (?)"
_FORGET = f"DELETE FROM applied WHERE id < last_insert_rowid() - {KEPT_KEYS}"
_END = "UPDATE applied SET last_id = last_insert_rowid(), changed = changes() WHERE key = ?"
_REPORT = "SELECT last_id, changed FROM applied WHERE key = ?"
_IS_MADE = "UNIQUE constraint failed: applied.key"
# Each change has a number of its own. The second number changes when a todo is inserted by hand.
_VERSION = "SELECT max(id), (SELECT seq FROM sqlite_sequence WHERE name = 'todos') FROM applied"


class Cluster:
    """The list at a URL like rqlite://user:password@h1:4001,h2:4001,h3:4001.

    Its methods raise DatabaseUnusable if no node answers, or reports an error in the SQL.
    """

    def __init__(self, url: str) -> None:
        if not (found := _URL.fullmatch(url)):
            raise DatabaseUnusable("Write the cluster as rqlite://h1:4001,h2:4001,h3:4001.")
        scheme, login, nodes = found.groups()
        self.path = f"{scheme}://{nodes}"  # without the password, since it is printed
        self.guesses = Path("todos.db-guesses").absolute()  # of this machine
        first, *others = nodes.split(",")
        self._node, self._after = first, dict(zip((first, *others), (*others, first), strict=True))
        self._connect: Callable[..., HTTPConnection] = HTTPConnection
        if scheme == "rqlites":
            self._connect = partial(HTTPSConnection, context=ssl.create_default_context())
        self._connections: dict[object, HTTPConnection] = {}  # each thread has its own
        encoded = base64.b64encode(unquote(login or "").encode()).decode()
        self._headers = {"Authorization": f"Basic {encoded}"} if login else {}
        self._leader = "", 0.0  # and when it was asked
        self._pages, self._exports = Cache(DEADLINE), FileCache(EXPORT_TIMEOUT)
        self._reading, self._begun = threading.Lock(), 0
        self._version: Future[object] = Future()

    def prepare(self) -> None:
        """Create the tables that are missing. One command does that, rather than each server."""
        self._send("/db/execute?transaction", [[_KEYS]])
        self.check(0)
        self._send("/db/execute?transaction", [[sql] for sql in read_statements()[1]])

    def check(self, *others: int) -> None:
        """Raise DatabaseUnusable unless its schema has our version, or one of `others`."""
        _, [[[found]]] = self.fetch([["SELECT user_version FROM pragma_user_version"]])
        if found not in (wanted := read_statements()[0], *others):
            raise DatabaseUnusable(f"{self.path}: schema {found}, not {wanted} (docs/cluster.md)")

    def write(self, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what `change(connection, *args, **kwargs)` returns, once a majority has it."""
        connection = _Connection(self)
        result = change(connection, *args, **kwargs)
        connection.flush()
        return result

    def read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what `query(connection, *args, **kwargs)` returns, all as of one moment.

        If the list changes between its reads, it starts again, with all of them read at once.
        """
        connection = _Connection(self)
        result = query(connection, *args, **kwargs)
        while len(connection.versions) > 1:
            connection.refresh()
            result = query(connection, *args, **kwargs)
        return result

    def cached(self, key: Hashable, render: Callable[[], T], *, is_export: bool = False) -> T:
        """Return what `render` returns, or returned before if nothing was changed since."""
        version = self._read_version()
        return (self._exports if is_export else self._pages).get(lambda: version, key, render)

    def _read_version(self) -> object:
        """Return the version. Those who ask together share one reading, begun after they asked."""
        begun = self._begun
        with self._reading:
            if self._begun == begun:
                self._begun += 1
                self._version = Future()
                try:
                    self._version.set_result(self.fetch([])[0])
                except Exception as error:
                    self._version.set_exception(error)
                    self._begun += 1  # who has waited meanwhile does not begin to wait again
            return self._version.result()

    def connection(self) -> Any:
        """Return what executes SQL like a connection of sqlite3."""
        return _Connection(self)

    def close(self) -> None:
        """Close all connections. Call it when no thread uses one."""
        for connection in self._connections.values():
            connection.close()

    def fetch(self, queries: list[_Statement]) -> tuple[object, list[Any]]:
        """Return the version of the list, and the rows of each query, as of the same moment.

        Before 8.32.4, rqlite knows no "linearizable": the leader answers. A new one may lack what
        was confirmed, and an old one may not know of the new one. So unless it is the one that was
        asked just before, it has to read once more, through the log.
        """
        statements, (known, asked) = [[_VERSION], *queries], self._leader
        for level in ("linearizable", "strong"):
            now = time.monotonic()
            results, leader = self._send(f"/db/query?transaction&level={level}", statements)
            if leader == known and time.monotonic() < asked + LEASE:
                break
        self._leader = leader, now
        [version], *rows = (result.get("values", []) for result in results)
        return tuple(version), rows

    def apply(self, statements: list[_Statement]) -> tuple[int, int]:
        """Make a change once, however often it is sent; return its last id, and its row count."""
        key, now = secrets.token_urlsafe(12), time.monotonic()
        change = [[_BEGIN, key], [_FORGET], *statements, [_END, key]]
        results, leader = self._send("/db/execute?transaction", change)
        self._leader = leader, now
        if "error" in results[0]:  # the key is there
            return tuple(self.fetch([[_REPORT, key]])[1][0][0])
        return results[-2].get("last_insert_id", 0), results[-2].get("rows_affected", 0)

    def _send(self, path: str, statements: list[_Statement]) -> tuple[list[dict[str, Any]], str]:
        """Return the results of the statements, and which node was the leader."""
        body = json.dumps(statements).encode()
        deadline = time.monotonic() + DEADLINE
        while True:
            node = self._node
            key = (os.getpid(), threading.get_ident(), node)  # no process may use those of another
            connection = self._connections.setdefault(key, self._connect(node, timeout=TIMEOUT))
            try:
                connection.request("POST", f"{path}&timeout=1s", body, self._headers)
                with connection.getresponse() as response:
                    text = response.read()
                answer: Any = json.loads(text) if response.status == 200 else {"error": text[:200]}
                if "error" in answer:
                    raise HTTPException(response.status, answer["error"])
                errors = [result["error"] for result in answer["results"] if "error" in result]
            except Exception as error:  # nobody knows whether a change was made
                connection.close()  # the next request opens it again
                self._node = self._after[node]
                if time.monotonic() > deadline:
                    raise DatabaseUnusable(f"{self.path}: {node}: {error!r}") from error
                time.sleep(PAUSE)
                continue
            if errors not in ([], [_IS_MADE]):
                raise DatabaseUnusable(f"{self.path}: {errors[0]} (see docs/cluster.md)")
            return answer["results"], response.headers.get("X-Rqlite-Served-By", node)


class _Connection:
    """What our SQL needs of sqlite3.Connection, and of its cursor: one is enough."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._writes: list[_Statement] = []  # they are sent when the change reads, or ends
        self._report = (0, 0)
        self._reads: dict[str, Any] = {}  # the rows of each query
        self.versions: set[object] = set()  # of the list, when they were read

    def execute(self, sql: str, parameters: Any = ()) -> "_Connection":
        statement = _bind(sql, parameters)
        if not sql.lstrip().startswith("SELECT"):
            assert not self._reads, "a change writes first, then reads"
            self._writes.append(statement)
            return self
        self.flush()
        key = json.dumps(statement)
        if key not in self._reads:
            version, [self._reads[key]] = self._cluster.fetch([statement])
            self.versions.add(version)
        self._rows = map(tuple, self._reads[key])
        return self

    def flush(self) -> tuple[int, int]:
        """Make the change, and return its report."""
        if self._writes:
            self._report = self._cluster.apply(self._writes)
            self._writes = []
        return self._report

    def refresh(self) -> None:
        """Read all again, as of one moment."""
        version, rows = self._cluster.fetch([json.loads(key) for key in self._reads])
        self.versions, self._reads = {version}, dict(zip(self._reads, rows, strict=True))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    lastrowid = property(lambda self: self.flush()[0])
    rowcount = property(lambda self: self.flush()[1])


def _bind(sql: str, parameters: Any) -> _Statement:
    """Return the statement for JSON, where rqlite takes a bare text like x'6869' for bytes."""
    if isinstance(parameters, dict):
        return [sql, parameters]
    looks = [str(value).strip()[:2] in ("x'", "X'") for value in parameters]
    marks = iter(["substr(?, 2)" if look else "?" for look in looks])
    values = [f"-{value}" if look else value for look, value in zip(looks, parameters, strict=True)]
    return [re.sub(r"\?", lambda _: next(marks), sql), *values]
