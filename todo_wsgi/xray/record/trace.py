"""The record of one request, and of the last requests.

The recording modules (`calls.py`, `sql.py`, `wire.py`, `middleware.py`) write to the `Trace` that
is current in their thread; `story.py` reads it afterwards.
"""

import functools
import itertools
import logging
import os
import sys
import threading
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

from todo_wsgi.xray.record.source import Line
from todo_wsgi.xray.record.values import Secrets, describe, describe_error, show_bytes

logger = logging.getLogger("todo_wsgi.xray")

P = ParamSpec("P")
T = TypeVar("T")

MAX_REQUESTS = 50  # that are stored
MAX_EVENTS = 500  # of one request: calls, statements, rendered templates
MAX_BODY = 10_000  # bytes of one body
MAX_HEAD = 20_000  # bytes of one head
MAX_VALUE = 4000  # characters of one value of the environ, or of a header
MAX_SETS = 5  # sets of parameters of one statement


@dataclass(eq=False)
class Call:
    """A function call; or, if it `is_rest`, all further calls by the same caller."""

    name: str
    line: Line  # where the function begins
    caller: Line | None = None  # the line that calls it
    is_library: bool = False
    is_rest: bool = False
    depth: int = 0
    count: int = 1
    arguments: list[tuple[str, str]] = field(default_factory=list)
    result: str | None = None  # None: it raised an exception
    error: str = ""  # the exception, if known
    seconds: float = 0.0
    children: list["Call | Statement"] = field(default_factory=list)
    alike: dict[CodeType, list["Call"]] = field(default_factory=dict)  # children, by function

    @property
    def calls(self) -> list["Call"]:
        """The children that are calls."""
        return [child for child in self.children if isinstance(child, Call)]


@dataclass(eq=False)
class Statement:
    """An SQL statement that was executed."""

    sql: str
    parameters: list[str]  # described; several if it was executed several times
    line: Line | None
    at: float  # time.perf_counter()
    issuer: str = ""  # who executed it, if not the application with `execute`
    method: str = "execute"
    count: int = 1  # number of executions
    execute_seconds: float = 0.0
    fetch_seconds: float = 0.0
    rows_read: int = 0
    rows_changed: int = 0  # by the statement
    rows_changed_in_all: int = 0  # including triggers
    is_open: bool = False  # whether a transaction is open after it
    plan: list[str] = field(default_factory=list)
    database: tuple[str, bool] | None = None  # its file, or its URI if True
    names: int | list[str] = 0  # of the parameters, or their number
    error: str = ""
    others: int = 0  # number of other requests in its transaction

    def absorb(self, other: "Statement") -> None:
        """Add another execution of the same statement."""
        self.count += other.count
        self.parameters = (self.parameters + other.parameters)[:MAX_SETS]
        self.execute_seconds += other.execute_seconds
        self.fetch_seconds += other.fetch_seconds
        self.rows_changed += other.rows_changed
        self.rows_changed_in_all += other.rows_changed_in_all
        self.error = self.error or other.error

    @property
    def keyword(self) -> str:
        """The first word, such as "SELECT"."""
        words = self.sql.split(None, 1)
        return words[0].upper().rstrip(";") if words else ""


@dataclass(eq=False)
class Rendering:
    """One rendering of a template."""

    name: str
    number: int  # 1 for the first rendering of this template
    line: Line | None
    placeholders: list[tuple[str, str, str]]  # name, value before and after escaping


@dataclass(eq=False)
class Routing:
    """A lookup in the table of routes."""

    tried: list[tuple[str, str, str, str]]  # method, path, handler, outcome
    rest: int  # number of routes that were not tried
    line: Line | None


@dataclass(eq=False)
class Read:
    """A call that read from `wsgi.input`."""

    method: str
    args: tuple[Any, ...]
    size: int  # in bytes
    data: bytes  # the beginning
    line: Line | None

    @property
    def call(self) -> str:
        """The call in Python, such as "read(14)"."""
        return f"{self.method}({', '.join(map(describe, self.args))})"


@dataclass(eq=False)
class Failure:
    """An exception; its line, and the variables there if it is a line of the application."""

    error: str
    kind: str
    message: str  # for humans; may be empty
    left_application: bool
    line: Line | None = None
    function: str = ""  # empty if the application could not even be called
    values: list[tuple[str, str]] = field(default_factory=list)


class RawRequest:
    """The bytes of a request as they arrived on the socket."""

    def __init__(self) -> None:
        self.head = b""
        self.body = b""
        self.size = 0
        self.began = self.ended = time.perf_counter()

    def add(self, data: bytes, *, is_body: bool) -> None:
        """Add bytes that have arrived."""
        self.size += len(data)
        if is_body:
            self.body += data[: MAX_BODY - len(self.body)]
        else:
            self.head += data[: MAX_HEAD - len(self.head)]
        self.ended = time.perf_counter()


