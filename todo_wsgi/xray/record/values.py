"""Values as text, without running any of the application's code, and without its secrets.

`describe` creates the text while recording, since a value may change afterwards. `Secrets` hides
passwords, credentials and cookies in the text when it is shown.
"""

import base64
import email
import html
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from itertools import islice
from types import FunctionType, MethodType
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, unquote_to_bytes

MAX_TEXT = 200  # characters of one text
MAX_ITEMS = 5  # of a list
MAX_DEPTH = 3  # of nested lists
MAX_SEARCHED = 100  # items of a list that are searched for secrets
CUT = "…"  # marks an omission
HIDDEN = "[hidden]"

# Names of fields, headers, arguments and variables with secret values.
_SECRET_NAME = re.compile(
    "passw|passphrase|passcode|pwd|secret|token|credential|auth(?!or)|cookie|session|csrf|xsrf"
    "|jwt|(api|access|private).?key|(^|[^a-z])(pass|pw|pin|otp|sid)($|[^a-z])",
    re.IGNORECASE,
)
_SHORT = 4  # characters; shorter secrets are hidden only as whole values, as in "a=1" and '1'


def cut(text: str, length: int = MAX_TEXT) -> str:
    """Return the text, or its beginning if it is longer than `length` characters."""
    return text if len(text) <= length else text[:length] + CUT


def describe(value: object, depth: int = 0) -> str:
    """Return the `repr` of the value, cut where it is long.

    For a class that may define its own `__repr__`, return only the name: calling it would run the
    application's code.
    """
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if issubclass(kind, str):
        # Call the methods of `str` itself, even if the subclass overrides them.
        text = str.__getitem__(value, slice(MAX_TEXT))  # type: ignore[index]
        return repr(text) if str.__len__(value) <= MAX_TEXT else repr(text + CUT)  # type: ignore[arg-type]
    if kind in (bytes, bytearray):
        return repr(bytes(value[:MAX_TEXT])) + (CUT if len(value) > MAX_TEXT else "")  # type: ignore[index, arg-type]
    if depth < MAX_DEPTH and (items := _describe_items(value, kind, depth + 1)) is not None:
        return items
    if kind in (FunctionType, MethodType):
        return str(value.__qualname__)  # type: ignore[attr-defined]
    if issubclass(kind, type):
        return str(type.__getattribute__(value, "__qualname__"))
    if issubclass(kind, Enum):
        return f"{kind.__name__}.{object.__getattribute__(value, '_name_')}"
    if issubclass(kind, BaseException):
        return describe_error(value)  # type: ignore[arg-type]
    return f"<{kind.__qualname__}>"


_PLAIN = (type(None), bool, int, float, complex)


def _describe_items(value: Any, kind: type, depth: int) -> str | None:
    """Return the first items of a collection, described, or None for any other value."""

    def join(items: Iterable[str], length: int) -> str:
        return ", ".join(items) + (f", {CUT} {length} in all" if length > MAX_ITEMS else "")

    if kind in (dict, list, set, frozenset, tuple):
        first = list(islice(value.items() if kind is dict else value, MAX_ITEMS))
    if kind is dict:
        pairs = (f"{describe(name, depth)}: {describe(item, depth)}" for name, item in first)
        return f"{{{join(pairs, len(value))}}}"
    if kind is list:
        return f"[{join((describe(item, depth) for item in first), len(value))}]"
    if kind in (set, frozenset):
        return f"{{{join(sorted(describe(item, depth) for item in first), len(value))}}}"
    if kind is tuple:
        end = "," if len(value) == 1 else ""
        return f"({join((describe(item, depth) for item in first), len(value))}{end})"
    if issubclass(kind, tuple) and (names := vars(kind).get("_fields")):
        items = zip(names, tuple.__iter__(value), strict=False)
        return f"{kind.__name__}({', '.join(f'{n}={describe(item, depth)}' for n, item in items)})"
    return None


