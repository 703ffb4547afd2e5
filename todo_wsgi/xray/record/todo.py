"""What the x-ray records of the todo list only: routes and templates.

It also makes changes of its database one by one: otherwise a thread may make those of several
requests (`group_commit.py`). The todo list in turn knows nothing about the x-ray.
"""

import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from todo_wsgi.http.errors import MethodNotAllowed, NotFound
from todo_wsgi.http.routing import match
from todo_wsgi.presentation.templating import SafeHTML, Template
from todo_wsgi.storage.database import Database
from todo_wsgi.xray.record.hooks import patch
from todo_wsgi.xray.record.source import line_of
from todo_wsgi.xray.record.trace import Rendering, Routing, Trace
from todo_wsgi.xray.record.values import cut, describe

MAX_RENDERINGS = 3  # of one template that are shown; the rest are counted


def watchers() -> dict[CodeType, Callable[[Trace, FrameType], None]]:
    """Return the functions of the todo list to watch, by code, with what records their calls."""
    return {match.__code__: _note_match, Template.render.__code__: _note_rendering}


def _note_match(trace: Trace, frame: FrameType) -> None:
    """Record a lookup in the table of routes."""
    routes, method, path = (frame.f_locals[name] for name in ("routes", "method", "path"))
    tried = []
    for route in routes:
        outcome = "matched"
        try:
            match([route], method, path)
        except (NotFound, MethodNotAllowed) as error:
            is_other = isinstance(error, NotFound)
            outcome = "different path" if is_other else "same path, different method"
        tried.append((route.method, route.path, route.handler.__name__, outcome))
        if outcome == "matched":
            break
    trace.routing = Routing(tried, len(list(routes)) - len(tried), line_of(frame.f_back))


_PLACEHOLDER = Template("$value")


def _note_rendering(trace: Trace, frame: FrameType) -> None:
    """Record a rendering of a template, and its values."""
    name, values = frame.f_locals["self"].name, frame.f_locals["values"]
    count = trace.rendered[name] = trace.rendered.get(name, 0) + 1
    if count <= MAX_RENDERINGS and trace.takes_event():
        rows = []
        for key, value in values.items():
            is_html = isinstance(value, SafeHTML)
            before = "HTML, inserted as is" if is_html else describe(value)
            rows.append((key, before, cut(str(_PLACEHOLDER.render(value=value)))))
        trace.renderings.append(Rendering(name, count, line_of(frame.f_back), rows))


def watch_changes(app: object) -> list[Callable[[], None]]:
    """Make changes one by one, not several in one transaction; return what ends this."""
    database: Database | None = getattr(app, "database", None)
    return [patch(database, "write", _one_by_one)] if isinstance(database, Database) else []


def _one_by_one(write: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()

    def write_alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return write(*args, **kwargs)

    return write_alone
