"""What is recorded of one request, and the last requests that were.

The parts of the x-ray that watch (`calls.py`, `sql.py`, `wire.py`, `middleware.py`) write into the
`Trace` of the thread that they run in; `story.py` reads it afterwards.
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

from todo_wsgi.xray.source import Place
from todo_wsgi.xray.values import Secrets, describe, describe_error, show_bytes

logger = logging.getLogger("todo_wsgi.xray")

P = ParamSpec("P")
T = TypeVar("T")

MAX_REQUESTS = 50  # that are kept
MAX_EVENTS = 500  # of one request: calls, statements, filled templates
MAX_BODY = 10_000  # bytes of one body
MAX_HEAD = 20_000  # bytes of one head
MAX_SETS = 5  # sets of parameters of one statement


@dataclass(eq=False)
class Call:
    """A call of a function; or, if it `is_rest`, all further ones by the same caller."""

    name: str
    place: Place  # where the function begins
    caller: Place | None = None  # the line that calls it
    is_library: bool = False
    is_rest: bool = False
    depth: int = 0
    yields: int = 0  # values, if it is a generator
    count: int = 1
    arguments: list[tuple[str, str]] = field(default_factory=list)
    result: str | None = None  # None: it was left with an exception
    error: str = ""  # which one, if that is known
    seconds: float = 0.0
    children: list["Call | Statement"] = field(default_factory=list)
    alike: dict[CodeType, list["Call"]] = field(default_factory=dict)  # children, by function

    @property
    def calls(self) -> list["Call"]:
        """Those of its children that are calls."""
        return [child for child in self.children if isinstance(child, Call)]


@dataclass(eq=False)
class Statement:
    """An SQL statement that was executed."""

    sql: str
    parameters: list[str]  # described; more than one if it was executed for many
    place: Place | None
    at: float  # time.perf_counter()
    author: str = ""  # who executed it, if it was no `execute` of the application
    method: str = "execute"
    count: int = 1  # how often it was executed with other parameters
    execute_seconds: float = 0.0
    fetch_seconds: float = 0.0
    rows_read: int = 0
    rows_changed: int = 0  # by the statement
    rows_changed_in_all: int = 0  # also by triggers
    is_open: bool = False  # in a transaction, after it
    plan: list[str] = field(default_factory=list)
    database: tuple[str, bool] | None = None  # its file, or address if that is True
    names: int | list[str] = 0  # of the parameters, or how many they are
    error: str = ""
    others: int = 0  # other requests that have part in it

    def absorb(self, other: "Statement") -> None:
        """Stand for another execution of the same statement, too."""
        self.count += other.count
        self.parameters = (self.parameters + other.parameters)[:MAX_SETS]
        self.execute_seconds += other.execute_seconds
        self.fetch_seconds += other.fetch_seconds
        self.rows_changed += other.rows_changed
        self.rows_changed_in_all += other.rows_changed_in_all
        self.error = self.error or other.error

    @property
    def keyword(self) -> str:
        """What it does, like "SELECT"."""
        words = self.sql.split(None, 1)
        return words[0].upper().rstrip(";") if words else ""


@dataclass(eq=False)
class Filling:
    """A template that was filled."""

    name: str
    number: int  # the first time, the second time ...
    place: Place | None
    holes: list[tuple[str, str, str]]  # name, value before and after escaping


@dataclass(eq=False)
class Routing:
    """The table of routes, and what was looked up in it."""

    tried: list[tuple[str, str, str, str]]  # method, path, handler, and what came of it
    rest: int  # how many routes were not tried
    place: Place | None


@dataclass(eq=False)
class Read:
    """A call that read from `wsgi.input`."""

    method: str
    args: tuple[Any, ...]
    size: int  # bytes that it got
    data: bytes  # the first of them
    place: Place | None

    @property
    def call(self) -> str:
        """How it is written, like "read(14)"."""
        return f"{self.method}({', '.join(map(describe, self.args))})"


@dataclass(eq=False)
class Failure:
    """An exception, and the values of the frame that it left."""

    error: str
    place: Place
    function: str
    values: list[tuple[str, str]]
    left_application: bool


class RawRequest:
    """A request's bytes as they came over the socket."""

    def __init__(self) -> None:
        self.head = b""
        self.body = b""
        self.size = 0
        self.began = self.ended = time.perf_counter()

    def add(self, data: bytes, *, is_body: bool) -> None:
        """Add what has come."""
        self.size += len(data)
        if is_body:
            self.body += data[: MAX_BODY - len(self.body)]
        else:
            self.head += data[: MAX_HEAD - len(self.head)]
        self.ended = time.perf_counter()


