"""What goes out: a response that is finished before the server hears of it.

Handlers make a `Response` (or a `FileResponse`, for what is long), and `Application.__call__` calls
it. By then no code of ours can fail any more, so no error of ours cuts an answer short.
"""

import os
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import IO
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

# The style sheet and the icon come from here, nothing comes from elsewhere, and no script runs.
# connect-src is for tools like Lighthouse, which fetch robots.txt as if the page did.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)
ASK_AGAIN = "private, no-cache"  # the browser may keep a page, but asks before it shows it again

# Visible characters, spaces and tabs, and the bytes beyond ASCII (RFC 9110, 5.5): no line break,
# which would begin a header of its own.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


Header = tuple[str, str]


class Response:
    """A finished response, and itself a WSGI application that sends it (PEP 3333).

    `body` is text (sent as UTF-8) or bytes; `content_type` a value of Content-Type; `headers`
    (name, value) pairs besides those that every response has; `etag` the body's opaque tag without
    its quotes (RFC 9110, 8.8.3). A character that a header's value may not have is a ValueError.

    It does not change, so that one response may answer many requests.
    """

    def __init__(
        self,
        body: str | bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        content_type: str = HTML,
        headers: Iterable[Header] = (),
        cache_control: str = ASK_AGAIN,
        etag: str | None = None,
    ) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.etag = f'"{etag}"' if etag else None
        self.headers = _make_headers(
            content_type,
            len(self.body),
            cache_control,
            *headers,
            *([("ETag", self.etag)] if self.etag else []),
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Send it whole; for HEAD, without the body; to a browser that has it already, as 304."""
        if self.etag and self._is_known_to(environ):
            about_the_body = {"Content-Type", "Content-Length"}
            headers = [header for header in self.headers if header[0] not in about_the_body]
            start_response(status_text(HTTPStatus.NOT_MODIFIED), headers)
            return []
        # A list of its own for each request, since the server may change it.
        start_response(status_text(self.status), list(self.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]

    def _is_known_to(self, environ: WSGIEnvironment) -> bool:
        """Whether If-None-Match names our ETag, or any with "*" (RFC 9110, 13.1.2)."""
        tags = environ.get("HTTP_IF_NONE_MATCH", "").split(",")
        return not {self.etag, "*"}.isdisjoint(tag.strip().removeprefix("W/") for tag in tags)


class FileResponse:
    """A response whose body is the content of `file`, sent piece by piece, however long it is.

    It answers one request; the server closes the file.
    """

    def __init__(self, file: IO[bytes], *, content_type: str) -> None:
        self.file = file
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.headers = _make_headers(content_type, length, ASK_AGAIN)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it; for HEAD, without the body."""
        start_response(status_text(HTTPStatus.OK), list(self.headers))
        if environ["REQUEST_METHOD"] == "HEAD":
            self.file.close()
            return []
        # A server may have its own way to send a file (PEP 3333, "Optional Platform-Specific File
        # Handling"): waitress does it without one of its threads.
        wrap: Callable[[IO[bytes]], Iterable[bytes]] = environ.get("wsgi.file_wrapper", FileWrapper)
        return wrap(self.file)


def redirect(location: str) -> Response:
    """Return a response that sends the browser to `location` with a GET, after a POST.

    See Other (RFC 9110, 15.4.4): reloading the page that comes then does not post again.
    """
    return Response(
        "", status=HTTPStatus.SEE_OTHER, content_type=TEXT, headers=[("Location", location)]
    )


def _make_headers(
    content_type: str, length: int, cache_control: str, *others: Header
) -> tuple[Header, ...]:
    """Return the headers that every response has, and `others`; ValueError for a bad value."""
    headers = (
        ("Content-Type", content_type),
        ("Content-Length", str(length)),
        ("Cache-Control", cache_control),
        *SECURITY_HEADERS,
        *others,
    )
    for name, value in headers:
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} cannot have the value {value!r}")
    return headers


def status_text(status: HTTPStatus) -> str:
    """Return the status as WSGI and people want it, like "404 Not Found"."""
    return f"{status.value} {status.phrase}"
