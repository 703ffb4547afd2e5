"""The password of the list, which the browser sends with each request (HTTP Basic, RFC 7617).

The server has only a hash, which takes a fifth of a second to compute: that makes guessing slow.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b64decode
from collections.abc import Callable
from functools import partial

from todo_wsgi.http.errors import TooManyRequests, Unauthorized
from todo_wsgi.http.request import Request

_ASK = ("WWW-Authenticate", 'Basic realm="Todos", charset="UTF-8"')
_SCRYPT = {"n": 2**14, "r": 8, "p": 5, "dklen": 32}  # 16 MB; as OWASP's cheat sheet advises

Judge = Callable[[str, Callable[[], bool], bool], int | None]  # like that of storage/guesses.py


class Password:
    """The password with this salt and hash, which `read_hash` returned; `judge` counts guesses."""

    def __init__(self, salt: bytes, password_hash: bytes, judge: Judge) -> None:
        self._salt, self._password_hash, self._judge = salt, password_hash, judge
        # What was right, by a fast hash that means nothing without this key.
        self._key, self._known = secrets.token_bytes(), b""

    def check(self, request: Request) -> None:
        """Return if the request has the password, else raise Unauthorized or TooManyRequests."""
        given = _read_password(request.environ.get("HTTP_AUTHORIZATION", ""))
        digest = hashlib.blake2b(given, key=self._key).digest()
        if hmac.compare_digest(digest, self._known):
            return
        wait: int | None = 0
        if given:
            is_right = partial(self._is_right, given, digest)
            address = request.environ.get("REMOTE_ADDR", "")
            wait = self._judge(address, is_right, not self._known)
        if wait:
            raise TooManyRequests(headers=[("Retry-After", str(wait))])
        if wait is not None:
            raise Unauthorized(headers=[_ASK])

    def _is_right(self, given: bytes, digest: bytes) -> bool:
        if hmac.compare_digest(digest, self._known):  # another thread has checked it meanwhile
            return True
        is_right = hmac.compare_digest(_scrypt_password(given, self._salt), self._password_hash)
        self._known = digest if is_right else self._known
        return is_right


def _read_password(authorization: str) -> bytes:
    """Return the password in an Authorization header, whoever the user is, or b""."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        return b64decode(credentials).partition(b":")[2] if scheme.lower() == "basic" else b""
    except ValueError:
        return b""


def _scrypt_password(password: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(password, salt=salt, **_SCRYPT)


def hash_password(password: bytes) -> str:
    """Return a text by which the password can be checked, but not found out."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt_password(password, salt).hex()}"


def read_hash(text: str) -> tuple[bytes, bytes]:
    """Return the salt and the hash in a text from `hash_password`; ValueError for any other."""
    if found := re.fullmatch("scrypt:([0-9a-f]{32}):([0-9a-f]{64})", text):
        return bytes.fromhex(found[1]), bytes.fromhex(found[2])
    problem = "TODO_PASSWORD has to be a hash: set it to what `todo-wsgi --password` prints"
    raise ValueError(f"{problem}, or unset it")
