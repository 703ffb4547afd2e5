"""Step 1: an application is a function."""

from todo_wsgi.xray.story.document import RESPONSE
from tutorial.checks import Mistake, Site

MISTAKES = {
    "text instead of bytes": Mistake(
        "app.py",
        {r'b"Hello, world!\n"': r'"Hello, world!\n"'},
        fails="GET / answers 200 OK",
        shows="The body is text, not bytes.",
    ),
    "no start_response": Mistake(
        "app.py",
        {'    start_response("200 OK", [("Content-Type", "text/plain")])\n': ""},
        fails="GET / answers 200 OK",
        shows="start_response was never called.",
    ),
}


def check(site: Site) -> None:
    """Fail unless there is an answer with a text."""
    answer = site.get("/")
    answer.needs(answer.status == 200, "GET / answers 200 OK", RESPONSE)
    answer.needs("text/" in answer.headers.get("content-type", ""), "it is a text", RESPONSE)
    answer.needs("hello" in answer.text.lower(), "the text says hello", RESPONSE)


def exercise(site: Site) -> None:
    """Fail unless other paths are not found."""
    answer = site.get("/nowhere")
    answer.needs(
        answer.status == 404,
        "GET /nowhere answers 404 Not Found",
        hint='The path is environ["PATH_INFO"].',
    )
    answer = site.get("/")
    answer.needs(answer.status == 200, "and GET / still answers 200 OK", RESPONSE)
