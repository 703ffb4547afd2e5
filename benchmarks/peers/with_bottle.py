"""Bottle with its own templates: the newest 100 todos, escaped; a POST redirects to the page."""

from bottle import Bottle, SimpleTemplate, redirect, request
from storage import PAGE, insert_todo, newest_todos

TEMPLATE = SimpleTemplate(
    PAGE.format(rows='% for id, text in todos:\n<li id="todo-{{id}}">{{text}}</li>\n% end\n')
)


def show_todos() -> str:
    page: str = TEMPLATE.render(todos=newest_todos())
    return page


def create_todo() -> None:
    insert_todo(request.forms.text)
    redirect("/", 303)


app = Bottle()
app.route("/", "GET", show_todos)
app.route("/", "POST", create_todo)
