"""A client that posts changes, and knows exactly what the list must hold of it.

It changes only its own todos: those whose text begins with its name. So the acknowledged changes,
one after the other, say what is there. Its choices depend on the seed of `random` alone, which
pytest prints and `--randomly-seed` sets.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPResponse
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

ANSWER = "?"  # stands for what the answer will name: the id of a new todo, or the time of a change
MAX_TODOS = 8  # of a client, so that a page shows those of all
TOP = 10**9  # a place above all todos


class Todo(NamedTuple):
    """A row of the table `todos`. The place says less than there: which one is above the other."""

    id: str
    text: str
    completed_at: str | None
    deleted_at: str | None
    place: int


Change = tuple[str, dict[str, str], list[Todo]]  # its path, its form, and the rows after it


class Client:
    """Adds, edits, completes, reopens, moves, deletes and undoes, at random.

    `todos` are its todos by their ids, as acknowledged, also the deleted ones. `in_hand` are those
    that a change leads to which is not answered yet.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.random = random.Random(random.random())
        self.todos: dict[str, Todo] = {}
        self.in_hand: dict[str, Todo] = {}
        self.acknowledged = 0
        self._number = 0  # no text is used twice

    def change(self, connection: HTTPConnection) -> None:
        """Post a change; once it is acknowledged, the todos are those after it."""
        path, form, after = self.random.choice(self._possible_changes())
        self.in_hand = {todo.id: todo for todo in after}
        answer = post(connection, path, form)
        named = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
        value = named.get("added") or named.get("completed_at") or named.get("deleted_at")
        for row in after:
            todo = Todo._make(value if field == ANSWER else field for field in row)
            self.todos[todo.id] = todo
        self.in_hand = {}
        self.acknowledged += 1

    def _possible_changes(self) -> list[Change]:
        self._number += 1
        text, top = f"{self.name} {self._number}", TOP + self._number
        add: Change = ("/", {"text": text}, [Todo(ANSWER, text, None, None, top)])
        there = [todo for todo in self.todos.values() if not todo.deleted_at]
        if len(there) < 2:
            return [add]
        one, other = self.random.sample(there, 2)
        low, high = sorted((one, other), key=lambda todo: todo.place)
        swapped = [low._replace(place=high.place), high._replace(place=low.place)]
        changes: list[Change] = [
            (f"/todos/{one.id}", {"text": text}, [one._replace(text=text)]),
            (f"/todos/{one.id}/complete", {"show": "active"}, [one._replace(completed_at=ANSWER)]),
            (f"/todos/{one.id}/reopen", {}, [one._replace(completed_at=None)]),
            (f"/todos/{one.id}/delete", {}, [one._replace(deleted_at=ANSWER)]),
            (f"/todos/{one.id}/top", {}, [one._replace(place=top)]),
            (f"/todos/{low.id}/up", {"past": high.id}, swapped),
            (f"/todos/{high.id}/down", {"past": low.id}, swapped),
        ]
        for todo in self.todos.values():
            if todo.completed_at and not todo.deleted_at:
                undone = [todo._replace(completed_at=None)]
                changes.append(("/undo", {"completed_at": todo.completed_at}, undone))
        if len(there) < MAX_TODOS:
            gone = [todo for todo in self.todos.values() if todo.deleted_at][-1:]
            back = [todo._replace(deleted_at=None) for todo in gone]
            changes += [add, add, add]
            changes += [("/undo", {"deleted_at": str(todo.deleted_at)}, back) for todo in gone]
        return changes


def post(connection: HTTPConnection, path: str, form: dict[str, str]) -> HTTPResponse:
    """Post a form, and return the answer, which must be a 303."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", path, urlencode(form), headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303, f"{path} {form}: {answer.status}"
    return answer


def from_the_top(todos: Iterable[Todo]) -> list[Todo]:
    """Return the todos as the list sorts them."""
    return sorted(todos, key=lambda todo: -todo.place)
