"""What a visitor can do: one function for each, from a request to a response.

They are the C of MVC (Flask and Django call them views): they read the request, ask or tell
`models.py`, and choose the page. `Application.respond` calls them, and makes pages of the errors
that they let through: an HTTPError of the request, an sqlite3.Error of the database.

Whatever changes the list answers with a redirect to it. The address there says what was done, as
`?completed=7` or `?deleted_at=...`; the page tells it if the database does not say otherwise.
"""

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from gzip import GzipFile
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import Any

from todo_wsgi.http.errors import BadRequest, NotFound, ServiceUnavailable
from todo_wsgi.http.request import Request, read_integer
from todo_wsgi.http.response import GZIP, TEXT, VARY, FileResponse, Response, redirect, takes_gzip
from todo_wsgi.presentation import pages
from todo_wsgi.presentation.listing import Listing, read_listing
from todo_wsgi.presentation.pages import Event
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.presentation.todotxt import InvalidLine, format_todo, parse_todos
from todo_wsgi.storage import models
from todo_wsgi.storage.database import Database
from todo_wsgi.storage.models import Todo

_GONE = "This todo is gone: somebody may have deleted it. Nothing was changed."
_EXPORTING = threading.Lock()
_KEPT_IN_MEMORY = 1024 * 1024  # bytes; a longer export waits in a temporary file


# The list


def show_todos(request: Request, database: Database) -> Response:
    """GET /: the list; the address says which part of it, and what has just happened."""
    listing = read_listing(request.query)
    if request.query.keys() <= {"show", "from"}:  # nothing has: this is what many ask for
        return database.cached(listing, lambda: _list_page(database, listing))
    return _list_page(database, listing, request.query)


def create_todo(request: Request, database: Database) -> Response:
    """POST /: add the todo of the field `text`, then send the browser to the list.

    A text that cannot be a todo comes back in the form, with the reason.
    """
    listing = read_listing(request.form)
    typed = request.form.get("text", "")
    try:
        todo_id = database.write(models.insert_todo, models.clean_text(typed))
    except models.InvalidText as reason:
        return _list_page(database, listing, text=typed, problem=str(reason))
    # The new todo is on top, and not among the completed ones.
    show = "all" if listing.show == "completed" else listing.show
    return redirect(Listing(show).address(added=todo_id))


def _list_page(
    database: Database,
    listing: Listing,
    query: Mapping[str, str] = MappingProxyType({}),
    *,
    text: str = "",
    problem: str = "",
) -> Response:
    one_more = models.PAGE_SIZE + 1  # than a page shows, to know whether there are more
    with models.snapshot(database.connection()) as connection:
        todos = models.list_todos(connection, listing.show, listing.start, one_more)
        above = models.list_todos_above(connection, listing.show, listing.start, one_more)
        left = models.count_active(connection)
        has_completed = bool(models.list_todos(connection, "completed", None, 1))
        event = _read_event(connection, query)
    return pages.list_page(
        listing,
        todos,
        above,
        left=left,
        has_completed=has_completed,
        event=event,
        text=text,
        problem=problem,
    )


def _read_event(connection: sqlite3.Connection, query: Mapping[str, str]) -> Event | None:
    """Return what has just happened: the address says what, and the database to which todos."""
    for name, field, find in [
        ("deleted", "deleted_at", models.find_deleted_at),
        ("completed", "completed_at", models.find_completed_at),
    ]:
        if time := query.get(field):
            todos = find(connection, time)
            return Event(name, todos, undo=(field, time)) if todos else None
    for name in ("added", "completed", "reopened", "saved", "moved", "restored"):
        todo_id = read_integer(query.get(name, ""))
        if todo_id is not None and (todo := models.find_todo(connection, todo_id)):
            # When the page is loaded again, somebody may have changed the state.
            told = {"completed": True, "reopened": False}.get(name, todo.is_completed)
            return Event(name, [todo]) if told == todo.is_completed else None
    for name in ("imported", "undone"):
        if query.get(name) == "all":
            return Event(name, [])
    return None


# One todo


def show_todo(request: Request, database: Database, todo_id: int) -> Response:
    """GET /todos/7: the form that edits it."""
    listing = read_listing(request.query)
    return pages.todo_page(listing, _found(models.find_todo(database.connection(), todo_id)))


def edit_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7: change its text to that of the field `text`."""
    listing = read_listing(request.form)
    typed = request.form.get("text", "")
    try:
        todo = _found(database.write(models.edit_todo, todo_id, models.clean_text(typed)))
    except models.InvalidText as reason:
        todo = _found(models.find_todo(database.connection(), todo_id))
        return pages.todo_page(listing, todo, text=typed, problem=str(reason))
    return _redirect_to_row(database, listing, todo, saved=todo_id)


def complete_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/complete: complete it."""
    listing = read_listing(request.form)
    todo = _found(database.write(models.complete_todo, todo_id))
    return _redirect_to_row(database, listing, todo, completed=todo_id)


def reopen_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/reopen: make it active again."""
    listing = read_listing(request.form)
    todo = _found(database.write(models.reopen_todo, todo_id))
    return _redirect_to_row(database, listing, todo, reopened=todo_id)


def move_todo_up(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/up: move it up past the todo that the field `past` names."""
    return _move_todo(request, database, todo_id, up=True)


