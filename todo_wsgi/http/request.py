"""What comes in: a request, as method, path, query and form.

WSGI (PEP 3333) delivers it as the environ: strings in which each character stands for one byte, and
a stream with the body. Here they are decoded to text, or refused with a clear error.
"""

import re
from functools import cached_property
from urllib.parse import parse_qsl
from wsgiref.types import WSGIEnvironment

from todo_wsgi.http.errors import BadRequest, ContentTooLarge, LengthRequired, UnsupportedMediaType

MAX_BODY_SIZE = 64 * 1024  # bytes; the longest todo is 6,000 bytes once percent-encoded
MAX_FIELDS = 100  # our forms have a handful; each costs time, so thousands would be an attack

INTEGER = "-?[0-9]{1,18}"  # int() accepts more, like "1_000"; 18 digits fit into 64 bits
FORM_TYPE = "application/x-www-form-urlencoded"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # an Origin leaves them out, some proxies do not
_CUT_OFF = "The request was cut off. Nothing was changed: send it again."
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


class Request:
    """One request, read from its WSGI `environ`.

    Its attributes are decoded on first use, and raise an HTTPError if that fails.
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded by the server, like "/"; BadRequest if it is not UTF-8."""
        # Servers deliver bytes as latin-1 text (PEP 3333, "Unicode Issues"): get the bytes back,
        # then decode them.
        raw: str = self.environ.get("PATH_INFO", "")
        try:
            return raw.encode("latin-1").decode() or "/"
        except UnicodeError:
            raise BadRequest("The address is not encoded in UTF-8.") from None

    @cached_property
    def query(self) -> dict[str, str]:
        """The query string of the address: name to value.

        Links come from anywhere and may contain anything, so nothing is refused: the last value of
        a repeated name wins, and invalid UTF-8 becomes U+FFFD.
        """
        return dict(parse_qsl(self.environ.get("QUERY_STRING", ""), keep_blank_values=True))

    @property
    def typed(self) -> str:
        """What the visitor typed, if the form was read by now: an error page gives it back."""
        form: dict[str, str] = vars(self).get("form", {})  # where cached_property stores it
        return form.get("text", "")

    @property
    def is_from_another_site(self) -> bool:
        """Whether a page of another site made the browser send this request.

        The rule of Go's `net/http.CrossOriginProtection`, which needs no token and no session: a
        browser says so in Sec-Fetch-Site. If it does not send that (an old one, or on plain HTTP),
        its Origin names the site of the page. A POST with neither is not a browser's.
        """
        fetch_site = self.environ.get("HTTP_SEC_FETCH_SITE", "")
        if fetch_site:
            return fetch_site not in {"same-origin", "none"}
        origin = self.environ.get("HTTP_ORIGIN", "")
        if not origin:
            return False
        scheme, _, site = origin.partition("://")  # RFC 6454, 6.2
        host: str = self.environ.get("HTTP_HOST", "").lower()
        return not host or site.lower() != host.removesuffix(_DEFAULT_PORTS.get(scheme, ""))

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of the form in the body: name to value. No body is a form without fields.

        Raises UnsupportedMediaType, ContentTooLarge or LengthRequired for a body that we do not
        read, and BadRequest if it is cut off, is not UTF-8, or has a field twice.
        """
        content_type = self.environ.get("CONTENT_TYPE", "").partition(";")[0]
        if not content_type and self.environ.get("CONTENT_LENGTH") in {None, "", "0"}:
            return {}  # `curl -X POST` sends a button's request like this
        if content_type.strip().lower() != FORM_TYPE:
            raise UnsupportedMediaType
        return _parse_form(_read_body(self.environ))


def read_integer(text: str) -> int | None:
    """Return `text` as an integer, or None if it is not one of up to 18 digits."""
    return int(text) if re.fullmatch(INTEGER, text) else None


def _read_body(environ: WSGIEnvironment) -> bytes:
    """Read the body from its stream, which can be read only once, and not beyond the body's end.

    Raises LengthRequired, ContentTooLarge, or BadRequest if the body ends early.
    """
    given = environ.get("CONTENT_LENGTH", "")
    if given:
        # int() alone would accept "-1", "1_000" and other scripts' digits, and fail for 5,000.
        if not (given.isascii() and given.isdigit()):
            raise BadRequest("The Content-Length is not a number of bytes.")
        if len(given) > 20 or int(given) > MAX_BODY_SIZE:
            raise ContentTooLarge
        length = int(given)
    elif environ.get("wsgi.input_terminated"):
        # A chunked body. PEP 3333 does not provide for it, but servers that set this key, like
        # waitress and gunicorn, end the stream where the body ends.
        length = MAX_BODY_SIZE + 1
    else:
        raise LengthRequired
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except OSError:
        raise BadRequest(_CUT_OFF) from None
    if len(body) > MAX_BODY_SIZE:
        raise ContentTooLarge
    if given and len(body) < length:
        raise BadRequest(_CUT_OFF)
    return body


def _parse_form(body: bytes) -> dict[str, str]:
    """Decode `text=milk+%26+honey` (WHATWG URL, 5.1), without guessing what was meant.

    Raises BadRequest for invalid UTF-8, a broken escape, a repeated field, or too many fields.
    """
    try:
        encoded = body.decode()
        if broken := _BROKEN_ESCAPE.search(encoded):
            raise BadRequest(f"The form contains {broken[0]!r}: write a percent sign as %25.")
        fields = parse_qsl(
            encoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise BadRequest("The form is not encoded in UTF-8.") from None
    except ValueError:
        raise BadRequest(f"The form has more than {MAX_FIELDS} fields.") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise BadRequest("The form has a field twice. Nothing was changed: send each field once.")
    return form
