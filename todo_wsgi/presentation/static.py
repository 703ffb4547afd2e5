"""The style sheet, the icons and the manifest: files of their own, which browsers cache.

Their addresses contain a hash of their content. So a browser never has to ask for one again, and
yet uses a new style sheet at once, since that has another address.
"""

import hashlib
from pathlib import PurePath

from todo_wsgi.http.response import Response
from todo_wsgi.storage.resources import read_resource

_FOR_A_YEAR = "max-age=31536000, immutable"  # in seconds (RFC 8246)


class StaticFile:
    """The file `name` of the folder `static/`: `path` is its address, `response` its content.

    Where the content has the name of one of the `others`, like "/icon.svg", it gets the address.
    """

    def __init__(self, name: str, content_type: str, *others: "StaticFile") -> None:
        self.name: str = name
        content = read_resource(f"static/{name}")
        for other in others:
            content = content.replace(f"/{other.name}".encode(), other.path.encode())
        version = hashlib.sha256(content).hexdigest()[:16]
        self.path: str = "/{0.stem}-{1}{0.suffix}".format(PurePath(name), version)
        self.response = Response(content, content_type=content_type, cache_control=_FOR_A_YEAR)

    def send(self, *_: object) -> Response:
        """GET /style-....css: the file, whatever else is in the request."""
        return self.response


STYLE = StaticFile("style.css", "text/css; charset=utf-8")
ICON = StaticFile("icon.svg", "image/svg+xml")
# For home screens: without round corners, since each system cuts the icon to its own shape.
HOME, LARGE = (StaticFile(f"home-{size}.png", "image/png") for size in (192, 512))
MANIFEST = StaticFile("manifest.webmanifest", "application/manifest+json", ICON, HOME, LARGE)
FILES = [STYLE, ICON, HOME, LARGE, MANIFEST]
