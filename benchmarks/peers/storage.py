"""The storage that Bottle and Falcon share: the newest 100 todos, and durable inserts."""

import os
import sqlite3
import threading

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Todos</title></head>
<body>
<h1>Todos</h1>
<form method="post">
<label>New todo <input name="text"></label>
<button>Add todo</button>
</form>
<ul>
{rows}</ul>
</body>
</html>
"""

_threads = threading.local()


def connect() -> sqlite3.Connection:
    """Return the calling thread's connection."""
    if not hasattr(_threads, "connection"):
        _threads.connection = sqlite3.connect(os.environ["TODO_DB"])
        _threads.connection.execute("PRAGMA journal_mode = WAL")
        _threads.connection.execute("PRAGMA synchronous = FULL")
    connection: sqlite3.Connection = _threads.connection
    return connection


def newest_todos() -> list[tuple[int, str]]:
    return connect().execute("SELECT id, text FROM todos ORDER BY id DESC LIMIT 100").fetchall()


def insert_todo(text: str) -> None:
    with connect() as connection:
        connection.execute("INSERT INTO todos (text) VALUES (?)", (text,))
