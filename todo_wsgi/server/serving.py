"""waitress, set up for real traffic, and its graceful shutdown.

`serve.py` calls `serve`. The application knows nothing of waitress: any WSGI server will do.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

import waitress
from waitress import wasyncore

from todo_wsgi.server.access_log import AccessLog, LoggingChannel
from todo_wsgi.server.crowds import Dispatcher, relieve, return_large_blocks
from todo_wsgi.server.waitress_fixes import Channel

SETTINGS: dict[str, Any] = {
    # For changes, which wait for the disk together: with more threads, more of them share one wait.
    "threads": 8,
    "ident": None,  # no Server header: it would help attackers more than visitors
    # By default waitress stops accepting at 100 connections, so a hundred slow clients would lock
    # everybody out. poll() can watch more connections than select() can.
    "connection_limit": 1000,
    "asyncore_use_poll": True,
    "channel_timeout": 30,  # seconds without a byte in or out, then the connection is closed
    "cleanup_interval": 10,  # seconds between checks for such connections
    "log_socket_errors": False,  # a client that disconnects is not our error
    "max_request_header_size": 16 * 1024,  # bytes; browsers send about 1,000
    # Four times what the application reads, so that its own page can say that a text is too long.
    "max_request_body_size": 256 * 1024,
    # waitress buffers anything larger in a temporary file. No request is, and no page: one of 100
    # todos of 500 quotation marks takes 2.7 MB.
    "inbuf_overflow": 256 * 1024,
    "outbuf_overflow": 4 * 1024 * 1024,
}
READERS = 4  # threads besides, for what changes nothing
# What a trusted proxy says: the client's address, the host, the scheme.
FROM_PROXY: dict[str, Any] = {
    "trusted_proxy_count": 1,
    "trusted_proxy_headers": "x-forwarded-for x-forwarded-host x-forwarded-proto",
}
# The parts of a stop, in seconds.
LINGER = 1  # each answer is the last of its connection; new connections are still accepted
ASK = 0.2  # those that are connected may send one more request
ASK_FIRST = 0.5  # and those that have not sent a byte yet may still do so
GRACE = 5  # requests in progress get to finish


def serve(
    app: WSGIApplication,
    listener: socket.socket,
    trusted_proxy: str | None = None,
    started: Callable[[], None] = lambda: None,
    until: Callable[[], object] | None = None,
    access_log: str | None = None,
) -> None:
    """Answer the requests that arrive at `listener` with `app`, until SIGTERM or Ctrl-C.

    Requests that have arrived by then are still answered, except those that take longer than GRACE
    because a client is slow or the database is locked; at SIGTERM, clients that keep connections
    open learn of it first, for the time LINGER. Then the listener is closed. `trusted_proxy` is the
    address of a proxy in front, `access_log` the file for it, if there is one. `started` is called
    once signals are handled. `until` blocks in a thread; when it returns, that counts as SIGTERM.
    Call this in the main thread.
    """
    return_large_blocks()
    connections: dict[int, Any] = {}
    server = _create_server(app, listener, connections, trusted_proxy, access_log)
    signals: list[int] = []

    def stop(number: int, *_: object) -> None:
        if not signals or number == signal.SIGINT:
            signals.append(number)
            server.pull_trigger()  # wakes the loop below

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if until:  # this is one of several processes
        threading.Thread(target=_signal_after, args=(until,), daemon=True).start()
        server.handle_accept = partial(_accept_after_others, server, server.handle_accept)
    started()
    # This is waitress's server.run(), except that a signal ends it between two events. There it
    # ends in the midst of one, and drops the requests that wait for a thread (Pylons/waitress
    # issue 198 asks for a graceful shutdown).
    while not signals:
        _handle_events(server, connections)
    server.is_stopping = True  # Channel then closes each connection after its answer
    handle = partial(_handle_events_while, server, connections)
    handle(lambda: signal.SIGINT not in signals, LINGER)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The system queues connections that are not accepted yet; below the limit, accept them.
    handle(lambda: server.readable() and _is_waiting(listener), GRACE)
    server.accepting = False
    server.del_channel()
    listener.close()
    handle(lambda: server.active_channels, ASK)
    handle(lambda: any(map(_is_silent, server.active_channels.values())), ASK_FIRST)
    _handle_events(server, connections, timeout=0)  # reads what has arrived and was not read yet
    handle(lambda: _has_requests_in_progress(server), GRACE)
    for channel in list(server.active_channels.values()):
        channel.handle_close()  # before the threads end, which takes a moment: it could ask then
    server.task_dispatcher.shutdown(timeout=1)
    wasyncore.close_all(connections)


def _create_server(
    app: WSGIApplication,
    listener: socket.socket,
    connections: dict[int, Any],
    trusted_proxy: str | None,
    access_log: str | None,
) -> Any:
    """Return waitress's server, set up as above; it keeps its `connections` there."""
    limit = _raise_connection_limit()
    # waitress counts its own descriptors, too, and would stop accepting; `relieve` makes room.
    settings = SETTINGS | {"connection_limit": limit + 3}
    if trusted_proxy:
        settings |= {"trusted_proxy": trusted_proxy, **FROM_PROXY}
    threads = Dispatcher(settings["threads"], READERS)
    server = waitress.create_server(
        app, map=connections, sockets=[listener], _dispatcher=threads, **settings
    )
    server.channel_class = Channel
    if access_log:
        server.channel_class = LoggingChannel
        server.access_log = AccessLog(access_log, trusted_proxy)
    # A thread leaves up to this many bytes to the loop above, which sends them at once. By default
    # it is one byte: then the thread itself sends the head and after it the body, and competes with
    # the loop for the GIL, which lowers the throughput.
    server.adj.send_bytes = settings["outbuf_overflow"]
    server.is_stopping, server.max_channels = False, limit
    return server


