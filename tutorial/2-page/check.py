"""Step 2: text becomes HTML in one place."""

from todo_wsgi.xray.story.document import ENVIRON, RESPONSE
from tutorial.checks import Mistake, Site

MISTAKES = {
    "not escaped": Mistake(
        "app.py",
        {"html.escape(name)": "name"},
        fails="a name with < and > is text, not HTML",
        shows="The page contains the value of name unescaped",
    ),
    "characters counted": Mistake(
        "app.py",
        {"str(len(body))": "str(len(page))"},
        fails="a Greek name arrives whole: Ελένη",
        shows="Count bytes, as in len(page.encode()), not characters",
    ),
}


def check(site: Site) -> None:
    """Fail unless a name in the address is greeted, as text."""
    answer = site.get("/")
    answer.needs(answer.status == 200, "GET / answers 200 OK", RESPONSE)
    kind = answer.headers.get("content-type", "")
    answer.needs("text/html" in kind, "it is HTML", RESPONSE)
    answer = site.get("/?name=Ada")
    answer.needs("Ada" in answer.text, "GET /?name=Ada greets Ada", ENVIRON)
    answer = site.get("/?name=%3Cu%3EAda")
    answer.needs("&lt;u&gt;Ada" in answer.text, "a name with < and > is text, not HTML", RESPONSE)
    answer = site.get("/?name=%CE%95%CE%BB%CE%AD%CE%BD%CE%B7")
    is_whole = "Ελένη" in answer.text and "</h1>" in answer.text
    answer.needs(is_whole, "a Greek name arrives whole: Ελένη", RESPONSE)
    answer = site.get("/nowhere")
    answer.needs(answer.status == 404, "GET /nowhere answers 404 Not Found")


def exercise(site: Site) -> None:
    """Fail unless the page has a list."""
    answer = site.get("/")
    for todo in ("laundry", "walk the dog"):
        is_there = todo in answer.text and answer.items == 2
        hint = 'One <li> for each of TODOS = ["laundry", "walk the dog"], between <ul> and </ul>.'
        answer.needs(is_there, f"the list on the page / has {todo!r}", hint=hint)
