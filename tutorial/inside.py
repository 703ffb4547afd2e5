"""Run a check in this process, on the copy of the learner's folder that is its current folder.

    python -m tutorial.inside check 4           the check of step 4, then its exercise
    python -m tutorial.inside exercise 4        only its exercise
    python -m tutorial.inside xray GET /        the x-ray of a request, as the pages show it

The learner's code may do anything here: loop, exit, or read from the terminal. So the process is
not the one that the learner started; that one tells what happened to this one (`running.py`).
"""

import errno
import faulthandler
import importlib.util
import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from wsgiref.types import WSGIApplication
from xml.etree.ElementTree import Element

from todo_wsgi.xray import XRay
from todo_wsgi.xray import __main__ as command
from todo_wsgi.xray.loading import CannotLoad, load
from todo_wsgi.xray.record.sql import watch_connections
from todo_wsgi.xray.record.trace import Traces
from todo_wsgi.xray.show.terminal import Printer
from todo_wsgi.xray.show.viewer import listen, serving
from todo_wsgi.xray.story.document import CALLS, Story
from todo_wsgi.xray.story.parts import tell
from tutorial.checks import PATIENCE, Failed, Site

HERE = Path(__file__).parent
DONE, EXERCISE_LEFT, FAILED = 0, 10, 11  # exit statuses, none of which Python has of its own
IS_MASKED = bool(os.environ.get("TUTORIAL_MASKED"))  # as `build` wants it


def main() -> int:
    """Do what the command line says."""
    what, *words = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    if what != "xray":
        return check(int(words[0]), is_whole=what == "check")
    prepare()
    command.tell = lambda trace, traces: masked(tell(trace, traces))  # type: ignore[attr-defined]
    return command.main(words)


def check(number: int, *, is_whole: bool) -> int:
    """Check the application here against a step, or only its exercise, and print the outcome."""
    folder = folder_of(number)
    rules = rules_of(folder)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    undo = watch_connections()
    try:
        prepare()
        app = import_app()
    except Failed as failed:
        show(failed, Traces())
        return FAILED
    status = FAILED
    with closing(XRay(app)) as xray, listen(0) as listener, serving(xray, listener, threads=4):
        site = Site(listener.getsockname()[1], xray.traces)
        try:
            if is_whole:
                rules.check(site)
            status = EXERCISE_LEFT
            print("Exercise")
            rules.exercise(site)
            status = DONE
        except Failed as failed:
            show(failed, xray.traces)
        finally:
            undo()
    return status


def folder_of(number: int) -> Path:
    """Return the folder of a step."""
    return next(HERE.glob(f"{number}-*"))


def rules_of(folder: Path) -> ModuleType:
    """Return the module check.py of a step."""
    spec = importlib.util.spec_from_file_location("check", folder / "check.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare() -> None:
    """Make the database of this folder. Raises Failed."""
    if not os.path.exists("init_db.sql"):
        return
    try:
        with closing(sqlite3.connect("todos.db")) as db:
            db.executescript(Path("init_db.sql").read_text(encoding="utf-8"))
    except sqlite3.Error as error:
        raise Failed("init_db.sql makes the database", f"SQLite says: {error}", None, ()) from None


def import_app() -> WSGIApplication:
    """Return the learner's application. Raises Failed."""
    try:
        return load("app")
    except CannotLoad as error:
        reason = str(error).replace(os.getcwd() + os.sep, "")
        if "app" in sys.modules:
            reason = "app.py has to define a function app, with (environ, start_response)."
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            reason += ". Does your program still run in another terminal? And it has to start its "
            reason += 'server below this line: if __name__ == "__main__":'
        raise Failed("app.py can be imported, and has an application", reason, None, ()) from None


def show(failed: Failed, traces: Traces) -> None:
    """Print which need is not met, and as much of the x-ray as it takes to see why."""
    print(f"  ✗ {failed}")
    for line in failed.details.splitlines():
        print(f"    {line}")
    if failed.trace is None:
        return
    story = masked(tell(failed.trace, traces))
    parts = {*failed.parts, *(mistake.part for mistake in story.summary.mistakes)}
    if failed.trace.error:
        parts.add(CALLS)
    for part in story.parts:  # what is true of any request would only distract
        part.content[:] = [item for item in part.content if item.get("class") != "fact"]
    _, *lines = Printer(width=92).lines(story, parts)  # without the title
    if not story.summary.mistakes:
        lines.pop()  # it says that there is none
    for line in lines if parts else []:
        print(f"    {line}".rstrip())


MASKS = {
    r"\b[\d.,]+ (ms|s)\b": r"… \1",
    r"\bprocess \d+": "process …",
    r"\bport \d{4,5}\b": "port …",
    r"\bthread id \d+": "thread id …",
    r"\bthread (waitress-)\d+": r"thread \1…",
    r"Date: .*": "Date: …",
    r"0x[0-9a-f]+": "0x…",
    r"(_PORT': )'\d+'": r"\1'…'",
}


def masked(story: Story) -> Story:
    """Hide what differs from run to run, before lines are broken, if the pages are built."""
    if IS_MASKED:
        for part in story.parts:
            for item in part.content:
                for element in item.iter():
                    mask(element)
    return story


def mask(element: Element) -> None:
    """Hide what differs from run to run in the text of an element."""
    for pattern, shown in MASKS.items():
        element.text = re.sub(pattern, shown, element.text or "")
        element.tail = re.sub(pattern, shown, element.tail or "")


if __name__ == "__main__":
    sys.exit(main())
