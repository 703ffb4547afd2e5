"""Step 6: a link changes nothing."""

from todo_wsgi.xray.story.document import RESPONSE, SQL
from tutorial.checks import Mistake, Site

MISTAKES = {
    "a link": Mistake(
        "app.py",
        {
            '<form method="post" action="/toggle">\n'
            '<button name="id" value="$id">$act $text</button>\n'
            "</form></li>\n": '<a href="/toggle?id=$id">$act $text</a></li>\n',
            'toggle_todo(db, read_form(environ)["id"])': "toggle_todo(db, "
            'environ["QUERY_STRING"].removeprefix("id="))',
            '"/toggle": {"POST": toggle}': '"/toggle": {"GET": toggle}',
        },
        fails="a program that follows all links changes nothing",
        shows="A GET changed 1 row.",
    ),
    "no WHERE": Mistake(
        "app.py",
        {
            "NULL) WHERE id = ?": "NULL)",
            "db.execute(sql, (todo_id,))": "db.execute(sql)",
        },
        fails="'walk the dog' is as it was",
        shows="2 rows updated",
    ),
}


def check(site: Site) -> None:
    """Fail unless a button completes a todo, and no link does."""
    before = site.get("/")
    for link in site.links():
        answer = site.get(link)
        is_same = site.get("/").text == before.text
        answer.needs(is_same, "a program that follows all links changes nothing", SQL)
    press = site.button("Complete laundry")
    before.needs(press is not None, "the page has a button 'Complete laundry'", RESPONSE)
    assert press
    answer = press()
    answer.needs(answer.status == 303, "it answers 303 See Other", SQL)
    is_completed = site.button("Reopen laundry") is not None
    answer.needs(is_completed, "then there is a button 'Reopen laundry'", SQL)
    is_open = site.button("Complete walk the dog") is not None
    answer.needs(is_open, "'walk the dog' is as it was", SQL)
    reopen = site.button("Reopen laundry")
    assert reopen
    answer = reopen()
    answer.needs(site.button("Complete laundry") is not None, "and that button reopens it", SQL)


def exercise(site: Site) -> None:
    """Fail unless a second press does no harm."""
    press = site.button("Complete laundry")
    assert press
    press()
    answer = press()
    answer.needs(
        site.button("Reopen laundry") is not None,
        "pressing 'Complete laundry' twice completes it",
        SQL,
        hint="Let the button say what you want, not what to turn around.",
    )
