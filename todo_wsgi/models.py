"""What the application keeps: todos. One function for each SQL statement.

Handlers call these with a connection from `db.py`. Storage knows nothing of HTTP: a text that
cannot be a todo is an InvalidText, and the handler decides what the visitor sees.
"""

import sqlite3
import unicodedata
from typing import NamedTuple

MAX_TEXT_LENGTH = 500  # characters; a todo is a line, not a letter


class InvalidText(ValueError):
    """A text that cannot be a todo; the message is for the person who typed it."""


class Todo(NamedTuple):
    """A row of the table `todos`, as far as a page shows it."""

    id: int
    text: str


def clean_text(text: str) -> str:
    """Return a todo's text without the white space around it.

    Raises InvalidText if nothing is left, or it is too long, or it has a control character such as
    a tab or a line break: those are invisible, and a list of single lines has no place for them.
    """
    text = text.strip()
    if not text:
        raise InvalidText("Write what there is to do.")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidText(
            f"Shorten it to {MAX_TEXT_LENGTH} characters: it has {len(text)} at the moment."
        )
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidText("Remove the control characters, such as tabs or line breaks.")
    return text


def list_todos(connection: sqlite3.Connection) -> list[Todo]:
    """Return all todos but the deleted ones, newest first."""
    # A row put in by hand may hold a BLOB; CAST makes it text like all others.
    rows = connection.execute(
        """
        SELECT id, CAST(text AS TEXT)
        FROM todos
        WHERE deleted_at IS NULL
        ORDER BY id DESC
        """
    )
    return [Todo(*row) for row in rows]


def insert_todo(connection: sqlite3.Connection, text: str) -> None:
    """Add a todo. When this returns, it is on the disk."""
    with connection:  # COMMIT at the end, or ROLLBACK on an error; BEGIN comes with the INSERT
        connection.execute("INSERT INTO todos (text) VALUES (?)", (text,))


def check_readable(connection: sqlite3.Connection) -> None:
    """Read from the table; an sqlite3.Error if that cannot be done."""
    connection.execute("SELECT id FROM todos LIMIT 1").fetchone()
