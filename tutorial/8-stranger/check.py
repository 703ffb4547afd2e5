"""Step 8: who is asking?"""

import sqlite3
from contextlib import closing
from pathlib import Path

from todo_wsgi.xray.story.document import ENVIRON, FORM, SQL
from tutorial.checks import Mistake, Site, running

MISTAKES = {
    "an address as a pass": Mistake(
        "guard.py",
        {
            "if is_from_another_site(environ)": 'if environ["REMOTE_ADDR"] != "127.0.0.1"',
        },
        fails="a form on another site is refused: 403",
        shows="REMOTE_ADDR '127.0.0.1'",
    ),
    "no limit": Mistake(
        "guard.py",
        {
            '    if int(environ.get("CONTENT_LENGTH") or 0) > MAX_BODY:\n'
            '        return "413 Content Too Large"\n': ""
        },
        fails="a body of 300 kB is refused: 413",
        shows="CONTENT_LENGTH '300005'",
    ),
}


def check(site: Site) -> None:
    """Fail unless the list is only for those who came to it, and send no more than fits."""
    before = site.get("/").items
    fields = {"text": "spam"}
    answer = site.post("/", fields, Origin="http://127.0.0.1:8001")
    answer.needs(answer.status == 403, "a form on another site is refused: 403", ENVIRON)
    answer = site.post("/", fields, Sec_Fetch_Site="cross-site")
    answer.needs(answer.status == 403, "also if only Sec-Fetch-Site says so", ENVIRON)
    answer = site.post("/", {"text": "x" * 300_000})
    answer.needs(answer.status == 413, "a body of 300 kB is refused: 413", ENVIRON)
    answer = site.post("/", {"text": "x" * 501})
    answer.needs(answer.status == 422, "a text of 501 characters is answered with 422", FORM)
    now = site.get("/").items
    answer.needs(now == before, "and nothing was added", SQL)
    answer = site.post("/", fields, Origin="http://127.0.0.1:8000", Sec_Fetch_Site="same-origin")
    answer.needs(answer.status == 303, "the list's own form is accepted: 303", ENVIRON)
    answer = site.get("/", Sec_Fetch_Site="cross-site")
    answer.needs(answer.status == 200, "a link on another site leads to the list: 200", ENVIRON)


def exercise(_: Site) -> None:
    """Fail unless a variable says where the database is."""
    with closing(sqlite3.connect("elsewhere.db")) as db:
        db.executescript(Path("init_db.sql").read_text(encoding="utf-8"))
        db.execute("UPDATE todos SET text = 'from elsewhere'")
        db.commit()
    with running("serve.py", TODO_DB="elsewhere.db") as server:
        answer = server.get("/")
        answer.needs(
            "from elsewhere" in answer.text,
            "with the variable TODO_DB=elsewhere.db, the list is in that file",
            hint='os.environ.get("TODO_DB", "todos.db") is its value, or else "todos.db".',
        )
