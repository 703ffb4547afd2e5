"""What the list must be, and how each request must be answered: an independent model.

It is written from docs/answers.md and shares no code with the application. `Model.answer` takes a
request and returns its status and what the page shows. It changes as the list must change. What
the application alone can know, the names by which changes are undone, it reads in the redirect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

FORM = "application/x-www-form-urlencoded"
HOSTS = {
    **dict.fromkeys(["localhost", "LOCALHOST.", "a.localhost:80", "127.0.0.1:8080", "[::1]"], 200),
    **dict.fromkeys(["", "localhost, x", "a@localhost", "<evil>"], 400),
    **dict.fromkeys(["evil.example", "127.1", "localhost.evil.example"], 421),
}
ROUTES = {
    **dict.fromkeys(["/", "/todos/{id}", "/import"], ("GET", "POST")),
    **dict.fromkeys(["/todos.txt", "/healthz"], ("GET",)),
    **dict.fromkeys(["/complete-all", "/clear-completed", "/undo"], ("POST",)),
    **{
        f"/todos/{{id}}/{what}": ("POST",)
        for what in ("complete", "reopen", "delete", "top", "up", "down")
    },
}
UNTOLD = "the name of a change that no page can undo"

Row = tuple[int, str, str]  # of a page: id, state and text
Answer = tuple[int, str | None, list[Row]]  # status, the text in the field, rows


class Refused(Exception):
    """The request gets this status, and changes nothing."""


@dataclass
class Todo:
    id: int
    text: str
    place: int
    completed_at: str | None = None
    deleted_at: str | None = None


class Model:
    def __init__(self) -> None:
        self.todos: dict[int, Todo] = {}  # deleted ones, too
        self.last = 0  # the highest id or place
        self.imports: dict[str, list[Todo]] = {}
        self.told = [("deleted_at", "2020-01-01 00:00:00"), ("imported", "1-9-1")]  # to undo
        self.told += [("completed_at", "2020-01-01 00:00:00"), ("deleted_at", "x<evil>")]

    def answer(self, environ: dict[str, Any], body: bytes, said: dict[str, str]) -> Answer:
        """Answer the request; `said` are the fields in the redirect of the application."""
        try:
            method, route, number = read_target(environ)
            if method == "GET":
                query = read_fields(environ["QUERY_STRING"].encode(), "replace")
                shown = self._show(route, number, query)
                return (200, None, []) if environ["REQUEST_METHOD"] == "HEAD" else shown
            return self._change(route, number, read_form(environ, body), said)
        except Refused as refused:
            return refused.args[0], None, []

    def listed(self) -> list[Todo]:
        """Return the todos that are not deleted, from the top."""
        todos = [todo for todo in self.todos.values() if todo.deleted_at is None]
        return sorted(todos, key=lambda todo: -todo.place)

    def export(self) -> list[str]:
        """Return the lines of the export, without dates."""
        return [f"{'x ' * bool(todo.completed_at)}{todo.text}" for todo in self.listed()] + [""]

    def _show(self, route: str, number: int, query: dict[str, str]) -> Answer:
        if route == "/":
            return 200, "", self._rows(query)
        if route == "/todos/{id}":
            self._rows(query)
            return 200, visible(self._find(number).text), []
        return 200, "" if route == "/import" else None, []

    def _rows(self, fields: dict[str, str]) -> list[Row]:
        show, start = fields.get("show") or "all", fields.get("from")
        first = read_integer(start) if start else self.last
        if show not in ("all", "active", "completed") or first is None:
            raise Refused(404)
        words = small(fields.get("q", "")[:500]).split()
        rows = [
            (todo.id, "completed" if todo.completed_at else "active", visible(todo.text))
            for todo in self.listed()
            if todo.place <= first and all(word in small(todo.text) for word in words)
        ]
        return [row for row in rows if show in ("all", row[1])][:100]

    def _find(self, number: int | None) -> Todo:
        todo = self.todos.get(number or 0)
        if todo is None or todo.deleted_at is not None:
            raise Refused(404)
        return todo

    def _change(
        self, route: str, number: int, form: dict[str, str], said: dict[str, str]
    ) -> Answer:
        typed = form.get("text", "")
        if route == "/import":
            return self._import(typed, said)
        self._rows(form)
        match route:
            case "/":
                if (text := clean(typed)) is None:
                    return 422, visible(typed), self._rows(form)
                self._add(text)
            case "/todos/{id}":
                todo = self._find(number)
                if (text := clean(typed)) is None:
                    return 422, visible(typed), []
                todo.text = text
            case "/todos/{id}/complete":
                todo = self._find(number)
                if form.get("show") == "active":
                    self._mark("completed_at", [todo] * (todo.completed_at is None), said)
                todo.completed_at = todo.completed_at or UNTOLD
            case "/todos/{id}/reopen":
                self._find(number).completed_at = None
            case "/todos/{id}/delete":
                if number not in self.todos:
                    raise Refused(404)
                todo = self.todos[number]
                self._mark("deleted_at", [todo] * (todo.deleted_at is None), said)
            case "/todos/{id}/top":
                self.last += bool(self.todos)  # a place that no other todo gets
                todo = self._find(number)
                if todo is not self.listed()[0]:
                    todo.place = self.last
            case "/todos/{id}/up" | "/todos/{id}/down":
                if (past := read_integer(form.get("past", ""))) is None:
                    raise Refused(400)
                todo, other = self._find(number), self._find(past)
                if (todo.place < other.place) == route.endswith("up"):
                    todo.place, other.place = other.place, todo.place
            case "/complete-all":
                active = [todo for todo in self.listed() if not todo.completed_at]
                self._mark("completed_at", active, said)
            case "/clear-completed":
                completed = [todo for todo in self.listed() if todo.completed_at]
                self._mark("deleted_at", completed, said)
            case _:
                self._undo(form, said)
        return 303, None, []

    def _add(self, text: str, completed_at: str | None = None) -> Todo:
        self.last += 1
        self.todos[self.last] = Todo(self.last, text, self.last, completed_at)
        return self.todos[self.last]

    def _mark(self, column: str, todos: list[Todo], said: dict[str, str]) -> None:
        """Complete or delete them: all get the name by which that can be undone, as a whole."""
        self.told += [(column, said.get(column, ""))] * bool(todos)
        for todo in todos:
            setattr(todo, column, said.get(column, ""))

    def _undo(self, form: dict[str, str], said: dict[str, str]) -> None:
        if name := form.get("imported"):
            todos = [todo for todo in self.imports.get(name, []) if todo.deleted_at is None]
            self._mark("deleted_at", todos, said)
        elif name := form.get("deleted_at"):
            if name <= f"{datetime.now(UTC) - timedelta(30):%Y-%m-%d %H:%M:%S.%f}":
                raise Refused(404)
            for todo in self.todos.values():
                todo.deleted_at = None if todo.deleted_at == name else todo.deleted_at
        elif name := form.get("completed_at"):
            for todo in self.listed():
                todo.completed_at = None if todo.completed_at == name else todo.completed_at
        else:
            raise Refused(400)

    def _import(self, typed: str, said: dict[str, str]) -> Answer:
        lines = [line.strip() for line in re.split("\r\n|\r|\n", typed.removeprefix("\ufeff"))]
        read = [read_line(line) for line in lines if line]
        if not read or None in read or len(read) > 1000:
            return 422, visible(typed), []
        todos = [self._add(*line) for line in reversed(read) if line]
        self.imports[said.get("imported", "")] = todos
        self.told.append(("imported", said.get("imported", "")))
        return 303, None, []


# The request


def read_target(environ: dict[str, Any]) -> tuple[str, str, int]:
    """Return method, route, and the number in the path or 0, if this may be asked and changed."""
    try:
        path = environ["PATH_INFO"].encode("latin-1").decode() or "/"
    except UnicodeDecodeError:
        raise Refused(400) from None
    host = environ["HTTP_HOST"]
    if path != "/healthz" and HOSTS[host] != 200:
        raise Refused(HOSTS[host])
    parts = re.fullmatch("/todos/(-?[0-9]{1,18})(/[a-z]+)?", path)
    number, route = (int(parts[1]), f"/todos/{{id}}{parts[2] or ''}") if parts else (0, path)
    method = environ["REQUEST_METHOD"].replace("HEAD", "GET")
    if route not in ROUTES:
        raise Refused(404)
    if method not in ROUTES[route]:
        raise Refused(405)
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    is_ours = site in ("same-origin", "none") if site else origin in (None, f"http://{host}")
    if method == "POST" and not is_ours:
        raise Refused(403)
    return method, route, number


def read_form(environ: dict[str, Any], body: bytes) -> dict[str, str]:
    kind, length = (
        environ["CONTENT_TYPE"].partition(";")[0].strip().lower(),
        environ["CONTENT_LENGTH"],
    )
    if kind == "" and length in ("", "0"):
        return {}
    if kind != FORM:
        raise Refused(415)
    if length == "":
        raise Refused(411)
    if not re.fullmatch("[0-9]+", length):
        raise Refused(400)
    if int(length) > 65536:
        raise Refused(413)
    body = body[: int(length)]
    if (
        len(body) < int(length)
        or body.count(b"&") >= 100
        or re.search(rb"%(?![0-9a-fA-F]{2})", body)
    ):
        raise Refused(400)
    try:
        body.decode()
        form = read_fields(body, "strict")
    except UnicodeDecodeError:
        raise Refused(400) from None
    if len(form) < len([field for field in body.split(b"&") if field]):
        raise Refused(400)  # a field twice
    return form


def read_fields(encoded: bytes, errors: str) -> dict[str, str]:
    """Decode a form or a query (WHATWG URL, 5.1); the last value of a name wins."""

    def decode(part: bytes) -> str:
        part = re.sub(rb"%([0-9a-fA-F]{2})", lambda found: bytes.fromhex(found[1].decode()), part)
        return part.decode(errors=errors)

    fields = [field.replace(b"+", b" ").partition(b"=") for field in encoded.split(b"&") if field]
    return {decode(name): decode(value) for name, _, value in fields}


# Texts


def read_integer(text: str) -> int | None:
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else None


def small(text: str) -> str:
    """Return it in small letters of A to Z, as SQLite compares."""
    return re.sub("[A-Z]", lambda found: found[0].lower(), text)


def visible(text: str) -> str:
    """Return it with U+FFFD for what HTML may not have."""
    return re.sub("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0\U0010ffff]", "\ufffd", text)


def clean(text: str) -> str | None:
    """Return a todo's text: one line of 1 to 500 characters, none of them a control character."""
    text = " ".join(filter(None, map(str.strip, re.split("[\r\n]", text))))
    return text if 0 < len(text) <= 500 and not re.search("[\0-\x1f\x7f-\x9f]", text) else None


def read_line(line: str) -> tuple[str, str | None] | None:
    """Return text and completion of a line in the todo.txt format; None if it is wrong."""
    mark, rest = re.findall(r"^(x |\([A-Z]\) |)(.*)", line)[0]
    for _ in range(2 if mark == "x " else 1):
        if day := re.match("([0-9]{4}-[0-9]{2}-[0-9]{2})( |$)", rest):
            rest = rest[11:]
            try:
                date.fromisoformat(day[1])
            except ValueError:
                return None
    text = clean(rest if mark == "x " else mark + rest)
    return (text, UNTOLD if mark == "x " else None) if text else None
