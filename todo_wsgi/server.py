"""waitress, set up for real traffic, and stopped without dropping a request.

`serve.py` calls `serve`. The application itself knows nothing of waitress: any WSGI server will do.
"""

import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError

from todo_wsgi.application import Application

SETTINGS = {
    "ident": None,  # no Server header: it would help attackers more than visitors
    # By default waitress stops accepting at 100 connections, so a hundred slow clients would shut
    # everybody out. poll() can watch more connections than select() can.
    "connection_limit": 1000,
    "asyncore_use_poll": True,
    "channel_timeout": 30,  # seconds without a byte in or out, then the connection is closed
    "cleanup_interval": 10,  # seconds between two looks for such connections
    "log_socket_errors": False,  # clients that go away are no errors of ours
    "max_request_header_size": 16 * 1024,  # bytes; browsers send about 1,000
    # Four times what the application reads, so that its own page can say that a text is too long.
    # No body waits in a temporary file: a thousand of them would use up the file descriptors.
    "max_request_body_size": 256 * 1024,
    "inbuf_overflow": 256 * 1024,
}
GRACE = 5  # seconds that the requests in hand get to finish


def serve(
    app: Application,
    listener: socket.socket,
    *,
    trusted_proxy: str | None,
    started: Callable[[], None],
) -> None:
    """Answer what arrives at `listener` with `app`, until SIGTERM or Ctrl-C; then close both.

    The requests in hand are finished first, except those of clients so slow that it takes longer
    than GRACE. `trusted_proxy` is the address of a proxy in front, if there is one. `started` is
    called once signals are handled. Call this in the main thread.
    """
    connections: dict[int, Any] = {}
    server = waitress.create_server(
        app, map=connections, sockets=[listener], **SETTINGS, **_proxy_settings(trusted_proxy)
    )
    server.channel_class = _Channel
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        server.pull_trigger()  # wakes the loop below

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    started()
    # This is waitress's server.run(), except that a signal ends it between two events. There it
    # ends in the midst of one, and drops the requests that wait for a thread.
    while not stopping:
        _handle_events(connections)
    server.del_channel()
    listener.close()
    deadline = time.monotonic() + GRACE
    while _has_requests_in_hand(server) and time.monotonic() < deadline:
        _handle_events(connections)
    server.task_dispatcher.shutdown(timeout=1)
    app.close()


def _handle_events(connections: dict[int, Any]) -> None:
    """Wait, a second at most, for something to read or write, and do it."""
    use_poll = SETTINGS["asyncore_use_poll"]
    wasyncore.loop(timeout=1, use_poll=use_poll, map=connections, count=1)


def _has_requests_in_hand(server: Any) -> bool:
    """Whether a request is half read, waits for a thread, is worked on, or its answer half sent."""
    return any(
        channel.request or channel.requests or channel.total_outbufs_len
        for channel in server.active_channels.values()
    )


def _proxy_settings(trusted_proxy: str | None) -> dict[str, Any]:
    """Believe the X-Forwarded headers of this proxy: the client's address, the host, the scheme."""
    if not trusted_proxy:
        return {}
    return {
        "trusted_proxy": trusted_proxy,
        "trusted_proxy_count": 1,
        "trusted_proxy_headers": "x-forwarded-for x-forwarded-host x-forwarded-proto",
    }


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """waitress's parser, which lets errors of the standard library through: here they are a 400.

    It happens with a Content-Length of 5,000 digits and with an address like `http://[`.
    """

    def parse_header(self, header: bytes) -> None:
        try:
            super().parse_header(header)
        except ValueError as error:
            raise ParsingError("The address or the Content-Length is malformed") from error


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection to a client that uses this parser."""

    parser_class = _Parser
