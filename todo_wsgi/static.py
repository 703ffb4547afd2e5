"""The style sheet and the icon: files of their own, which a browser keeps.

Their links end in a hash of the content (`/style.css?v=...`). So a browser never has to ask for
them again, and yet a new style sheet is used at once: it has another link.
"""

import hashlib

from todo_wsgi.resources import read_resource
from todo_wsgi.response import Response

_A_YEAR = "public, max-age=31536000, immutable"  # in seconds; RFC 8246


class StaticFile:
    """A file of the folder `static/`: `path` where it is served, `url` for links to it.

    `response` is the answer that sends it.
    """

    def __init__(self, name: str, content_type: str) -> None:
        content = read_resource(f"static/{name}")
        version = hashlib.sha256(content).hexdigest()[:16]
        self.path = f"/{name}"
        self.url = f"{self.path}?v={version}"
        self.response = Response(
            content, content_type=content_type, cache_control=_A_YEAR, etag=version
        )


STYLE = StaticFile("style.css", "text/css; charset=utf-8")
ICON = StaticFile("icon.svg", "image/svg+xml")
