"""What the application reads from the environ and the body.

The environ must be a plain dict (PEP 3333), so lookups in it cannot be intercepted. But to find an
entry, Python compares the requested key with the one in the dict. So the keys record the lookup.
"""

import functools
import operator
import os
import sys
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import MAX_BODY, MAX_VALUE, Read, Trace, current, harmless
from todo_wsgi.xray.record.values import cut, describe, describe_all

MAX_SEARCHED = 65_536  # bytes of one read that are searched for secrets


class WatchedKey(str):
    """A key of the environ that records when the application looks it up."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if trace := current():
            _note_lookup(trace, str(self), sys._getframe(1))
        return str.__eq__(self, other)

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str(self),)  # a copy is a plain str


def watch_keys(environ: dict[str, Any]) -> None:
    """Replace the keys of the environ by keys that record each lookup."""
    items = [(WatchedKey(name), value) for name, value in environ.items()]
    environ.clear()
    environ.update(items)


def plain(headers: Any) -> Any:
    """Return the headers with watched keys as plain str: servers accept no subclass."""
    if type(headers) is WatchedKey:
        return str(headers)
    if type(headers) not in (list, tuple):
        return headers
    copy = type(headers)(map(plain, headers))
    return copy if any(map(operator.is_not, copy, headers)) else headers


@harmless
def _note_lookup(trace: Trace, key: str, frame: FrameType) -> None:
    if line := line_of(frame):
        trace.environ_reads.setdefault(key, line)
    else:
        trace.library_reads.setdefault(key, frame.f_globals.get("__name__", "a library"))


def note_entries(trace: Trace, environ: dict[str, Any]) -> None:
    """Record the environ as the server created it."""
    # wsgiref adds the environment variables of its process.
    found = [(name, value) for name, value in environ.items() if not _is_of_process(name, value)]
    trace.process_variables = len(environ) - len(found)
    trace.entries = describe_all(found)
    trace.environ = {name: cut(value, MAX_VALUE) for name, value in found if type(value) is str}
    is_wsgiref = trace.environ.get("SERVER_SOFTWARE", "").startswith("WSGIServer")
    if is_wsgiref and not environ.get("CONTENT_LENGTH"):  # its defaults: nobody sent them
        for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            trace.environ.pop(name, "")


def _is_of_process(name: str, value: object) -> bool:
    return type(value) is str and os.environ.get(name) == value


class WatchedStream:
    """A wrapper of the stream `wsgi.input` that records what is read from it."""

    def __init__(self, stream: Any, trace: Trace) -> None:
        self._stream = stream
        self._trace = trace

    def __iter__(self) -> "WatchedStream":
        return self

    def __next__(self) -> Any:
        line = self._read("readline")
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> "WatchedStream":
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._stream.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        """Return `read` and its like as functions that record, and any other attribute as is."""
        if name.startswith("__"):  # `copy` looks for some before there is a stream
            raise AttributeError(name)
        attribute = getattr(self._stream, name)
        return functools.partial(self._read, name) if name in _READS else attribute

    def _read(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self._stream, name)(*args, **kwargs)
        self._note(name, (*args, *kwargs.values()), result, sys._getframe(1))
        return result

    @harmless
    def _note(self, name: str, args: tuple[Any, ...], result: Any, frame: FrameType) -> None:
        trace, line = self._trace, line_of(frame)
        if name.startswith("readinto"):  # into a buffer; it returns the size
            call, size, data = (
                f"{name}(…)",
                result,
                bytes(memoryview(args[0])[: min(result, MAX_SEARCHED)]),
            )
        else:
            data = b"".join(result) if isinstance(result, list) else result
            call, size, data = (
                f"{name}({', '.join(map(describe, args))})",
                len(data),
                data[:MAX_SEARCHED],
            )
        last = trace.reads[-1] if trace.reads else None
        if last is None or (last.call, last.line) != (call, line):
            if not trace.takes_event():
                return
            last = Read(call, line)
            trace.reads.append(last)
        last.count += 1
        last.size += size
        if (room := MAX_BODY - len(trace.read_body)) > 0:
            trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), data)
            trace.read_body += data[:room]


# What takes bytes from a stream: PEP 3333 has the first three, and io.BufferedIOBase the rest.
_READS = ("read", "readline", "readlines", "read1", "readinto", "readinto1")
