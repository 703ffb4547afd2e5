"""The bytes on the socket: the request as waitress received it, and the response head as sent.

`watch_waitress` patches three methods of waitress's classes. Under another server nothing calls
them, and the story shows a request reconstructed from the environ.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, Task, WSGITask

from todo_wsgi.xray.record.hooks import patch
from todo_wsgi.xray.record.source import Line
from todo_wsgi.xray.record.trace import MAX_BODY, RawRequest, Trace, harmless
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
        raw.size += size
        if is_body:
            raw.body_size += size
            raw.body += data[: min(size, MAX_BODY - len(raw.body))]
        else:
            raw.head += data[:size]
        return size

    return receive_and_record


def _watch_head(build_head: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def build_head_and_record(task: Any) -> bytes:
        head = build_head(task)
        now, is_own = time.perf_counter(), isinstance(task, ErrorTask)
        _note(task, sent_head=head, sent_at=now, is_servers_page=is_own)
        return head

    return build_head_and_record


def _watch_service(serve: Callable[[Any], None]) -> Callable[[Any], None]:
    def serve_and_record(task: Any) -> None:
        try:
            serve(task)
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
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    if channel is None:
        return None
    parser = channel.requests[0]
    parser.trace = trace
    raw: RawRequest | None = vars(parser).get("raw_request")
    return raw


RECEIVES = Line.first(HTTPRequestParser.received.__code__)
BUILDS_ENVIRON = Line.first(WSGITask.get_environment.__code__)


def find_changes(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield each header that the server changed for the environ, and how."""
    sent: dict[str, list[str]] = {}
    for name, value in trace.request_headers:
        sent.setdefault(name.lower(), []).append(value)
    for name, values in sent.items():
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        entry = trace.environ.get(key)
        if entry is None or "_" in name:  # there, both of x-y and x_y would be HTTP_X_Y
            yield name, "dropped"
        elif len(values) > 1:
            yield name, f"merged: sent {len(values)} times, it is one entry, {entry!r}"
        elif entry != values[0]:
            yield name, f"changed from {values[0]!r} to {entry!r}"
    if "content-length" not in sent and (size := trace.environ.get("CONTENT_LENGTH")):
        yield "content-length", f"added: {size}, once the whole body had arrived"
    if "host" in sent:
        yield "all others", "renamed, as host to HTTP_HOST (RFC 3875, 4.1.18)"
