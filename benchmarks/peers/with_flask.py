"""The tutorial's application: Flask and Jinja2, with all todos on the page.

Each request opens the database, selects all todos and renders them. A POST first inserts a todo and
commits.
"""

import os
import sqlite3

from flask import Flask, render_template, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def index() -> str:
    connection = sqlite3.connect(os.environ["TODO_DB"])
    connection.row_factory = sqlite3.Row
    if request.method == "POST":
        connection.execute("INSERT INTO todos (text) VALUES (?)", (request.form["text"],))
        connection.commit()
    todos = connection.execute("SELECT * FROM todos ORDER BY id DESC").fetchall()
    connection.close()
    return render_template("todos.html", todos=todos)
