"""`python -m todo_wsgi` and the command `todo-wsgi`: run serve.py, wherever it is installed."""

import _signal
import sys

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # as serve.py does, and before the other imports

import runpy

from todo_wsgi.storage.resources import FOLDER


def main() -> int:
    """Run `main` of serve.py, and return its exit status."""
    if "--reload" in sys.argv:
        from todo_wsgi.server import reloading

        reloading.reload()  # as serve.py does
    serve = runpy.run_path(str(FOLDER / "serve.py"))
    status: int = serve["main"](program="todo-wsgi")
    return status


if __name__ == "__main__":
    sys.exit(main())
