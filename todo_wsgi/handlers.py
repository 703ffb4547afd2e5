"""What a visitor can do: one function for each, from a request to a response.

These are the C of MVC, the controllers (Flask and Django call them views): they read the request,
call the model (`storage/`) and choose the view (`presentation/pages.py`). `Application.respond`
calls them, and renders what they raise as a page: an HTTPError if the request is at fault, any
other error if the database is, or our code.

Every handler that changes the list redirects to it. The address there names the change, like
`?completed=7` or `?deleted_at=...`; the page reports it, if the database still agrees.
"""

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

from todo_wsgi.http.errors import BadRequest, NotFound
from todo_wsgi.http.file_response import FileResponse
from todo_wsgi.http.request import Request, read_integer
from todo_wsgi.http.response import TEXT, Response, accepts_gzip, redirect
from todo_wsgi.presentation import pages, todotxt
from todo_wsgi.presentation.listing import Listing, read_listing
from todo_wsgi.storage import models, transfer, undo
from todo_wsgi.storage.database import Database

_GONE = "This todo is gone: somebody may have deleted it. Nothing was changed."


def show_todos(request: Request, database: Database) -> Response:
    """GET /: the list; the address says which part of it, and what has just happened."""
    listing = read_listing(request.query)
    # Visitors can share a page whose address has neither an event nor a search.
    if request.query.keys() <= {"show", "from"}:
        return database.cached(listing, lambda: database.read(_list_page, listing))
    return database.read(_list_page, listing, request.query)


def create_todo(request: Request, database: Database) -> Response:
    """POST /: add the todo of the field `text`, then send the browser to the list.

    A text that cannot be a todo comes back in the form, with the reason.
    """
    listing = read_listing(request.form)
    typed = request.form.get("text", "")
    try:
        todo_id = database.write(models.insert_todo, models.clean_text(typed))
    except models.InvalidText as reason:
        return database.read(_list_page, listing, text=typed, problem=str(reason))
    # The new todo is on top, and not among the completed ones.
    show = "all" if listing.show == "completed" else listing.show
    return redirect(Listing(show).address(added=todo_id))


def _list_page(
    connection: sqlite3.Connection,
    listing: Listing,
    query: Mapping[str, str] | None = None,
    *,
    text: str = "",
    problem: str = "",
) -> Response:
    one_more = models.PAGE_SIZE + 1  # than a page shows, to see whether there is a next page
    return pages.list_page(
        listing,
        models.list_todos(connection, *listing[:2], one_more, listing.words),
        models.list_todos_above(connection, *listing[:2], one_more, listing.words),
        left=models.count_active(connection),
        has_completed=bool(models.list_todos(connection, "completed", None, 1)),
        event=_read_event(connection, listing, query or {}),
        text=text,
        problem=problem,
    )


def _read_event(
    connection: sqlite3.Connection, listing: Listing, query: Mapping[str, str]
) -> pages.Event | None:
    """Return what has just happened: the address names it, the database has the todos."""
    for name, column in (("deleted", "deleted_at"), ("completed", "completed_at")):
        if time := query.get(column):
            todos = undo.find(connection, column, time)
            name = "undone" if "undone" in query else name
            return pages.Event(name, todos, undo=("/undo", column, time)) if todos else None
    for name in ("added", "completed", "reopened", "saved", "moved", "restored"):
        todo_id = read_integer(query.get(name, ""))
        if todo_id is not None and (todo := models.find_todo(connection, todo_id)):
            # When the page is reloaded, somebody may have changed the state.
            reported = {"completed": True, "reopened": False}.get(name, todo.is_completed)
            back = {"added": "delete", "reopened": "complete"}.get(name)
            is_offered = name == "added" or listing.show == "completed"  # which has lost the row
            button = (f"/todos/{todo_id}/{back}", "undo", name) if back and is_offered else None
            return pages.Event(name, [todo], button) if reported == todo.is_completed else None
    if count := undo.count_imported(connection, query.get("imported", "")):
        button = ("/undo", "imported", query["imported"])
        return pages.Event("imported", [], button, count)
    return pages.Event("undone", []) if query.get("undone") == "all" else None


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
    todo = _found(database.write(models.complete_todo, todo_id, undo.new_time()))
    if listing.show == "active":  # it vanishes, so the next page offers to undo that
        time = undo.find_time(database.connection(), "completed_at", todo_id)
        return _redirect_to_page(database, listing, completed_at=time)
    return _redirect_to_row(database, listing, todo, completed=todo_id)


def reopen_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/reopen: make it active again."""
    listing = read_listing(request.form)
    todo = _found(database.write(models.reopen_todo, todo_id))
    if listing.show == "completed":  # it vanishes; a fragment would take the focus from "Undo"
        return _redirect_to_page(database, listing, reopened=todo_id)
    return _redirect_to_row(database, listing, todo, reopened=todo_id)


def move_todo_to_top(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/top: move it to the top of the list."""
    listing = read_listing(request.form)
    todo = _found(database.write(models.move_todo_to_top, todo_id))
    return _redirect_to_row(database, listing, todo, moved=todo_id)


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
        raise BadRequest("The field `past` must be the number of the todo to move this one past.")
    todo = database.write(models.move_todo, todo_id, past, up=up)
    if todo is None:
        raise NotFound("This todo, or the one to move it past, is gone. Nothing was changed.")
    return _redirect_to_row(database, listing, todo, "up" if up else "down", moved=todo_id)


