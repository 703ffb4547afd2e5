"""The password of the list, which the browser sends with each request (HTTP Basic, RFC 7617).

The server has only a hash, which takes a fifth of a second to compute: that makes guessing slow.
"""

import hashlib
import hmac
import re
import secrets
import unicodedata
from base64 import b64decode
from collections.abc import Callable
from functools import partial

from todo_wsgi.http.errors import TooManyRequests, Unauthorized
from todo_wsgi.http.request import Request

_ASK = ("WWW-Authenticate", 'Basic realm="Todos", charset="UTF-8"')
_SCRYPT = {"n": 2**14, "r": 8, "p": 5, "dklen": 32}  # 16 MB; as OWASP's cheat sheet advises

Judge = Callable[[str, Callable[[], bool], bool, bool], int | None]  # storage/guesses.py has one


class Password:
    """The password with this salt and hash, which `read_hash` returned; `judge` counts guesses.

    Who was right from an address is let in from there at once. Others have to wait for the judge,
    since an answer at once would tell them whether a guess was right, as often as they can ask.
    """

    def __init__(self, salt: bytes, password_hash: bytes, judge: Judge) -> None:
        self._salt, self._password_hash, self._judge = salt, password_hash, judge
        self._key = secrets.token_bytes()  # without it, the fast hashes below mean nothing
        self._known = b""  # that of the password, once somebody was right
        self._addresses: set[str] = set()  # from which somebody was right

    def check(self, request: Request) -> None:
        """Return if the request has the password, else raise Unauthorized or TooManyRequests."""
        given = _read_password(request.environ.get("HTTP_AUTHORIZATION", ""))
        digest = hashlib.blake2b(given, key=self._key).digest()
        address = request.environ.get("REMOTE_ADDR", "")
        is_new = address not in self._addresses
        if not is_new and hmac.compare_digest(digest, self._known):
            return
        is_right = partial(self._is_right, given, digest)
        wait = self._judge(address, is_right, is_new, not self._addresses) if given else 0
        if wait is None:
            self._addresses.add(address)
        elif wait:
            problem = f"There were wrong passwords. Wait {wait} s, then reload the page."
            raise TooManyRequests(problem, headers=[("Retry-After", str(wait))])
        else:
            raise Unauthorized(headers=[_ASK])

    def _is_right(self, given: bytes, digest: bytes) -> bool:
        if not self._known:
            if not hmac.compare_digest(_scrypt_password(given, self._salt), self._password_hash):
                return False
            self._known = digest
        return hmac.compare_digest(digest, self._known)


def _read_password(authorization: str) -> bytes:
    """Return the password in an Authorization header, whoever the user is, or b""."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return _normalize(b64decode(credentials).partition(b":")[2])
    except ValueError:
        return b""


def _normalize(password: bytes) -> bytes:
    """Return it with letter and accent in one, which systems differ in (RFC 8265, 4.2.2)."""
    text = password.decode(errors="surrogateescape")
    return unicodedata.normalize("NFC", text).encode(errors="surrogateescape")


def _scrypt_password(password: bytes, salt: bytes) -> bytes:
    # scrypt takes "a" and "a\0" for the same; SHA-256 does not.
    return hashlib.scrypt(hashlib.sha256(password).digest(), salt=salt, **_SCRYPT)


def hash_password(password: bytes) -> str:
    """Return a text by which the password can be checked, but not found out."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt_password(_normalize(password), salt).hex()}"


def read_hash(text: str) -> tuple[bytes, bytes]:
    """Return the salt and the hash in a text from `hash_password`; ValueError for any other."""
    if found := re.fullmatch("scrypt:([0-9a-f]{32}):([0-9a-f]{64})", text):
        return bytes.fromhex(found[1]), bytes.fromhex(found[2])
    problem = "TODO_PASSWORD has to be a hash: set it to what `todo-wsgi --password` prints"
    raise ValueError(f"{problem}, or unset it")
