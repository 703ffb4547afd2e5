"""Who may ask: only by a name of this machine or of the list, and only with its password.

A page of another site can lead a host name of its own to 127.0.0.1 ("DNS rebinding"). To the
browser, what answers there belongs to that site, and the page may read and change it. It cannot do
so with an IP address, nor with a name that leads to this machine anyway.
"""

import ipaddress
import re
import socket
from collections.abc import Collection
from functools import lru_cache

from todo_wsgi.http.errors import BadRequest, MisdirectedRequest
from todo_wsgi.http.password import Password
from todo_wsgi.http.request import Request


class Admission:
    """Called with a `Request`, it returns if that may be answered, or else raises an HTTPError.

    `sites` are names of the list, from `read_sites`; `password` is its password, if it has one.
    Requests for `open_paths`, which tell nothing about the list, may always be answered.
    """

    def __init__(
        self, sites: Collection[str], password: Password | None, open_paths: Collection[str]
    ) -> None:
        machine = socket.gethostname().lower()
        alone = machine.partition(".")[0]
        self._names = {*sites, "localhost", machine, alone, f"{alone}.local"}
        self._password = password
        self._open_paths = open_paths
        self._check_host = lru_cache(1000)(self._check_name)  # keeps those that passed

    def __call__(self, request: Request) -> None:
        """Raise BadRequest, MisdirectedRequest, Unauthorized or TooManyRequests, or do nothing."""
        if request.path in self._open_paths:
            return
        if host := request.environ.get("HTTP_HOST", ""):
            self._check_host(host)
        elif request.environ["SERVER_PROTOCOL"] == "HTTP/1.1":  # RFC 9112, 3.2
            raise BadRequest("The request does not name a host. Send it with a Host header.")
        if self._password:
            self._password.check(request)

    def _check_name(self, host: str) -> None:
        name = re.sub(":[0-9]*$", "", host.lower()).removesuffix(".")
        if name in self._names or name.endswith(".localhost"):
            return
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            if not re.fullmatch("[a-z0-9._-]+", name):
                raise BadRequest(
                    "The Host header is not one host name. Send it with one."
                ) from None
            raise MisdirectedRequest(
                f"This list is not called {name}. If it should be, start it with --site {name} "
                f"or the variable TODO_SITE={name}; separate several names by commas."
            ) from None


def read_sites(text: str) -> set[str]:
    """Return the host names in `text`, separated by commas; ValueError if one is malformed."""
    sites = {name.strip().removesuffix(".") for name in text.lower().split(",")} - {""}
    if all(re.fullmatch("[a-z0-9._-]+", site) for site in sites):
        return sites
    raise ValueError(
        f"{text!r} is not a host name: set --site or TODO_SITE to a name like todo.example, "
        "or to several, separated by commas, but without https:// and ports"
    )
