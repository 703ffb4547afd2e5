"""The tutorial: its command line, what it says of programs that do not answer, and its sizes."""

from __future__ import annotations

import difflib
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from xrays import one_line

from tutorial import building, running
from tutorial.__main__ import STEPS, main
from tutorial.checks import Mistake
from tutorial.inside import DONE, FAILED, HERE, folder_of

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
FORM = (
    "<form action=/go><input type=hidden name=id value=1><button>Complete laundry</button></form>"
)
STUCK = "✗ Your program is stuck at app.py, line"


class Odd(NamedTuple):
    """A step in which a file has this text (None: it is missing), and what the check says."""

    text: str | None
    says: str
    step: int = 1
    file: str = "app.py"


ODD = {
    "a syntax error": Odd("def app(environ)\n", "SyntaxError: expected ':'"),
    "an import error": Odd("import flsk\n", "app.py:1: ModuleNotFoundError: No module"),
    "no app": Odd("", "app.py has to define a function app, with (environ, start_response)."),
    "one argument": Odd(
        "def app(environ): pass", "two arguments: def app(environ, start_response)"
    ),
    "a server": Odd(SERVES.format(0), f"{STUCK} 6. If it starts a server there, move that"),
    "a loop": Odd("while True: pass", f"{STUCK} 1. If it starts"),
    "an exit": Odd("import sys\nsys.exit()", "fails at app.py:2: SystemExit. Move it"),
    "a hard exit": Odd("import os\nos._exit(0)", "✗ Your program ended, with exit status 0"),
    # On a busy machine it is told as the next one is.
    "an endless request": Odd(HELLO.format("while True: pass"), " at app.py, line 3"),
    "an endless call": Odd(HELLO.format("sum(range(10**12))"), f"{STUCK} 3."),
    "an exit in a request": Odd(
        HELLO.format("__import__('sys').exit()"), "The application called sys.exit, at app.py:3."
    ),
    "a hard exit in a request": Odd(
        HELLO.format("__import__('os')._exit(3)"), "✗ Your program ended, with exit status 3. A ser"
    ),
    "input": Odd(HELLO.format("input()"), "input() asks at the terminal of the server."),
    "no SQL": Odd(None, "✗ there is a file init_db.sql The page of this", 3, "init_db.sql"),
    "wrong SQL": Odd(
        "-- Two.\nSELECT 1;\n\nCREATE TABLE a (\n  id INTEGER PRIMARY KEY\n  text TEXT\n);\n",
        'lines 3 to 7: near "text": syntax error. Does the line before lack its comma?',
        3,
        "init_db.sql",
    ),
    "other wrong SQL": Odd("DROP TABLE a", "of lines 1 to 1: no such table: a.", 3, "init_db.sql"),
    "a wrong server": Odd("import flsk", "It printed: Traceback", 7, "serve.py"),
    "a module hidden": Odd("", "html.py hides Python's own module html. Rename it.", 2, "html.py"),
    "a strange status": Odd(
        HELLO.replace("200 ", "").format(""),
        "✗ GET / answers 200 OK GET / was not answered: HTTP/1.1 OK.",
    ),
    "a page cut short": Odd(
        HELLO.format("").replace("[(", "[('Content-Length', '99'), ("),
        "✗ GET / answers 200 OK GET / was answered 200 OK, but the page broke off.",
    ),
    "a form that gets": Odd(
        HELLO.format("").replace("Hello, world!", FORM),
        "✗ it answers 303 See Other GET /go?id=1 was answered 200 OK.",
        6,
    ),
    "a strange link": Odd(
        HELLO.replace("Hello, world!", "<a href=/\\xfc>").format(""),
        "✗ the page has a button 'Complete laundry'",
        6,
    ),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What the check of each odd program returned; they ran at once."""
    root = tmp_path_factory.mktemp("odd")

    def check(name: str) -> tuple[int, str]:
        odd = ODD[name]
        file = root / name / odd.file
        main(["start", str(odd.step), str(root / name)])
        file.unlink(missing_ok=True)
        if odd.text is not None:
            file.write_text(odd.text, encoding="utf-8")
        return running.check(odd.step, root / name)

    with ThreadPoolExecutor(4) as pool:  # ends here: pytest changes `os.environ`, which each reads
        return dict(zip(ODD, pool.map(check, ODD), strict=True))


@pytest.mark.parametrize("name", ODD)
def test_a_check_tells_what_keeps_a_program_from_answering(
    name: str, told: dict[str, tuple[int, str]]
) -> None:
    status, text = told[name]
    assert ODD[name].says in one_line(text)
    assert status == FAILED
    assert text.count("✗ GET") <= 1
    assert text.endswith("is not done.\n")


def test_a_check_that_fails_or_takes_too_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running.run(["check", "0"], tmp_path) == (
        FAILED,
        "  ✗ The check itself failed: StopIteration\n",
    )
    monkeypatch.setattr(running, "LIMIT", 0)
    assert running.run(["check", "1"], tmp_path) == (
        FAILED,
        "  ✗ The check did not end within 0 s.\n",
    )


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
    (tmp_path / "app.py").write_text(HELLO.format("print(environ['PATH_INFO'])"))
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


def test_watch_checks_each_version_that_is_saved_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:  # nothing was saved in the first one
            (tmp_path / "app.py").write_text("")
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("tutorial.__main__.time", SimpleNamespace(sleep=pause))
    (tmp_path / "app.py").write_text(HELLO.format(""))
    assert main(["check", "1", str(tmp_path), "--watch"]) == 130
    verdicts = re.findall("^Step 1 is.*$", capsys.readouterr().out, re.MULTILINE)
    assert verdicts == ["Step 1 is done. Its exercise is not.", "Step 1 is not done."]


@pytest.mark.parametrize(("step", "done"), [(4, False), (5, True)])
def test_a_step_does_not_solve_its_exercise_but_the_next_one_does(
    step: int, done: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with running.copied(folder_of(step)) as copy:
        status, text = running.run(["exercise", "4"], copy)
    assert (status == DONE) is done
    assert ("✗ adding a todo and reloading the page" in text) is not done
    if not done:
        assert main(["check", "4", str(folder_of(step))]) == 0
        assert capsys.readouterr().out.endswith("Step 4 is done. Its exercise is not.\n")


def test_a_mistake_fails_at_the_need_and_with_the_sentence_it_names() -> None:
    mistake = building.mistakes_of(folder_of(4))["no commit"]
    with running.copied(folder_of(4)) as copy:
        program = building.apply(mistake, building.read(copy / "app.py"))
        (copy / "app.py").write_text(program, encoding="utf-8")
        status, text = running.check(4, copy)
    assert status == FAILED
    assert f"  ✗ {mistake.fails}\n" in text
    assert mistake.shows in one_line(text)


FOLDERS = [folder_of(number) for number in STEPS]
PAGES = sorted(HERE.glob("[1-9]-*/README.md"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_program_is_short_and_narrow(folder: Path) -> None:
    files = typed(folder)
    assert len(files["app.py"]) <= 130
    assert max(len(line) for lines in files.values() for line in lines) <= 72


def typed(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each file that learners type."""
    files = [path for path in folder.iterdir() if path.is_file()]
    names = {path.name for path in files} - {"README.md", "check.py"}
    return {name: (folder / name).read_text(encoding="utf-8").splitlines() for name in names}


@pytest.mark.parametrize(("old", "new"), [*pairwise(FOLDERS)], ids=lambda folder: folder.name)
def test_a_step_adds_10_to_30_lines(old: Path, new: Path) -> None:
    before, after = typed(old), typed(new)
    lines = [
        line
        for name in before.keys() | after.keys()
        for line in difflib.ndiff(before.get(name, []), after.get(name, []))
    ]
    added = sum(line.startswith("+ ") for line in lines)
    removed = sum(line.startswith("- ") for line in lines)
    assert 10 <= added - removed <= 30, (added, removed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_has_200_to_350_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for left_out in r"^```.*?^```$", r"<!--.*?-->", r"\]\(.*?\)":
        text = re.sub(left_out, " ", text, flags=re.DOTALL | re.MULTILINE)
    assert 200 <= len(re.findall(r"\w[^\s]*", text)) <= 350


PAGE = """# Hello
<!-- code app.py -->
```python
```
<!-- diff 1-hello/app.py app.py -->
```diff
```
<!-- mistake not escaped -->
```diff
```
<!-- mistake characters counted -->
```diff
```
<!-- check not escaped -->
```console
```
<!-- xray GET / --part 2 -->
```console
```
"""


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with two steps, of which the second has a page that is not built."""
    for number in 1, 2:
        shutil.copytree(folder_of(number), tmp_path / folder_of(number).name)
        (tmp_path / folder_of(number).name / "README.md").unlink(missing_ok=True)
    (tmp_path / "2-page/README.md").write_text(PAGE, encoding="utf-8")
    return tmp_path


def test_build_puts_code_and_outputs_into_pages_and_tells_when_they_are_stale(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, app = pages / "2-page/README.md", pages / "2-page/app.py"
    assert main(["build", str(pages)]) == 0
    built = page.read_text(encoding="utf-8")
    assert f"-->\n```python\n{app.read_text()}```\n" in built
    assert '+PAGE = Template("""<!doctype html>' in built
    assert "-    return PAGE.substitute(name=html.escape(name))\n+    return PAGE" in built
    assert "  ✗ a name with < and > is text, not HTML\n" in built
    assert "\n2. " in built
    app.write_text(app.read_text().replace("<h1>Hello", "<h1>Hallo"))
    assert main(["build", "--check", str(pages)]) == 1
    assert page.read_text(encoding="utf-8") == built
    assert "\n-<h1>Hello, $name!</h1>\n+<h1>Hallo, $name!</h1>\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("-->\n```python\n```\n", "-->\n", "a mark has no fence below it"),
        ("<!-- mistake not escaped -->\n```diff\n```\n", "", "does not invite these mistakes"),
    ],
)
def test_build_refuses_a_page_with_a_wrong_mark(old: str, new: str, told: str, pages: Path) -> None:
    (pages / "2-page/README.md").write_text(PAGE.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        main(["build", "--check", str(pages)])


def test_build_refuses_a_mistake_that_does_not_fit_the_program() -> None:
    mistake = Mistake("app.py", {"line 1": "line 2"}, fails="", shows="")
    with pytest.raises(ValueError, match=r"this has to be in app.py once: line 1"):
        building.apply(mistake, "line 1\nline 1\n")
