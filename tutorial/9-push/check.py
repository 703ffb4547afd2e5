"""Step 9: git push is the deployment."""

import faulthandler
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tutorial.checks import Failed, Mistake, Site, wait_for

REHEARSAL = 'python3 -c "import app, waitress"\n'
MISTAKES = {
    "begin anew at each push": Mistake(
        "hook",
        {REHEARSAL: f'{REHEARSAL}sqlite3 "$TODO_DB" < init_db.sql\n'},
        fails="a todo that was added before is still there",
        shows="init_db.sql deletes all todos",
    ),
    "the database beside the code": Mistake(
        "hook",
        {' TODO_DB="$PWD/../../todos.db"': ""},
        fails="the list of the server is on the page",
        shows="no such table: todos",
    ),
    "no rehearsal": Mistake(
        "hook",
        {REHEARSAL: ""},
        fails="and the version before it runs on",
        shows="SyntaxError: '(' was never closed",
    ),
}
# What the check adds to app.py to make a new version of it.
VERSION = """

def app(environ, start_response, app=app):
    {}
    return app(environ, start_response)
"""
RENAMED = VERSION.format('environ["PATH_INFO"] = environ["PATH_INFO"].replace("/new", "/")')
FAILING = VERSION.format('raise RuntimeError("every request fails")')
REPAIRED = "\n\napp = app.__defaults__[0]\n"  # the one before the failing one


def check(_: Site) -> None:
    """Fail unless a push starts a version or is refused, and the todos stay."""
    with serving() as server:
        server.push("git push starts the program on the server")
        answer = server.site.get("/")
        has_list = "laundry" in answer.text
        answer.needs(has_list, "the list of the server is on the page", hint=server.log())
        server.site.post("/", {"text": "milk"})
        server.push("a second push is accepted", RENAMED)
        answer = server.site.get("/new")
        answer.needs(answer.status == 200, "the server runs the new version")
        hint = "What does the hook do with todos.db? init_db.sql deletes all todos."
        is_there = "milk" in answer.text
        answer.needs(is_there, "a todo that was added before is still there", hint=hint)
        server.push("git refuses a version with a syntax error", "(\n", is_refused=True)
        answer = server.site.get("/")
        runs_on = answer.status == 200
        answer.needs(runs_on, "and the version before it runs on", hint=server.log())


def exercise(_: Site) -> None:
    """Fail unless a version that answers each request with an error is refused."""
    with serving() as server:
        server.push("git push starts the program on the server")
        server.push("git refuses a version whose page is an error", FAILING, is_refused=True)
        answer = server.site.get("/")
        answer.needs(answer.status == 200, "and the version before it runs on")
        server.push("git accepts the next version that works", REPAIRED)


class Server:
    """A folder as on a server, to which copies of the current folder are pushed."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.site = Site(free.getsockname()[1])
        self._folder, self._laptop = folder, folder / "laptop"
        self._environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(self.site.port),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        self.groups: list[int] = []  # of processes: those of each push, and what it started
        shutil.copytree(".", self._laptop, ignore=shutil.ignore_patterns("server"))
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("init", "--quiet", "--bare", "../prod.git")
        hook = folder / "prod.git/hooks/pre-receive"
        shutil.copy("hook", hook)
        hook.chmod(0o755)
        with closing(sqlite3.connect(folder / "todos.db")) as db:
            db.executescript(Path("init_db.sql").read_text(encoding="utf-8"))

    def push(self, need: str, addition: str = "", *, is_refused: bool = False) -> None:
        """Commit and push, with this addition to app.py; Failed unless it ends as needed."""
        with open(self._laptop / "app.py", "a", encoding="utf-8") as file:
            file.write(addition)
        self._git("add", "--all")
        names = ("-c", "user.name=You", "-c", "user.email=you@example.com")
        self._git(*names, "commit", "--quiet", "--allow-empty", "--message", "A version")
        status, text = self._git("push", "../prod.git", "main")
        if is_refused == (status == 0):
            what = "git accepted it." if is_refused else f"git said:\n{text}"
            raise Failed(need, what, None, ())
        print(f"  ✓ {need}")
        if not is_refused:
            wait_for(self.site.port, self._folder / "log")

    def log(self) -> str:
        """Return the last line that the program on the server printed."""
        with suppress(FileNotFoundError):
            lines = (self._folder / "log").read_text("utf-8", "replace").splitlines()
            return "".join(lines[-1:])
        return ""

    def _git(self, *words: str) -> tuple[int, str]:
        faulthandler.cancel_dump_traceback_later()  # git takes its time
        process = subprocess.Popen(
            ["git", *words],
            cwd=self._laptop,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.groups.append(process.pid)
        try:
            text, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired as error:
            raise Failed(
                f"git {words[0]} ends", f"It did not within {error.timeout} s.", None, ()
            ) from None
        return process.returncode, text


@contextmanager
def serving() -> Iterator[Server]:
    """Make a server for the `with` block, and end what runs on it."""
    if sys.platform == "win32":
        raise Failed("the hook runs", "It needs the shell of a Unix: use WSL.", None, ())
    folder = Path("server").resolve()
    folder.mkdir()
    server = Server(folder)
    try:
        yield server
    finally:
        for group in server.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        shutil.rmtree(folder)
