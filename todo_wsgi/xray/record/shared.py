"""Global variables that change during a request: other threads share them, a restart loses them.

A function that assigns one is known by its code. A list that grows in place is known by its items,
before the first function of its module runs and after the request.
"""

import dis
import functools
from collections import deque
from itertools import islice
from types import CodeType, FrameType
from typing import Any

from todo_wsgi.xray.record.source import Line

MAX_MODULES = 50  # that are looked at
MAX_ITEMS = 100  # of one collection that are compared
_KINDS = (list, dict, set, deque)
_Collections = dict[str, tuple[str, list[int]]]  # kind and identities, by name


class SharedData:
    """The global variables of the modules whose functions run during one request."""

    def __init__(self) -> None:
        self._assigned: dict[str, Line] = {}
        self._modules: dict[int, tuple[dict[str, Any], _Collections]] = {}

    def look_at(self, frame: FrameType) -> None:
        """Note what a function may assign, and what its module has before it runs."""
        for name in _names_assigned(frame.f_code):
            self._assigned.setdefault(name, Line.first(frame.f_code))
        module = frame.f_globals
        if id(module) not in self._modules and len(self._modules) < MAX_MODULES:
            self._modules[id(module)] = module, _collections(module)

    def changes(self) -> tuple[dict[str, Line], dict[str, str]]:
        """Return the variables that functions assign, by line, and the changed ones, by kind."""
        changed = {}
        for module, before in self._modules.values():
            after = _collections(module)
            for name in before.keys() & after.keys() - self._assigned.keys():
                if before[name] != after[name]:
                    changed[name] = after[name][0]
        return self._assigned, changed


@functools.cache
def _names_assigned(code: CodeType) -> tuple[str, ...]:
    """Return the names of the global variables that the function assigns."""
    steps = dis.get_instructions(code)
    return tuple(step.argval for step in steps if step.opname == "STORE_GLOBAL")


def _collections(module: dict[str, Any]) -> _Collections:
    """Return the collections of a module, except those that are private, or caches."""
    return {
        name: (type(value).__name__, _identities(value))
        for name, value in [*module.items()]
        if type(value) in _KINDS and not name.startswith("_") and "cache" not in name.lower()
    }


def _identities(value: Any) -> list[int]:
    items = value.values() if type(value) is dict else value
    # `list` of `islice` runs no Python, so no other thread can change the value meanwhile.
    return [id(value), len(value), *map(id, list(islice(items, MAX_ITEMS)))]
