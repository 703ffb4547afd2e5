"""A todo list on the web: a hand-written WSGI application over sqlite3 and string templates.

This is the way of one request. Read the modules in the order in which it meets them:

    application.py  the routes, and the callable that the server calls for each request
    request.py      what came in: the environ as method, path, query and form
    routing.py      method and path to a handler, or 404 or 405
    handlers.py     one function for each thing a visitor can do
    listing.py      which part of the list a page shows, as it stands in its address
    models.py       the SQL: one function for each thing that is asked or done
    db.py           the database file: connections to it, its version, and changes in it
    cache.py        pages that are kept, and how they stay right
    group_commit.py changes that wait for the disk together
    pages.py        which template (templates/) is filled with which values
    templating.py   templates with $placeholders, filled and escaped
    response.py     what goes out: a finished response

Beside its way:

    schema.py       the schema of the database (init_db.sql), and its upgrades
    static.py       the style sheet and the icon (static/)
    todotxt.py      the todo.txt format, for export and import
    errors.py       the errors that become a response: 404, 405, 413 ...
    resources.py    where templates/, static/ and init_db.sql are
    server.py       waitress, how it is set up and stopped; the hardest, so read it last
    processes.py    several such servers at one socket
    xray/           shows what happens to each request; nothing else knows of it

Storage (models.py, db.py) knows nothing of HTTP, and templating.py nothing of storage.
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
