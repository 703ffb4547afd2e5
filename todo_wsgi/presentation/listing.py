"""Which todos a page lists: the filter, and where in the list the page starts.

The page's address holds it, so that it can be bookmarked, and so do the page's forms, so that an
action leads back to the page that it came from.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from todo_wsgi.http.errors import NotFound
from todo_wsgi.http.request import read_integer
from todo_wsgi.storage.models import FILTERS


class Listing(NamedTuple):
    """The filter, one of `models.FILTERS`, and the place where the page starts (None: the top)."""

    show: str = "all"
    start: int | None = None

    def address(self, path: str = "/", /, *, row: int | None = None, **event: object) -> str:
        """Return the address of the page, with the fragment of the todo `row` if one is given.

        With another `path`, the address is that of a page that links back to this one. `event` says
        what has just happened, as one more field of the query, like `added=7`; None is left out.
        """
        fields = {"show": None if self.show == "all" else self.show, "from": self.start, **event}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        return path + (f"?{query}" if query else "") + (f"#todo-{row}" if row is not None else "")


def read_listing(fields: Mapping[str, str]) -> Listing:
    """Return the listing that the fields `show` and `from` of a query or a form name.

    An empty field counts as missing. Raises NotFound if there is no such listing.
    """
    show, given = fields.get("show") or "all", fields.get("from")
    start = read_integer(given) if given else None
    if show not in FILTERS or (given and start is None):
        raise NotFound
    return Listing(show, start)
