"""Patching functions while an x-ray is active."""

import threading
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()
_patches: dict[tuple[int, str], list[Any]] = {}  # replacement, what was there, number of users


def patch(owner: Any, name: str, make: Callable[[Any], object]) -> Callable[[], None]:
    """Replace `owner.name` by `make(owner.name)`; return a function that undoes the patch.

    Repeated patches share one replacement. Undoing the last one restores the original.
    """
    with _lock:
        shared = _patches.get((id(owner), name))
        if shared is None:
            shared = [make(getattr(owner, name)), vars(owner).get(name), 0]
            _patches[id(owner), name] = shared
            setattr(owner, name, shared[0])
        shared[2] += 1

    def end() -> None:
        with _lock:
            shared[2] -= 1
            if not shared[2]:
                del _patches[id(owner), name]
                if vars(owner).get(name) is shared[0]:  # nobody else has patched it since
                    delattr(owner, name)
                    if shared[1] is not None:  # else the owner inherited it from its class
                        setattr(owner, name, shared[1])

    return end
