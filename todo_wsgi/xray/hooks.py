"""Functions that are put in the place of others while somebody watches."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()
_uses: Counter[tuple[int, str]] = Counter()
_originals: dict[tuple[int, str], Any] = {}  # None: the owner had it from its class
_replacements: dict[tuple[int, str], Any] = {}


def put_in_place(owner: Any, name: str, make: Callable[[Any], object]) -> Callable[[], None]:
    """Replace `owner.name` by what `make` makes of it; return the function that ends this.

    Whoever comes second shares the replacement. The last one to end it brings back what was there.
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
            if vars(owner).get(name) is not ours:  # somebody else has replaced it since
                return
            delattr(owner, name)
            if before is not None:
                setattr(owner, name, before)

    return end
