"""What the x-ray knows of this application, beyond what it sees of any.

Other applications have no such table of routes, and other templates. All that is used here is
public: the x-ray reads the application, and the application knows nothing of the x-ray.
"""

import functools
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from todo_wsgi.http.errors import MethodNotAllowed, NotFound
from todo_wsgi.http.routing import match
from todo_wsgi.presentation.templating import SafeHTML, Template
from todo_wsgi.storage.database import Database
from todo_wsgi.xray.hooks import put_in_place
from todo_wsgi.xray.source import place_of
from todo_wsgi.xray.trace import Filling, Routing, Trace, current, on
from todo_wsgi.xray.values import cut, describe

MAX_FILLINGS = 3  # of one template that are shown; the others are counted


def watchers() -> dict[CodeType, Callable[[Trace, FrameType], None]]:
    """Return what to do when a function of ours is called: its code, and what notes the call."""
    return {match.__code__: _note_match, Template.render.__code__: _note_filling}


def _note_match(trace: Trace, frame: FrameType) -> None:
    """Record the table of routes, and what is found in it."""
    routes, method, path = (frame.f_locals[name] for name in ("routes", "method", "path"))
    tried = []
    for route in routes:
        handler = route.handler
        try:
            match([route], method, path)
            outcome = "taken"
        except NotFound:
            outcome = "another path"
        except MethodNotAllowed:
            outcome = "this path, but another method"
        tried.append((route.method, route.path, handler.__name__, outcome))
        if outcome == "taken":
            break
    trace.routing = Routing(tried, len(list(routes)) - len(tried), place_of(frame.f_back))


_HOLE = Template("$value")


def _note_filling(trace: Trace, frame: FrameType) -> None:
    """Record a template that is filled, and with what."""
    template, values = frame.f_locals["self"], frame.f_locals["values"]
    count = trace.filled[template.name] = trace.filled.get(template.name, 0) + 1
    if count <= MAX_FILLINGS and trace.takes_event():
        holes = []
        for name, value in values.items():
            is_html = isinstance(value, SafeHTML)
            before = "HTML already, which goes in as it is" if is_html else describe(value)
            holes.append((name, before, cut(str(_HOLE.render(value=value)))))
        trace.fillings.append(Filling(template.name, count, place_of(frame.f_back), holes))


def watch_changes(app: object) -> list[Callable[[], None]]:
    """Have the database's changes recorded for the request that wants them.

    Another thread may make a change, together with its own (`storage/group_commit.py`). Return the
    functions that end this.
    """
    database: Database | None = getattr(app, "database", None)
    if not isinstance(database, Database):
        return []
    return [put_in_place(database, "write", _watch_write)]


def _watch_write(write: Callable[..., Any]) -> Callable[..., Any]:
    def write_for_this_request(change: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trace = current()
        if trace is None:
            return write(change, *args, **kwargs)

        @functools.wraps(change)
        def change_for_this_request(*args: Any, **kwargs: Any) -> Any:
            with on(trace):
                return change(*args, **kwargs)

        return write(change_for_this_request, *args, **kwargs)

    return write_for_this_request
