"""The V of MVC: the pages that a visitor sees, each a template filled with values.

Handlers and the error handling of `application.py` call these functions; the HTML is in
`templates/`.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from todo_wsgi.http.errors import HTTPError
from todo_wsgi.http.response import Response, status_text
from todo_wsgi.presentation.listing import Listing
from todo_wsgi.presentation.static import HOME, ICON, MANIFEST, STYLE
from todo_wsgi.presentation.templating import SafeHTML, escape, load_template
from todo_wsgi.storage.models import MAX_COUNT, PAGE_SIZE, Todo

_PAGE = load_template("page.html")
_PATHS = {"style": STYLE.path, "icon": ICON.path, "home": HOME.path, "manifest": MANIFEST.path}
_LIST = load_template("list.html")
_FILTERS = load_template("filters.html")
_FOOTER = load_template("footer.html").render()
_TODO = load_template("todo.html")
_UNDO = load_template("undo.html")
_PAGER = load_template("pager.html")
_LINK = load_template("link.html")
_WORD = load_template("word.html")
_BUTTON = load_template("button.html")
_COMPLETE_ALL = _BUTTON.render(action="/complete-all", label="Mark all as complete")
_CLEAR_COMPLETED = _BUTTON.render(action="/clear-completed", label="Clear completed")
_EDIT = load_template("edit.html")
_IMPORT = load_template("import.html")
_ERROR = load_template("error.html")
_TYPED = load_template("typed.html")
_TRACE = load_template("trace.html")
_LISTING = load_template("listing.html")

_LINKED = re.compile(r"(?<!\S)(https?://\S+|[+@]\S+)")
_FILTER_LABELS = {"all": "All", "active": "Active", "completed": "Completed"}
_HEADINGS = {"all": "Todos", "active": "Active todos", "completed": "Completed todos"}
_DONE_TO_MANY = {
    "completed": "Marked all as complete",
    "deleted": "Cleared the completed todos",
    "undone": "Undone",
}


class Event(NamedTuple):
    """What has just happened: `name`, like "deleted".

    `todos` are the ones it happened to: one, or two that stand for many, or none where it is not
    known which; `size` is how many were imported. `undo` is the button that undoes it: its path,
    and the name and value of its field.
    """

    name: str
    todos: list[Todo]
    undo: tuple[str, str, str] | None = None
    size: int = 0

    @property
    def todo(self) -> Todo | None:
        """The todo, if it is one."""
        return self.todos[0] if len(self.todos) == 1 else None


def list_page(
    listing: Listing,
    todos: list[Todo],
    above: list[Todo],
    *,
    left: int,
    has_completed: bool,
    event: Event | None = None,
    text: str = "",
    problem: str = "",
) -> Response:
    """Return the page with the list.

    `todos` are those from the page's start downwards, and `above` those before it, the nearest
    first; of both, one more than a page shows if there are more. `left` counts the active ones of
    the whole list, up to MAX_COUNT + 1. `text` fills the form's field; `problem` says why it was
    refused.
    """
    counter = _render_counter(left)
    is_empty = not left and not has_completed and listing == Listing()
    changeable = "" if listing.words else listing.show  # by the buttons for many todos
    content = _LIST.render(
        text=text,
        heading=_HEADINGS[listing.show],
        listing=_render_listing(listing),
        **_render_problem(problem, focus=event is not None and event.name == "added"),
        filters="" if is_empty else _render_filters(listing),
        counter="" if is_empty else counter,
        complete_all=_COMPLETE_ALL if left and changeable in ("all", "active") else "",
        clear_completed=(
            _CLEAR_COMPLETED if has_completed and changeable in ("all", "completed") else ""
        ),
        rows=_render_rows(listing, todos, above, event),
        hint=_choose_hint(listing, todos, left=left, has_completed=has_completed),
        pager=_render_pager(listing, todos, above),
        footer="" if is_empty else _FOOTER,
    )
    title = f"{_describe(event, ': {}') if event else _HEADINGS[listing.show]}, {counter}"
    return _form_page(title, content, problem)


def todo_page(
    listing: Listing, todo: Todo, *, text: str | None = None, problem: str = ""
) -> Response:
    """Return the page with the form that edits a todo.

    `listing` is the one to go back to. `text` fills the form's field instead of the todo's own;
    `problem` says why it was refused.
    """
    content = _EDIT.render(
        id=todo.id,
        text=todo.text if text is None else text,
        old=todo.text,
        **_name_toggle(todo),
        back=listing.address(fragment=f"todo-{todo.id}"),
        listing=_render_listing(listing),
        **_render_problem(problem),
    )
    return _form_page(f"Edit: {todo.text}", content, problem)


def import_page(*, text: str = "", problem: str = "") -> Response:
    """Return the page that adds several todos; `problem` says what is wrong with its `text`."""
    content = _IMPORT.render(text=text, **_render_problem(problem))
    return _form_page("Add several todos", content, problem)


def error_page(error: HTTPError, typed: str = "", trace: str = "") -> Response:
    """Return the page that says what went wrong and what to do, and gives back what was typed.

    `trace` is the traceback, if the visitor is a developer.
    """
    title = status_text(error.status)
    content = _ERROR.render(
        title=title,
        detail=error.detail,
        typed=_TYPED.render(text=typed) if typed else "",
        trace=_TRACE.render(text=trace) if trace else "",
    )
    return _page(f"Error: {title}", content, status=error.status, headers=error.headers)


# Parts of the list


def _render_filters(listing: Listing) -> SafeHTML:
    """Return the links to the filters, and the form that finds words."""
    links = (
        _LINK.render(
            href=Listing(show, words=listing.words).address(),
            label=label,
            current="page" if show == listing.show else "false",
        )
        for show, label in _FILTER_LABELS.items()
    )
    return _FILTERS.render(filters=_join(links), show=listing.show, words=listing.words)


def _render_counter(left: int) -> str:
    if left > MAX_COUNT:
        return f"{MAX_COUNT:,}+ items left"
    return "1 item left" if left == 1 else f"{left:,} items left"


def _render_rows(
    listing: Listing, todos: list[Todo], above: list[Todo], event: Event | None
) -> SafeHTML:
    """Return the rows of a page, among them the one with the button "Undo"."""
    shown = todos[:PAGE_SIZE]
    ups = [above[0] if above else None, *shown]  # what is above each of them, and below
    downs = [*todos[1:], None]
    rows = [
        _render_todo(listing, todo, up, down, event if event and event.todo == todo else None)
        for todo, up, down in zip(shown, ups, downs, strict=False)
    ]
    if event and event.undo:
        rows.insert(_row_index(event, shown), _render_undo(event, *event.undo))
    return _join(rows)


def _render_todo(
    listing: Listing, todo: Todo, up: Todo | None, down: Todo | None, event: Event | None
) -> SafeHTML:
    """Return the row of a todo, which can be moved past the ones above and below it.

    `event` is what has just happened to it.
    """
    return _TODO.render(
        id=todo.id,
        text=todo.text,
        linked=_link_words(todo.text),
        changed="changed" if event else "",
        open="open" if event and event.name == "moved" else "",
        state="completed" if todo.is_completed else "active",
        **_name_toggle(todo),
        edit=listing.address(f"/todos/{todo.id}"),
        up=up.id if up else "",
        up_hidden="" if up else "hidden",
        down=down.id if down else "",
        down_hidden="" if down else "hidden",
    )


def _link_words(text: str) -> SafeHTML:
    """Return the text, in which addresses are links, and +tags and @tags link to their search."""
    parts = _LINKED.split(text)  # a linked word is between two others
    for index, part in enumerate(parts):
        if index % 2:
            href = Listing(words=part).address() if part[0] in "+@" else part
            parts[index] = _WORD.render(href=href, text=part)
        else:
            parts[index] = escape(part)
    return SafeHTML("".join(parts))


def _render_undo(event: Event, action: str, name: str, value: str) -> SafeHTML:
    return _UNDO.render(
        notice=_describe(event, ' "{}"'),
        action=action,
        name=name,
        value=value,
        autofocus="" if event.name == "added" else "autofocus",  # there, the field has it
    )


def _describe(event: Event, text_format: str) -> str:
    """Return what has happened in words; `text_format` says how to add the todo's text."""
    if event.size:
        return f"Added {event.size:,} todo{'s' if event.size > 1 else ''}"
    if event.todo is None:
        return _DONE_TO_MANY[event.name]
    return event.name.capitalize() + text_format.format(event.todo.text)


