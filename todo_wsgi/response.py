"""What goes out: an answer that is finished before the server hears of it.

Handlers make a `Response`; `Application.__call__` calls it. Nothing can go wrong any more once
`start_response` has been called, so there is never half an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

# The style sheet and the icon come from here, nothing comes from elsewhere, and no script runs.
# connect-src is for tools that look at the page from inside it and fetch robots.txt.
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
ASK_AGAIN = "private, no-cache"  # a browser may keep the page, but asks before it shows it again

# RFC 9110, 5.5: visible characters, space and tab. A line break would begin a header of its own.
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Response:
    """A finished answer, and itself a WSGI application that gives it (PEP 3333).

    `body` is text (sent as UTF-8) or bytes; `content_type` a value of Content-Type; `headers`
    (name, value) pairs besides those that every answer has; `etag` the body's opaque tag without
    its quotes (RFC 9110, 8.8.3). A character in a header that may not be there is a ValueError.

    It does not change, so that one response may answer many requests.
    """

    def __init__(
        self,
        body: str | bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        content_type: str = HTML,
        headers: Iterable[tuple[str, str]] = (),
        cache_control: str = ASK_AGAIN,
        etag: str | None = None,
    ) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.etag = f'"{etag}"' if etag else None
        self.headers = (
            ("Content-Type", content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", cache_control),
            *SECURITY_HEADERS,
            *headers,
        )
        if self.etag:
            self.headers += (("ETag", self.etag),)
        for name, value in self.headers:
            if not _HEADER_TEXT.fullmatch(value):
                raise ValueError(f"the header {name} cannot hold {value!r}")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Send the answer: all of it, for HEAD its headers, or 304 to who has it already."""
        if self._is_known_to(environ):
            of_the_body = {"Content-Type", "Content-Length"}
            headers = [header for header in self.headers if header[0] not in of_the_body]
            start_response(_status_line(HTTPStatus.NOT_MODIFIED), headers)
            return []
        start_response(_status_line(self.status), list(self.headers))
        # A list of one: waitress and others send it in one piece. With a generator they could not
        # know its length, and would send chunks and close the connection.
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]

    def _is_known_to(self, environ: WSGIEnvironment) -> bool:
        """Whether If-None-Match names this answer's ETag (RFC 9110, 13.1.2)."""
        tags = environ.get("HTTP_IF_NONE_MATCH", "").split(",")
        return self.etag in {tag.strip().removeprefix("W/") for tag in tags}


def redirect(location: str) -> Response:
    """Send the browser to `location` with a GET, after a POST has done its work.

    See Other (RFC 9110, 15.4.4): reloading the page that comes then does not post again.
    """
    return Response(
        "", status=HTTPStatus.SEE_OTHER, content_type=TEXT, headers=[("Location", location)]
    )


def _status_line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
