"""A todo list on the web: a hand-written WSGI application over sqlite3 and string templates.

Three tiers, with MVC inside them and HTTP as the ground below. A folder is a tier; imports go down:

    application.py  the application tier: the table of routes, and the callable of WSGI
    handlers.py     one function for each thing a visitor can do: the controllers, the C of MVC
    presentation/   the presentation tier: pages and their parts, the views, the V
    storage/        the storage tier: todos and their SQL, the models, the M; the database file
    http/           the ground: request, routing, response, errors
    server/         waitress, which calls the application; processes; the command line
    xray/           an instrument that watches a request; the application does not know of it

serve.py puts them together. README.md has the picture, and the order for a first reading.
"""

from typing import Any

from todo_wsgi.application import Application, create_app

__version__ = "0.1.0"
__all__ = ["Application", "create_app"]


def __getattr__(name: str) -> Any:
    """Make `todo_wsgi.app` when somebody first asks for it (PEP 562).

    `waitress-serve todo_wsgi:app` and its like serve it. Importing the package opens no database.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app()
    return app
