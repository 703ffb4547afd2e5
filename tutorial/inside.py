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
from todo_wsgi.xray.story.lessons import place
from todo_wsgi.xray.story.parts import tell
from tutorial.checks import PATIENCE, Failed, Site

HERE = Path(__file__).parent
DONE, EXERCISE_LEFT, FAILED = 10, 11, 12  # exit statuses: the learner's code may exit with 0
IS_MASKED = bool(os.environ.get("TUTORIAL_MASKED"))  # as `build` wants it


def main() -> int:
    """Do what the command line says."""
    what, *words = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    if what != "xray":
        return check(int(words[0]), is_whole=what == "check")
    prepare()
    command.tell = lambda trace, traces: masked(tell(trace, traces))  # type: ignore[attr-defined]
    return command.main(words) or DONE


def check(number: int, *, is_whole: bool) -> int:
    """Check the application here against a step, or only its exercise, and print the outcome."""
    folder = folder_of(number)
    rules = rules_of(folder)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    undo = watch_connections()
    try:
        examine_files(folder)
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
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
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


def examine_files(step: Path) -> None:
    """Raise Failed if a file is missing here, or hides a module of Python."""
    for name in "init_db.sql", "serve.py", "hook":
        if (step / name).exists() and not os.path.exists(name):
            details = "The page of this step shows what is in it. Save it beside app.py."
            raise Failed(f"there is a file {name}", details, None, ())
    for file in Path().glob("*.py"):
        if file.stem in sys.stdlib_module_names & sys.modules.keys():
            details = f"{file} hides Python's own module {file.stem}. Rename it."
            raise Failed("no file is named like a module of Python", details, None, ())


def prepare() -> None:
    """Make the database of this folder, if it has an init_db.sql. Raises Failed."""
    path = Path("init_db.sql")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    begin = 0
    with closing(sqlite3.connect("todos.db")) as db:
        for end in range(1, len(lines) + 1):
            script = "\n".join(lines[begin:end])
            if not sqlite3.complete_statement(script) and end < len(lines):
                continue
            try:
                db.executescript(script)
            except sqlite3.Error as error:
                details = f"SQLite says of lines {begin + 1} to {end}: {error}."
                if "syntax" in details:
                    details += " Does the line before lack its comma?"
                raise Failed("init_db.sql makes the database", details, None, ()) from None
            begin = end


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
    if failed.trace is None or failed.trace.is_running:
        return
    has_failed = failed.trace.error or failed.trace.code >= 500  # else the program goes on
    for failure in failed.trace.failures[-1:] if has_failed else []:
        what = f"{failure.kind}: {failure.message.rstrip('.')}."
        hint = next((HINTS[pattern] for pattern in HINTS if re.search(pattern, what)), "")
        if hint and not failed.trace.wrong:  # else the x-ray says what to do
            print(f"    {place(failure.line)}: {what}\n    {hint}")
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


# What to do about an exception, where its message does not say so.
HINTS = {
    "EOFError": "input() asks at the terminal of the server. What a visitor types is in environ.",
    "KeyError": "Compare the spelling: of a key, or of a $name in a template.",
    "name 'request'": "What came in is in environ; read_form returns the form.",
    "NameError": "Is it misspelled, or its import missing? In an f-string, {{ stands for {.",
    "NoneType": "A function returned None: does it lack its return?",
    "'dict' object has no attribute": 'environ is a dict: write environ["PATH_INFO"].',
    "'dict' object is not callable": "The order is: def app(environ, start_response).",
    "Invalid placeholder": "In a template, $$ stands for a dollar sign.",
    r"concatenate tuple \(not": 'Headers are a list of tuples: [("Location", "/")].',
    "no such table": "init_db.sql makes the tables of todos.db. connect makes an empty database if "
    "there is no file of that name.",
    "no such column": "Is it misspelled? For a value, write ? and pass it: execute(sql, (value,)).",
    "bindings": "Pass a tuple with a value for each ?. One value needs a comma, too: (text,).",
    "type 'list'": "parse_qs returns a list for each name. Take its first value: [0].",
    "closed database": "Read the rows, with fetchall(), before you close the connection.",
}
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
