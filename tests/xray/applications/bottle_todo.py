"""Bottle: the todo list of a tutorial, in which one view has a NameError, and an upload."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bottle import Bottle, redirect, request, static_file, template

app = Bottle()

LIST = """
<p>The open items are as follows:</p>
<table>
%for number, task in rows:
  <tr><td>{{number}}</td><td>{{task}}</td></tr>
%end
</table>
"""


@app.get("/todo")
def todo_list() -> Any:
    with closing(sqlite3.connect("todo.db")) as connection:
        rows = connection.execute("SELECT id, task FROM todo WHERE status = 1").fetchall()
    return template(LIST, rows=rows)


@app.post("/todo")
def new_item() -> None:
    task = request.forms.task.strip()
    with closing(sqlite3.connect("todo.db")) as connection, connection:
        connection.execute("INSERT INTO todo (task, status) VALUES (?, ?)", (task, 1))
    redirect("/todo", 303)


@app.get("/details/<number:int>")
def details(number: int) -> Any:
    with closing(sqlite3.connect("todo.db")) as connection:
        row = connection.execute("SELECT task FROM todo WHERE id = ?", (number,)).fetchone()
    if row is None:
        return template("There is no item {{number}}.", number=item)  # type: ignore[name-defined]  # noqa: F821
    return template("Task: {{task}}", task=row[0])


@app.post("/upload")
def upload() -> Any:
    file = request.files.file
    file.save("uploaded.txt", overwrite=True)
    return {"title": request.forms.title, "name": file.filename, "type": file.content_type}


@app.get("/style.css")
def style() -> Any:
    return static_file("style.css", root=Path(__file__).parent / "static")


def create_database() -> None:
    with closing(sqlite3.connect("todo.db")) as connection, connection:
        connection.execute("CREATE TABLE todo (id INTEGER PRIMARY KEY, task TEXT, status INTEGER)")
        connection.execute("INSERT INTO todo (task, status) VALUES ('visit python.org', 1)")
