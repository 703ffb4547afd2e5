"""Lines of source code, and whether they belong to the application."""

import functools
import linecache
import os
import sysconfig
from pathlib import Path
from types import FrameType
from typing import NamedTuple

_XRAY = os.path.dirname(os.path.dirname(__file__))
_APPLICATION = os.path.dirname(_XRAY)
_LIBRARY = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def is_xray(file: str) -> bool:
    """Return whether the source file belongs to the x-ray."""
    return file.startswith(_XRAY + os.sep)


@functools.cache
def is_application(file: str) -> bool:
    """Return whether the source file belongs to the application: not to the x-ray or a library."""
    if is_xray(file):
        return False
    if file.startswith(_APPLICATION + os.sep):  # even if installed in site-packages
        return True
    is_library = file.startswith(_LIBRARY) or "site-packages" in file or "dist-packages" in file
    return not is_library and not file.startswith("<")


class Line(NamedTuple):
    """A line of source code."""

    file: str
    number: int
    text: str | None = None  # of the line, if it differs from the file: a secret is hidden

    @property
    def name(self) -> str:
        """The file, relative to the current folder if possible; of a library, the last parts."""
        path = Path(self.file)
        for folder in (Path.cwd(), Path(_APPLICATION).parent):
            if path.is_relative_to(folder):
                return str(path.relative_to(folder))
        return f"{path.parent.name}/{path.name}"

    @property
    def code(self) -> str:
        """The text of the line."""
        if self.text is not None:
            return self.text
        return linecache.getline(self.file, self.number).strip()


def line_of(frame: FrameType | None) -> Line | None:
    """Return the innermost application line in this frame's stack, or None without one."""
    while frame:
        file = frame.f_code.co_filename
        if is_application(file):
            return Line(file, frame.f_lineno)
        if file == _ENTRANCE:
            return None
        frame = frame.f_back
    return None


# Its callers are not part of the application.
_ENTRANCE = os.path.join(_XRAY, "record", "middleware.py")
