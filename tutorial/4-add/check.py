"""Step 4: execute does not save, commit does."""

import re

from todo_wsgi.xray.story.document import FORM, NEXT, RESPONSE, SQL
from tutorial.checks import Mistake, Site

MISTAKES = {
    "no commit": Mistake(
        "app.py",
        {"    db.commit()\n": ""},
        fails="the next GET / shows milk: it is saved",
        shows="execute changed 1 row without a commit",
    ),
    "glued SQL": Mistake(
        "app.py",
        {
            '"INSERT INTO todos (text) VALUES (?)", (text,)': 'f"INSERT INTO todos (text)'
            " VALUES ('{text}')\""
        },
        fails="an apostrophe is text: Grandma's cake",
        shows="The value of text is part of the SQL text",
    ),
}


def check(site: Site) -> None:
    """Fail unless the form adds todos."""
    answer = site.get("/")
    has_form = bool(re.search(r"""<form\b[^>]*\bmethod=["']?post""", answer.text, re.IGNORECASE))
    answer.needs(has_form, 'the page has a form with method="post"', RESPONSE)
    has_field = bool(re.search(r"""<input\b[^>]*\bname=["']?text\b""", answer.text))
    answer.needs(has_field, 'and in it a field with name="text"', RESPONSE)
    post = site.post("/", {"text": "milk"})
    post.needs(post.status in (200, 302, 303), "POST / with text=milk is answered", FORM)
    post.needs_sized_reads()
    page = site.get("/")
    hint = "It takes an INSERT and a COMMIT."
    post.needs("milk" in page.text, "the next GET / shows milk: it is saved", SQL, hint=hint)
    post = site.post("/", {"text": "Grandma's cake"})
    page = site.get("/")
    post.needs("cake" in page.text, "an apostrophe is text: Grandma's cake", SQL)
    site.post("/", {"text": "<b>bold</b>"})
    page = site.get("/")
    page.needs("&lt;b&gt;bold" in page.text, "a <b> in a todo is text, not HTML", RESPONSE)


def exercise(site: Site) -> None:
    """Fail unless a reload adds nothing."""
    before = site.get("/").items
    post = site.post("/", {"text": "once"})
    # A browser that reloads sends its last request again.
    if post.redirects:
        site.follow(post)
        site.follow(post)
    else:
        site.post("/", {"text": "once"})
    added = site.get("/").items - before
    post.needs(
        added == 1,
        "adding a todo and reloading the page adds one",
        NEXT,
        hint="Answer the POST with the address of the page, and no page: 303 See Other.",
    )
