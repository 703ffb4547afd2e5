"""A todo list on the web: a hand-written WSGI application over sqlite3 and string templates.

Three tiers, with MVC inside them and HTTP as the ground below. A folder is a tier; imports go down:

    application.py  the application tier: the table of routes, and the callable of WSGI
    handlers.py     one function for each thing a visitor can do: the controllers, the C of MVC
    presentation/   the presentation tier: pages and their parts, the views, the V
    storage/        the storage tier: todos and their SQL, the models, the M; the database file
    http/           the ground: request, routing, response, errors; who may ask
    server/         waitress, which calls the application; processes; the command line
    xray/           an instrument that watches a request; the application does not know of it

serve.py puts them together. README.md has the picture, and the order for a first reading.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todo_wsgi.application import Application

__version__ = "0.1.0"
__all__ = ["Application", "create_app"]


def __getattr__(name: str) -> Any:
    """Import `Application`, or make `app`, when somebody first asks for it (PEP 562).

    `waitress-serve todo_wsgi:app` and its like serve `app`. So importing the package opens no
    database, and takes no time: `__main__.py` can handle Ctrl-C at once.
    """
    if name == "Application":
        from todo_wsgi.application import Application

        return Application
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app()
    return app


def create_app(
    path: str | os.PathLike[str] | None = None,
    *,
    mode: str = "rwc",
    sites: set[str] | None = None,
    debug: bool = False,
) -> Application:
    """Return the application on the database file at `path`, or in the cluster whose URL it is.

    Without a path it is that of the environment variable TODO_DB, or else `todos.db` in the current
    folder. A missing file is created, unless `mode` is "rw". Raises DatabaseUnusable if that fails,
    or if its table `todos` is not ours. `sites` are names of the list, by default those in
    TODO_SITE; TODO_PASSWORD is the hash of its password. ValueError if either is malformed.
    `debug` is for development: error pages then have the traceback.
    """
    import atexit
    from functools import partial

    from todo_wsgi.application import Application
    from todo_wsgi.http.admission import Admission, read_sites
    from todo_wsgi.http.password import Password, read_hash
    from todo_wsgi.presentation.static import ICON, STYLE
    from todo_wsgi.storage import guesses

    if sites is None:
        sites = read_sites(os.environ.get("TODO_SITE", ""))
    database = _open(path or os.environ.get("TODO_DB") or "todos.db", mode)
    atexit.register(database.close)  # under whatever server
    database.check()
    password = None
    if (hashed := os.environ.get("TODO_PASSWORD")) is not None:
        judge = partial(guesses.judge, database.guesses)
        password = Password(*read_hash(hashed), judge)
    # They tell nothing about the list. Monitors ask by any name, and error pages need their style.
    open_paths = {"/healthz", STYLE.path, ICON.path}
    return Application(database, Admission(sites, password, open_paths), debug=debug)


def _open(path: str | os.PathLike[str], mode: str) -> Any:
    """Return the list in the file at `path`, or in the cluster whose URL it is."""
    if str(path).startswith(("rqlite:", "rqlites:")):
        from todo_wsgi.storage.rqlite import Cluster

        return Cluster(str(path))
    from todo_wsgi.storage.database import Database

    return Database(path, mode=mode)
