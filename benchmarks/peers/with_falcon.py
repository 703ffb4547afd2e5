"""Falcon with Jinja2: the newest 100 todos, escaped; a POST redirects to the page."""

import falcon
from jinja2 import Environment
from storage import PAGE, insert_todo, newest_todos

TEMPLATE = Environment(autoescape=True).from_string(
    PAGE.format(
        rows='{% for id, text in todos %}<li id="todo-{{ id }}">{{ text }}</li>\n{% endfor %}'
    )
)


class Todos:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = "text/html; charset=utf-8"
        response.text = TEMPLATE.render(todos=newest_todos())

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        insert_todo(request.get_media()["text"])
        raise falcon.HTTPSeeOther("/")


app = falcon.App()
app.add_route("/", Todos())
