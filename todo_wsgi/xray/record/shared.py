"""Global variables that change during a request: other threads share them, a restart loses them.

Their values are compared: before the first function of their module runs, and after the request.
"""

from collections import deque
from itertools import islice
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.source import Line

MAX_MODULES = 50  # that are looked at
MAX_ITEMS = 100  # of one collection that are compared
_SCALARS = (type(None), bool, int, float, str, bytes)
_COLLECTIONS = (list, dict, set, deque)
_Data = dict[str, list[Any]]


class SharedData:
    """The global variables of the modules whose functions run during one request."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[dict[str, Any], str, _Data]] = {}

    def look_at(self, frame: FrameType) -> None:
        """Remember the data of a module whose function is about to run."""
        module = frame.f_globals
        if id(module) not in self._modules and len(self._modules) < MAX_MODULES:
            file = Line.first(frame.f_code).name
            self._modules[id(module)] = module, file, _data_of(module)

    def changed(self) -> dict[str, str]:
        """Return the names of the variables that have changed since, with their files."""
        found = {}
        for module, file, before in self._modules.values():
            after = _data_of(module)
            names = [name for name in before if after.get(name, before[name]) != before[name]]
            found.update(dict.fromkeys(names, file))
        return found


def _data_of(module: dict[str, Any]) -> _Data:
    """Return what to compare of a module's data, except for private names, and caches."""
    return {
        name: [value] if type(value) in _SCALARS else _identities(value)
        for name, value in [*module.items()]
        if type(value) in _SCALARS + _COLLECTIONS
        and not name.startswith("_")
        and "cache" not in name.lower()
    }


def _identities(value: Any) -> list[int]:
    items = value.values() if type(value) is dict else value
    # `list` of `islice` runs no Python, so no other thread can change the value meanwhile.
    return [id(value), len(value), *map(id, list(islice(items, MAX_ITEMS)))]
