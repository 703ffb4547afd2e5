"""Step 3: what is to last stands in a database."""

import sqlite3
from contextlib import closing

from todo_wsgi.xray.story.document import CALLS, FORM, RESPONSE, SQL
from tutorial.checks import Mistake, Site

MISTAKES = {
    "a list in the program": Mistake(
        "app.py",
        {"db.execute(sql).fetchall()": '[("walk the dog",), ("laundry",)]'},
        fails="the page shows a todo that another program added",
        shows="6. SQL: none was seen",
    ),
    "a wrong name": Mistake(
        "app.py",
        {"SELECT text FROM": "SELECT txt FROM"},
        fails="GET / answers 200 OK",
        shows="no such column: txt",
    ),
}


def check(site: Site) -> None:
    """Fail unless the page shows what is in the database."""
    answer = site.get("/")
    answer.needs(answer.status == 200, "GET / answers 200 OK", CALLS)
    for todo in ("laundry", "walk the dog"):
        need = f"the page shows {todo!r}, from init_db.sql"
        answer.needs(todo in answer.text, need, SQL, RESPONSE)
    insert("call <b>Grandma</b>")
    answer = site.get("/")
    answer.needs("Grandma" in answer.text, "the page shows a todo that another program added", SQL)
    answer.needs("&lt;b&gt;" in answer.text, "its <b> is text, not HTML", RESPONSE)


def insert(text: str) -> None:
    """Add a todo, as another program would."""
    with closing(sqlite3.connect("todos.db")) as db:
        db.execute("INSERT INTO todos (text) VALUES (?)", (text,))
        db.commit()


def exercise(site: Site) -> None:
    """Fail unless the application reads a form."""
    answer = site.post("/", {"text": "milk and <b>honey</b>"})
    hint = """The form is in environ["wsgi.input"], as bytes; parse_qs decodes its text."""
    is_there = "milk and" in answer.text
    answer.needs(is_there, "POST / answers with the text that it got", FORM, hint=hint)
    answer.needs_sized_reads()
    is_escaped = "&lt;b&gt;" in answer.text
    answer.needs(is_escaped, "a <b> in it is text, not HTML", RESPONSE)
