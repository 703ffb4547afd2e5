"""The style sheet and the icon: files of their own, which browsers cache.

Their addresses contain a hash of their content. So a browser never has to ask for one again, and
yet uses a new style sheet at once, since that has another address.
"""

import hashlib
from pathlib import PurePath

from todo_wsgi.http.response import Response
from todo_wsgi.storage.resources import read_resource

_FOR_A_YEAR = "public, max-age=31536000, immutable"  # in seconds (RFC 8246)


class StaticFile:
    """The file `name` of the folder `static/`: `path` is its address, `response` its content."""

    def __init__(self, name: str, content_type: str) -> None:
        content = read_resource(f"static/{name}")
        version = hashlib.sha256(content).hexdigest()[:16]
        self.path = "/{0.stem}-{1}{0.suffix}".format(PurePath(name), version)
        self.response = Response(content, content_type=content_type, cache_control=_FOR_A_YEAR)

    def send(self, *_: object) -> Response:
        """GET /style-....css: the file, whatever else is in the request."""
        return self.response


STYLE = StaticFile("style.css", "text/css; charset=utf-8")
ICON = StaticFile("icon.svg", "image/svg+xml")
