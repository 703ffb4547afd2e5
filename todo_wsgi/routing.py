"""From method and path to the handler that answers.

`application.py` holds the table of routes; `match` looks a request up in it.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from todo_wsgi.db import Database
from todo_wsgi.errors import MethodNotAllowed, NotFound
from todo_wsgi.request import Request
from todo_wsgi.response import Response

Handler = Callable[[Request, Database], Response]


class Route(NamedTuple):
    """One line of the table: a request with `method` for `path` is answered by `handler`."""

    method: str
    path: str
    handler: Handler


def match(routes: Iterable[Route], method: str, path: str) -> Handler:
    """Return the handler of the route for `method` and `path`.

    Raises NotFound if no route has the path, MethodNotAllowed if some have it, but not for this
    method. HEAD is answered wherever GET is (RFC 9110, 9.3.2); the response leaves out the body.
    """
    handlers = {route.method: route.handler for route in routes if route.path == path}
    if not handlers:
        raise NotFound
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    if method not in handlers:
        raise MethodNotAllowed(handlers)
    return handlers[method]
