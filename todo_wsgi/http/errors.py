"""The errors that become a response.

Code at any depth raises one of these, and `Application.respond` renders it as a page, in one place.
The detail is for the visitor: it says what to do.
"""

from collections.abc import Iterable
from http import HTTPStatus


class HTTPError(Exception):
    """A request that cannot be answered as asked. Raise one of the subclasses.

    `status` is the response's status (RFC 9110, 15), `detail` a text for the visitor, `headers`
    (name, value) pairs that this status needs besides the usual ones.
    """

    status: HTTPStatus
    detail: str

    def __init__(
        self, detail: str | None = None, *, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.detail = detail or self.detail
        self.headers = tuple(headers)
        super().__init__(self.detail)


class BadRequest(HTTPError):
    """The request cannot be understood (RFC 9110, 15.5.1)."""

    status = HTTPStatus.BAD_REQUEST


class Unauthorized(HTTPError):
    """The request lacks the password (RFC 9110, 15.5.2); `WWW-Authenticate` asks for it."""

    status = HTTPStatus.UNAUTHORIZED
    detail = "This list has a password: reload the page, and enter it with any user name."


class Forbidden(HTTPError):
    """A page of another site made the browser send this request (RFC 9110, 15.5.4)."""

    status = HTTPStatus.FORBIDDEN
    detail = "Another site sent this form, so nothing was changed. Use the form on the list."


class NotFound(HTTPError):
    """Nothing is at this path (RFC 9110, 15.5.5)."""

    status = HTTPStatus.NOT_FOUND
    detail = "There is nothing at this address. Check it for a typo, or go to the list."


class MethodNotAllowed(HTTPError):
    """The path exists, but not for this method (RFC 9110, 15.5.6).

    `allowed` are the methods it supports; the response lists them, sorted, in `Allow`.
    """

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allowed: Iterable[str]) -> None:
        allow = ", ".join(sorted(allowed))
        super().__init__(f"This address supports {allow} only.", headers=[("Allow", allow)])


class LengthRequired(HTTPError):
    """The request does not say how long its body is (RFC 9110, 15.5.12)."""

    status = HTTPStatus.LENGTH_REQUIRED
    detail = "The request does not say how long it is. Send it with a Content-Length."


class ContentTooLarge(HTTPError):
    """The request's body is larger than we read (RFC 9110, 15.5.14)."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    detail = (
        "This form is larger than the 64 KiB that this server accepts. "
        "Nothing was changed: shorten it and send it again."
    )


class UnsupportedMediaType(HTTPError):
    """The body is not a form as HTML sends it (RFC 9110, 15.5.16)."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    detail = "Send the form as application/x-www-form-urlencoded."


class MisdirectedRequest(HTTPError):
    """The request is for a host name that is not ours (RFC 9110, 15.5.20)."""

    status = HTTPStatus.MISDIRECTED_REQUEST


class TooManyRequests(HTTPError):
    """Too many wrong passwords (RFC 6585, 4); `Retry-After` says how long to wait."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class InternalServerError(HTTPError):
    """A bug of ours (RFC 9110, 15.6.1)."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = (
        "Something went wrong on our side; the server's log says what. "
        "Look at the list before you try again."
    )


class ServiceUnavailable(HTTPError):
    """The database cannot be used at the moment (RFC 9110, 15.6.4)."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    detail = (
        "The list cannot be reached at the moment. "
        "Try again in a few seconds, and check first whether your change is there."
    )

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers=[("Retry-After", "5")])  # seconds
