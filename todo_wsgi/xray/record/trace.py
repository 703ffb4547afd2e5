"""The record of one request, and of the last requests.

The recording modules (`calls.py`, `sql.py`, `wire.py`, `middleware.py`) write to the `Trace` that
is current in their thread; the story reads it, afterwards or meanwhile.
"""

import functools
import itertools
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from todo_wsgi.xray.record.source import Line, line_of
from todo_wsgi.xray.record.values import HIDDEN, Record, Secrets, describe_error

logger = logging.getLogger("todo_wsgi.xray")

P = ParamSpec("P")
T = TypeVar("T")

MAX_REQUESTS = 50  # that are stored
MAX_EVENTS = 500  # of one request: calls, statements, rendered templates
MAX_BODY = 10_000  # bytes of one body
MAX_VALUE = 4000  # characters of one value of the environ, or of a header
MAX_SETS = 5  # sets of parameters of one statement


@dataclass(eq=False)
class Call(Record):
    """A function call; or, if it `is_rest`, all further calls by the same caller."""

    name: str
    line: Line  # where the function begins
    caller: Line | None = None  # the line that calls it
    is_library: bool = False
    is_rest: bool = False
    depth: int = 0
    count: int = 1
    arguments: list[tuple[str, str]] = field(default_factory=list)
    result: str | None = "still running"  # None: it raised an exception
    error: str = ""  # the exception, if known
    children: list["Call | Statement"] = field(default_factory=list)

    @property
    def calls(self) -> list["Call"]:
        """The children that are calls."""
        return [child for child in self.children if isinstance(child, Call)]


@dataclass(eq=False)
class Statement(Record):
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
    file: str = ""  # of the database, if it is one
    nothing: Any = ()  # None for each parameter, as it takes them
    error: str = ""

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
class Rendering(Record):
    """One rendering of a template."""

    name: str
    number: int  # 1 for the first rendering of this template
    line: Line | None
    placeholders: list[tuple[str, str, str]]  # name, value before and after escaping


@dataclass(eq=False)
class Routing(Record):
    """A lookup in the table of routes."""

    tried: list[tuple[str, str, str, str]]  # method, path, handler, outcome
    rest: int  # number of routes that were not tried
    line: Line | None


@dataclass(eq=False)
class Read(Record):
    """Equal calls that read from `wsgi.input`."""

    call: str  # such as "read(14)"
    line: Line | None
    count: int = 0  # of equal calls by the same line
    size: int = 0  # in bytes, of all of them


@dataclass(eq=False)
class Failure(Record):
    """An exception; its line, and the variables there if it is a line of the application."""

    error: str
    kind: str
    message: str  # for humans; may be empty
    left_application: bool
    catcher: str = ""  # the library that caught it, such as "flask", if one did
    line: Line | None = None
    function: str = ""  # empty if the application could not even be called
    values: list[tuple[str, str]] = field(default_factory=list)


@dataclass(eq=False)
class RawRequest(Record):
    """The bytes of a request as they arrived on the socket."""

    head: bytes = b""
    body: bytes = b""  # the beginning
    size: int = 0  # in bytes, of both
    body_size: int = 0


