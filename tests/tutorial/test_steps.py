"""The steps of the tutorial: their sizes, and, with --long, all they promise."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest
from xrays import one_line

from tutorial import building
from tutorial.__main__ import STEPS, main
from tutorial.checks import Mistake, wait_for
from tutorial.inside import DONE, EXERCISE_LEFT, FAILED, HERE, folder_of
from tutorial.running import check, copied, run

FOLDERS = [folder_of(number) for number in STEPS]
PAGES = sorted(HERE.glob("[1-9]-*/README.md"))


def typed(folder: Path) -> dict[str, list[str]]:
    """Return the lines of each file that learners type."""
    files = [path for path in folder.iterdir() if path.is_file()]
    names = {path.name for path in files} - {"README.md", "check.py"}
    return {name: (folder / name).read_text(encoding="utf-8").splitlines() for name in names}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_program_is_short_and_narrow(folder: Path) -> None:
    files = typed(folder)
    assert len(files["app.py"]) <= 130
    assert max(len(line) for lines in files.values() for line in lines) <= 72


@pytest.mark.parametrize(("old", "new"), [*pairwise(FOLDERS)], ids=lambda folder: folder.name)
def test_a_step_adds_7_to_33_lines(old: Path, new: Path) -> None:
    before, after = typed(old), typed(new)
    lines = [
        line
        for name in before.keys() | after.keys()
        for line in difflib.ndiff(before.get(name, []), after.get(name, []))
    ]
    added = sum(line.startswith("+ ") for line in lines)
    removed = sum(line.startswith("- ") for line in lines)
    assert 7 <= added - removed <= 33, (added, removed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_has_200_to_350_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for left_out in r"^```.*?^```$", r"<!--.*?-->", r"\]\(.*?\)":
        text = re.sub(left_out, " ", text, flags=re.DOTALL | re.MULTILINE)
    assert 200 <= len(re.findall(r"\w[^\s]*", text)) <= 350


MISTAKES = [(folder, name) for folder in FOLDERS for name in building.mistakes_of(folder)]


def check_with(folder: Path, mistake: Mistake) -> tuple[int, str]:
    """Check a step with a mistake in it. Return the exit status, and the output in one line."""
    with copied(folder) as copy:
        file = copy / mistake.file
        file.write_text(building.apply(mistake, building.read(file)), encoding="utf-8")
        status, text = check(int(folder.name[0]), copy)
    return status, one_line(text)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param(folder, name, id=name, marks=[] if name == "no commit" else pytest.mark.long)
        for folder, name in MISTAKES
    ],
)
def test_a_mistake_fails_at_the_need_and_with_the_sentence_it_names(
    folder: Path, name: str
) -> None:
    mistake = building.mistakes_of(folder)[name]
    status, text = check_with(folder, mistake)
    assert status == FAILED
    assert f"✗ {mistake.fails} " in text
    assert mistake.shows in text


@pytest.mark.long
@pytest.mark.parametrize("number", STEPS)
def test_a_step_passes_its_own_check_and_not_its_exercise(number: int) -> None:
    status, text = check(number, folder_of(number))
    assert status == EXERCISE_LEFT, text


@pytest.mark.long
@pytest.mark.parametrize("number", STEPS[:-1])
def test_the_next_step_solves_the_exercise(number: int) -> None:
    with copied(folder_of(number + 1)) as copy:
        status, text = run(["exercise", str(number)], copy)
    assert status == DONE, text


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


@pytest.mark.long
@pytest.mark.timeout(300)
def test_all_pages_are_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--check"]) == 0, capsys.readouterr().out


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a Unix")
def test_the_commands_of_the_page_push(tmp_path: Path) -> None:
    page = (folder_of(9) / "README.md").read_text(encoding="utf-8")
    section = page.partition("\n## Run\n")[2].partition("\n## ")[0]
    commands = "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))
    main(["start", "9", str(tmp_path / "mine")])
    config = tmp_path / "gitconfig"
    config.write_text("[user]\nname = You\nemail = you@example.com\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PORT": str(port), "PATH": path, "GIT_CONFIG_GLOBAL": str(config)}
    log = tmp_path / "output"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-ec", commands],
            cwd=tmp_path / "mine",
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert shell.wait(50) == 0, log.read_text()
        wait_for(port, log)
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert "laundry" in answer.read().decode()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
