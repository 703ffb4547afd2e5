"""A todo list on the web: a hand-written WSGI application over sqlite3 and string templates.

This is the way of one request; read the modules in this order:

    serve.py        reads the settings, makes the application, hands it to waitress
    application.py  the routes, and the callable that the server calls for each request
    request.py      what came in: the environ as method, path and form
    routing.py      method and path to a handler, or 404 or 405
    handlers.py     one function for each thing a visitor can do
    models.py       one function for each SQL statement
    db.py           connections to the database file; the schema (init_db.sql) and its upgrades
    pages.py        values into templates/, and so into HTML
    templating.py   templates with $holes, filled and escaped
    static.py       the style sheet and the icon (static/)
    response.py     what goes out: a finished answer
    errors.py       the errors that become an answer: 404, 405, 413 ...
    resources.py    where templates/, static/ and init_db.sql lie

Imports go down this list, never up.
"""

from typing import Any

from todo_wsgi.application import Application, create_app

__all__ = ["Application", "create_app"]


def __getattr__(name: str) -> Any:
    """Make `todo_wsgi.app` when it is first asked for (PEP 562).

    It is what `waitress-serve todo_wsgi:app` and its like serve. Importing the package alone
    opens no database.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app()
    return app