class Trace:
    """What is recorded of one request."""

    def __init__(self) -> None:
        self.number = 0
        self.time = time.time()
        self.began = time.perf_counter()
        self.ended = self.began
        self.process = os.getpid()
        self.thread = threading.current_thread().name
        self.profile: Callable[[FrameType, str, Any], None] | None = None
        self.secrets = Secrets()

        self.environ: dict[str, str] = {}  # those entries that are text
        self.entries: list[tuple[str, str]] = []  # all of them, described
        self.environ_reads: dict[str, Place | None] = {}
        self.raw: RawRequest | None = None
        self.reads: list[Read] = []
        self.body_kept = 0  # bytes of what was read

        self.calls = self.call = Call("", Place("", 0))  # all of them, and the one that runs now
        self.statements: list[Statement] = []
        self.fillings: list[Filling] = []
        self.filled: dict[str, int] = {}  # how often each template was
        self.routing: Routing | None = None
        self.failures: list[Failure] = []
        self.written_globals: dict[str, Place] = {}
        self.events = 0
        self.remarks: list[str] = []  # what the recorder has to say of itself

        self.status = ""  # as it was given to start_response
        self.headers: list[tuple[str, str]] = []
        self.types: list[str] = []  # of what was given to start_response
        self.wrong_header = ""  # the first one that is no tuple of two str
        self.answer_place: Place | None = None
        self.body = b""
        self.body_size = 0
        self.body_type = ""
        self.invalid_environ = ""  # what wsgiref.validate says of the server's part
        self.invalid_answer = ""  # and of the application's
        self.sent_head: bytes | None = None
        self.sent_at: float | None = None

        self.came_from: int | None = None  # the number of the request whose redirect led here
        self.led_to: int | None = None
        self.page: int | None = None  # the number of the page that needs it, or has its form
        self.needs: list[int] = []  # what the page needs

    @property
    def read_body(self) -> bytes:
        """What the application has read of the body."""
        return b"".join(read.data for read in self.reads)

    @property
    def left_with_exception(self) -> bool:
        """Whether the application let an exception through to the server."""
        return any(failure.left_application for failure in self.failures)

    def takes_event(self) -> bool:
        """Count an event, and return whether it is to be kept."""
        self.events += 1
        return self.events <= MAX_EVENTS

    @property
    def client(self) -> tuple[str, str]:
        """The address and port that the request came from."""
        return self.environ.get("REMOTE_ADDR", ""), self.environ.get("REMOTE_PORT", "")

    @property
    def method(self) -> str:
        """The method, like "GET"."""
        return self.environ.get("REQUEST_METHOD", "")

    @property
    def target(self) -> str:
        """The path and the query, as they stand in the request's first line."""
        if self.raw and len(words := self.raw.head.split(b"\r\n", 1)[0].split()) == 3:
            return words[1].decode("latin-1")
        get = self.environ.get
        path = get("SCRIPT_NAME", "") + get("PATH_INFO", "")
        return path + (f"?{self.query}" if self.query else "")

    @property
    def query(self) -> str:
        """What stands after the "?" of the address."""
        return self.environ.get("QUERY_STRING", "")

    @property
    def server(self) -> str:
        """The server's name, for people."""
        if self.raw:
            return "waitress"
        return self.environ.get("SERVER_SOFTWARE", "").partition("/")[0] or "server"

    @property
    def outcome(self) -> str:
        """The status of the answer, or what came instead of it."""
        if self.status and not self.left_with_exception:
            return self.status
        if self.sent_head:
            return self.sent_head.split(b"\r\n")[0].partition(b" ")[2].decode("latin-1")
        return "an exception" if self.left_with_exception else "no answer"

    def header(self, name: str) -> str:
        """Return the header of the answer, or ""."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def redirects_to(self) -> str:
        """Where the answer sends the browser, or "" (RFC 9110, 15.4)."""
        return self.header("location") if self.code in (301, 302, 303, 307, 308) else ""

    @property
    def request_headers(self) -> list[tuple[str, str]]:
        """The headers of the request, as far as the environ has them."""
        return [
            (name.removeprefix("HTTP_").replace("_", "-").title(), value)
            for name, value in self.environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ]

    @property
    def transactions(self) -> list[tuple[int, str]]:
        """Rows that were changed together, and how that ended.

        It is with "COMMIT" or "ROLLBACK", "autocommit" for a statement alone, or "" if not at all.
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
        """How many rows the request changed, unless it took that back."""
        return sum(rows for rows, end in self.transactions if end != "ROLLBACK")

    @property
    def content_type(self) -> str:
        """The type of the request's body, without parameters."""
        return self.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()

    @property
    def request_body(self) -> bytes:
        """The beginning of the request's body: what was read of it, or else what came."""
        if self.reads or self.raw is None or b"\ntransfer-encoding:" in self.raw.head.lower():
            return self.read_body
        return self.raw.body

    @property
    def text(self) -> str:
        """The beginning of the answer's body as text, unpacked if it is packed."""
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
        """The status code of the answer, 0 if there is none."""
        start = self.status[:3]
        return int(start) if start.isascii() and start.isdigit() else 0


