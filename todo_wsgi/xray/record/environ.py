"""What the application reads from the environ and the body.

The environ must be a plain dict (PEP 3333), so lookups in it cannot be intercepted. But to find an
entry, Python compares the requested key with the one in the dict. So the keys record the lookup.
"""

import functools
import os
import sys
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import MAX_BODY, MAX_VALUE, Read, Trace, current, harmless
from todo_wsgi.xray.record.values import cut, describe


class WatchedKey(str):
    """A key of the environ that records when the application looks it up."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if trace := current():
            _note_lookup(trace, str(self), sys._getframe(1))
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def watch_keys(environ: dict[str, Any]) -> None:
    """Replace the keys of the environ by keys that record each lookup."""
    items = [(WatchedKey(name), value) for name, value in environ.items()]
    environ.clear()
    environ.update(items)


def plain(headers: Any) -> Any:
    """Return the headers with watched keys as plain str: waitress accepts no subclass."""
    if type(headers) is WatchedKey:
        return str(headers)
    if type(headers) not in (list, tuple):
        return headers
    copy = type(headers)(map(plain, headers))
    return headers if all(new is old for new, old in zip(copy, headers, strict=True)) else copy


@harmless
def _note_lookup(trace: Trace, key: str, frame: FrameType) -> None:
    if line := line_of(frame):
        trace.environ_reads.setdefault(key, line)
    else:
        trace.library_reads.setdefault(key, frame.f_globals.get("__name__", "a library"))


def note_entries(trace: Trace, environ: dict[str, Any]) -> None:
    """Record the environ as the server created it."""
    texts = {name: value for name, value in environ.items() if type(value) is str}
    # wsgiref adds the environment variables of its process, and defaults that nobody sent.
    of_process = {name for name, value in texts.items() if os.environ.get(name) == value}
    is_wsgiref = texts.get("SERVER_SOFTWARE", "").startswith("WSGIServer")
    has_defaults = is_wsgiref and not texts.get("CONTENT_LENGTH")
    not_sent = {*of_process, *(("CONTENT_LENGTH", "CONTENT_TYPE") if has_defaults else ())}
    trace.process_variables = len(of_process)
    trace.entries = [(n, describe(v)) for n, v in environ.items() if n not in of_process]
    trace.environ = {n: cut(value, MAX_VALUE) for n, value in texts.items() if n not in not_sent}
    get = trace.environ.get
    trace.method, trace.query = get("REQUEST_METHOD", ""), get("QUERY_STRING", "")
    trace.client = get("REMOTE_ADDR", ""), get("REMOTE_PORT", "")
    trace.content_type = get("CONTENT_TYPE", "").partition(";")[0].strip().lower()


class WatchedStream:
    """A wrapper of the stream `wsgi.input` that records what is read from it."""

    def __init__(self, stream: Any, trace: Trace) -> None:
        self._stream = stream
        self._trace = trace

    def __iter__(self) -> "WatchedStream":
        return self

    def __next__(self) -> Any:
        if line := self._read("readline"):
            return line
        raise StopIteration

    def __getattr__(self, name: str) -> Any:
        """Return `read` and its like as functions that record, and any other attribute as is."""
        attribute = getattr(self._stream, name)
        return functools.partial(self._read, name) if name in _READS else attribute

    def _read(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self._stream, name)(*args, **kwargs)
        self._note(name, [*args, *kwargs.values()], result)
        return result

    @harmless
    def _note(self, name: str, args: list[Any], result: Any) -> None:
        trace, line = self._trace, line_of(sys._getframe())
        if name.startswith("readinto"):  # into a buffer; it returns the size
            shown, data = "…", bytes(memoryview(args[0])[:result])
        else:
            shown = ", ".join(map(describe, args))
            data = b"".join(result) if isinstance(result, list) else result
        call = f"{name}({shown})"
        last = trace.reads[-1] if trace.reads else None
        if last is None or (last.call, last.line) != (call, line):
            if not trace.takes_event():
                return
            last = Read(call, line)
            trace.reads.append(last)
        last.count += 1
        last.size += len(data)
        if (room := MAX_BODY - len(trace.read_body)) > 0:
            trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), data)
            trace.read_body += data[:room]


# What takes bytes from a stream: PEP 3333 has the first three, and io.BufferedIOBase the rest.
_READS = ("read", "readline", "readlines", "read1", "readinto", "readinto1")