def _row_index(event: Event, shown: list[Todo]) -> int:
    """Return how many rows stand above the one todo, which may be gone; 0 for many."""
    if event.todo is None:
        return 0
    return sum(todo.place > event.todo.place for todo in shown)


def _choose_hint(listing: Listing, todos: list[Todo], *, left: int, has_completed: bool) -> str:
    """Return a friendly line where there is nothing to do, or nothing to see."""
    if listing.start is not None and not todos:
        return "No more todos here."
    if listing.words:
        return "" if todos else "Nothing found."
    if listing.show == "completed":
        return "" if todos else "Nothing completed yet."
    if left:
        return ""
    if has_completed:
        return "All done. Enjoy the rest of the day."
    return "Nothing to do yet. Write the first todo above."


def _render_pager(listing: Listing, todos: list[Todo], above: list[Todo]) -> SafeHTML | str:
    """Return the links to the pages before and after this one, if there are any."""
    links = []
    if above:
        start = above[PAGE_SIZE - 1].place if len(above) > PAGE_SIZE else None
        links.append(("Previous page", listing._replace(start=start)))
    if len(todos) > PAGE_SIZE:
        links.append(("Next page", listing._replace(start=todos[PAGE_SIZE].place)))
    if not links:
        return ""
    return _PAGER.render(
        links=_join(
            _LINK.render(href=target.address(), label=label, current="false")
            for label, target in links
        )
    )


# Parts of several pages


def _name_toggle(todo: Todo) -> dict[str, str]:
    """Return the values for the button that completes a todo, or reopens it."""
    action = "reopen" if todo.is_completed else "complete"
    return {"action": action, "label": action.capitalize()}


def _render_problem(problem: str, *, focus: bool = False) -> dict[str, str]:
    """Return the values for a field's error message.

    The field gets the focus if there is a problem or `focus` is true.
    """
    return {
        "problem": problem,
        "invalid": "true" if problem else "false",
        "autofocus": "autofocus" if problem or focus else "",
    }


def _render_listing(listing: Listing) -> SafeHTML:
    """Return the hidden fields of a form that leads back to this listing."""
    start = "" if listing.start is None else listing.start
    return _LISTING.render(show=listing.show, start=start, words=listing.words)


def _join(parts: Iterable[SafeHTML]) -> SafeHTML:
    return SafeHTML("".join(parts))


def _form_page(title: str, content: SafeHTML, problem: str) -> Response:
    """Return a page with a form; with a problem it is a 422 (RFC 9110, 15.5.21)."""
    if problem:
        return _page(f"Error: {problem}", content, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return _page(title, content, status=HTTPStatus.OK)


def _page(
    title: str,
    content: SafeHTML,
    *,
    status: HTTPStatus,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    body = _PAGE.render(title=title, content=content, **_PATHS)
    return Response(body, status=status, headers=headers)
