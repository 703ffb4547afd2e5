"""The command line of the tutorial, and what it says of programs that do not let a check end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from xrays import one_line

from tutorial import running
from tutorial.__main__ import main
from tutorial.inside import DONE, FAILED, folder_of

HELLO = """def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    {}
    return [b"Hello, world!"]
"""
SERVES = (
    HELLO.format("pass")
    + """from wsgiref.simple_server import make_server
make_server("127.0.0.1", {}, app).serve_forever()
"""
)
WAITS = "Save a file to check again. Ctrl-C ends.\n"
STUCK = "✗ Your program is stuck at app.py, line"
# A step, a file of it, what is in that file instead (None: it is missing), and what the check says.
ODD = {
    "a syntax error": (1, "app.py", "def app(environ)\n", "SyntaxError: expected ':'"),
    "an import error": (1, "app.py", "import flsk\n", "app.py:1: ModuleNotFoundError: No module"),
    "no app": (1, "app.py", "", "app.py has to define a function app, with (environ, start_resp"),
    "one argument": (
        1,
        "app.py",
        "def app(environ): pass",
        "two arguments: def app(environ, start",
    ),
    "a server": (
        1,
        "app.py",
        SERVES.format(0),
        f"{STUCK} 6. If it starts a server there, move that",
    ),
    "a loop": (1, "app.py", "while True: pass", f"{STUCK} 1. If it starts"),
    "an exit": (1, "app.py", "import sys\nsys.exit()", "fails at app.py:2: SystemExit. Move it"),
    "a hard exit": (
        1,
        "app.py",
        "import os\nos._exit(0)",
        "✗ Your program ended, with exit status 0",
    ),
    "an endless request": (
        1,
        "app.py",
        HELLO.format("while True: pass"),
        "✗ GET / answers 200 OK GET / was not answered within 2.5 s. It is still at app.py, line 3",
    ),
    "an endless call": (1, "app.py", HELLO.format("sum(range(10**12))"), f"{STUCK} 3."),
    "an exit in a request": (
        1,
        "app.py",
        HELLO.format("__import__('sys').exit()"),
        "The application called sys.exit, at app.py:3.",
    ),
    "a hard exit in a request": (
        1,
        "app.py",
        HELLO.format("__import__('os')._exit(3)"),
        "✗ Your program ended, with exit status 3. A server goes on",
    ),
    "input": (1, "app.py", HELLO.format("input()"), "input() asks at the terminal of the server."),
    "no SQL": (3, "init_db.sql", None, "✗ there is a file init_db.sql The page of this step"),
    "wrong SQL": (
        3,
        "init_db.sql",
        "-- Two.\nSELECT 1;\n\nCREATE TABLE a (\n  id INTEGER PRIMARY KEY\n  text TEXT\n);\n",
        'lines 3 to 7: near "text": syntax error. Does the line before lack its comma?',
    ),
    "a module hidden": (2, "html.py", "", "html.py hides Python's own module html. Rename it."),
    "a strange status": (
        1,
        "app.py",
        HELLO.replace("200 ", "").format(""),
        "not answered: HTTP/1.1 OK.",
    ),
    "a strange link": (
        6,
        "app.py",
        HELLO.replace("Hello, world!", "<a href=/\\xfc>").format(""),
        "✗ the page has a button 'Complete laundry'",
    ),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[int, str]]]:
    """A function that says what the check of an odd program returned; all run at once."""

    root = tmp_path_factory.mktemp("odd")

    def check(name: str) -> tuple[int, str]:
        step, file, text, _ = ODD[name]
        main(["start", str(step), str(root / name)])
        (root / name / file).unlink(missing_ok=True)
        if text is not None:
            (root / name / file).write_text(text, encoding="utf-8")
        return running.check(step, root / name)

    with ThreadPoolExecutor(4) as pool:
        checks = {name: pool.submit(check, name) for name in ODD}
        yield lambda name: checks[name].result()


@pytest.mark.parametrize("name", ODD)
def test_a_check_tells_what_keeps_a_program_from_answering(
    name: str, told: Callable[[str], tuple[int, str]]
) -> None:
    status, text = told(name)
    assert ODD[name][-1] in one_line(text)
    assert status == FAILED
    assert text.count("✗ GET") <= 1
    assert text.endswith("is not done.\n")


def test_a_port_that_another_program_has_is_no_riddle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        (tmp_path / "app.py").write_text(SERVES.format(other.getsockname()[1]))
        _, text = running.check(1, tmp_path)
    assert "Does your program still run in another terminal?" in text


def test_start_copies_a_step_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new/mine"
    assert main(["start", "9", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {".gitignore", "app.py", "guard.py", "hook", "init_db.sql", "serve.py"}
    (folder / "app.py").write_text("mine")
    assert main(["start", "1", str(folder)]) == 2
    assert (folder / "app.py").read_text() == "mine"
    assert "app.py would be overwritten, so nothing is copied." in capsys.readouterr().out


def test_a_check_needs_an_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "1", str(tmp_path)]) == 2
    assert "There is no app.py in" in capsys.readouterr().out


def test_a_check_leaves_the_folder_of_the_learner_as_it_is(tmp_path: Path) -> None:
    main(["start", "7", str(tmp_path)])
    (tmp_path / "todos.db").write_bytes(b"my todos")
    (tmp_path / "large.iso").write_bytes(bytes(running.MAX_SIZE))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["check", "7", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_the_program_prints_stands_before_the_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text(HELLO.format("print(environ['PATH_INFO'], flush=True)"))
    (tmp_path / "checks.py").write_text("neither is this imported")
    assert main(["check", "1", str(tmp_path)]) == 0
    assert "\n/\n  ✓ GET / answers 200 OK\n" in capsys.readouterr().out


def test_a_missing_need_makes_the_command_fail(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO.format("").replace("Hello", "Bye"))
    assert main(["check", "1", str(tmp_path)]) == 1


def test_the_command_imports_nothing_from_the_folder_of_the_learner(tmp_path: Path) -> None:
    main(["start", "2", str(tmp_path)])
    for name in "html", "string", "tempfile":
        (tmp_path / f"{name}.py").write_text("raise Exception")
    command = [sys.executable, "-m", "tutorial", "check", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert "hides Python's own module" in done.stdout
    assert not done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_watch_checks_each_version_that_is_saved_until_ctrl_c(tmp_path: Path) -> None:
    main(["start", "1", str(tmp_path)])
    command = [sys.executable, "-m", "tutorial", "check", "1", "--watch"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as watch:
        lines = iter(watch.stdout or ())
        for verdict in "Step 1 is done. Its exercise is not.", "Step 1 is not done.":
            assert verdict in [line.rstrip() for line in iter(lines.__next__, WAITS)]
            (tmp_path / "app.py").write_text("")
        watch.send_signal(signal.SIGINT)
    assert watch.returncode == 130


@pytest.mark.parametrize(("step", "done"), [(4, False), (5, True)])
def test_a_step_does_not_solve_its_exercise_but_the_next_one_does(
    step: int, done: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with running.copied(folder_of(step)) as copy:
        status, text = running.run(["exercise", "4"], copy)
    assert (status == DONE) is done
    assert ("✗ who adds a todo, and reloads the page" in text) is not done
    if not done:
        assert main(["check", "4", str(folder_of(step))]) == 0
        assert capsys.readouterr().out.endswith("Step 4 is done. Its exercise is not.\n")
