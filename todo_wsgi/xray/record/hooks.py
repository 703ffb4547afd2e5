"""Patching functions while an x-ray is active."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()
_uses: Counter[tuple[int, str]] = Counter()
_originals: dict[tuple[int, str], Any] = {}  # None: the owner inherited it from its class
_replacements: dict[tuple[int, str], Any] = {}


def patch(owner: Any, name: str, make: Callable[[Any], object]) -> Callable[[], None]:
    """Replace `owner.name` by `make(owner.name)`; return a function that undoes the patch.

    Repeated patches share one replacement. Undoing the last one restores the original.
    """
    key = (id(owner), name)
    with _lock:
        if not _uses[key]:
            _originals[key] = vars(owner).get(name)
            _replacements[key] = make(getattr(owner, name))
            setattr(owner, name, _replacements[key])
        _uses[key] += 1

    def end() -> None:
        with _lock:
            _uses[key] -= 1
            if _uses[key]:
                return
            before, ours = _originals.pop(key), _replacements.pop(key)
            if vars(owner).get(name) is not ours:  # somebody else has patched it since
                return
            delattr(owner, name)
            if before is not None:
                setattr(owner, name, before)

    return end
