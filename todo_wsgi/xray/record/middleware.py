"""A WSGI middleware that records each request to an application.

The requests and responses of the application stay the same, to the byte: it gets the same environ
dict; a list that it returns, or an exception that it raises, reaches the server unchanged.
"""

import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper

from todo_wsgi.xray.record import todo
from todo_wsgi.xray.record.calls import CallRecorder
from todo_wsgi.xray.record.environ import WatchedStream, note_entries, plain, watch_keys
from todo_wsgi.xray.record.fields import MAX_PAGE, find_unescaped
from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.sql import watch_connections
from todo_wsgi.xray.record.trace import MAX_BODY, Trace, Traces, current, harmless, on
from todo_wsgi.xray.record.values import describe, describe_error, show_bytes
from todo_wsgi.xray.record.wire import find_raw_request, watch_waitress


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
        # Within another x-ray, that one records.
        is_outermost = self._ends and not current()
        recording = harmless(_Recording)(self, environ) if is_outermost else None
        if recording is None:
            return self.app(environ, start_response)
        return recording.run(self.app, environ, start_response)

    def close(self) -> None:
        """End the recording and undo all patches."""
        while self._ends:
            self._ends.pop()()


class _Recording:
    """The recording of one request."""

    def __init__(self, xray: XRay, environ: WSGIEnvironment) -> None:
        self._traces = xray.traces
        self._file_wrapper = environ.get("wsgi.file_wrapper", FileWrapper)
        self._page = bytearray()  # the beginning of the body
        self._kept: bytes | None = None  # the body, if the application may keep it
        self.trace = trace = Trace()
        note_entries(trace, environ)
        trace.raw = find_raw_request(environ, trace)
        for name, value in (*trace.environ.items(), *trace.request_headers):
            trace.secrets.add_header(name.removeprefix("HTTP_").replace("_", "-"), value)
        trace.secrets.add_form(trace.query)
        if trace.raw:
            trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), trace.raw.body)
        self._calls = CallRecorder(trace, xray.watchers)
        if sys.getprofile():
            trace.warnings.append("Another profiler is active, so no functions are recorded.")
        else:
            trace.profile = self._calls.handle
        stream = WatchedStream(environ["wsgi.input"], trace)
        watch_keys(environ)
        environ["wsgi.input"] = stream
        self._traces.begin(trace)

    def run(
        self, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Call the application, and return its body or a wrapper that records it."""

        @wraps(start_response)  # to keep its name
        def start_response_and_note(*args: Any, **kwargs: Any) -> Callable[[bytes], object]:
            args = (*args[:1], *map(plain, args[1:2]), *args[2:])
            self._note_start_response((*args, *kwargs.values()), sys._getframe(1))
            write = start_response(*args, **kwargs)

            def write_and_note(data: bytes) -> object:
                self.note_chunk(data)
                return write(data)

            return write_and_note

        try:
            with on(self.trace):
                body = app(environ, start_response_and_note)
        except BaseException as error:
            self.note_failure(error)
            self.finish()
            raise
        return self._watch_body(body)

    @harmless
    def _note_start_response(self, args: tuple[Any, ...], frame: FrameType) -> None:
        trace, line = self.trace, line_of(frame)
        status, headers, exc_info = (*args, None, None, None)[:3]
        if trace.status and not exc_info:
            trace.wrong["again"] = f"{line.name}:{line.number}" if line else "in a library"
            return
        trace.response_line = line
        trace.status = status if type(status) is str and status else describe(status)
        if trace.status is not status:
            trace.wrong["status"] = trace.status
        if type(headers) is not list:
            trace.wrong["headers"] = describe(headers)
            return
        if wrong := [header for header in headers if not _is_header(header)]:
            trace.wrong["header"] = describe(wrong[0])
        trace.headers = [*filter(_is_header, headers)]
        for name, value in trace.headers:
            trace.secrets.add_header(name, value)

    def _watch_body(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body itself if the server may check its type, otherwise a wrapper."""
        trace = self.trace
        kind: type = type(body)
        trace.body_type = kind.__name__
        if kind in (str, bytes) or not hasattr(kind, "__iter__"):
            trace.wrong["body"] = describe(body)
        if kind in (list, tuple):
            chunks = [*body]
            for chunk in chunks:
                self.note_chunk(chunk)
            trace.is_whole = True
            if len(chunks) == 1 and 100 < trace.body_size < MAX_PAGE:
                [self._kept] = chunks
        elif isinstance(self._file_wrapper, type) and isinstance(body, self._file_wrapper):
            trace.is_file = True
        elif kind not in (str, bytes):
            return (_SizedBody if hasattr(body, "__len__") else _Body)(body, self)
        self.finish()
        return body

    @harmless
    def note_chunk(self, chunk: Any) -> None:
        """Record one chunk of the body."""
        trace = self.trace
        trace.answered = trace.answered or time.perf_counter()
        if isinstance(chunk, bytes):
            trace.body_size += len(chunk)
            self._page += chunk[: MAX_PAGE - len(self._page)]
        else:
            trace.wrong.setdefault("chunk", describe(chunk))

    @harmless
    def note_failure(self, error: BaseException) -> None:
        """Record an exception that the application raises to the server."""
        self.trace.error = describe_error(error)
        self._calls.look_at(error, left_application=True)

    def finish(self) -> None:
        """Complete the trace: the application has finished with this request."""
        self.trace.profile = None
        self.trace.finished = time.perf_counter()
        with on(self.trace):
            self._complete()

    @harmless
    def _complete(self) -> None:
        trace = self.trace
        trace.answered = trace.answered or trace.finished
        page = bytes(self._page[: trace.sent_size])
        if trace.header("content-encoding") == "gzip":
            with suppress(zlib.error):
                page = zlib.decompressobj(31).decompress(page, MAX_PAGE)
        trace.unescaped = find_unescaped(trace, page)
        is_text = re.search("^text/|json|xml", trace.header("content-type"))
        trace.text = (show_bytes if is_text else describe)(page[:MAX_BODY]) if page else ""
        trace.secrets.add_body(trace.header("content-type"), trace.text.encode())
        trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), trace.read_body)
        self._calls.end()
        self._traces.end(trace, self._kept)


def _is_header(header: Any) -> bool:
    return type(header) is tuple and [type(part) for part in header] == [str, str]


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
            self._recording.trace.is_whole = True
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
                getattr(self._body, "close", lambda: None)()
        finally:
            self._recording.finish()


class _SizedBody(_Body):
    """A body that has a length: servers may call `len` on it."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
