"""The bytes on the socket: the request as waitress received it, and the response head as sent.

`watch_waitress` patches three methods of waitress's classes. Under another server nothing calls
them, and the story shows a request reconstructed from the environ.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from waitress.channel import ClientDisconnected
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, Task, WSGITask

from todo_wsgi.xray.record.hooks import patch
from todo_wsgi.xray.record.source import Line
from todo_wsgi.xray.record.trace import RawRequest, Trace, harmless
from todo_wsgi.xray.record.values import describe_error


def watch_waitress() -> list[Callable[[], None]]:
    """Make waitress's classes record; return the functions that end this."""
    return [
        patch(HTTPRequestParser, "received", _watch_received),
        patch(Task, "build_response_header", _watch_head),
        patch(Task, "service", _watch_service),
    ]


def _watch_received(receive: Callable[[Any, bytes], int]) -> Callable[[Any, bytes], int]:
    def receive_and_record(parser: Any, data: bytes) -> int:
        is_body = parser.headers_finished
        size = receive(parser, data)
        raw: RawRequest = vars(parser).setdefault("raw_request", RawRequest())
        raw.add(data, size, is_body=is_body)
        return size

    return receive_and_record


def _watch_head(build_head: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def build_head_and_record(task: Any) -> bytes:
        head = build_head(task)
        is_own = isinstance(task, ErrorTask)
        now = time.perf_counter()
        _note(task, sent_head=head, head_size=len(head), sent_at=now, is_servers_page=is_own)
        return head

    return build_head_and_record


def _watch_service(serve: Callable[[Any], None]) -> Callable[[Any], None]:
    def serve_and_record(task: Any) -> None:
        try:
            serve(task)
        except ClientDisconnected:
            raise
        except Exception as error:
            _note(task, server_error=describe_error(error))
            raise

    return serve_and_record


@harmless
def _note(task: Any, **facts: Any) -> None:
    # After an exception, waitress creates another request object for its error page.
    for request in (task.request, *task.channel.requests[:1]):
        if trace := vars(request).get("trace"):
            vars(trace).update(facts)


def find_raw_request(environ: dict[str, Any], trace: Trace) -> RawRequest | None:
    """Return the bytes of the request, or None if the server is not waitress.

    Under waitress, also record the response head in this trace once it is sent.
    """
    callback = environ.get("waitress.client_disconnected")
    channel = getattr(callback, "__self__", None)
    if channel is None or not channel.requests:
        return None
    parser = channel.requests[0]
    parser.trace = trace
    raw: RawRequest | None = vars(parser).get("raw_request")
    return raw


def _first_line(function: Any) -> Line:
    return Line(function.__code__.co_filename, function.__code__.co_firstlineno)


RECEIVES = _first_line(HTTPRequestParser.received)
BUILDS_ENVIRON = _first_line(WSGITask.get_environment)


def find_changes(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield each header that the server changed for the environ, and how."""
    lines = trace.raw.head.decode("latin-1").split("\r\n")[1:] if trace.raw else []
    sent: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            sent.setdefault(name.lower(), []).append(value.strip(" \t"))
    for name, values in sent.items():
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        entry = trace.environ.get(key)
        if "_" in name:
            yield name, f"dropped: in the environ it would be mistaken for {name.replace('_', '-')}"
        elif entry is None:
            yield name, _DROPPED.get(name, "dropped")
        elif len(values) > 1:
            yield name, f"merged: sent {len(values)} times, it is one entry, {entry!r}"
        elif entry != values[0]:
            yield name, f"changed from {values[0]!r} to {entry!r}"
    renamed = [name for name in sent if f"HTTP_{name.upper().replace('-', '_')}" in trace.environ]
    if renamed:
        example = renamed[0].upper().replace("-", "_")
        yield ", ".join(renamed), f"renamed, as {renamed[0]} to HTTP_{example} (RFC 3875, 4.1.18)"
    length = trace.environ.get("CONTENT_LENGTH")
    if length and "content-length" not in sent:
        yield "Content-Length", f"added: {length}, once the whole body had arrived"


_DROPPED = {"transfer-encoding": "dropped: the server joined the chunks of the body"}
