import html
import sqlite3
from contextlib import closing
from string import Template
from urllib.parse import parse_qs

PAGE = Template("""<!doctype html>
<html lang="en">
<title>Todos</title>
<h1>Todos</h1>
<form method="post">
<input name="text" aria-label="New todo">
<button>Add todo</button>
</form>
<ul>
$items</ul>
""")
ITEM = Template("<li>$text</li>\n")


def app(environ, start_response):
    with closing(sqlite3.connect("todos.db")) as db:
        status, page = respond(db, environ)
    body = page.encode()
    headers = [("Content-Type", "text/html; charset=utf-8")]
    start_response(status, headers)
    return [body]


# The controller: what to do for each request.
def respond(db, environ):
    if environ["PATH_INFO"] != "/":
        return "404 Not Found", "There is nothing here."
    if environ["REQUEST_METHOD"] == "POST":
        add_todo(db, read_form(environ)["text"])
    return "200 OK", make_page(read_todos(db))


def read_form(environ):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length).decode(errors="replace")
    fields = parse_qs(body, keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


# The model: all the SQL.
def read_todos(db):
    sql = "SELECT text FROM todos ORDER BY id DESC"
    return db.execute(sql).fetchall()


def add_todo(db, text):
    db.execute("INSERT INTO todos (text) VALUES (?)", (text,))
    db.commit()


# The view: HTML from what the model has read.
def make_page(todos):
    items = ""
    for (text,) in todos:
        items += ITEM.substitute(text=html.escape(text))
    return PAGE.substitute(items=items)


if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    print("Open http://127.0.0.1:8000/ (Ctrl-C stops)")
    make_server("127.0.0.1", 8000, app).serve_forever()
