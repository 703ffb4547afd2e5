"""Where the files lie that are not Python: `templates/`, `static/` and `init_db.sql`.

In a checkout they are beside the package, where a visitor sees them first. An installed wheel
carries them inside it, as `todo_wsgi/project/` (see `package_dir` in setup.cfg).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CARRIED = _PACKAGE / "project"
_PROJECT = _CARRIED if _CARRIED.is_dir() else _PACKAGE.parent


def read_resource(name: str) -> bytes:
    """Return the content of a file of the project; `name` is its path, like "templates/page.html".

    A missing file is a broken installation, and an OSError.
    """
    return (_PROJECT / name).read_bytes()
