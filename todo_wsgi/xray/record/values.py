"""Values as text, without running any of the application's code, and without its secrets.

`describe` creates the text while recording, since a value may change afterwards. `Secrets` hides
passwords, credentials and cookies in what was recorded before it is told.
"""

import base64
import html
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MethodType, NoneType
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, unquote_to_bytes
from uuid import UUID
from zoneinfo import ZoneInfo

from todo_wsgi.xray.record.source import Line

MAX_TEXT = 200  # characters of one text
MAX_ITEMS = 5  # of a list, attributes of an object
MAX_DEPTH = 3  # of nested lists
MAX_SEARCHED = 100  # items of a list that are searched for secrets
MAX_BODY_SEARCHED = 64_000  # bytes
CUT = "…"  # marks an omission
HIDDEN = "[hidden]"

# Names of fields, headers, arguments and variables with secret values.
_SECRET_NAME = re.compile(
    "passw|passphrase|passcode|pwd|pwhash|(^|_)hash|secret|token|credential|auth(?!or)|cookie"
    "|session|csrf|xsrf|jwt|(api|access|private).?key|(^|[^a-z])(pass|pw|pin|otp|sid)($|[^a-z])",
    re.IGNORECASE,
)
# Password hashes as Werkzeug, Django, bcrypt and Argon2 write them, and signed data of Django.
_SECRET = re.compile(
    r"(scrypt|pbkdf2|argon2|bcrypt)[\w:]*\$[\w$./+=,:-]+|\$(2\w|argon2\w*)\$[\w$./+=,-]+"
    r"|(?<![\w.-])[\w.-]++:\w{6}:[\w-]{43}"
)


def cut(text: str, length: int = MAX_TEXT) -> str:
    """Return the text, or its beginning if it is longer than `length` characters."""
    return text if len(text) <= length else text[:length] + CUT


def describe(value: object, depth: int = 0) -> str:
    """Return the `repr` of the value, cut where it is long.

    Of an object, show the attributes that it stores if they are few, otherwise only the name of its
    class: calling its own `__repr__` would run the application's code.
    """
    kind = type(value)
    if kind in _PLAIN and type(getattr(value, "tzinfo", None)) in _ZONES:
        return repr(value)
    if issubclass(kind, str):
        # Call the methods of `str` itself, even if the subclass overrides them.
        text = str.__getitem__(value, slice(MAX_TEXT))  # type: ignore[index]
        return repr(text if str.__len__(value) <= MAX_TEXT else text + CUT)  # type: ignore[arg-type]
    if kind in (bytes, bytearray):
        shown = repr(bytes(value[:MAX_TEXT]))  # type: ignore[index]
        return shown if len(value) <= MAX_TEXT else shown[:-1] + CUT + shown[-1]  # type: ignore[arg-type]
    if kind in (FunctionType, MethodType):
        return str(value.__qualname__)  # type: ignore[attr-defined]
    if issubclass(kind, type):
        return str(type.__getattribute__(value, "__qualname__"))
    if issubclass(kind, Enum):
        return f"{kind.__name__}.{object.__getattribute__(value, '_name_')}"
    if issubclass(kind, BaseException):
        return describe_error(value)  # type: ignore[arg-type]
    items = _describe_items(value, kind, depth + 1) if depth < MAX_DEPTH else None
    return f"<{kind.__qualname__}>" if items is None else items


# Types of Python's own whose `repr` runs no other code, and time zones whose does not either.
_PLAIN = {NoneType, bool, int, float, datetime, date, time, timedelta}
_PLAIN |= {Decimal, UUID, type(Path())}
_DATA = {*_PLAIN, str, bytes, list, tuple, set}
_ZONES = (NoneType, timezone, ZoneInfo)


def _describe_items(value: Any, kind: type, depth: int) -> str | None:
    """Return the first items of a collection or object, described, or None if it has none."""
    before, after = _BRACKETS.get(kind, (f"{kind.__name__}(", ")"))
    if kind not in _BRACKETS:
        value = _attributes(value, kind)
    if value is None:
        return None
    first = islice(value.items() if kind is dict else value, MAX_ITEMS)
    if kind is dict:
        texts = [f"{describe(key, depth)}: {describe(item, depth)}" for key, item in first]
    elif kind in _BRACKETS:
        texts = [describe(item, depth) for item in first]
    else:
        texts = [f"{name}={describe(item, depth)}" for name, item in first]
    if len(value) > MAX_ITEMS:
        texts.append(f"{CUT} {len(value)} in all")
    elif kind is tuple and len(value) == 1:
        after = ",)"
    return f"{before}{', '.join(texts)}{after}"


