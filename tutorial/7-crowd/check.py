"""Step 7: one process, many threads."""

import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from todo_wsgi.xray.story.document import CALLS, SQL
from tutorial.checks import Mistake, Site, running

CALLABLE = "def app(environ, start_response):\n"
MISTAKES = {
    "one connection for all": Mistake(
        "app.py",
        {
            f'{CALLABLE}    with closing(sqlite3.connect("todos.db")) as db:\n': "DB = "
            f'sqlite3.connect("todos.db")\n\n\n{CALLABLE}    with DB as db:\n'
        },
        fails="eight visitors at once get the page",
        shows="SQLite objects created in a thread can only be used in that same thread.",
    ),
    "a page in a global": Mistake(
        "app.py",
        {
            "def show(": "PAGES = []\n\n\ndef show(",
            '    return "200 OK", [], make_page(read_todos(db))\n': "    if not PAGES:\n"
            "        PAGES.append(make_page(read_todos(db)))\n"
            '    return "200 OK", [], PAGES[0]\n',
        },
        fails="the first process shows what a second one has saved",
        shows="6. SQL: none was seen",
    ),
}


def check(site: Site) -> None:
    """Fail unless many can use the list at once, by the threads of several processes."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(site.get, ["/"] * 8))
    answer = next((answer for answer in answers if answer.status != 200), answers[0])
    answer.needs(answer.status == 200, "eight visitors at once get the page", CALLS)
    with running("serve.py") as server:
        answer = server.get("/")
        answer.needs(answer.status == 200, "python serve.py serves the page at the port of PORT")
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            answer = server.get("/")
            answer.needs(answer.status == 200, "a slow request holds up nobody")
        server.post("/", {"text": "second"})
        page = site.get("/")
        need = "the first process shows what a second one has saved"
        page.needs("second" in page.text, need, SQL)
    press = site.button("Delete laundry")
    page.needs(press is not None, "the page has a button 'Delete laundry'")
    assert press
    answer = press()
    answer.needs("laundry" not in site.get("/").text, "it deletes laundry", SQL)


def exercise(_: Site) -> None:
    """Fail unless an error has a page, and its traceback is in the log."""
    with running("serve.py") as server, closing(sqlite3.connect("todos.db")) as db:
        db.execute("ALTER TABLE todos RENAME TO hidden")
        answer = server.get("/")
        db.execute("ALTER TABLE hidden RENAME TO todos")
        hint = "Around everything that may fail: try, and except Exception."
        answer.needs(answer.status == 500, "without its table, GET / answers 500")
        is_page = "href" in answer.text and "text/html" in answer.headers.get("content-type", "")
        answer.needs(is_page, "with a page that has a link to go on", hint=hint)
        is_secret = "Traceback" not in answer.text and "no such table" not in answer.text
        answer.needs(is_secret, "and that does not tell the visitor what failed")
        is_logged = "no such table" in Path("log.txt").read_text("utf-8", "replace")
        hint = "traceback.print_exc() prints it."
        answer.needs(is_logged, "but the log does", hint=hint)
