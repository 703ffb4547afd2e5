"""A response that is longer than memory should hold: a file, sent in pieces."""

import os
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import IO
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper

from todo_wsgi.http.response import REVALIDATE, Header, make_headers, status_text


class FileResponse:
    """A response whose body is the content of `file`, sent in pieces, however long it is.

    `headers` are (name, value) pairs besides those that every response has. It answers one request;
    the server closes the file.
    """

    def __init__(
        self, file: IO[bytes], *, content_type: str, headers: Iterable[Header] = ()
    ) -> None:
        self._file = file
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        usual = (("Content-Type", content_type), ("Cache-Control", REVALIDATE))
        self._headers = make_headers(length, *usual, *headers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it; for HEAD, without the body."""
        start_response(status_text(HTTPStatus.OK), list(self._headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            self._file.close()
            return []
        # A server may have its own way to send a file (PEP 3333, "Optional Platform-Specific File
        # Handling"): waitress does it without one of its threads.
        wrap: Callable[[IO[bytes]], Iterable[bytes]] = environ.get("wsgi.file_wrapper", FileWrapper)
        return wrap(self._file)
