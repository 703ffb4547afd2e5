"""What waitress 3.0.2 gets wrong, mended from outside until it is mended there.

Without these, clients could lock others out or fill the log with tracebacks, and each 304 closed
its connection. Each fix names the issue of https://github.com/Pylons/waitress that would make it
needless, where there is one; "not reported" means that we found none.
"""

import time
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import WSGITask


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection to a client, which gets one request at a time."""

    request: Any  # one that has arrived in part
    requests: list[Any]  # those that have arrived whole; the first one is being answered

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answered = time.monotonic()

    @property
    def since(self) -> float:
        """When the request began that arrives; or else when the last answer was made."""
        request = self.request
        return request.began if request else self._answered

    def service(self) -> None:
        """Answer one request, in a thread of waitress.

        For: a client that pipelines requests and does not read the answers could hold all threads.
        Here the requests behind the first are dropped, and the connection is closed after the
        answer; then the client has to send them again (RFC 9112, 9.3.2). Browsers do not pipeline.
        Upstream: not reported as such; the review of pull request 310 names the unfairness.
        """
        with self.requests_lock:
            request, *behind = self.requests
            if self.request:
                behind.append(self.request)
            if behind or self.server.is_stopping:
                request.headers["CONNECTION"] = "close"
                self.requests, self.request = [request], None
        for dropped in behind:
            dropped.close()
        super().service()

    def write_soon(self, data: Any) -> int:
        """Take a part of an answer from the thread that makes it."""
        self._answered = time.monotonic()
        size: int = super().write_soon(data)
        return size

    def handle_expt(self) -> None:
        """Close the connection if urgent data arrives (TCP's, which HTTP does not use).

        For: waitress logs a warning for each such byte, and spins. Upstream: not reported.
        """
        self.handle_close()


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    # What is logged, also if the request could not be parsed.
    path, command, first_line = "", "", b""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = time.monotonic()

    def parse_header(self, header: bytes) -> None:
        """Parse the head of a request; ParsingError, which becomes a 400, if it is malformed.

        For: a Content-Length of 5,000 digits or an address like `http://[` raised ValueError, which
        closed the connection and left a traceback in the log; and after `Expect: 100-continue`
        waitress waited for a body, even if there was none. Upstream: not reported.
        """
        try:
            super().parse_header(header)
        except ValueError as error:
            raise ParsingError("The address or the Content-Length is malformed") from error
        finally:
            if self.body_rcv is None:  # there is no body to wait for
                self.expect_continue = False


class Task(WSGITask):  # type: ignore[misc]
    """A request that the application answers."""

    def get_environment(self) -> WSGIEnvironment:
        """Return the environ, in which SERVER_SOFTWARE is text (PEP 3333).

        For: without the Server header, waitress has None there. Upstream: not reported.
        """
        environ: WSGIEnvironment = super().get_environment()
        environ["SERVER_SOFTWARE"] = "waitress"
        return environ

    def set_close_on_finish(self) -> None:
        """Close the connection after the answer, but not because a 304 has no Content-Length.

        For: the end of a 304 is known without one (RFC 9112, 6.3), so the connection can stay open.
        Upstream: issue 427 reported the same of HEAD, and pull request 428 mended that.
        """
        asked_to = (
            self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        )
        if self.has_body or asked_to:
            super().set_close_on_finish()


Channel.parser_class, Channel.task_class = _Parser, Task
