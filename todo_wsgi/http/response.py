"""What goes out: a response that is finished before the server hears of it.

Handlers make a `Response` (or a `FileResponse`, for what is long), and `Application.__call__` calls
it. By then no code of ours can fail any more, so no error of ours cuts an answer short.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property, partial
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

COMPRESSED_FROM = 500  # bytes; what is shorter goes in one packet anyway
GZIP = ("Content-Encoding", "gzip")
VARY = ("Vary", "Accept-Encoding")  # for caches: another client may get it in another form
# What a 304 leaves out (RFC 9110, 15.4.5).
ABOUT_THE_BODY = {"Content-Type", "Content-Length", "Content-Encoding"}

# Visible characters, spaces and tabs, and the bytes beyond ASCII (RFC 9110, 5.5): no line break,
# which would begin a header of its own.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


Header = tuple[str, str]


class Response:
    """A finished response, and itself a WSGI application that sends it (PEP 3333).

    `body` is text (sent as UTF-8) or bytes; `content_type` a value of Content-Type; `headers`
    (name, value) pairs besides those that every response has. A character that a header's value
    may not have is a ValueError.

    It does not change, so that one response may answer many requests; it is compressed once, when a
    client first takes it so.
    """

    def __init__(
        self,
        body: str | bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        content_type: str = HTML,
        headers: Iterable[Header] = (),
        cache_control: str = ASK_AGAIN,
    ) -> None:
        body = body.encode() if isinstance(body, str) else body
        self._is_compressible = len(body) >= COMPRESSED_FROM
        if self._is_compressible:
            headers = [*headers, VARY]
        self._represent = partial(_Representation, status, content_type, cache_control, headers)
        self._plain = self._represent(body)

    @cached_property
    def _compressed(self) -> "_Representation":
        # 31 stands for the gzip format, with the largest window.
        return self._represent(zlib.compress(self._plain.body, wbits=31), GZIP)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Send it whole; for HEAD, without the body; to a browser that has it already, as 304."""
        if self._is_compressible and takes_gzip(environ):
            return self._compressed.send(environ, start_response)
        return self._plain.send(environ, start_response)


class _Representation:
    """One form of a response, as it is or compressed, with the headers that tell about it."""

    def __init__(
        self,
        status: HTTPStatus,
        content_type: str,
        cache_control: str,
        headers: Iterable[Header],
        body: bytes,
        *others: Header,
    ) -> None:
        self.status = status
        self.body = body
        # Each form has its own (RFC 9110, 8.8.3.3), and each process gives it the same.
        self.etag = (
            f'"{hashlib.sha256(body).hexdigest()[:16]}"' if status == HTTPStatus.OK else None
        )
        if self.etag:
            others = (*others, ("ETag", self.etag))
        self.headers = _make_headers(content_type, len(body), cache_control, *headers, *others)

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if self.etag and self._is_known_to(environ):
            headers = [header for header in self.headers if header[0] not in ABOUT_THE_BODY]
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

    `headers` are (name, value) pairs besides those that every response has. It answers one request;
    the server closes the file.
    """

    def __init__(
        self, file: IO[bytes], *, content_type: str, headers: Iterable[Header] = ()
    ) -> None:
        self.file = file
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.headers = _make_headers(content_type, length, ASK_AGAIN, *headers)

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


def takes_gzip(environ: WSGIEnvironment) -> bool:
    """Whether the client takes an answer in gzip form, as Accept-Encoding says (RFC 9110, 12.5.3).

    A client that says nothing about it may be one that cannot unpack it.
    """
    weights = {}
    for element in environ.get("HTTP_ACCEPT_ENCODING", "").lower().split(","):
        coding, _, weight = "".join(element.split()).partition(";")
        weights[coding] = weight
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not re.fullmatch(r"q=0(\.0*)?", weight)


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
