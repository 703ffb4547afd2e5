"""What the application reads from the environ and the body.

The environ must be a plain dict (PEP 3333), so lookups in it cannot be intercepted. But to find an
entry, Python compares the requested key with the one in the dict. So the keys record the lookup.
"""

import operator
import os
import sys
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import MAX_BODY, MAX_VALUE, Read, Trace, current, harmless
from todo_wsgi.xray.record.values import cut, describe_all


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

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """Read bytes; for this and the next methods, see PEP 3333, "Input and Error Streams"."""
        return self._read("read", args, kwargs)

    def readline(self, *args: Any, **kwargs: Any) -> Any:
        """Read a line."""
        return self._read("readline", args, kwargs)

    def readlines(self, *args: Any, **kwargs: Any) -> Any:
        """Read lines."""
        return self._read("readlines", args, kwargs)

    def __iter__(self) -> "WatchedStream":
        return self

    def __next__(self) -> Any:
        line = self._read("readline", (), {})
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> "WatchedStream":
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._stream.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        if "_stream" not in vars(self):  # a copy under construction
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _read(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        data = getattr(self._stream, method)(*args, **kwargs)
        self._note(method, (*args, *kwargs.values()), data, sys._getframe(2))
        return data

    @harmless
    def _note(self, method: str, args: tuple[Any, ...], data: Any, frame: FrameType) -> None:
        trace = self._trace
        if not trace.takes_event():
            return
        if isinstance(data, list):
            data = b"".join(data)
        trace.secrets.add_body(trace.environ.get("CONTENT_TYPE", ""), data)
        recorded = data[: MAX_BODY - trace.body_recorded]
        trace.body_recorded += len(recorded)
        trace.reads.append(Read(method, args, len(data), recorded, line_of(frame)))