class Trace(Record):
    """The record of one request."""

    def __init__(self) -> None:
        self.number = 0
        self.time = time.time()
        self.answered: float | None = None  # when the application passed on the first bytes
        self.sent_at: float | None = None  # when the server sent the head
        self.finished: float | None = None  # when the application was done, by perf_counter()
        self.process = os.getpid()
        self.thread = threading.current_thread().name
        self.ident = threading.get_ident()
        self.profile: Callable[[FrameType, str, Any], None] | None = None
        self.secrets = Secrets()

        self.method = ""
        self.query = ""  # the part of the URL after the "?"
        self.client = ("", "")  # its address and port
        self.content_type = ""  # of the request body, without parameters
        self.environ: dict[str, str] = {}  # the entries that are str
        self.entries: list[tuple[str, str]] = []  # all entries, described
        self.environ_reads: dict[str, Line | None] = {}  # by lines of the application
        self.library_reads: dict[str, str] = {}  # by the module of a library
        self.process_variables = 0  # entries that are only variables of the process
        self.raw: RawRequest | None = None
        self.reads: list[Read] = []
        self.read_body = b""  # the beginning of what was read

        self.calls = self.call = Call("", Line("", 0))  # the root, and the call that is running
        self.statements: list[Statement] = []
        self.renderings: list[Rendering] = []
        self.rendered: dict[str, int] = {}  # number of renderings by template
        self.routing: Routing | None = None
        self.failures: list[Failure] = []
        self.changed_globals: dict[str, str] = {}  # names and files
        self.events = 0
        self.warnings: list[str] = []  # about the recording itself, which may be incomplete

        self.status = ""  # as passed to start_response
        self.headers: list[tuple[str, str]] = []
        self.response_line: Line | None = None
        self.wrong: dict[str, str] = {}  # what WSGI does not allow, described
        self.body_size = 0
        self.text = ""  # the beginning of the body, decompressed if necessary
        self.body_type = ""
        self.is_file = False  # that the server sends by itself
        self.is_whole = False  # whether the application generated all of the body
        self.unescaped: list[tuple[str, str]] = []  # fields that the page repeats as HTML
        self.error = ""  # the exception that the application raised to the server
        self.server_error = ""  # the exception that the server raised about the response
        self.sent_head: bytes | None = None
        self.is_servers_page = False  # what was sent is not the application's response

        self.came_from: int | None = None  # the number of the request whose redirect led here
        self.led_to: int | None = None
        self.page: int | None = None  # the number of the page that loaded it, or that has its form
        self.needs: list[int] = []  # the numbers of the requests that this page caused
        self.kept_since: int | None = None  # the number of the first request with the same body

    def hidden(self) -> "Trace":
        """Return a copy in which the secrets are hidden, to compose sentences from."""
        hidden: Trace = self.secrets.hide(self)
        is_secret = hidden.read_body != self.read_body
        if hidden.raw and self.raw and is_secret and self.read_body not in self.raw.body:
            hidden.raw.body = HIDDEN.encode()  # it came in chunks, which may divide the secret
        return hidden

    @property
    def is_running(self) -> bool:
        """Whether the application is not yet done with the request."""
        return self.finished is None

    def where(self) -> Line | None:
        """Return the line that the application is at, or None if it does not run."""
        running = _current.get(self.ident)  # this trace, or the one that this is a copy of
        is_here = running is not None and running.number == self.number
        return line_of(sys._current_frames().get(self.ident)) if is_here else None

    def takes_event(self) -> bool:
        """Count an event, and return whether to record it."""
        self.events += 1
        return self.events <= MAX_EVENTS

    @property
    def target(self) -> str:
        """The path and query, as in the request line."""
        if self.raw:
            return self.raw.head.split(None, 2)[1].decode("latin-1")
        get = self.environ.get
        path = get("SCRIPT_NAME", "") + get("PATH_INFO", "")
        return path + (f"?{self.query}" if self.query else "")

    @property
    def server(self) -> str:
        """The name of the server, for display."""
        if self.raw:
            return "waitress"
        return self.environ.get("SERVER_SOFTWARE", "").partition("/")[0] or "server"

    @property
    def sent_status(self) -> str:
        """The status of the response as sent, or else as passed to start_response."""
        line = (self.sent_head or b"").partition(b"\r\n")[0].decode("latin-1")
        return line.partition(" ")[2] or self.status

    @property
    def code(self) -> int:
        """The status code of the response, or 0 without one."""
        code = self.sent_status[:3]
        return int(code) if code.isascii() and code.isdigit() else 0

    @property
    def outcome(self) -> str:
        """The status of the response as the browser got it, or what happened instead."""
        if self.is_running:
            line = self.where()
            place = f", at {line.name}:{line.number}" if line else ""
            return f"running, {time.time() - self.time:.0f} s{place}"
        if self.is_servers_page:
            return f"{self.sent_status} (the server's own page)"
        if self.is_cut_off:
            return f"{self.sent_status}, then cut off"
        if self.sent_head is None and (self.error or self.wrong):
            return "an exception" if self.error else "an invalid response"
        return self.sent_status or "no response"

    @property
    def is_cut_off(self) -> bool:
        """Whether an exception followed when the head, but not all of the body, was sent."""
        is_partly_sent = self.sent_head is not None and self.body_size != self.declared_size
        return is_partly_sent and bool(self.error or self.server_error) and not self.is_servers_page

    @property
    def sent_headers(self) -> list[tuple[str, str]]:
        """The headers of the response as sent, or else as passed to start_response."""
        return _parse(self.sent_head or b"") or self.headers

    def header(self, name: str) -> str:
        """Return the value of the response header with this lower-case name, or ""."""
        return next((value for key, value in self.sent_headers if key.lower() == name), "")

    @property
    def declared_size(self) -> int | None:
        """The size of the body by its Content-Length, or None without one."""
        declared = self.header("content-length")
        return int(declared) if declared.isascii() and declared.isdigit() else None

    @property
    def sent_size(self) -> int:
        """The bytes of the body that were sent, as far as known."""
        size = 0 if self.code in (204, 304) else self.body_size
        if (declared := self.declared_size) is None:
            return size
        return declared if self.is_servers_page or self.is_file else min(declared, size)

    @property
    def redirects_to(self) -> str:
        """The target of a redirect, or "" for any other response (RFC 9110, 15.4)."""
        return self.header("location") if self.code in (301, 302, 303, 307, 308) else ""

    @property
    def request_headers(self) -> list[tuple[str, str]]:
        """The request headers as sent, or else those that the environ contains."""
        if self.raw:
            return _parse(self.raw.head)
        return [
            (name.removeprefix("HTTP_").replace("_", "-").title(), value)
            for name, value in self.environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ]

    @property
    def transactions(self) -> list[tuple[int, str]]:
        """The changed rows and the end of each: COMMIT, ROLLBACK, autocommit, or "" if open."""
        found, changed = [], 0
        for statement in self.statements:
            if statement.rows_changed and not statement.is_open:
                found.append((statement.rows_changed, "autocommit"))
            elif statement.keyword in ("COMMIT", "END", "ROLLBACK"):
                found.append((changed, statement.keyword.replace("END", "COMMIT")))
                changed = 0
            else:
                changed += statement.rows_changed
        return [(rows, end) for rows, end in [*found, (changed, "")] if rows]

    @property
    def rows_changed(self) -> int:
        """The number of rows that the request changed and did not roll back."""
        return sum(rows for rows, end in self.transactions if end != "ROLLBACK")

    @property
    def request_body(self) -> bytes:
        """The beginning of the request body: what was read, or else what arrived."""
        if self.reads or self.raw is None or b"\ntransfer-encoding:" in self.raw.head.lower():
            return self.read_body
        return self.raw.body


