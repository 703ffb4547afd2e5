import html
import os
import sqlite3
import traceback
from contextlib import closing
from string import Template
from urllib.parse import parse_qs

from guard import find_refusal

PAGE = Template("""<!doctype html>
<html lang="en">
<title>Todos</title>
<h1>Todos</h1>
<p>$problem</p>
<form method="post">
<input name="text" aria-label="New todo">
<button>Add todo</button>
</form>
<ul>
$items</ul>
""")
ITEM = Template("""<li>$mark $text
<form method="post">
<button name="id" value="$id" formaction="$path">$act $text</button>
<button name="id" value="$id" formaction="/delete">Delete $text</button>
</form></li>
""")
SORRY = "That is our mistake. <a href='/'>Back to the list</a>"


def app(environ, start_response):
    try:
        file = os.environ.get("TODO_DB", "todos.db")
        with closing(sqlite3.connect(file)) as db:
            status, headers, page = respond(db, environ)
    except Exception:
        traceback.print_exc(file=environ["wsgi.errors"])
        status, headers, page = "500 Internal Server Error", [], SORRY
    body = page.encode()
    headers += [("Content-Type", "text/html; charset=utf-8")]
    start_response(status, headers)
    return [body]


# The controller: what to do for each request.
def respond(db, environ):
    refusal = find_refusal(environ)
    if refusal:
        return refusal, [], f"{refusal}. Use the form of the list."
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path not in ROUTES:
        return "404 Not Found", [], "There is nothing here."
    if method not in ROUTES[path]:
        headers = [("Allow", ", ".join(ROUTES[path]))]
        return "405 Method Not Allowed", headers, "Use a button."
    return ROUTES[path][method](db, environ)


def show(db, environ):
    return "200 OK", [], make_page(read_todos(db))


def add(db, environ):
    text = read_form(environ).get("text", "").strip()
    if not 1 <= len(text) <= 500:
        page = make_page(read_todos(db), "Type 1 to 500 characters.")
        return "422 Unprocessable Content", [], page
    add_todo(db, text)
    return "303 See Other", [("Location", "/")], ""


def change(db, environ):
    what = environ["PATH_INFO"].removeprefix("/")
    change_todo(db, what, read_form(environ)["id"])
    return "303 See Other", [("Location", "/")], ""


ROUTES = {
    "/": {"GET": show, "POST": add},
    "/complete": {"POST": change},
    "/reopen": {"POST": change},
    "/delete": {"POST": change},
}


def read_form(environ):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length).decode(errors="replace")
    fields = parse_qs(body, keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


# The model: all the SQL.
def read_todos(db):
    sql = "SELECT id, text, completed_at FROM todos ORDER BY id DESC"
    return db.execute(sql).fetchall()


def add_todo(db, text):
    db.execute("INSERT INTO todos (text) VALUES (?)", (text,))
    db.commit()


def change_todo(db, what, todo_id):
    db.execute(CHANGES[what], (todo_id,))
    db.commit()


CHANGES = {
    "complete": """UPDATE todos
        SET completed_at = CURRENT_TIMESTAMP WHERE id = ?""",
    "reopen": "UPDATE todos SET completed_at = NULL WHERE id = ?",
    "delete": "DELETE FROM todos WHERE id = ?",
}


# The view: HTML from what the model has read.
def make_page(todos, problem=""):
    items = ""
    for todo_id, text, completed_at in todos:
        items += ITEM.substitute(
            id=todo_id,
            text=html.escape(text),
            mark="☑" if completed_at else "☐",
            act="Reopen" if completed_at else "Complete",
            path="/reopen" if completed_at else "/complete",
        )
    return PAGE.substitute(items=items, problem=html.escape(problem))
