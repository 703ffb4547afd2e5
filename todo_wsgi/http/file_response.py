"""A response that is longer than memory should hold: a file, sent in pieces."""

import io
import os
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import IO
from weakref import finalize
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper

from todo_wsgi.http.response import REVALIDATE, Header, make_headers, status_text


class FileResponse:
    """A response whose body is the content of `file`, sent in pieces, however long it is.

    `headers` are (name, value) pairs besides those that every response has. It may answer many
    requests at once. The file is closed when nobody has the response any more, or by `close()`:
    that cuts off the clients that have not read all of it.
    """

    def __init__(
        self, file: IO[bytes], *, content_type: str, headers: Iterable[Header] = ()
    ) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._length = file.seek(0, os.SEEK_END)
        usual = (("Content-Type", content_type), ("Cache-Control", REVALIDATE))
        self._headers = make_headers(self._length, *usual, *headers)
        self.close = finalize(self, file.close)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it; for HEAD, without the body."""
        start_response(status_text(HTTPStatus.OK), list(self._headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        # A server may have its own way to send a file (PEP 3333, "Optional Platform-Specific File
        # Handling"): waitress does it without one of its threads.
        wrap: Callable[[object], Iterable[bytes]] = environ.get("wsgi.file_wrapper", FileWrapper)
        return wrap(_Reader(self))

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start` on, or all; OSError if the file was closed."""
        with self._lock:
            if not self.close.alive:
                raise OSError("the file was closed, since newer ones took its place")
            self._file.seek(start)
            return self._file.read(size)


class _Reader(io.RawIOBase):
    """What one client reads: the file, with a position of its own."""

    def __init__(self, response: FileResponse) -> None:
        self._response, self._position = response, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._response._length}
        self._position = starts[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        data = self._response.read(self._position, size)
        self._position += len(data)
        return data
