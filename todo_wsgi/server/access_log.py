"""The access log: a line for each request, in Apache's combined format, and its seconds.

    127.0.0.1 - - [24/Nov/2026:06:12:13 +0000] "GET / HTTP/1.1" 200 1888 "-" "curl/8.5.0" 0.0021

waitress answers some requests itself, so this watches its tasks and not the application.
"""

import logging
import os
import re
import time
from functools import partial
from typing import Any

from waitress.task import ErrorTask

from todo_wsgi.server.waitress_fixes import Channel, Task

logger = logging.getLogger("todo_wsgi")

# Nothing that a client sends may end a field or a line.
_escape = partial(re.compile(r"[^ !#-\[\]-~]").sub, lambda found: f"\\x{ord(found[0]):02x}")


class AccessLog:
    """The log in the file `path`, or on stdout for "-". Raises OSError if it cannot be opened.

    It appends each line in one write: several processes can share the file, and logrotate can copy
    and truncate it. For requests from the trusted proxy it names the proxy's client.
    """

    def __init__(self, path: str, trusted_proxy: str | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = 1 if path == "-" else os.open(path, flags, 0o666)
        self._trusted_proxy = trusted_proxy
        self._works = True

    def write(self, task: Any) -> None:
        """Append the line of a task of waitress."""
        request, header, now = task.request, task.request.headers.get, time.time()
        address = task.channel.addr[0]
        if address == self._trusted_proxy:
            address = header("X_FORWARDED_FOR", address).rpartition(",")[2].replace(" ", "") or "-"
        date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
        status = task.status[:3]
        # waitress does not parse a head that is malformed or too long.
        is_parsed = request.command and status != "431"
        first_line = request.first_line.decode("latin-1") if is_parsed else "-"
        size = task.content_length if task.has_body and request.command != "HEAD" else 0
        line = (
            f'{_escape(address)} - - [{date}] "{_escape(first_line)}" {status} {size or "-"} '
            f'"{_escape(header("REFERER", "-"))}" "{_escape(header("USER_AGENT", "-"))}" '
            f"{now - task.start_time:.4f}\n"
        )
        try:
            os.write(self._file, line.encode())
            self._works = True
        except OSError as error:
            if self._works:  # say it once
                logger.error("Cannot write the access log: %s", error)
            self._works = False


class _Logged:
    def service(self: Any) -> None:
        """Do the task. It has an answer to log even if the client did not wait for that."""
        try:
            super().service()  # type: ignore[misc]
        finally:
            if self.complete:
                self.channel.server.access_log.write(self)


class LoggingChannel(Channel):
    """A connection whose requests go into the `access_log` of the server."""

    task_class = type("Task", (_Logged, Task), {})
    error_task_class = type("ErrorTask", (_Logged, ErrorTask), {})
