"""Lines of source code, and whether they belong to the application."""

import functools
import linecache
import os
import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

_XRAY = os.path.dirname(os.path.dirname(__file__))
_ENTRANCE = os.path.join(_XRAY, "record", "middleware.py")  # it calls the application
_APPLICATION = os.path.dirname(_XRAY)
_SCRIPTS = sysconfig.get_path("scripts")  # where Bottle installs itself, too
_LIBRARIES = (sysconfig.get_path("stdlib"), _SCRIPTS, "site-packages", "dist-packages")


class Line(NamedTuple):
    """A line of source code."""

    file: str
    number: int
    text: str | None = None  # of the line, if it differs from the file: a secret is hidden

    @classmethod
    def first(cls, code: CodeType) -> "Line":
        """Return the line where a function begins."""
        return cls(code.co_filename, code.co_firstlineno)

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
        return linecache.getline(self.file, self.number).strip() if self.text is None else self.text


def line_of(frame: FrameType | None) -> Line | None:
    """Return the innermost application line in this frame's stack, or None without one."""
    while frame and (file := frame.f_code.co_filename) != _ENTRANCE:
        if is_application(file):
            return line_in(frame, frame.f_lineno)
        frame = frame.f_back
    return None


@functools.cache
def is_application(file: str) -> bool:
    """Return whether the source file belongs to the application: not to the x-ray or a library."""
    if is_xray(file) or not os.path.isabs(file):  # "<string>", or relative: compiled by Cython
        return False
    if file.startswith(_APPLICATION + os.sep):  # even if installed in site-packages
        return True
    return not any(part in file for part in _LIBRARIES)


def is_xray(file: str) -> bool:
    """Return whether the source file belongs to the x-ray."""
    return file.startswith(_XRAY + os.sep)


def line_in(frame: FrameType, number: int) -> Line:
    """Return the line that a frame runs; of a template of Jinja, the line in the template."""
    if template := frame.f_globals.get("__jinja_template__"):
        number = template.get_corresponding_lineno(number)
    return Line(frame.f_code.co_filename, number)


def is_template(frame: FrameType) -> bool:
    """Return whether the frame runs a template that a library compiled, not a module."""
    return "__name__" not in frame.f_globals or "__jinja_exception__" in frame.f_globals