class Trace:
    """The record of one request."""

    def __init__(self) -> None:
        self.number = 0
        self.time = time.time()
        self.began = time.perf_counter()
        self.ended = self.began
        self.process = os.getpid()
        self.thread = threading.current_thread().name
        self.profile: Callable[[FrameType, str, Any], None] | None = None
        self.secrets = Secrets()

        self.environ: dict[str, str] = {}  # the entries that are str
        self.entries: list[tuple[str, str]] = []  # all entries, described
        self.environ_reads: dict[str, Line | None] = {}  # by lines of the application
        self.library_reads: dict[str, str] = {}  # by the module of a library
        self.process_variables = 0  # entries that are only variables of the process
        self.raw: RawRequest | None = None
        self.reads: list[Read] = []
        self.body_recorded = 0  # bytes of the body in `reads`

        self.calls = self.call = Call("", Line("", 0))  # the root, and the call that is running
        self.statements: list[Statement] = []
        self.renderings: list[Rendering] = []
        self.rendered: dict[str, int] = {}  # number of renderings by template
        self.routing: Routing | None = None
        self.failures: list[Failure] = []
        self.changed_globals: dict[str, str] = {}  # names and files
        self.events = 0
        self.warnings: list[str] = []  # about the recording itself

        self.status = ""  # as passed to start_response
        self.headers: list[tuple[str, str]] = []
        self.types: list[str] = []  # of the arguments of start_response
        self.wrong_header = ""  # the first that is not a tuple of two str
        self.response_line: Line | None = None
        self.body = b""
        self.body_size = 0
        self.body_type = ""
        self.unescaped: list[tuple[str, str]] = []  # fields that the page repeats as HTML
        self.invalid_environ = ""  # what wsgiref.validate reports about the server
        self.invalid_response = ""  # and about the application
        self.sent_head: bytes | None = None
        self.sent_at: float | None = None

        self.came_from: int | None = None  # the number of the request whose redirect led here
        self.led_to: int | None = None
        self.page: int | None = None  # the number of the page that loaded it, or that has its form
        self.needs: list[int] = []  # the numbers of the requests that this page caused

    @property
    def read_body(self) -> bytes:
        """The beginning of what the application read from the body."""
        return b"".join(read.data for read in self.reads)

    @property
    def left_with_exception(self) -> bool:
        """Whether the application raised an exception to the server."""
        return any(failure.left_application for failure in self.failures)

    def takes_event(self) -> bool:
        """Count an event, and return whether to record it."""
        self.events += 1
        return self.events <= MAX_EVENTS

    @property
    def client(self) -> tuple[str, str]:
        """The address and port that the request came from."""
        return self.environ.get("REMOTE_ADDR", ""), self.environ.get("REMOTE_PORT", "")

    @property
    def method(self) -> str:
        """The method, such as "GET"."""
        return self.environ.get("REQUEST_METHOD", "")

    @property
    def target(self) -> str:
        """The path and query, as in the request line."""
        if self.raw and len(words := self.raw.head.split(b"\r\n", 1)[0].split()) == 3:
            return words[1].decode("latin-1")
        get = self.environ.get
        path = get("SCRIPT_NAME", "") + get("PATH_INFO", "")
        return path + (f"?{self.query}" if self.query else "")

    @property
    def query(self) -> str:
        """The part of the URL after the "?"."""
        return self.environ.get("QUERY_STRING", "")

    @property
    def server(self) -> str:
        """The name of the server, for display."""
        if self.raw:
            return "waitress"
        return self.environ.get("SERVER_SOFTWARE", "").partition("/")[0] or "server"

    @property
    def outcome(self) -> str:
        """The status of the response, or what happened instead."""
        if self.status and not self.left_with_exception:
            return self.status
        if self.sent_head:
            return self.sent_head.split(b"\r\n")[0].partition(b" ")[2].decode("latin-1")
        return "an exception" if self.left_with_exception else "no response"

    def header(self, name: str) -> str:
        """Return the value of the response header with this lower-case name, or ""."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def redirects_to(self) -> str:
        """The target of a redirect, or "" for any other response (RFC 9110, 15.4)."""
        return self.header("location") if self.code in (301, 302, 303, 307, 308) else ""

    @property
    def request_headers(self) -> list[tuple[str, str]]:
        """The request headers that the environ contains."""
        return [
            (name.removeprefix("HTTP_").replace("_", "-").title(), value)
            for name, value in self.environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ]

    @property
    def transactions(self) -> list[tuple[int, str]]:
        """The number of rows that each transaction changed, and how it ended.

        That is "COMMIT", "ROLLBACK", "autocommit" for a single statement, or "" if still open.
        """
        found = []
        changed = 0
        for statement in self.statements:
            if statement.rows_changed and not statement.is_open:
                found.append((statement.rows_changed, "autocommit"))
            else:
                changed += statement.rows_changed
            if statement.keyword in ("COMMIT", "END", "ROLLBACK"):
                found.append((changed, statement.keyword.replace("END", "COMMIT")))
                changed = 0
        return [(rows, end) for rows, end in [*found, (changed, "")] if rows]

    @property
    def rows_changed(self) -> int:
        """The number of rows that the request changed and did not roll back."""
        return sum(rows for rows, end in self.transactions if end != "ROLLBACK")

    @property
    def content_type(self) -> str:
        """The media type of the request body, without parameters."""
        return self.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()

    @property
    def request_body(self) -> bytes:
        """The beginning of the request body: what was read, or else what arrived."""
        if self.reads or self.raw is None or b"\ntransfer-encoding:" in self.raw.head.lower():
            return self.read_body
        return self.raw.body

    @property
    def text(self) -> str:
        """The beginning of the response body as text, decompressed if necessary."""
        body = self.body
        if self.header("content-encoding") == "gzip":
            try:
                body = zlib.decompressobj(31).decompress(body, MAX_BODY)
            except zlib.error:
                return describe(body)
        kind = self.header("content-type")
        if kind.startswith("text/") or "json" in kind or "xml" in kind:
            return show_bytes(body)
        return describe(body)

    @property
    def code(self) -> int:
        """The status code of the response, or 0 without one."""
        code = self.status[:3]
        return int(code) if code.isascii() and code.isdigit() else 0


# The current trace of each thread


class _Current(threading.local):
    trace: Trace | None = None


_current = _Current()


def current() -> Trace | None:
    """Return the trace that this thread records, or None outside a request."""
    return _current.trace


class on:
    """Make a trace the current one of this thread during the `with` block."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> None:
        self._before, _current.trace = _current.trace, self._trace
        self._profile = sys.getprofile()
        if self._trace.profile:
            sys.setprofile(self._trace.profile)

    def __exit__(self, *error: object) -> None:
        if self._trace.profile:
            sys.setprofile(self._profile)
        _current.trace = self._before