def delete_todo(request: Request, database: Database, todo_id: int) -> Response:
    """POST /todos/7/delete: delete it; the next page offers to undo that."""
    listing = read_listing(request.form)
    time = database.write(undo.delete_todo, todo_id)
    if time is None:
        raise NotFound(_GONE)
    return _redirect_to_page(database, listing, deleted_at=time)


def _found(todo: models.Todo | None) -> models.Todo:
    if todo is None:
        raise NotFound(_GONE)
    return todo


def _redirect_to_row(
    database: Database, listing: Listing, todo: models.Todo, button: str = "", /, **event: int
) -> Response:
    """Send the browser to the todo's row, or to the one next to it if the filter hides it.

    There, the `button` gets the focus, "up" or "down", unless there is no such way to go.
    """
    show, start, words = listing
    below = partial(models.list_todos, database.connection(), show, words=words)
    above = partial(models.list_todos_above, database.connection(), show, words=words)
    nearest = below(todo.place, 1) or above(todo.place, 1)  # itself, or the next one
    if not nearest:
        return _redirect_to_page(database, listing, **event)
    if nearest[0] not in below(start):
        listing = Listing(show, nearest[0].place, words)  # another page, which starts with it
    others = above(todo.place, 1) if button == "up" else button and below(todo.place - 1, 1)
    name = button if others else "todo"
    return redirect(listing.address(fragment=f"{name}-{nearest[0].id}", **event))


def _redirect_to_page(database: Database, listing: Listing, **event: Any) -> Response:
    """Send the browser to the page; if nothing is left on it, to the todo above it."""
    connection, (show, start, words) = database.connection(), listing
    if not models.list_todos(connection, show, start, 1, words):
        above = models.list_todos_above(connection, show, start, 1, words)
        listing = Listing(show, above[0].place if above else None, words)
    return redirect(listing.address(**event))


# Many todos at once, and undo


def complete_all(request: Request, database: Database) -> Response:
    """POST /complete-all: complete all todos; the next page offers to undo that."""
    listing = read_listing(request.form)
    return _redirect_to_page(database, listing, completed_at=database.write(undo.complete_all))


def clear_completed(request: Request, database: Database) -> Response:
    """POST /clear-completed: delete all completed todos; the next page offers to undo that."""
    listing = read_listing(request.form)
    return _redirect_to_page(database, listing, deleted_at=database.write(undo.delete_completed))


def undo_change(request: Request, database: Database) -> Response:
    """POST /undo: undo what the field `deleted_at`, `completed_at` or `imported` names.

    After a double click nothing is left to undo. Todos that were changed since are left alone,
    except those of an import, which the next page can bring back.
    """
    listing = read_listing(request.form)
    if name := request.form.get("imported"):  # undone by deleting, which can be undone
        time = database.write(undo.delete_imported, name)
        return _redirect_to_page(database, listing, deleted_at=time, undone=time and "all")
    named = [(column, request.form[column]) for column in undo.TIMES if request.form.get(column)]
    if not named:
        raise BadRequest(
            "A field `deleted_at`, `completed_at` or `imported` must say what to undo."
        )
    column, time = named[0]
    todos = undo.find(database.connection(), column, time)
    count = database.write(undo.undo, column, time)
    if not undo.is_recoverable(column, time):
        raise NotFound("That was deleted more than 30 days ago, and is gone for good.")
    if count == len(todos) == 1:
        event = "restored" if column == "deleted_at" else "reopened"
        return _redirect_to_row(database, listing, todos[0], **{event: todos[0].id})
    return _redirect_to_page(database, listing, undone="all" if count else None)


# The list as a file, and health


def export_todos(request: Request, database: Database) -> FileResponse:
    """GET /todos.txt: the list in the todo.txt format."""
    gzipped = accepts_gzip(request.environ)

    def export() -> FileResponse:
        return todotxt.export(transfer.iterate_todos(database.connection()), is_gzipped=gzipped)

    return database.cached(gzipped, export, is_export=True)


def show_import(request: Request, database: Database) -> Response:
    """GET /import: the form that adds several todos."""
    return pages.import_page()


def import_todos(request: Request, database: Database) -> Response:
    """POST /import: add the todos of the field `text` on top, all of them or none."""
    typed = request.form.get("text", "")
    try:
        todos = todotxt.parse_todos(typed)
    except todotxt.InvalidLine as reason:
        return pages.import_page(text=typed, problem=str(reason))
    if not todos:
        return pages.import_page(text=typed, problem="Write or paste at least one line.")
    name = database.write(transfer.insert_dated_todos, todos)
    return redirect(Listing().address(imported=name))


def check_health(request: Request, database: Database) -> Response:
    """GET /healthz: "ok" for a monitor, if the database can be read; else it gets the 503."""
    models.check_readable(database.connection())
    database.check()
    return Response("ok", content_type=TEXT)
