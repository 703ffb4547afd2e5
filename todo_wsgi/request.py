"""What came in: the environ that the server made of a request, as method, path and form.

WSGI (PEP 3333) hands over strings that hold bytes, each byte as the character of that number, and
a stream with the body. Here they become text, or a clear error.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from todo_wsgi.errors import BadRequest, ContentTooLarge, LengthRequired, UnsupportedMediaType

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

MAX_BODY_SIZE = 64 * 1024  # bytes; the longest todo is 6,000 bytes once percent-encoded
MAX_FIELDS = 100  # a form of ours has a handful; each field costs time, so thousands are an attack

FORM_TYPE = "application/x-www-form-urlencoded"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1

# int() takes "-1", "+1", "1_000" and other scripts' digits, and refuses 4,301 of them.
_CONTENT_LENGTH = re.compile(r"[0-9]{1,4000}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


class Request:
    """One request, read from its WSGI `environ`.

    Its attributes decode when they are asked for, and raise an HTTPError for what cannot be
    decoded.
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded by the server, like "/"; 400 if it is not UTF-8."""
        # Servers hand over bytes as latin-1 text (PEP 3333, "Unicode Issues"): back to the bytes,
        # and then to what they say.
        raw: str = self.environ.get("PATH_INFO", "")
        try:
            return raw.encode("latin-1").decode() or "/"
        except UnicodeError:
            raise BadRequest("The address is not written in UTF-8.") from None

    @property
    def is_from_another_site(self) -> bool:
        """Whether a page of another web site had the browser send this request.

        The rule of Go's `net/http.CrossOriginProtection`, which needs no token and no session: the
        browser says it in Sec-Fetch-Site, an older one says in Origin where the page is from.
        Who sends neither is no browser, and so nobody's cookies or network are misused.
        """
        fetch_site = self.environ.get("HTTP_SEC_FETCH_SITE")
        if fetch_site:
            return fetch_site not in {"same-origin", "none"}
        origin = self.environ.get("HTTP_ORIGIN")
        if not origin:
            return False
        host = self.environ.get("HTTP_HOST")
        return not host or _host_and_port(origin) != host.lower()

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of the form in the body: name to value.

        Raises 411, 413 and 415 for a body that we do not read, 400 for one that is cut short, is
        not UTF-8, or has a field twice.
        """
        content_type = self.environ.get("CONTENT_TYPE", "").partition(";")[0]
        if content_type.strip().lower() != FORM_TYPE:
            raise UnsupportedMediaType
        return _parse_form(_read_body(self.environ))


def _host_and_port(origin: str) -> str:
    """The host, and port if one is given, of an Origin (RFC 6454, 7); "" if there is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _read_body(environ: WSGIEnvironment) -> bytes:
    """Read the body, which is a stream: it can be read once, and only so far as it goes."""
    given = environ.get("CONTENT_LENGTH")
    if given:
        if not _CONTENT_LENGTH.fullmatch(given):
            raise BadRequest("The Content-Length is no number of bytes.")
        length = int(given)
        if length > MAX_BODY_SIZE:
            raise ContentTooLarge
    elif environ.get("wsgi.input_terminated"):
        length = MAX_BODY_SIZE + 1  # a chunked body: the server ends the stream where it ends
    else:
        raise LengthRequired
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except OSError:
        body = b""
    if len(body) > MAX_BODY_SIZE:
        raise ContentTooLarge
    if given and len(body) < length:
        raise BadRequest("The request ended before all of it had come. Send it again.")
    return body


def _parse_form(body: bytes) -> dict[str, str]:
    """Decode `text=milk+%26+honey` (WHATWG URL, 5.1), but never guess what was meant."""
    try:
        encoded = body.decode()
        if broken := _BROKEN_ESCAPE.search(encoded):
            raise BadRequest(f"The form has {broken[0]!r} in it: write a percent sign as %25.")
        fields = parse_qsl(
            encoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise BadRequest("The form is not written in UTF-8.") from None
    except ValueError:
        raise BadRequest(f"The form has more than {MAX_FIELDS} fields.") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise BadRequest("The form has a field twice. Send it once; nothing was changed.")
    return form
