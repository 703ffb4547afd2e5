"""Lines of source: whose they are, and which one did something."""

import functools
import linecache
import os
import sysconfig
from pathlib import Path
from types import FrameType
from typing import NamedTuple

_XRAY = os.path.dirname(__file__)
_APPLICATION = os.path.dirname(_XRAY)
_LIBRARY = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def is_xray(file: str) -> bool:
    """Whether the source file is one of the x-ray's own."""
    return file.startswith(_XRAY + os.sep)


@functools.cache
def is_application(file: str) -> bool:
    """Whether the source file is the application's: not the x-ray's, nor a library's."""
    if is_xray(file):
        return False
    if file.startswith(_APPLICATION + os.sep):  # also where it is installed
        return True
    is_library = file.startswith(_LIBRARY) or "site-packages" in file or "dist-packages" in file
    return not is_library and not file.startswith("<")


class Place(NamedTuple):
    """A line of source."""

    file: str
    line: int

    @property
    def name(self) -> str:
        """The file as one finds it: from the folder that the program runs in, or else its name."""
        path = Path(self.file)
        for folder in (Path.cwd(), Path(_APPLICATION).parent):
            if path.is_relative_to(folder):
                return str(path.relative_to(folder))
        return f"{path.parent.name}/{path.name}"  # of a library

    @property
    def code(self) -> str:
        """The line itself."""
        return linecache.getline(self.file, self.line).strip()


def place_of(frame: FrameType | None) -> Place | None:
    """Return the line of the application that this frame runs, or that has led to it."""
    while frame:
        file = frame.f_code.co_filename
        if is_application(file):
            return Place(file, frame.f_lineno)
        if file == _ENTRANCE:
            return None
        frame = frame.f_back
    return None


_ENTRANCE = os.path.join(_XRAY, "middleware.py")  # who calls that is no part of the application
