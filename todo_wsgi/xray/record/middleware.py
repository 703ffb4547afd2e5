"""A WSGI middleware that records each request to an application.

The requests and responses of the application stay the same, to the byte: it gets the same environ
dict; a list that it returns, or an exception that it raises, reaches the server unchanged.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from http import HTTPMethod
from io import BytesIO
from types import FrameType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

from todo_wsgi.xray.record import todo
from todo_wsgi.xray.record.calls import CallRecorder
from todo_wsgi.xray.record.environ import WatchedStream, plain, watch_keys
from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.sql import watch_connections
from todo_wsgi.xray.record.trace import MAX_BODY, Read, Trace, Traces, harmless, on
from todo_wsgi.xray.record.values import cut, describe, describe_all, describe_error
from todo_wsgi.xray.record.wire import find_raw_request, watch_waitress

MAX_VALUE = 4000  # characters of one value of the environ
MAX_CHUNKS = 100  # of a body, that wsgiref.validate checks


class XRay:
    """The WSGI application `app`, with a record of its last requests in `traces`.

    Create it before the application opens its database connections: it records only on connections
    that `sqlite3.connect` opens later. `close` ends the recording; `app` continues without it.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app
        self.traces = Traces()
        self.watchers = todo.watchers()
        self._ends = [watch_connections(), *watch_waitress(), *todo.watch_changes(app)]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request with the application, and record it (PEP 3333)."""
        recording = _begin(self, environ) if self._ends else None
        if recording is None:
            return self.app(environ, start_response)
        return recording.run(self.app, environ, start_response)

    def close(self) -> None:
        """End the recording and undo all patches."""
        while self._ends:
            self._ends.pop()()


@harmless
def _begin(xray: XRay, environ: WSGIEnvironment) -> "_Recording | None":
    return _Recording(xray, environ)


class _Recording:
    """The recording of one request."""

    def __init__(self, xray: XRay, environ: WSGIEnvironment) -> None:
        self._traces = xray.traces
        self._environ = dict(environ)  # as the server created it
        self._start_response_args: tuple[Any, ...] = ()  # of whatever types
        self._chunks: list[Any] = []  # the first chunks of the body
        self.trace = trace = Trace()
        trace.environ = {
            name: cut(value, MAX_VALUE) for name, value in environ.items() if type(value) is str
        }
        trace.entries = describe_all(environ.items())
        trace.raw = find_raw_request(environ, trace)
        _find_secrets(trace)
        self._calls = CallRecorder(trace, xray.watchers)
        if sys.getprofile():
            trace.warnings.append("Another profiler is active, so no functions are recorded.")
        else:
            trace.profile = self._calls.handle
        stream = WatchedStream(environ["wsgi.input"], trace)
        self._traces.number(trace)
        watch_keys(environ)
        environ["wsgi.input"] = stream

    def run(
        self, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Call the application, and return its body or a wrapper that records it."""

        @wraps(start_response)  # to keep its name
        def start_response_and_note(*args: Any, **kwargs: Any) -> Callable[[bytes], object]:
            self._note_start_response((*args, *kwargs.values()), sys._getframe(1))
            args = (*args[:1], *map(plain, args[1:2]), *args[2:])
            write = start_response(*args, **kwargs)

            def write_and_note(data: bytes) -> object:
                self.note_chunk(data)
                return write(data)

            return write_and_note

        self.trace.began = time.perf_counter()
        try:
            with on(self.trace):
                body = app(environ, start_response_and_note)
        except BaseException as error:
            self.note_failure(error)
            self.finish(None)
            raise
        return self._watch_body(body)

    @harmless
    def _note_start_response(self, args: tuple[Any, ...], frame: FrameType) -> None:
        trace = self.trace
        trace.response_line = line_of(frame)
        status, headers = (*args, None, None)[:2]
        # A copy, since the server may change the list.
        self._start_response_args = (status, list(headers) if type(headers) is list else headers)
        trace.status = status if type(status) is str else describe(status)
        trace.types = [_type_of(status), _type_of(headers)]
        listed = headers if type(headers) in (list, tuple) else ()
        wrong = (header for header in listed if not _is_header(header))
        trace.wrong_header = next(map(describe, wrong), "")
        trace.headers = [
            (cut(header[0]), cut(header[1], MAX_VALUE)) for header in filter(_is_header, listed)
        ]

    def _watch_body(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body itself if the server may check its type, otherwise a wrapper."""
        self.trace.body_type = type(body).__name__
        file_wrapper = self._environ.get("wsgi.file_wrapper", FileWrapper)
        if type(body) in _WHOLE:
            for chunk in body:
                self.note_chunk(chunk)
        elif not isinstance(file_wrapper, type) or not isinstance(body, file_wrapper):
            return (_SizedBody if hasattr(body, "__len__") else _Body)(body, self)
        self.finish(body)
        return body

    @harmless
    def note_chunk(self, chunk: Any) -> None:
        """Record one chunk of the body."""
        trace = self.trace
        if len(trace.body) < MAX_BODY and len(self._chunks) < MAX_CHUNKS:
            self._chunks.append(chunk)
        if isinstance(chunk, bytes):
            trace.body += chunk[: MAX_BODY - len(trace.body)]
            trace.body_size += len(chunk)

    @harmless
    def note_failure(self, error: BaseException) -> None:
        """Record an exception that the application raises to the server."""
        self._calls.add_failure(error, left_application=True)

    def finish(self, body: Any) -> None:
        """Complete the trace and store it: the application has finished with this request."""
        self.trace.profile = None
        with on(self.trace):
            self._complete(body)
            self._store()

    @harmless
    def _store(self) -> None:
        self._calls.forget()
        self._traces.add(self.trace)

    @harmless
    def _complete(self, body: Any) -> None:
        trace = self.trace
        trace.ended = time.perf_counter()
        for name, value in trace.headers:
            trace.secrets.add_header(name, value)
        trace.text = trace.read_text()
        trace.secrets.add_body(trace.header("content-type"), trace.text.encode())
        trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), trace.read_body)
        trace.invalid_environ = _validate(self._environ, ["200 OK", [_TEXT]], [b"..."])
        if not trace.left_with_exception:
            body = body if type(body) in _WHOLE else self._chunks
            trace.invalid_response = self._validate_response(body)

    def _validate_response(self, body: Any) -> str:
        environ: dict[str, Any] = {"REQUEST_METHOD": self.trace.method, "QUERY_STRING": ""}
        setup_testing_defaults(environ)
        return _validate(environ, self._start_response_args, body, self.trace.reads)


_TEXT = ("Content-Type", "text/plain")
_WHOLE = (list, tuple, str, bytes)  # bodies that are complete, not generated chunk by chunk


def _is_header(header: Any) -> bool:
    return type(header) is tuple and [type(part) for part in header] == [str, str]


def _type_of(value: object) -> str:
    if isinstance(value, list) and value:
        item = value[0]
        inner = ", ".join(type(part).__name__ for part in item) if isinstance(item, tuple) else ""
        return f"list of {type(item).__name__}" + (f" of ({inner})" if inner else "")
    return type(value).__name__


def _find_secrets(trace: Trace) -> None:
    """Find the secrets in what has arrived of the request."""
    secrets = trace.secrets
    for name, value in trace.environ.items():
        secrets.add_header(name.removeprefix("HTTP_").replace("_", "-"), value)
    secrets.add_form(trace.query)
    if trace.raw:
        for line in trace.raw.head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            secrets.add_header(name.strip(), value.strip())
        secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), trace.raw.body)


def _validate(
    environ: dict[str, Any],
    start_response_args: Iterable[Any],
    body: Any,
    reads: Iterable[Read] = (),
) -> str:
    """Return the first error that `wsgiref.validate` finds, or "".

    This does not repeat the request: the validator gets a stub that replays what was recorded.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        for read in reads:
            getattr(environ["wsgi.input"], read.method)(*read.args)
        if start_response_args:
            start_response(*start_response_args)
        return body

    environ = {**environ, "wsgi.input": BytesIO()}
    if environ["REQUEST_METHOD"] not in HTTPMethod.__members__:  # the validator would warn
        environ["REQUEST_METHOD"] = "GET"
    try:
        response: Any = validator(app)(environ, lambda *_: lambda _: None)
        try:
            for _ in response:
                pass
        finally:
            response.close()
    except Exception as error:  # an AssertionError, or a warning where warnings are errors
        # Some of its assertions have no message.
        *_, last = traceback.extract_tb(error.__traceback__, -2)[:1]
        return str(error) or f"{describe_error(error)} in {last.line}"
    return ""


class _Body:
    """The body of an application that generates it chunk by chunk, which runs its code."""

    def __init__(self, body: Iterable[bytes], recording: _Recording) -> None:
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._recording = recording

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        try:
            with on(self._recording.trace):
                if self._chunks is None:
                    self._chunks = iter(self._body)
                chunk = next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self._recording.note_failure(error)
            raise
        self._recording.note_chunk(chunk)
        return chunk

    def close(self) -> None:
        """Close the application's body; servers always call this (PEP 3333)."""
        try:
            with on(self._recording.trace):
                close: Callable[[], None] = getattr(self._body, "close", lambda: None)
                close()
        finally:
            self._recording.finish(None)


class _SizedBody(_Body):
    """A body that has a length: servers may call `len` on it."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
