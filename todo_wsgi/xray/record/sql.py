"""The executed SQL, with parameters, times, rows and query plans.

`watch_connections` makes `sqlite3.connect` open connections that record their statements for the
request that the thread is handling. Otherwise they behave like any other connection.
"""

import re
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.hooks import patch
from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import MAX_SETS, Statement, Trace, current, harmless
from todo_wsgi.xray.record.values import cut, describe, describe_error

MAX_SQL = 10_000  # characters of one statement
MAX_ALIKE = 3  # times that one statement is shown; further executions are added up

IMPLICIT = "the sqlite3 module, implicitly"
_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "END")
_HAS_PLAN = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")


def watch_connections() -> Callable[[], None]:
    """Make new connections record; return a function that ends this."""

    def watch(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def connect_and_record(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            if len(args) < 6:  # otherwise the sixth one is the factory
                kwargs.setdefault("factory", Connection)
            return connect(*args, **kwargs)

        return connect_and_record

    return patch(sqlite3, "connect", watch)


class Connection(sqlite3.Connection):
    """A connection that records the statements executed on it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.statement: Statement | None = None  # being executed
        self._begin: Statement | None = None
        self._ends: list[Statement] = []  # of transactions: COMMIT, ROLLBACK
        self._issuer = IMPLICIT  # of statements without a call of `execute`
        self._traces: list[Trace] = []  # of the requests that share the transaction
        uri = bool(args[7] if len(args) > 7 else kwargs.get("uri"))
        database = args[0] if args else kwargs.get("database")
        self.database = (str(database), uri) if isinstance(database, str | Path) else None
        super().__init__(*args, **kwargs)
        this = weakref.proxy(self)  # a strong reference would keep the connection open
        self.set_trace_callback(lambda sql: this._note_implicit(sql))

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor that records, unless the caller chooses a factory."""
        return super().cursor(*args, **kwargs) if args or kwargs else super().cursor(Cursor)

    def execute(self, *args: Any) -> Any:
        """Execute one statement; for this and the next methods, see `sqlite3.Connection`."""
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        """Execute one statement for many sets of parameters."""
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        """Execute many statements."""
        return self.cursor().executescript(*args)

    def commit(self) -> None:
        """Commit the transaction."""
        self._end_transaction("the application, with commit()", super().commit)

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._end_transaction("the application, with rollback()", super().rollback)

    def __exit__(self, *args: Any) -> Any:
        issuer = "the sqlite3 module, at the end of the “with” block"
        return self._end_transaction(issuer, super().__exit__, *args)

    def _end_transaction(self, issuer: str, end: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        self._ends.clear()
        self._issuer = issuer
        try:
            return end(*args)
        finally:
            self._issuer = IMPLICIT
            for statement in self._ends:
                statement.execute_seconds = time.perf_counter() - began
            if self._ends:
                self._traces = []

    @harmless
    def _note_implicit(self, sql: str) -> None:
        """Record a BEGIN, COMMIT or ROLLBACK that the sqlite3 module executes implicitly."""
        trace = current()
        keyword = sql.split(None, 1)[0].upper() if sql.strip() else ""
        if trace is None or keyword not in _TRANSACTION:
            return
        if self.statement and self.statement.method == "executescript":
            # Before a script, Python commits an open transaction. The rest is in the script.
            if not self.statement.is_open:
                return
            self.statement.is_open = False
        elif self.statement and self.statement.keyword == keyword:
            return
        line = line_of(sys._getframe(1))
        at = self.statement.at if self.statement else time.perf_counter()
        statement = Statement(sql.strip(), [], line, at, issuer=self._issuer)
        if keyword == "BEGIN":
            self.note(trace, statement)
        else:
            self._ends.append(statement)
            self._note_end(statement)

    def note(self, trace: Trace, statement: Statement) -> Statement:
        """Add a statement to the trace, preceded by the BEGIN of a shared transaction.

        Return the recorded statement, which may stand for several.
        """
        keyword = statement.keyword
        if keyword == "BEGIN":
            self._begin, self._traces = statement, [trace]
        elif keyword in _TRANSACTION and trace in self._traces:
            self._note_end(statement)
            self._traces = []
            return statement
        elif self.in_transaction and self._begin and trace not in self._traces:
            # Another request's thread began the transaction, and executes this one's change in it.
            self._traces.append(trace)
            _add(trace, replace(self._begin, others=len(self._traces) - 1))
        return _add(trace, statement)

    def _note_end(self, statement: Statement) -> None:
        """Record the end of the transaction for all requests that share it."""
        statement.others = len(self._traces) - 1
        for trace in self._traces:
            _add(trace, statement)


class Cursor(sqlite3.Cursor):
    """A cursor that records the statements executed on it, and the number of rows fetched."""

    _statement: Statement | None = None

    def execute(self, *args: Any) -> Any:
        """Execute one statement; for this and the next methods, see `sqlite3.Cursor`."""
        return self._record(super().execute, *args)

    def executemany(self, *args: Any) -> Any:
        """Execute one statement for many sets of parameters."""
        return self._record(super().executemany, *args)

    def executescript(self, *args: Any) -> Any:
        """Execute many statements."""
        return self._record(super().executescript, *args)

    def _record(self, execute: Callable[..., Any], *args: Any) -> Any:
        recording = _begin(self.connection, execute.__name__, args, sys._getframe(2))
        if recording is None:
            return execute(*args)
        error: BaseException | None = None
        try:
            return execute(*recording.args)
        except BaseException as e:
            error = e
            raise
        finally:
            recording.end(self, error)
            self._statement = recording.statement

    def fetchone(self) -> Any:
        """Return the next row."""
        return self._fetch(super().fetchone, lambda row: row is not None)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next rows."""
        return self._fetch(super().fetchmany, len, *args, **kwargs)

    def fetchall(self) -> Any:
        """Return all remaining rows."""
        return self._fetch(super().fetchall, len)

    def __next__(self) -> Any:
        return self._fetch(super().__next__, lambda _: 1)

    def _fetch(
        self, fetch: Callable[..., Any], count: Callable[[Any], int], *args: Any, **kwargs: Any
    ) -> Any:
        if current() is None or self._statement is None:
            return fetch(*args, **kwargs)
        began = time.perf_counter()
        rows = fetch(*args, **kwargs)
        self._statement.fetch_seconds += time.perf_counter() - began
        self._statement.rows_read += count(rows)
        return rows


class _Recording:
    """The recording of one statement during its execution."""

    def __init__(
        self, trace: Trace, connection: Connection, method: str, args: tuple[Any, ...], frame: Any
    ) -> None:
        self._trace = trace
        self._connection = connection
        self.args = args
        self._changes = connection.total_changes
        sql = cut(args[0], MAX_SQL) if type(args[0]) is str else describe(args[0])
        self.statement = Statement(sql, [], line_of(frame), time.perf_counter(), method=method)
        self.statement.database = connection.database
        if method == "executemany":
            self.args = (args[0], self._note_sets(args[1]), *args[2:])
        elif len(args) > 1:
            self._note_parameters(args[1])
        self.statement.is_open = connection.in_transaction
        connection.statement = self.statement

    def _note_sets(self, sets: Iterable[Any]) -> Iterator[Any]:
        """Yield the sets of parameters unchanged, and record the first of them."""
        self.statement.count = 0
        for parameters in sets:
            self.statement.count += 1
            if len(self.statement.parameters) < MAX_SETS:
                self._note_parameters(parameters)
            yield parameters

    @harmless
    def _note_parameters(self, parameters: Any) -> None:
        self._trace.secrets.add("", parameters)
        self.statement.parameters.append(describe(parameters))
        if type(parameters) is dict:
            self.statement.names = [str(name) for name in parameters]
        elif type(parameters) in (tuple, list):
            self.statement.names = len(parameters)

    @harmless
    def end(self, cursor: sqlite3.Cursor, error: BaseException | None) -> None:
        """Record the outcome of the statement."""
        statement, connection = self.statement, self._connection
        statement.execute_seconds = time.perf_counter() - statement.at
        connection.statement = None
        statement.is_open = connection.in_transaction
        statement.rows_changed_in_all = connection.total_changes - self._changes
        if statement.rows_changed_in_all:  # a script sets no rowcount
            statement.rows_changed = max(cursor.rowcount, 0) or statement.rows_changed_in_all
        statement.error = describe_error(error) if error else ""
        self.statement = connection.note(self._trace, statement)


@harmless
def _begin(
    connection: sqlite3.Connection, method: str, args: tuple[Any, ...], frame: FrameType
) -> _Recording | None:
    """Begin to record a statement if this thread is handling a request."""
    trace = current()
    if trace is None or not args or not isinstance(connection, Connection):
        return None
    return _Recording(trace, connection, method, args, frame)


def _add(trace: Trace, statement: Statement) -> Statement:
    """Record the statement, or add it to the last of many equal ones."""
    alike = [other for other in trace.statements if other.sql == statement.sql]
    if len(alike) > MAX_ALIKE:
        alike[-1].absorb(statement)
        return alike[-1]
    if trace.takes_event():
        trace.statements.append(statement)
        if not trace.call.is_rest:
            trace.call.children.append(statement)
    return statement


def explain(statements: Iterable[Statement]) -> None:
    """Query the plans of the statements from SQLite, if the database is a file that still exists.

    This happens when the story is shown, on a separate connection: on the application's own, the
    extra statement would affect `changes()`.
    """
    for statement in statements:
        if statement.plan or statement.keyword not in _HAS_PLAN or statement.method != "execute":
            continue
        with suppress(sqlite3.Error, OSError), closing(_connect(statement.database)) as connection:
            names = statement.names
            nothing = dict.fromkeys(names) if isinstance(names, list) else (None,) * names
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", nothing)
            statement.plan = [str(row[3]) for row in rows.fetchall()]


def _connect(database: tuple[str, bool] | None) -> sqlite3.Connection:
    """Open a database read-only. Raises OSError if it is not a file."""
    if database is None or database[0] == "" or re.search(":memory:|mode=memory", database[0]):
        raise FileNotFoundError
    name, is_uri = database
    address = name.partition("?")[0] if is_uri else Path(name).absolute().as_uri()
    return sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=0)
