"""waitress, set up for real traffic, and stopped gently.

`serve.py` calls `serve`. The application itself knows nothing of waitress: any WSGI server will do.
What is in `_Channel`, `_Task` and `_Parser` closes gaps of waitress 3.0.2: clients could shut
others out or put tracebacks into the log, and each 304 ended its connection.
"""

import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import WSGITask

SETTINGS: dict[str, Any] = {
    # Those that change the list wait for the disk together: with more threads, more of them do.
    "threads": 8,
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
    "max_request_body_size": 256 * 1024,
    # What is larger than this would wait in a temporary file. No request does, and no page: one of
    # 100 todos of 500 quotation marks has 2 MB.
    "inbuf_overflow": 256 * 1024,
    "outbuf_overflow": 4 * 1024 * 1024,
}
GRACE = 5  # seconds that the requests in hand get to finish


def serve(
    app: WSGIApplication,
    listener: socket.socket,
    *,
    trusted_proxy: str | None,
    started: Callable[[], None] = lambda: None,
    until: Callable[[], object] | None = None,
) -> None:
    """Answer what arrives at `listener` with `app`, until SIGTERM or Ctrl-C; then close that.

    The requests that have come by then are answered first, except those that take longer than
    GRACE, because a client is slow or the database is locked. `trusted_proxy` is the address of a
    proxy in front, if there is one. `started` is called once signals are handled. `until` waits for
    something, and when it returns, that is as good as a signal. Call this in the main thread.
    """
    connections: dict[int, Any] = {}
    settings = SETTINGS | {"connection_limit": _raise_connection_limit()}
    settings |= _proxy_settings(trusted_proxy)
    server = waitress.create_server(app, map=connections, sockets=[listener], **settings)
    server.channel_class = _Channel
    # So many bytes a thread leaves to the loop below, which sends them at once. By default it is
    # one: the thread itself sends the head and then the body, while loop and threads fight for
    # Python's global lock, and there are fewer answers a second.
    server.adj.send_bytes = settings["outbuf_overflow"]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            server.pull_trigger()  # wakes the loop below

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if until:  # this is one of several processes
        threading.Thread(target=lambda: stop(until()), daemon=True).start()
        server.handle_accept = partial(_accept_after_others, server, server.handle_accept)
    started()
    # This is waitress's server.run(), except that a signal ends it between two events. There it
    # ends in the midst of one, and drops the requests that wait for a thread.
    while not stopping:
        _handle_events(server, connections)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _finish_requests(server, connections, listener)
    server.task_dispatcher.shutdown(timeout=1)
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    wasyncore.close_all(connections)


def _accept_after_others(server: Any, accept: Callable[[], None]) -> None:
    """Take a new connection; if this process has some already, let others be first for a moment.

    Of connections that come together, the process that wakes first would take them all, and keep
    them for as long as the clients do.
    """
    if server.active_channels:
        time.sleep(0.0001)
    accept()


def _finish_requests(server: Any, connections: dict[int, Any], listener: socket.socket) -> None:
    """Take no new connection, and go on until the requests that have come are answered."""
    deadline = time.monotonic() + GRACE
    # The system holds connections that have not been accepted yet; below the limit, accept them.
    while server.readable() and _is_waiting(listener) and time.monotonic() < deadline:
        _handle_events(server, connections, timeout=0)
    server.accepting = False  # _Channel then closes each connection after its answer
    server.del_channel()
    listener.close()
    _handle_events(server, connections, timeout=0)  # reads what has come and was not read yet
    while _has_requests_in_hand(server) and time.monotonic() < deadline:
        _handle_events(server, connections)


def _is_waiting(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    return bool(select.select([listener], [], [], 0)[0])


def _handle_events(server: Any, connections: dict[int, Any], timeout: int = 1) -> None:
    """Wait for something to read or write, `timeout` seconds at most, and do it."""
    use_poll = SETTINGS["asyncore_use_poll"]
    wasyncore.loop(timeout=timeout, use_poll=use_poll, map=connections, count=1)
    # waitress has marked the idle ones. It would close them when all is sent, which never comes if
    # a client does not read.
    for channel in list(server.active_channels.values()):
        if channel.will_close:
            channel.handle_close()


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


def _raise_connection_limit() -> int:
    """Have the system allow two file descriptors for each connection; return how many it allows.

    One is for the socket, the other one for the file of a long export. A process may begin with as
    few as 256. Beyond what is allowed, accepting a connection fails.
    """
    limit: int = SETTINGS["connection_limit"]
    if sys.platform == "win32":
        return limit
    import resource

    others = 64  # descriptors: those of the database in each thread, the log, and so on
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limit + others
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    return min(limit, max(allowed - others, allowed // 2) // 2)


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """waitress's parser, which lets errors of the standard library through: here they are a 400.

    It happens with a Content-Length of 5,000 digits and with an address like `http://[`. And it
    waits for a body after `Expect: 100-continue`, also if there is none.
    """

    path = ""  # waitress logs it when a client is gone, also if the request could not be parsed

    def parse_header(self, header: bytes) -> None:
        try:
            super().parse_header(header)
        except ValueError as error:
            raise ParsingError("The address or the Content-Length is malformed") from error
        finally:
            if self.body_rcv is None:  # there is no body to wait for
                self.expect_continue = False


class _Task(WSGITask):  # type: ignore[misc]
    """The answer to one request, after which the connection stays open for the next."""

    def get_environment(self) -> WSGIEnvironment:
        """Return the environ, with text in it as PEP 3333 wants it.

        Without the Server header, waitress has None for SERVER_SOFTWARE.
        """
        environ: WSGIEnvironment = super().get_environment()
        environ["SERVER_SOFTWARE"] = "waitress"
        return environ

    def set_close_on_finish(self) -> None:
        """Close the connection, but not because a 304 has no Content-Length.

        Its end is known without one (RFC 9112, 6.3).
        """
        asked_to = (
            self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        )
        if self.has_body or asked_to:
            super().set_close_on_finish()


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection to a client, which gets one request at a time."""

    parser_class = _Parser
    task_class = _Task
    request: Any  # one that has come in part
    requests: list[Any]  # those that have come whole, the one that is being answered first

    def service(self) -> None:
        """Answer one request, in a thread of waitress.

        What has come behind it is dropped, and the connection closed after the answer; then the
        client has to ask again (RFC 9112, 9.3.2). Browsers wait for the answer. A client that does
        not, and does not read either, could hold all threads.
        """
        with self.requests_lock:
            request, *behind = self.requests
            if self.request:
                behind.append(self.request)
            if behind or not self.server.accepting:
                request.headers["CONNECTION"] = "close"
                self.requests, self.request = [request], None
        for dropped in behind:
            dropped.close()
        super().service()

    def handle_expt(self) -> None:
        """Close the connection if urgent data comes (TCP's, which HTTP does not use)."""
        self.handle_close()
