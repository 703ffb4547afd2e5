"""Flask: a todo list with templates of Jinja, sqlite3, a static file and a login."""

import sqlite3
from contextlib import closing

from flask import Flask, abort, g, redirect, render_template, request, session, url_for
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

app = Flask(__name__)
app.secret_key = "used by tests only"

SCHEMA = """
CREATE TABLE todos (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT NOT NULL);
INSERT INTO todos (text) VALUES ('read & write');
"""


def get_db() -> sqlite3.Connection:
    if "db" not in g:
        g.db = sqlite3.connect("todo.db")
        g.db.row_factory = sqlite3.Row
    db: sqlite3.Connection = g.db
    return db


@app.teardown_appcontext
def close_db(_error: BaseException | None) -> None:
    if "db" in g:
        g.db.close()


@app.get("/")
def index() -> str:
    todos = get_db().execute("SELECT id, text FROM todos").fetchall()
    return render_template("todos.html", title="Todos", todos=todos)


@app.post("/")
def add() -> Response:
    insert(request.form["text"])
    return redirect(url_for("index"), 303)


@app.post("/show")
def add_and_show() -> str:
    insert(request.form["text"])
    return index()


def insert(text: str) -> None:
    get_db().execute("INSERT INTO todos (text) VALUES (?)", (text,))
    get_db().commit()


@app.post("/login")
def login() -> Response:
    name = request.form["name"]
    user = get_db().execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
    if not check_password_hash(user["password"], request.form["password"]):
        abort(403)
    session["user"] = name
    return redirect(url_for("index"), 303)


@app.get("/forgotten")  # type: ignore[type-var]  # to return something
def forgotten() -> None:
    get_db().execute("SELECT count(*) FROM todos").fetchone()


def create_database() -> None:
    with closing(sqlite3.connect("todo.db")) as db, db:
        db.executescript(SCHEMA)
        grace = ("grace", generate_password_hash("a compiler"))
        db.execute("INSERT INTO users (name, password) VALUES (?, ?)", grace)
