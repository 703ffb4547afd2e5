import html
import sqlite3
from contextlib import closing
from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<title>Todos</title>
<h1>Todos</h1>
<ul>
$items</ul>
""")
ITEM = Template("<li>$text</li>\n")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/":
        with closing(sqlite3.connect("todos.db")) as db:
            status, page = "200 OK", make_page(read_todos(db))
    else:
        status, page = "404 Not Found", "There is nothing here."
    body = page.encode()
    headers = [("Content-Type", "text/html; charset=utf-8")]
    start_response(status, headers)
    return [body]


# The model: all the SQL.
def read_todos(db):
    sql = "SELECT text FROM todos ORDER BY id DESC"
    return db.execute(sql).fetchall()


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
