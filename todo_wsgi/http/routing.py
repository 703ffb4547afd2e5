"""Routing: from method and path to a handler. `application.py` has the table of routes."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple
from wsgiref.types import WSGIApplication

from todo_wsgi.http.errors import MethodNotAllowed, NotFound
from todo_wsgi.http.request import INTEGER

# Called with the request, the database, and the number in the path if the route has one.
Handler = Callable[..., WSGIApplication]


class Route(NamedTuple):
    """One line of the table: `handler` answers a request with `method` for `path`.

    `{id}` in the path stands for an integer, which the handler gets as its last argument.
    """

    method: str
    path: str
    handler: Handler


def match(routes: Iterable[Route], method: str, path: str) -> tuple[Handler, list[int]]:
    """Return the handler of the route for `method` and `path`, and the integers in the path.

    Raises NotFound if no route has the path, MethodNotAllowed if some have it, but not for this
    method. HEAD works wherever GET does (RFC 9110, 9.3.2); the response leaves out the body.
    """
    wanted = "GET" if method == "HEAD" else method
    allowed = set()
    for route in routes:
        if matched := _compile(route.path).fullmatch(path):
            if route.method == wanted:
                return route.handler, [int(number) for number in matched.groups()]
            allowed |= {"GET", "HEAD"} if route.method == "GET" else {route.method}
    if not allowed:
        raise NotFound
    raise MethodNotAllowed(allowed)


@cache
def _compile(path: str) -> re.Pattern[str]:
    """Return the pattern of a route's path, with a group for each `{id}`."""
    return re.compile(re.escape(path).replace(r"\{id\}", f"({INTEGER})"))
