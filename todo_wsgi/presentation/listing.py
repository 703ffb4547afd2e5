"""Which todos a page lists: the filter, the words to find, and where in the list it starts.

The page's address holds it, so that it can be bookmarked, and so do the page's forms, so that an
action leads back to the page that it came from.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from todo_wsgi.http.errors import NotFound
from todo_wsgi.http.request import read_integer
from todo_wsgi.storage.models import FILTERS, MAX_TEXT_LENGTH


class Listing(NamedTuple):
    """The filter, one of `models.FILTERS`, the place of the first todo (None: the top), and words.

    Each of the `words` occurs in the text of a todo that is listed.
    """

    show: str = "all"
    start: int | None = None
    words: str = ""

    def address(self, path: str = "/", /, *, fragment: str = "", **event: object) -> str:
        """Return the address of the page, with the id of an element in it as its fragment.

        With another `path`, the address is that of a page that links back to this one. `event` says
        what has just happened, as one more field of the query, like `added=7`; None is left out.
        """
        show, words = None if self.show == "all" else self.show, self.words or None
        fields = {"show": show, "from": self.start, "q": words, **event}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        return path + (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")


def read_listing(fields: Mapping[str, str]) -> Listing:
    """Return the listing that the fields `show`, `from` and `q` of a query or a form name.

    An empty field counts as missing. What `q` has beyond the length of a todo is ignored. Raises
    NotFound if there is no such listing.
    """
    show, given = fields.get("show") or "all", fields.get("from")
    start = read_integer(given) if given else None
    if show not in FILTERS or (given and start is None):
        raise NotFound
    return Listing(show, start, " ".join(fields.get("q", "")[:MAX_TEXT_LENGTH].split()))