def _raise_connection_limit() -> int:
    """Raise RLIMIT_NOFILE, and return how many connections fit under it.

    A process may start with as few as 256 descriptors. Beyond the limit, accepting one fails.
    """
    limit: int = SETTINGS["connection_limit"]
    if sys.platform == "win32":
        return limit
    import resource

    others = 64  # descriptors: those of the database in each thread, of exports, and so on
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit + others
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    return min(limit, max(allowed - others, allowed // 4))


def _signal_after(until: Callable[[], object]) -> None:
    """Send this process SIGTERM after `until`; once the server is closed, that does nothing."""
    until()
    os.kill(os.getpid(), signal.SIGTERM)


def _accept_after_others(server: Any, accept: Callable[[], None]) -> None:
    """Accept a connection; if this process has some already, let the others go first for a moment.

    Otherwise the process that wakes first would accept all connections of a burst, and keep them
    for as long as the clients do.
    """
    if server.active_channels:
        time.sleep(0.0001)
    accept()


def _handle_events(server: Any, connections: dict[int, Any], timeout: float = 1) -> None:
    """Wait for something to read or write, `timeout` seconds at most, and do it."""
    use_poll = SETTINGS["asyncore_use_poll"]
    wasyncore.loop(timeout=timeout, use_poll=use_poll, map=connections, count=1)
    relieve(server)


def _handle_events_while(
    server: Any, connections: dict[int, Any], condition: Callable[[], object], seconds: float
) -> None:
    """Handle events for so many seconds at most."""
    end = time.monotonic() + seconds
    while condition() and (left := end - time.monotonic()) > 0:
        _handle_events(server, connections, min(left, 1))


def _is_waiting(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    return bool(select.select([listener], [], [], 0)[0])


def _is_silent(channel: Any) -> bool:
    """Whether the client has not sent a byte yet."""
    silent: bool = channel.last_activity == channel.creation_time
    return silent


def _has_requests_in_progress(server: Any) -> bool:
    """Whether a request is half read, waits for a thread or runs, or its answer is half sent."""
    return any(
        channel.request or channel.requests or channel.total_outbufs_len
        for channel in server.active_channels.values()
    )
