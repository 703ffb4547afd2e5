"""What a visitor can do: one function for each, from a request to a response.

They are the C of MVC (Flask and Django call them views): they read the request, ask or tell
`models.py`, and choose the page. `Application.respond` calls them, and makes pages of the errors
that they let through: an HTTPError of the request, an sqlite3.Error of the database.
"""

from todo_wsgi import models, pages
from todo_wsgi.db import Database
from todo_wsgi.request import Request
from todo_wsgi.response import TEXT, Response, redirect
from todo_wsgi.static import ICON, STYLE


def show_todos(request: Request, database: Database) -> Response:
    """GET /: the list, newest first."""
    return pages.todos_page(models.list_todos(database.connection()))


def create_todo(request: Request, database: Database) -> Response:
    """POST /: add the todo of the field `text`, then send the browser to the list.

    A text that cannot be a todo comes back in the form, with the reason.
    """
    typed = request.form.get("text", "")
    connection = database.connection()
    try:
        models.insert_todo(connection, models.clean_text(typed))
    except models.InvalidText as reason:
        return pages.todos_page(models.list_todos(connection), text=typed, problem=str(reason))
    return redirect("/")


def check_health(request: Request, database: Database) -> Response:
    """GET /healthz: "ok" for a monitor, if the database can be read; else it gets the 503."""
    models.check_readable(database.connection())
    return Response("ok", content_type=TEXT)


def send_style(request: Request, database: Database) -> Response:
    """GET /style-....css: the style sheet, for browsers to keep."""
    return STYLE.response


def send_icon(request: Request, database: Database) -> Response:
    """GET /icon-....svg: the icon, for browsers to keep."""
    return ICON.response
