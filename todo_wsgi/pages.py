"""The pages that a visitor sees: which template is filled with which values.

Handlers and the error handling of `application.py` call these functions; the HTML itself is in
`templates/`.
"""

from collections.abc import Iterable
from http import HTTPStatus

from todo_wsgi.errors import HTTPError
from todo_wsgi.models import Todo
from todo_wsgi.response import Response, status_text
from todo_wsgi.static import ICON, STYLE
from todo_wsgi.templating import SafeHTML, load_template

_PAGE = load_template("page.html")
_TODO_LIST = load_template("todo_list.html")
_TODOS = load_template("todos.html")
_TODO = load_template("todo.html")
_NO_TODOS = load_template("no_todos.html")
_ERROR = load_template("error.html")


def todos_page(todos: Iterable[Todo], *, text: str = "", problem: str = "") -> Response:
    """Return the homepage: the form, and `todos` in their order.

    `text` stands in the form's field. `problem` says why it was not taken, and makes the response
    a 422 (RFC 9110, 15.5.21).
    """
    rows = SafeHTML("".join(_TODO.render(id=todo.id, text=todo.text) for todo in todos))
    content = _TODO_LIST.render(
        text=text,
        problem=problem,
        invalid="true" if problem else "false",
        todos=_TODOS.render(rows=rows) if rows else _NO_TODOS.render(),
    )
    return _page(
        f"Error: {problem}" if problem else "Todos",
        content,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
    )


def error_page(error: HTTPError) -> Response:
    """Return the page that says what went wrong and what to do."""
    title = status_text(error.status)
    content = _ERROR.render(title=title, detail=error.detail)
    return _page(title, content, status=error.status, headers=error.headers)


def _page(
    title: str,
    content: SafeHTML,
    *,
    status: HTTPStatus,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    body = _PAGE.render(title=title, content=content, style=STYLE.path, icon=ICON.path)
    return Response(body, status=status, headers=headers)