def move_todo_down(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/down: move it down past the todo that the field `past` names."""
    return _move_todo(request, database, todo_id, up=False)


def _move_todo(request: Request, database: Database, todo_id: int, *, up: bool) -> Response:
    listing = read_listing(request.form)
    past = read_integer(request.form.get("past", ""))
    if past is None:
        raise BadRequest("The field `past` has to be the number of the todo to move this one past.")
    todo = database.write(models.move_todo, todo_id, past, up=up)
    if todo is None:
        raise NotFound("This todo, or the one to move it past, is gone. Nothing was changed.")
    return _redirect_to_row(database, listing, todo, moved=todo_id)


def delete_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/delete: delete it; the next page offers to undo that."""
    listing = read_listing(request.form)
    time = database.write(models.delete_todo, todo_id)
    if time is None:
        raise NotFound(_GONE)
    return _redirect_to_page(database, listing, deleted_at=time)


def _found(todo: Todo | None) -> Todo:
    if todo is None:
        raise NotFound(_GONE)
    return todo


def _redirect_to_row(database: Database, listing: Listing, todo: Todo, **event: int) -> Response:
    """Send the browser to the todo's row, or where the filter hides it, to the one next to it."""
    connection = database.connection()
    show, place = listing.show, todo.place
    nearest = models.list_todos(connection, show, place, 1)  # itself, or the next one below
    nearest = nearest or models.list_todos_above(connection, show, place, 1)
    if not nearest:
        return _redirect_to_page(database, listing, **event)
    if nearest[0] not in models.list_todos(connection, show, listing.start):
        listing = Listing(show, nearest[0].place)  # it is on another page: one that begins with it
    return redirect(listing.address(row=nearest[0].id, **event))


def _redirect_to_page(database: Database, listing: Listing, **event: Any) -> Response:
    """Send the browser to the page; if nothing is left on it, to the todo above it."""
    connection = database.connection()
    if not models.list_todos(connection, listing.show, listing.start, 1):
        above = models.list_todos_above(connection, listing.show, listing.start, 1)
        listing = Listing(listing.show, above[0].place if above else None)
    return redirect(listing.address(**event))


# Many todos at once


def complete_all(request: Request, database: Database) -> Response:
    """POST /complete-all: complete all todos; the next page offers to undo that."""
    listing = read_listing(request.form)
    return _redirect_to_page(database, listing, completed_at=database.write(models.complete_all))


def clear_completed(request: Request, database: Database) -> Response:
    """POST /clear-completed: delete all completed todos; the next page offers to undo that."""
    listing = read_listing(request.form)
    time = database.write(models.delete_completed)
    return _redirect_to_page(database, listing, deleted_at=time)


def undo(request: Request, database: Database) -> Response:
    """POST /undo: bring back what was deleted at `deleted_at`, or completed at `completed_at`.

    Nothing is found where that was done already, by a double click, or where it is too late.
    """
    listing = read_listing(request.form)
    if time := request.form.get("deleted_at"):
        event, todos = "restored", database.write(models.restore_deleted_at, time)
        if not todos and not models.is_recoverable(time):
            raise NotFound("That was deleted more than 30 days ago, and is gone for good.")
    elif time := request.form.get("completed_at"):
        event, todos = "reopened", database.write(models.reopen_completed_at, time)
    else:
        raise BadRequest("The field `deleted_at` or `completed_at` has to say what to undo.")
    if len(todos) == 1:
        return _redirect_to_row(database, listing, todos[0], **{event: todos[0].id})
    return _redirect_to_page(database, listing, undone="all" if todos else None)


# The list as a file


def export_todos(request: Request, database: Database) -> FileResponse:
    """GET /todos.txt: the list in the todo.txt format, in constant memory, however long it is.

    It is written to a file first and sent from there: so a slow reader does not hold up the
    database, and an error is an error page, and not half a list. One at a time, since a long one
    takes seconds: so those who ask for many at once do not shut others out.
    """
    if not _EXPORTING.acquire(timeout=0.05):  # seconds, enough for a list of a usual length
        raise ServiceUnavailable("Somebody else is exporting the list. Try again in a few seconds.")
    file = SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY)  # noqa: SIM115  the server closes it
    is_compressed = takes_gzip(request.environ)
    try:
        with GzipFile(fileobj=file, mode="wb") if is_compressed else nullcontext(file) as lines:
            for todo in models.iterate_todos(database.connection()):
                lines.write(format_todo(todo).encode())
        headers = [VARY, GZIP] if is_compressed else [VARY]
        return FileResponse(file, content_type=TEXT, headers=headers)
    except BaseException:
        with suppress(OSError):  # the disk may be full
            file.close()
        raise
    finally:
        _EXPORTING.release()


def show_import(request: Request, database: Database) -> Response:
    """GET /import: the form for a list in the todo.txt format."""
    return pages.import_page()


def import_todos(request: Request, database: Database) -> Response:
    """POST /import: add the todos of the field `text` on top, all of them or none."""
    typed = request.form.get("text", "")
    try:
        todos = parse_todos(typed)
    except InvalidLine as reason:
        return pages.import_page(text=typed, problem=str(reason))
    if not todos:
        return pages.import_page(text=typed, problem="Write or paste at least one line.")
    database.write(models.insert_dated_todos, todos)
    return redirect(Listing().address(imported="all"))


# Files and health


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
