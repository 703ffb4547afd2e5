"""What goes out: a response that is finished before the server hears of it.

Handlers make a `Response`, or a `FileResponse` (`file_response.py`) for what is long, and
`Application.__call__` calls it. All that can fail has been done by then, so no error cuts an answer
short.
"""

import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

# Style sheet, icons and manifest come from here, nothing comes from elsewhere, and no script runs.
# connect-src is for tools like Lighthouse, which fetch robots.txt as if the page did.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; manifest-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)
REVALIDATE = "private, no-cache"  # the browser may keep a page, but asks before it shows it again

COMPRESSED_FROM = 500  # bytes; a shorter body goes in one packet anyway
# bytes; servers copy a body for each client, and some are slow to read. All of them share a longer
# one, as if it were a file: BytesIO does not copy what it is made from.
SHARED_FROM = 32 * 1024
GZIP = ("Content-Encoding", "gzip")
VARY = ("Vary", "Accept-Encoding")  # for caches: another client may get another variant
# What a 304 leaves out (RFC 9110, 15.4.5).
ABOUT_THE_BODY = {"Content-Type", "Content-Length", "Content-Encoding"}

# Visible characters, spaces and tabs, and the bytes beyond ASCII (RFC 9110, 5.5): no line break,
# which would begin a header of its own.
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

Header = tuple[str, str]


class Response:
    """A finished response, and itself a WSGI application that sends it (PEP 3333).

    `body` is text (sent as UTF-8) or bytes; `content_type` a value of Content-Type; `headers`
    (name, value) pairs besides those that every response has. ValueError for a character that a
    header's value may not have.

    It does not change, so that one response may answer many requests; it is compressed once, when
    the first client accepts gzip.
    """

    def __init__(
        self,
        body: str | bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        content_type: str = HTML,
        headers: Iterable[Header] = (),
        cache_control: str = REVALIDATE,
    ) -> None:
        self._status = status
        self._body = body.encode() if isinstance(body, str) else body
        self._is_compressible = len(self._body) >= COMPRESSED_FROM
        self._headers = [("Content-Type", content_type), ("Cache-Control", cache_control)]
        self._headers += [*headers, VARY] if self._is_compressible else headers
        self._plain = self._variant(self._body)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it whole; for HEAD, without the body; to a browser that has it already, as 304."""
        is_gzipped = self._is_compressible and accepts_gzip(environ)
        headers, body = self._gzipped if is_gzipped else self._plain
        if _is_known(environ, headers.get("ETag")):
            kept = [(name, headers[name]) for name in headers if name not in ABOUT_THE_BODY]
            start_response(status_text(HTTPStatus.NOT_MODIFIED), kept)
            return []
        start_response(status_text(self._status), list(headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        wrap: Callable[[object], Iterable[bytes]] | None = environ.get("wsgi.file_wrapper")
        return wrap(io.BytesIO(body)) if wrap and len(body) >= SHARED_FROM else [body]

    @cached_property
    def _gzipped(self) -> tuple[dict[str, str], bytes]:
        # 31 stands for the gzip format, with the largest window.
        return self._variant(zlib.compress(self._body, wbits=31), GZIP)

    def _variant(self, body: bytes, *others: Header) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of one variant of the response, plain or compressed."""
        if self._status == HTTPStatus.OK:
            # Each variant has its own (RFC 9110, 8.8.3.3), and every process computes the same.
            others = (*others, ("ETag", f'"{hashlib.sha256(body).hexdigest()[:16]}"'))
        return make_headers(len(body), *self._headers, *others), body


def accepts_gzip(environ: WSGIEnvironment) -> bool:
    """Whether the client accepts a body in gzip form, by its Accept-Encoding (RFC 9110, 12.5.3).

    A client that says nothing about it may be one that cannot decompress it.
    """
    weights = {}
    for element in environ.get("HTTP_ACCEPT_ENCODING", "").lower().split(","):
        coding, _, weight = "".join(element.split()).partition(";")
        weights[coding] = weight
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not re.fullmatch(r"q=0(\.0*)?", weight)


def _is_known(environ: WSGIEnvironment, etag: str | None) -> bool:
    """Whether If-None-Match names the ETag, or any with "*" (RFC 9110, 13.1.2)."""
    if etag is None:
        return False
    tags = environ.get("HTTP_IF_NONE_MATCH", "").split(",")
    return not {etag, "*"}.isdisjoint(tag.strip().removeprefix("W/") for tag in tags)


def make_headers(length: int, *headers: Header) -> dict[str, str]:
    """Return these headers and those that every response has; ValueError for a bad value."""
    every = (("Content-Length", str(length)), *SECURITY_HEADERS, *headers)
    for name, value in every:
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} cannot have the value {value!r}")
    return dict(every)


def status_text(status: HTTPStatus) -> str:
    """Return the status as WSGI and people want it, like "404 Not Found"."""
    return f"{status.value} {status.phrase}"


def redirect(location: str) -> Response:
    """Return a 303 (RFC 9110, 15.4.4), which sends the browser to `location` with a GET.

    After a POST, reloading the page that it gets does not post again.
    """
    return Response(
        "", status=HTTPStatus.SEE_OTHER, content_type=TEXT, headers=[("Location", location)]
    )
