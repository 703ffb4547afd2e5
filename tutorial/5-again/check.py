"""Step 5: a redirect is an answer."""

from todo_wsgi.xray.story.document import FORM, NEXT, RESPONSE, SQL
from tutorial.checks import Mistake, Site

MISTAKES = {
    "a page after a POST": Mistake(
        "app.py",
        {'    return "303 See Other", [("Location", "/")], ""\n': "    return show(db, environ)\n"},
        fails="POST / with text=milk answers 303 See Other",
        shows="A POST changed data and got a page, not a redirect.",
    ),
    "307": Mistake(
        "app.py",
        {'"303 See Other"': '"307 Temporary Redirect"'},
        fails="POST / with text=milk answers 303 See Other",
        shows="307 makes the browser send the POST again",
    ),
}


def check(site: Site) -> None:
    """Fail unless a POST is answered with a redirect, or with what is wrong."""
    before = site.get("/").items
    post = site.post("/", {"text": "milk"})
    post.needs(post.status == 303, "POST / with text=milk answers 303 See Other", NEXT)
    place = post.headers.get("location")
    post.needs(place == "/", "its Location is /", RESPONSE)
    page = site.follow(post)
    page.needs(page.items == before + 1, "the page there has one todo more", SQL)
    page = site.follow(post)
    page.needs(page.items == before + 1, "a reload adds nothing", SQL)
    for fields, name in ({"text": "  "}, "of spaces"), ({}, "that is missing"):
        post = site.post("/", fields)
        post.needs(post.status == 422, f"a text {name} is answered with 422", FORM)
        now = site.get("/").items
        post.needs(now == page.items, "and adds nothing", SQL)


def exercise(site: Site) -> None:
    """Fail unless other methods are refused."""
    answer = site.ask("PUT", "/")
    answer.needs(answer.status == 405, "PUT / answers 405 Method Not Allowed")
    allowed = answer.headers.get("allow", "")
    is_right = "GET" in allowed and "POST" in allowed
    answer.needs(is_right, "its header Allow names GET and POST", RESPONSE)
