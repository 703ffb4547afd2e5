"""The executed SQL, with parameters, times, rows and query plans.

`watch_connections` makes `sqlite3.connect` open connections that record their statements for the
request that the thread is handling, also if the application chose their class.
"""

import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import cache, partialmethod
from pathlib import Path
from typing import Any

from todo_wsgi.xray.record.hooks import patch
from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import MAX_SETS, Statement, Trace, current, harmless
from todo_wsgi.xray.record.values import cut, describe, describe_error

MAX_SQL = 10_000  # characters of one statement
MAX_ALIKE = 3  # times that one statement is shown; further executions are added up

IMPLICIT = "the sqlite3 module, implicitly"
_CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")


def watch_connections() -> Callable[[], None]:
    """Make new connections record; return a function that ends this."""

    def watch(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def connect_and_record(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            if len(args) < 6:  # otherwise the sixth one is the factory
                factory = kwargs.get("factory", sqlite3.Connection)
                kwargs["factory"] = _recording(factory, Connection)
            return connect(*args, **kwargs)

        return connect_and_record

    ends = ExitStack()
    for module in (sqlite3, sqlite3.dbapi2):
        ends.callback(patch(module, "connect", watch))
    return ends.close


@cache
def _recording(kind: Any, base: type) -> Any:
    """Return the class of the application with the methods of `base`, which record."""
    with suppress(TypeError):  # it is a function, or allows no subclass
        return base if issubclass(base, kind) else type(kind.__name__, (kind, base), {})
    return kind


def _ending(name: str, issuer: str) -> Any:
    """Return the method of `sqlite3.Connection` that ends a transaction, and records who did."""

    def end_and_record(connection: "Connection", *args: Any) -> Any:
        recorder, began = connection._xray, time.perf_counter()
        was_open = recorder.count(recorder.returning)
        result = getattr(super(Connection, connection), name)(*args)
        if was_open:
            is_undone = name == "rollback" or any(args)  # of __exit__, an exception
            recorder.add_implicit("ROLLBACK" if is_undone else "COMMIT", began, issuer)
        return result

    return end_and_record


class Connection(sqlite3.Connection):
    """A connection that records the statements executed on it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._xray = _Recorder(self)

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """Return a cursor that records; for this and the next methods, see `sqlite3.Connection`."""
        return super().cursor(_recording(factory, Cursor))

    def execute(self, *args: Any, method: str = "execute") -> Any:
        """Execute one statement."""
        return getattr(self.cursor(), method)(*args)

    executemany: Any = partialmethod(execute, method="executemany")
    executescript: Any = partialmethod(execute, method="executescript")

    def close(self) -> None:
        """Close the connection."""
        self._xray.count(self._xray.returning)
        super().close()

    commit = _ending("commit", "the application, with commit()")
    rollback = _ending("rollback", "the application, with rollback()")
    __exit__ = _ending("__exit__", "the sqlite3 module, at the end of the “with” block")


def _recorded(name: str) -> Any:
    """Return the method of `sqlite3.Cursor` that executes statements, and records them."""

    def execute_and_record(cursor: "Cursor", *args: Any) -> Any:
        execute = getattr(super(Cursor, cursor), name)
        begun = _begin(cursor, name, args)
        if begun is None:
            return execute(*args)
        trace, recorder, statement, args = begun
        try:
            return execute(*args)
        except BaseException as error:
            statement.error = harmless(describe_error)(error) or ""
            raise
        finally:
            recorder.end(trace, cursor, statement)

    return execute_and_record


def _counted(name: str, count: Callable[[Any], int]) -> Any:
    """Return the method of `sqlite3.Cursor` that fetches rows, and counts them."""

    def fetch_and_count(cursor: "Cursor", *args: Any, **kwargs: Any) -> Any:
        fetch = getattr(super(Cursor, cursor), name)
        if current() is None or cursor._xray is None:
            return fetch(*args, **kwargs)
        recorder, statement = cursor._xray
        recorder.count(recorder.returning)
        began = time.perf_counter()
        rows = fetch(*args, **kwargs)
        statement.fetch_seconds += time.perf_counter() - began
        statement.rows_read += count(rows)
        recorder.count(statement, cursor.rowcount)
        return rows

    return fetch_and_count


class Cursor(sqlite3.Cursor):
    """A cursor that records the statements executed on it, and the number of rows fetched."""

    _xray: "tuple[_Recorder, Statement] | None" = None  # what it executed last

    execute = _recorded("execute")
    executemany = _recorded("executemany")
    executescript = _recorded("executescript")
    fetchone = _counted("fetchone", lambda row: row is not None)
    fetchmany = _counted("fetchmany", len)
    fetchall = _counted("fetchall", len)
    __next__ = _counted("__next__", lambda _: 1)


class _Recorder:
    """What one connection does: it adds the statements to the trace of the thread's request.

    What the sqlite3 module executes by itself is concluded from what changes. SQLite would also
    call us (`set_trace_callback`), but that is a deadlock where threads share a connection: one
    waits for the GIL and has SQLite's mutex, another one waits for the mutex and has the GIL.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = weakref.proxy(connection)  # which it must not keep open
        self._counted = 0  # changed rows that some statement has been credited with
        self.returning: Statement | None = None  # changes its rows while they are fetched
        self.file = ""  # "": the database is not a file
        with suppress(sqlite3.Error):  # its name may not be UTF-8
            self.file = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchone()[2]

    @harmless
    def end(self, trace: Trace, cursor: Cursor, statement: Statement) -> None:
        """Record the outcome of the statement."""
        statement.execute_seconds = time.perf_counter() - statement.at
        was_open, statement.is_open = statement.is_open, self.count(statement, cursor.rowcount)
        if statement.is_open and not was_open and statement.keyword in _CHANGES:
            self.add_implicit("BEGIN", statement.at)
        statement = _add(trace, statement)
        cursor._xray = self, statement
        if statement.keyword in _CHANGES and cursor.description:
            self.returning = statement

    def count(self, statement: Statement | None, rowcount: int = 0) -> bool:
        """Credit the statement, if any, with the rows changed since the last call.

        Return whether a transaction is open.
        """
        with suppress(sqlite3.ProgrammingError):  # closed, or of another thread
            changed = self._connection.total_changes - self._counted
            self._counted += changed
            if statement and changed:
                statement.rows_changed_in_all += changed
                statement.rows_changed += max(rowcount, 0) or changed  # a script has no rowcount
            return bool(self._connection.in_transaction)
        return False

    @harmless
    def add_implicit(self, keyword: str, began: float, issuer: str = IMPLICIT) -> None:
        """Record a BEGIN, COMMIT or ROLLBACK without a call of `execute`."""
        if trace := current():
            statement = Statement(keyword, [], line_of(sys._getframe()), began, issuer=issuer)
            statement.execute_seconds = (time.perf_counter() - began) * (keyword != "BEGIN")
            _add(trace, statement)


@harmless
def _begin(
    cursor: Cursor, method: str, args: Any
) -> tuple[Trace, _Recorder, Statement, Any] | None:
    """Begin to record a statement, and return it with the arguments to execute it with.

    None if this thread is handling no request, or if the connection does not record.
    """
    trace, connection = current(), cursor.connection
    if trace is None or not args or not isinstance(connection, Connection):
        return None
    sql = cut(args[0], MAX_SQL) if type(args[0]) is str else describe(args[0])
    statement = Statement(sql, [], line_of(sys._getframe()), time.perf_counter(), method=method)
    if method == "executemany":
        args = (args[0], _note_sets(trace, statement, args[1]), *args[2:])
    elif len(args) > 1:
        _note_parameters(trace, statement, args[1])
    recorder = connection._xray
    statement.file, statement.is_open = recorder.file, recorder.count(recorder.returning)
    recorder.returning = None
    # Before a script, Python commits, unless the connection has another mode (from 3.12 on).
    is_script = method == "executescript" and statement.is_open
    if is_script and getattr(connection, "autocommit", -1) == -1:
        recorder.add_implicit("COMMIT", statement.at)
    return trace, recorder, statement, args


def _note_sets(trace: Trace, statement: Statement, sets: Iterable[Any]) -> Iterator[Any]:
    """Yield the sets of parameters unchanged, and record the first of them."""
    statement.count = 0
    for parameters in sets:
        statement.count += 1
        if len(statement.parameters) < MAX_SETS:
            _note_parameters(trace, statement, parameters)
        yield parameters


@harmless
def _note_parameters(trace: Trace, statement: Statement, parameters: Any) -> None:
    trace.secrets.add("", parameters)
    statement.parameters.append(describe(parameters))
    if type(parameters) is dict:
        statement.nothing = dict.fromkeys(parameters)
    elif type(parameters) in (tuple, list):
        statement.nothing = (None,) * len(parameters)


def _add(trace: Trace, statement: Statement) -> Statement:
    """Record the statement, or add it to the last of many equal ones; return which it was."""
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
        has_plan = statement.keyword in ("SELECT", *_CHANGES) and statement.method == "execute"
        if statement.plan or not has_plan or not statement.file:
            continue
        address = f"{Path(statement.file).as_uri()}?mode=ro"
        with (
            suppress(sqlite3.Error),  # it is gone, or another process changes it
            closing(sqlite3.connect(address, uri=True, timeout=0)) as connection,
        ):
            sql = f"EXPLAIN QUERY PLAN {statement.sql}"
            rows = connection.execute(sql, statement.nothing)
            statement.plan = [str(row[3]) for row in rows.fetchall()]
