"""Where the files are that are not Python: `templates/`, `static/` and `init_db.sql`.

In a clone they are beside the package, where one sees them first. When the package is installed
from a wheel, they are inside it, in `todo_wsgi/data/` (see `package_dir` in setup.cfg).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "data"
_FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


def read_resource(name: str) -> bytes:
    """Return the content of a file of the project; `name` is its path, like "templates/page.html".

    A missing file is a broken installation, and an OSError.
    """
    return (_FOLDER / name).read_bytes()