_BRACKETS: dict[type, Any] = {list: "[]", tuple: "()", dict: "{}", set: "{}"}


def _attributes(value: Any, kind: type) -> list[tuple[str, Any]] | None:
    """Return the columns of a row, or the fields or public attributes of an object, if shown.

    A plain object with many attributes, or with others than texts, numbers and lists, shows none:
    it is a machine rather than data.
    """
    if kind is sqlite3.Row:
        return list(zip(value.keys(), tuple(value), strict=True))
    if issubclass(kind, tuple):
        names = vars(kind).get("_fields")
        return list(zip(names, tuple.__iter__(value), strict=False)) if names else None
    slot = next((vars(c)["__dict__"] for c in kind.__mro__ if "__dict__" in vars(c)), None)
    if type(slot) is not GetSetDescriptorType or issubclass(kind, type):  # it may be a property
        return None
    found = [(n, v) for n, v in dict.items(slot.__get__(value)) if type(n) is str and n[:1] != "_"]
    is_data = len(found) <= MAX_ITEMS and all(type(item) in _DATA for _, item in found)
    return found if found and (is_data or "__dataclass_fields__" in vars(kind)) else None


def describe_error(error: BaseException) -> str:
    """Return the `repr` of an exception, such as "ValueError('too long')"."""
    arguments = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    return f"{type(error).__qualname__}({', '.join(map(describe, arguments))})"


def show_bytes(data: bytes) -> str:
    """Decode bytes as UTF-8, with escapes such as `\\xff` for invalid bytes."""
    return data.decode("utf-8", "backslashreplace")


class Record:
    """Base of what a trace consists of: `Secrets.hide` hides the secrets in its attributes."""