def _parse(head: bytes) -> list[tuple[str, str]]:
    """Return the headers in the head of a request or response."""
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return [(name, value.strip(" \t")) for name, colon, value in lines if colon]


_current: dict[int, Trace] = {}  # the trace that each thread records


def current() -> Trace | None:
    """Return the trace that this thread records, or None outside a request."""
    return _current.get(threading.get_ident())


@contextmanager
def on(trace: Trace) -> Iterator[None]:
    """Make a trace the current one of this thread during the `with` block."""
    ident, profile = threading.get_ident(), sys.getprofile()
    _current[ident] = trace
    if trace.profile:
        sys.setprofile(trace.profile)
    try:
        yield
    finally:
        sys.setprofile(profile)
        _current.pop(ident, None)


def harmless(record: Callable[P, T]) -> Callable[P, T | None]:
    """Decorate a recording function: its exceptions become warnings, and it returns None."""

    @functools.wraps(record)
    def record_or_not(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return record(*args, **kwargs)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            warning = f"The x-ray itself failed at {where}: {describe_error(error)}."
            if (trace := current()) is None:
                logger.exception("The x-ray failed")
            elif warning not in trace.warnings:
                trace.warnings.append(warning)
            return None

    return record_or_not


class Traces:
    """The last requests, and the links between them."""

    def __init__(self) -> None:
        self._traces: dict[int, Trace] = {}
        self._numbers = itertools.count(1)
        # The bodies that may be sent again, and the number of the first request with each.
        self._bodies: deque[tuple[bytes, int]] = deque(maxlen=MAX_REQUESTS)
        self.first: dict[str, int] = {}  # the first request that demonstrated each lesson
        self._lock = threading.Lock()

    def begin(self, trace: Trace) -> None:
        """Number and store a trace, before its request is handled."""
        with self._lock:
            done = [number for number, other in self._traces.items() if other.finished]
            if len(self._traces) >= MAX_REQUESTS and done:
                del self._traces[done[0]]
            trace.number = next(self._numbers)
            self._traces[trace.number] = trace

    def end(self, trace: Trace, body: bytes | None) -> None:
        """Link a trace to related ones, after its request was handled.

        The body is given if the application may keep and send it again, as an object.
        """
        with self._lock:
            self._traces[trace.number] = self._traces.pop(trace.number)  # the oldest goes first
            self._link(trace)
            first = next((number for other, number in self._bodies if other is body), None)
            if body and first is None:
                self._bodies.append((body, trace.number))
            elif trace.code == 200 and not trace.statements and not trace.renderings:
                trace.kept_since = first

    def _link(self, trace: Trace) -> None:
        before = [other for other in reversed(self._traces.values()) if other.number < trace.number]
        # A connection carries one request after another. So if the last one redirected to this
        # address, it led to this request. A proxy's connection carries requests of many clients.
        last = next((other for other in before if other.client == trace.client), None)
        if last and not last.led_to and all(trace.client) and not is_proxied(trace):
            path = re.sub("^[a-z]+://[^/]*|#.*", "", last.redirects_to)
            if path and path == trace.target:
                trace.came_from, last.led_to = last.number, trace.number
        for page in before:
            address = page.environ.get("HTTP_HOST", "") + page.target
            if (
                address == trace.environ.get("HTTP_REFERER", "").partition("://")[2]
                and page.client[0] == trace.client[0]
                and page.header("content-type").startswith("text/html")
            ):
                trace.page = page.number
                if is_part(trace):
                    page.needs.append(trace.number)
                break

    def last(self) -> list[Trace]:
        """Return the stored traces, newest first."""
        with self._lock:
            return sorted(self._traces.values(), key=lambda trace: -trace.number)

    def get(self, number: int) -> Trace | None:
        """Return the trace with this number, or None if it is not stored (any more)."""
        return self._traces.get(number)


def is_part(trace: Trace) -> bool:
    """Return whether a page needs it as a subresource, such as a style sheet or an image."""
    kind = trace.environ.get("HTTP_SEC_FETCH_DEST") or trace.header("content-type")
    return kind.startswith(("style", "text/css", "image", "font", "script"))


def is_proxied(trace: Trace) -> bool:
    """Return whether a proxy's headers show that it forwarded the request."""
    names = {"x-forwarded-for", "forwarded", "via"}
    return any(name.lower() in names for name, _ in trace.request_headers)