# Which trace is recorded in this thread


class _Current(threading.local):
    trace: Trace | None = None


_current = _Current()


def current() -> Trace | None:
    """Return the trace that this thread records, or None if it works for no request."""
    return _current.trace


class on:
    """Have this thread record for a trace, in the `with` block."""

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
    """Decorate a function that records: if it fails, the application does not notice."""

    @functools.wraps(record)
    def record_or_not(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return record(*args, **kwargs)
        except Exception as error:
            note_failure(error)
            return None

    return record_or_not


def note_failure(error: Exception) -> None:
    """Say in the trace that the recorder itself failed; one sentence for each way to fail."""
    trace = current()
    if trace is None:
        logger.exception("The x-ray failed")
        return
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}:{last.lineno}"
    remark = f"The x-ray itself failed at {where}, so something is missing: {describe_error(error)}"
    if remark not in trace.remarks:
        trace.remarks.append(remark)


class Traces:
    """The last requests, and how they belong together."""

    def __init__(self) -> None:
        self._traces: deque[Trace] = deque(maxlen=MAX_REQUESTS)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def number(self, trace: Trace) -> None:
        """Give it its number."""
        trace.number = next(self._numbers)

    def add(self, trace: Trace) -> None:
        """Keep a trace, and find the requests that it belongs to."""
        with self._lock:
            self._link(trace)
            self._traces.append(trace)

    def _link(self, trace: Trace) -> None:
        get = trace.environ.get
        # One connection has one request after the other, so the last one from there led here, if
        # it sent the browser there. A proxy's connections carry the requests of many.
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
        """Return those that are kept, the newest first."""
        with self._lock:
            return sorted(self._traces, key=lambda trace: -trace.number)

    def get(self, number: int) -> Trace | None:
        """Return the trace with that number, or None if it is not kept (any more)."""
        return next((trace for trace in self.last() if trace.number == number), None)


def is_part(trace: Trace) -> bool:
    """Whether a browser asked for it because a page needs it: a style sheet, an image."""
    destination = trace.environ.get("HTTP_SEC_FETCH_DEST")
    if destination:
        return destination in ("style", "image", "font", "script")
    kind = trace.header("content-type")
    return kind.startswith(("text/css", "image/", "font/"))


def is_proxied(trace: Trace) -> bool:
    """Whether a proxy says that it has passed the request on."""
    names = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA")
    head = trace.raw.head.lower() if trace.raw else b""
    return any(name in trace.environ for name in names) or b"\r\nx-forwarded-for:" in head


def _path_of(address: str) -> str:
    """Return the path and query of an address, as a browser asks for them."""
    address = address.partition("#")[0]
    if "://" in address:
        address = "/" + address.partition("://")[2].partition("/")[2]
    return address