def harmless(record: Callable[P, T]) -> Callable[P, T | None]:
    """Decorate a recording function, so that its exceptions do not reach the application."""

    @functools.wraps(record)
    def record_or_not(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return record(*args, **kwargs)
        except Exception as error:
            note_failure(error)
            return None

    return record_or_not


def note_failure(error: Exception) -> None:
    """Add a warning to the trace that the x-ray itself failed, once for each cause; else log it."""
    trace = current()
    if trace is None:
        logger.exception("The x-ray failed")
        return
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}:{last.lineno}"
    warning = f"The x-ray itself failed at {where}; its data is incomplete: {describe_error(error)}"
    if warning not in trace.warnings:
        trace.warnings.append(warning)


class Traces:
    """The last requests, and the links between them."""

    def __init__(self) -> None:
        self._traces: deque[Trace] = deque(maxlen=MAX_REQUESTS)
        self._numbers = itertools.count(1)
        self.first: dict[str, int] = {}  # the first request that demonstrated each lesson
        self._lock = threading.Lock()

    def number(self, trace: Trace) -> None:
        """Assign the next number to a trace."""
        trace.number = next(self._numbers)

    def add(self, trace: Trace) -> None:
        """Store a trace, and link it to related ones."""
        with self._lock:
            self._link(trace)
            self._traces.append(trace)

    def _link(self, trace: Trace) -> None:
        get = trace.environ.get
        # A connection carries one request after another. So if the last one redirected to this
        # address, it led to this request. A proxy's connection carries requests of many clients.
        last = next((t for t in reversed(self._traces) if t.client == trace.client), None)
        if (
            last
            and last.redirects_to
            and _path_of(last.redirects_to) == trace.target
            and last.led_to is None
            and all(trace.client)
            and not is_proxied(trace)
        ):
            trace.came_from, last.led_to = last.number, trace.number
        if referer := get("HTTP_REFERER"):
            for page in reversed(self._traces):
                if (
                    page.client[0] == trace.client[0]
                    and page.environ.get("HTTP_HOST") == get("HTTP_HOST")
                    and page.target == _path_of(referer)
                    and page.header("content-type").startswith("text/html")
                ):
                    trace.page = page.number
                    if is_part(trace):
                        page.needs.append(trace.number)
                    break

    def last(self) -> list[Trace]:
        """Return the stored traces, newest first."""
        with self._lock:
            return sorted(self._traces, key=lambda trace: -trace.number)

    def get(self, number: int) -> Trace | None:
        """Return the trace with this number, or None if it is not stored (any more)."""
        return next((trace for trace in self.last() if trace.number == number), None)


def is_part(trace: Trace) -> bool:
    """Return whether a page needs it as a subresource, such as a style sheet or an image."""
    destination = trace.environ.get("HTTP_SEC_FETCH_DEST")
    if destination:
        return destination in ("style", "image", "font", "script")
    kind = trace.header("content-type")
    return kind.startswith(("text/css", "image/", "font/"))


def is_proxied(trace: Trace) -> bool:
    """Return whether a proxy's headers show that it forwarded the request."""
    names = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA")
    head = trace.raw.head.lower() if trace.raw else b""
    return any(name in trace.environ for name in names) or b"\r\nx-forwarded-for:" in head


def _path_of(address: str) -> str:
    """Return the path and query of a URL, as a browser requests them."""
    address = address.partition("#")[0]
    if "://" in address:
        address = "/" + address.partition("://")[2].partition("/")[2]
    return address
