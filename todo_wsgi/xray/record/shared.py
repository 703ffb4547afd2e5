"""Global variables that change during a request: other threads share them, a restart loses them.

Their values are compared: before the first function of their module runs, and after the request.
"""

from itertools import islice
from types import FrameType
from typing import Any

from todo_wsgi.xray.record.source import Line

MAX_ITEMS = 100  # of one collection that are compared
_SCALARS = (type(None), bool, int, float, str, bytes)
_COLLECTIONS = (list, dict, set)


class SharedData:
    """The global variables of the modules whose functions run during one request."""

    def __init__(self) -> None:
        self._modules: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {}  # by file

    def look_at(self, frame: FrameType) -> None:
        """Remember the data of a module whose function is about to run."""
        module, file = frame.f_globals, frame.f_code.co_filename
        if file not in self._modules:
            self._modules[file] = module, _data_of(module)

    def changed(self) -> dict[str, str]:
        """Return the names of the variables that have changed since, with their files."""
        return {
            name: Line(file, 1).name
            for file, (module, before) in self._modules.items()
            for name, value in _data_of(module).items()
            if before.get(name, value) != value
        }


def _data_of(module: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what to compare of a module's data, except for private names, and caches."""
    found = {}
    for name, value in [*module.items()]:
        if name.startswith("_") or "cache" in name.lower():
            continue
        if type(value) in _SCALARS:
            found[name] = [value]
        elif type(value) in _COLLECTIONS:
            items = value.values() if type(value) is dict else value
            # `list` of `islice` runs no Python, so no other thread can change it meanwhile.
            found[name] = [id(value), len(value), *map(id, list(islice(items, MAX_ITEMS)))]
    return found