class Secrets:
    """The secrets of one request, by value, to hide them wherever they appear in its trace."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self._written: list[str] = []  # in all forms in which they may appear; the longest first

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        """Hide the value if its name marks it as secret, and any secrets within it."""
        is_secret = _is_secret(name)
        kind = type(value)
        looks_secret = kind is str and _SECRET.fullmatch(value[:1000])
        if looks_secret or (is_secret and kind in (str, bytes, int, float)):
            self._hide(value)
        elif depth < MAX_DEPTH and kind not in _PLAIN:
            items = value.items() if kind is dict else _attributes(value, kind) or ()
            if kind in (list, tuple):
                items = (("", item) for item in value)
            for key, item in islice(items, MAX_SEARCHED):
                inner = key if type(key) is str else ""
                self.add(f"{name} {inner}" if is_secret else inner, item, depth + 1)

    def add_header(self, name: str, value: str) -> None:
        """Hide the secrets in a header: credentials (RFC 9110, 11.6), cookies, URLs."""
        name = name.lower()
        if "authorization" in name:
            scheme, _, credentials = value.strip().partition(" ")
            self._hide(credentials or scheme)
            for secret in re.findall('="?([^",]+)', credentials):
                self._hide(secret)
            if scheme.lower() == "basic":  # user name and password (RFC 7617)
                with suppress(ValueError):
                    self._hide(base64.b64decode(credentials).partition(b":")[2])
        elif name in ("cookie", "set-cookie"):
            self._hide(value)
            for pair in value.split(";")[: 1 if name == "set-cookie" else None]:
                self._hide_encoded(pair.partition("=")[2].strip(' "'))
        else:
            self.add(name, value)
            if "?" in value or "@" in value:  # a URL, as in Referer or Location
                self.add_form(value.partition("?")[2].partition("#")[0])
                if found := re.search("//([^/?#]*)@", value):
                    self._hide(found[1].partition(":")[2])

    def add_body(self, content_type: str, body: bytes) -> None:
        """Hide the secret fields at the beginning of a form, or of JSON or HTML."""
        body = body[:MAX_BODY_SEARCHED]
        boundary = re.search('^multipart/.*boundary="?([^";,]+)', content_type)
        if boundary:
            for part in body.split(b"--" + boundary[1].encode("latin-1", "replace")):
                head, _, content = part.partition(b"\r\n\r\n")
                if field := re.search(rb'\bname="?([^";\r\n]*)', head):
                    self.add(show_bytes(field[1]), content.removesuffix(b"\r\n"))
        elif "json" in content_type:
            with suppress(ValueError, RecursionError):
                self.add("", json.loads(body))
            # Its end may be missing. So look for the values also as they are written.
            written = r'"([^"]{1,100})"\s*:\s*("[^"]+|[\d.]+)'
            for name, value in re.findall(written, show_bytes(body)):
                if _is_secret(name):
                    self._hide(value.strip('"'))
        elif "html" in content_type:
            for tag in re.findall("<(?:input|meta)[^<>]*>", show_bytes(body)):
                found = re.findall(r"""\b(name|value|content)=(["'])(.*?)\2""", tag)
                given = {name: html.unescape(value) for name, _, value in found}
                self.add(given.get("name", ""), given.get("value") or given.get("content"))
        else:
            self.add_form(show_bytes(body))

    def add_form(self, encoded: str) -> None:
        """Hide the secret fields of `a=1&b=2`, in a body or after the "?" of a URL."""
        for name, value in re.findall("(?:^|&)([^&=]{1,100})=([^&]+)", encoded):
            if _is_secret(unquote_plus(name) if "%" in name else name):
                self._hide_encoded(value.rstrip())

    def _hide_encoded(self, value: str) -> None:
        """Hide a value that may be percent-encoded, also decoded."""
        self._hide(value)
        if "%" in value or "+" in value:
            self._hide(unquote_to_bytes(value.replace("+", " ")))

    def _hide(self, value: object) -> None:
        if isinstance(value, bytes):  # an application may decode it either way
            self._hide(show_bytes(value))
            value = value.decode("latin-1")
        if text := str(value).strip():
            self.values.add(text)

    def hide(self, value: Any, done: dict[int, Any] | None = None) -> Any:
        """Return the value with all secrets hidden, recursively in what a trace consists of."""
        if done is None:
            done = {}  # the records that are hidden, by identity
            written = {form for value in [*self.values] for form in _forms(value)}
            self._written = sorted(written, key=len, reverse=True)  # one may contain another
        kind = type(value)
        if isinstance(value, str):
            return self._hide_in_text(str(value))
        if kind is bytes:
            text = self._hide_in_text(value.decode("utf-8", "surrogateescape"))
            return text.encode("utf-8", "surrogateescape")
        if kind in (list, tuple):
            return kind(self.hide(item, done) for item in value)
        if kind is dict:
            return {name: self.hide(item, done) for name, item in value.items()}
        if kind is Line:
            return value._replace(text=self._hide_in_text(value.code))
        if isinstance(value, Record) and id(value) not in done:
            hidden = done[id(value)] = copy(value)
            for name, item in vars(value).items():
                setattr(hidden, name, self.hide(item, done))
        return done.get(id(value), value)

    def _hide_in_text(self, text: str) -> str:
        for secret in self._written:
            beginning = secret[:8]
            if beginning not in text:
                continue
            if len(secret) < 4 or (len(secret) < 8 and secret.isalpha()):
                # Other texts may contain it by chance: hide it only as a whole value.
                word = re.escape(secret)
                whole = rf"""((?<=[='"])|(?<=":)|(?<=: )){word}(?!\w)|(?m:^{word}(?=\r?$))"""
                text = re.sub(whole, HIDDEN, text)
            else:
                cut_off = rf"{re.escape(beginning)}[^\s{CUT}]*(?={CUT})"
                text = re.sub(cut_off, HIDDEN, text.replace(secret, HIDDEN))
        return _SECRET.sub(HIDDEN, text)


@lru_cache(10_000)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name[:MAX_TEXT]))


@lru_cache(10_000)
def _forms(text: str) -> set[str]:
    """Return the forms in which a secret may appear, up to twice encoded."""
    if re.fullmatch("[a-zA-Z0-9_.-]+", text):
        return {text}
    once = {way(text) for way in _WAYS_TO_WRITE}
    return {way(form) for form in once for way in _WAYS_TO_WRITE}


# Unchanged, and as encoded in a URL, in HTML, in JSON and by Python.
_WAYS_TO_WRITE: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, errors="replace"),
    lambda text: quote_plus(text, errors="replace"),
    html.escape,
    lambda text: html.escape(text).replace("&#x27;", "&#39;"),  # as in Jinja
    lambda text: json.dumps(text)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode("utf-8", "backslashreplace"))[2:-1],
    lambda text: repr(text.encode("latin-1", "backslashreplace"))[2:-1],
    lambda text: text.replace("'", "\\'"),  # beside a double quotation mark
]