def _items(value: Any, kind: type) -> Iterable[tuple[str, Any]]:
    """Return the items of a collection with their keys or field names, or with ""."""
    if kind is dict:
        return ((key if type(key) is str else "", item) for key, item in value.items())
    if issubclass(kind, tuple) and (fields := vars(kind).get("_fields")):
        return zip(fields, tuple.__iter__(value), strict=False)
    return (("", item) for item in (value if kind in (list, tuple) else ()))


def describe_error(error: BaseException) -> str:
    """Return the `repr` of an exception, such as "ValueError('too long')"."""
    arguments = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    return f"{type(error).__qualname__}({', '.join(map(describe, arguments))})"


def describe_all(values: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    """Return the names with their values described."""
    return [(name, describe(value)) for name, value in values]


def show_bytes(data: bytes) -> str:
    """Decode bytes as UTF-8, with escapes such as `\\xff` for invalid bytes."""
    return data.decode("utf-8", "backslashreplace")


class Secrets:
    """The secrets of one request, by value, to hide them wherever they appear in its story."""

    def __init__(self) -> None:
        self.values: set[str] = set()  # in all forms in which they may appear
        self._ordered: list[str] | None = None  # the same by length, computed on demand

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        """Hide the value if its name marks it as secret, and any secrets within it."""
        is_secret = bool(_SECRET_NAME.search(name))
        kind = type(value)
        if is_secret and kind in (str, bytes, int, float):
            self._hide(value)
        if depth == MAX_DEPTH:
            return
        for key, item in islice(_items(value, kind), MAX_SEARCHED):
            self.add(f"{name} {key}" if is_secret else key, item, depth + 1)

    def add_header(self, name: str, value: str) -> None:
        """Hide the secrets in a header: credentials (RFC 9110, 11.6), cookies, URLs."""
        name = name.lower()
        if "authorization" in name:
            _, _, credentials = value.strip().partition(" ")
            for secret in [value, credentials.strip(), *re.split('[\\s,="]+', credentials)]:
                if len(secret) >= _SHORT:
                    self._hide(secret)
            self._hide_basic(credentials)
        elif name in ("cookie", "set-cookie"):
            self._hide(value)
            pairs = value.split(";")[:1] if name == "set-cookie" else value.split(";")
            for pair in pairs:
                self._hide_encoded(pair.partition("=")[2].strip(' "'))
        else:
            self.add(name, value)
            if "?" in value or "@" in value:  # a URL, as in Referer or Location
                self.add_form(value.partition("?")[2].partition("#")[0])
                if found := re.search("//([^/?#]*)@", value):
                    self._hide(found[1].partition(":")[2])

    def _hide_basic(self, credentials: str) -> None:
        """Hide a user name and password in base64 (RFC 7617)."""
        try:
            decoded = base64.b64decode(credentials, validate=True)
        except ValueError:
            return
        self._hide(decoded)
        self._hide(decoded.partition(b":")[2])

    def add_body(self, content_type: str, body: bytes) -> None:
        """Hide the secret fields of a form, or of JSON, XML or HTML."""
        text = show_bytes(body)
        if content_type.startswith("multipart/"):
            head = f"Content-Type: {content_type}\r\n\r\n".encode()
            for part in email.message_from_bytes(head + body).walk():
                name = part.get_param("name", "", "content-disposition")
                if not part.is_multipart():
                    self.add(str(name), part.get_payload(decode=True))
        elif "json" in content_type:
            for name, value in re.findall(r'"([^"\\]*)"\s*:\s*"((?:[^"\\]|\\.)*)"', text):
                self.add(name, value)
            with suppress(ValueError):
                self.add("", json.loads(text))
        elif "xml" in content_type or "html" in content_type:
            for name, value in re.findall(r"<([\w:.-]{1,50})[^<>]*>([^<]*)</\1>", text):
                self.add(name, html.unescape(value))
            for tag in re.findall("<input[^<>]*>", text):
                given = dict(re.findall(r'\b(name|value)="([^"]*)"', tag))
                self.add(given.get("name", ""), html.unescape(given.get("value", "")))
        else:
            self.add_form(text)

    def add_form(self, encoded: str) -> None:
        """Hide the secret fields of `a=1&b=2`, in a body or after the "?" of a URL."""
        for pair in encoded.split("&"):
            name, _, value = pair.partition("=")
            if _SECRET_NAME.search(unquote_plus(name)):
                self._hide_encoded(value.rstrip())

    def _hide_encoded(self, value: str) -> None:
        """Hide a value that may be percent-encoded, and its decoded forms."""
        self._hide(value)
        self._hide(unquote_to_bytes(value.replace("+", " ")))
        self._hide(unquote_to_bytes(value))

    def _hide(self, value: object) -> None:
        if isinstance(value, bytes):  # an application may decode it either way
            self._hide(show_bytes(value))
            value = value.decode("latin-1")
        text = str(value)
        if len(lines := text.splitlines()) > 1:  # which are shown one below another
            for line in lines:
                self._hide(line)
        if text.strip():
            written = {way(text) for way in _WAYS_TO_WRITE}
            self.values |= {way(once) for once in written for way in _WAYS_TO_WRITE}
            self._ordered = None

    def hide(self, value: Any) -> Any:
        """Return the value with all secrets hidden, recursively in tuples and lists."""
        if isinstance(value, str):
            return self._hide_in_text(str(value))  # a plain str: a subclass may mark HTML
        if isinstance(value, list):
            return [self.hide(item) for item in value]
        if isinstance(value, tuple):
            items = [self.hide(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _hide_in_text(self, text: str) -> str:
        if self._ordered is None:  # longest first, since one may contain another
            self._ordered = sorted(self.values, key=len, reverse=True)
        for secret in self._ordered:
            if secret not in text:
                continue
            if len(secret) >= _SHORT:
                text = text.replace(secret, HIDDEN)
            else:
                text = re.sub(rf"((?<=[='\">])|(?<=: )){re.escape(secret)}(?!\w)", HIDDEN, text)
        return self._hide_beginnings(text) if CUT in text else text

    def _hide_beginnings(self, text: str) -> str:
        """Hide the beginnings of secrets that were cut off."""
        pieces = text.split(CUT)
        for index, piece in enumerate(pieces[:-1]):
            likely = [secret for secret in [*self.values] if secret[:3] in piece]
            if size := max((_overlap(piece, secret) for secret in likely), default=0):
                pieces[index] = piece[:-size] + HIDDEN
        return CUT.join(pieces)


# Unchanged, and as encoded in a URL, in HTML, in JSON and by Python.
_WAYS_TO_WRITE: list[Callable[[str], str]] = [
    str,
    quote,
    quote_plus,
    html.escape,
    lambda text: quote(text, safe=""),
    lambda text: json.dumps(text)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: repr(f"'\"{text}")[4:-1],  # with both quotation marks, repr escapes one
    lambda text: html.escape(text).replace("&#x27;", "&#39;"),  # as in Jinja
    lambda text: repr(text.encode("latin-1", "backslashreplace"))[2:-1],
    lambda text: repr(text.encode("utf-8", "backslashreplace"))[2:-1],
]


def _overlap(text: str, secret: str) -> int:
    """Return how many characters of the secret's beginning end the text; 0 if fewer than 3."""
    end = text[-8:]
    found = secret.rfind(end) if end else -1
    while found >= 0:
        if text.endswith(secret[: found + len(end)]):
            return found + len(end)
        found = secret.rfind(end, 0, found + len(end) - 1)
    sizes = range(min(7, len(secret) - 1), 2, -1)
    return next((size for size in sizes if text.endswith(secret[:size])), 0)
