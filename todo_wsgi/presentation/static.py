"""The style sheet and the icon: files of their own, which a browser keeps.

Their addresses contain a hash of their content. So a browser never has to ask for one again, and
yet a new style sheet is used at once: it has another address.
"""

import hashlib
from pathlib import PurePath

from todo_wsgi.http.response import Response
from todo_wsgi.storage.resources import read_resource

_KEEP_IT = "public, max-age=31536000, immutable"  # a year, in seconds (RFC 8246)


class StaticFile:
    """The file `name` of the folder `static/`: `path` is its address, `response` sends it."""

    def __init__(self, name: str, content_type: str) -> None:
        content = read_resource(f"static/{name}")
        version = hashlib.sha256(content).hexdigest()[:16]
        self.path = "/{0.stem}-{1}{0.suffix}".format(PurePath(name), version)
        self.response = Response(content, content_type=content_type, cache_control=_KEEP_IT)


STYLE = StaticFile("style.css", "text/css; charset=utf-8")
ICON = StaticFile("icon.svg", "image/svg+xml")
