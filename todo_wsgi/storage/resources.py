"""The files of the project that are not Python: `templates/`, `static/` and `init_db.sql`.

In a clone they stand beside the package, where one sees them first. In an installed package they
are inside it, in `todo_wsgi/data/`, and so is serve.py (setup.py copies them).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "data"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


def read_resource(name: str) -> bytes:
    """Return the content of a file of the project; `name` is its path, like "templates/page.html".

    A missing file means a broken installation, and is an OSError.
    """
    return (FOLDER / name).read_bytes()
