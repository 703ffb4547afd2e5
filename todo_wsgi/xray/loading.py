"""Import the application that `--app` names, or say in a sentence what to type instead."""

import importlib
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.types import WSGIApplication

from todo_wsgi.xray.record.source import Line, is_application, line_of
from todo_wsgi.xray.record.values import cut

TIMEOUT = 10  # seconds that the import of a module may take
_GUARD = '. Move it below this line: if __name__ == "__main__":'


class CannotLoad(Exception):
    """There is no such application; the message says what to do."""


def load(name: str) -> WSGIApplication:
    """Return the application `module:name`, `module:object.name` or `module:factory()`.

    The module may be given as its file; the name is "app" by default. Raises CannotLoad.
    """
    given, _, expression = name.partition(":")
    module_name = os.path.normpath(given.removesuffix(".py")).replace(os.sep, ".")
    path = (expression or "app").removesuffix("()")
    module = _run(f"importing {module_name}", importlib.import_module, module_name)
    try:
        app = attrgetter(path)(module)
    except AttributeError:
        raise CannotLoad(f"{module_name} has no {path!r}. {_suggest(module)}") from None
    if expression.endswith("()"):
        app = _run(f"calling {expression}", app)
    elif _takes(app) and not _takes(app, "environ", "start_response"):
        raise CannotLoad(
            f"{path!r} does not take (environ, start_response). If it is a factory, which returns "
            f"the application, write --app '{module_name}:{path}()'"
        )
    if not callable(app):
        raise CannotLoad(f"{name!r} is not a WSGI application: it is not callable")
    return app  # type: ignore[no-any-return]


def _run(act: str, function: Callable[..., Any], *args: str) -> Any:
    """Return what the application's code returns. CannotLoad if it fails; exits if it hangs."""
    watchdog = threading.Timer(TIMEOUT, _give_up, [act])
    watchdog.start()
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name  # or one it imports
        if args and f"{args[0]}.".startswith((".", f"{missing}.")):
            here = cut(", ".join(sorted(file.stem for file in Path().glob("*.py"))) or "none")
            raise CannotLoad(f"there is no module {args[0]!r}. Those here are: {here}") from None
        steps = [Line(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
        places = [f" at {step.name}:{step.number}" for step in steps if is_application(step.file)]
        what = "".join(traceback.format_exception_only(error)).rstrip()
        hint = _GUARD if isinstance(error, SystemExit) else ""
        raise CannotLoad(f"{act} fails{''.join(places[-1:])}: {what}{hint}") from error
    finally:
        watchdog.cancel()


def _give_up(act: str) -> None:
    """End the process: an exception would not reach its main thread, which imports endlessly."""
    line = line_of(sys._current_frames()[threading.main_thread().ident or 0])
    where = f". It is at {line.name}:{line.number}: {line.code}" if line else ""
    print(f"xray: {act} takes more than {TIMEOUT} s{where}{_GUARD}", file=sys.stderr, flush=True)
    os._exit(2)


def _takes(value: Any, *arguments: object) -> bool:
    """Return whether one can call it with these arguments, as far as one can see."""
    try:
        inspect.signature(value).bind(*arguments)
    except Exception:  # TypeError, ValueError; or that of a proxy, such as Flask's `request`
        return False
    return True


def _suggest(module: ModuleType) -> str:
    """Say which names of the module look like applications."""
    name = module.__name__
    found = [
        f"{name}:{key}"
        for key, value in vars(module).items()
        if _takes(value, 0, 0) and "start_response" in inspect.signature(value).parameters
    ]
    found += [f"'{name}:{key}()'" for key in ("create_app", "make_app") if hasattr(module, key)]
    if not found:
        return f"Nothing there takes (environ, start_response). Write --app {name}:NAME"
    return f"Write --app {' or '.join(found[:3])}"
