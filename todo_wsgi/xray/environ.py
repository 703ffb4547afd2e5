"""What the application reads of the environ and of the body.

The environ has to be a plain dict (PEP 3333), which tells nobody what is read from it. But to find
an entry, Python compares the wanted key with the one in the dict. So the keys tell.
"""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from todo_wsgi.xray.trace import MAX_BODY, Read, Trace, current, harmless, place_of
from todo_wsgi.xray.values import describe


class WatchedKey(str):
    """A key of the environ that notes when the application looks for it."""

    trace: Trace

    def __eq__(self, other: object) -> bool:
        if current() is self.trace:
            _note_lookup(self, sys._getframe(1))
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def watch_keys(environ: dict[str, Any], trace: Trace) -> None:
    """Have the keys of the environ note when the application looks for them."""
    items = []
    for name, value in environ.items():
        key = WatchedKey(name)
        key.trace = trace
        items.append((key, value))
    environ.clear()
    environ.update(items)


@harmless
def _note_lookup(key: str, frame: FrameType) -> None:
    trace = current()
    place = place_of(frame)
    if trace and place:
        trace.environ_reads.setdefault(str(key), place)


class WatchedStream:
    """The stream `wsgi.input`, which notes what is read from it."""

    def __init__(self, stream: Any, trace: Trace) -> None:
        self._stream = stream
        self._trace = trace

    def read(self, *args: Any) -> Any:
        """Read bytes; here and below, see PEP 3333, "Input and Error Streams"."""
        return self._read("read", args)

    def readline(self, *args: Any) -> Any:
        """Read a line."""
        return self._read("readline", args)

    def readlines(self, *args: Any) -> Any:
        """Read lines."""
        return self._read("readlines", args)

    def __iter__(self) -> Iterator[Any]:
        return iter(lambda: self._read("readline", ()), b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _read(self, method: str, args: tuple[Any, ...]) -> Any:
        data = getattr(self._stream, method)(*args)
        self._note(method, args, data, sys._getframe(2))
        return data

    @harmless
    def _note(self, method: str, args: tuple[Any, ...], data: Any, frame: FrameType) -> None:
        if isinstance(data, list):
            data = b"".join(data)
        trace = self._trace
        call = f"{method}({', '.join(map(describe, args))})"
        kept = MAX_BODY - sum(len(read.data) for read in trace.reads)
        if trace.takes_event():
            read = Read(call, method, args, len(data), data[:kept], place_of(frame))
            trace.reads.append(read)
