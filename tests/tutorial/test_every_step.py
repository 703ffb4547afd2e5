"""What the tutorial promises, for every step, mistake and page. It takes --long."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from xrays import one_line

from tutorial import building
from tutorial.__main__ import STEPS, main
from tutorial.checks import Mistake, wait_for
from tutorial.inside import DONE, EXERCISE_LEFT, FAILED, folder_of
from tutorial.running import check, copied, run

pytestmark = pytest.mark.long

FOLDERS = [folder_of(number) for number in STEPS]
MISTAKES = [(folder, name) for folder in FOLDERS for name in building.mistakes_of(folder)]


@pytest.mark.parametrize(
    ("folder", "name"), MISTAKES, ids=lambda value: getattr(value, "name", value)
)
def test_a_mistake_fails_at_the_need_and_with_the_sentence_it_names(
    folder: Path, name: str
) -> None:
    mistake = building.mistakes_of(folder)[name]
    status, text = check_with(folder, mistake)
    assert status == FAILED
    assert f"✗ {mistake.fails} " in text
    assert mistake.shows in text


def check_with(folder: Path, mistake: Mistake) -> tuple[int, str]:
    """Check a step with a mistake in it. Return the exit status, and the output in one line."""
    with copied(folder) as copy:
        file = copy / mistake.file
        file.write_text(building.apply(mistake, building.read(file)), encoding="utf-8")
        status, text = check(int(folder.name[0]), copy)
    return status, one_line(text)


# What else beginners write, in which step.
SLIPS = {
    (1, "no return"): Mistake(
        "app.py",
        {"return [b": "[b"},
        "GET / answers 200 OK",
        "The application returned None: a return is missing.",
    ),
    (1, "headers as a dict"): Mistake(
        "app.py",
        {'[("Content-Type", "text/plain")]': '{"Content-Type": "text/plain"}'},
        "GET / answers 200 OK",
        "The headers are {'Content-Type': 'text/plain'}, not a list. Write [(",
    ),
    (1, "a name misspelled"): Mistake(
        "app.py",
        {"    start_response(": "    start_respons("},
        "GET / answers 200 OK",
        "app.py:2: NameError: name 'start_respons' is not defined. Is it misspelled",
    ),
    (2, "nothing returned"): Mistake(
        "app.py",
        {"return [body]": "return []"},
        "GET / answers 200 OK",
        "the body has 0 bytes: the browser waits for more. Return all that was counted",
    ),
    (2, "text returned"): Mistake(
        "app.py",
        {"return [body]": "return page"},
        "GET / answers 200 OK",
        "The body is text, not a list of bytes. Put .encode() behind it",
    ),
    (2, "a number as the status"): Mistake(
        "app.py",
        {'"200 OK"': "200"},
        "GET / answers 200 OK",
        "The status is 200, not text. Write number and words in quotes: '200 OK'.",
    ),
    (2, "a number in a header"): Mistake(
        "app.py",
        {"str(len(body))": "len(body)"},
        "GET / answers 200 OK",
        "The header ('Content-Length', 77) is not a tuple of two str.",
    ),
    (2, "a wrong key"): Mistake(
        "app.py",
        {"PATH_INFO": "PATH"},
        "GET / answers 200 OK",
        "app.py:13: KeyError: 'PATH'. Compare the spelling",
    ),
    (2, "print for return"): Mistake(
        "app.py",
        {"return PAGE.substitute(name=html.escape(name))": "print(name)"},
        "GET / answers 200 OK",
        "app.py:19: AttributeError: 'NoneType' object has no attribute 'encode'. A function",
    ),
    (3, "an f-string with CSS"): Mistake(
        "app.py",
        {"return PAGE.substitute(items=items)": 'return f"<style>p {color: red}</style>{items}"'},
        "GET / answers 200 OK",
        "NameError: name 'color' is not defined. Is it misspelled, or its import missing?",
    ),
    (3, "braces in a template"): Mistake(
        "app.py",
        {"<li>$text": "<li>{text}"},
        "the page shows 'laundry', from init_db.sql",
        "<li>{text}</li>",
    ),
    (3, "a placeholder misspelled"): Mistake(
        "app.py",
        {"<li>$text": "<li>$txet"},
        "GET / answers 200 OK",
        "app.py:38: KeyError: 'txet'. Compare the spelling: of a key, or of a $name in a template",
    ),
    (3, "escaped twice"): Mistake(
        "app.py",
        {"items=items": "items=html.escape(items)"},
        "its <b> is text, not HTML",
        "&lt;li&gt;call &amp;lt;b",
    ),
    (3, "closed too early"): Mistake(
        "app.py",
        {".fetchall()": "", "as db:\n": "as db:\n            db.close()\n"},
        "GET / answers 200 OK",
        "Cannot operate on a closed database. Read the rows, with fetchall(), before",
    ),
    (3, "another file"): Mistake(
        "app.py",
        {"todos.db": "todo.db"},
        "GET / answers 200 OK",
        "no such table: todos. init_db.sql makes the tables of todos.db.",
    ),
    (4, "no tuple"): Mistake(
        "app.py",
        {'(?)", (text,)': '(?)", text'},
        "POST / with text=milk is answered",
        "there are 4 supplied. Pass a tuple with a value for each ?.",
    ),
    (4, "% in SQL"): Mistake(
        "app.py",
        {'VALUES (?)", (text,)': 'VALUES (%s)" % text'},
        "POST / with text=milk is answered",
        "no such column: milk. Is it misspelled? For a value, write ?",
    ),
    (4, "a list from parse_qs"): Mistake(
        "app.py",
        {"values[0] for": "values for"},
        "POST / with text=milk is answered",
        "type 'list' is not supported. parse_qs returns a list for each name.",
    ),
    (4, "a habit of Flask"): Mistake(
        "app.py",
        {"read_form(environ)[": "request.form["},
        "POST / with text=milk is answered",
        "name 'request' is not defined. What came in is in environ",
    ),
    (4, "read without a number"): Mistake(
        "app.py",
        {"read(length)": "read()"},
        "it reads as many bytes as were announced",
        'Write read(int(environ["CONTENT_LENGTH"])): read() waits for more, under wsgiref.',
    ),
    (4, "post in lower case"): Mistake(
        "app.py",
        {'"POST"': '"post"'},
        "the next GET / shows milk: it is saved",
        "It takes an INSERT and a COMMIT.",
    ),
    (4, "a form without a method"): Mistake(
        "app.py",
        {'<form method="post">': "<form>"},
        'the page has a form with method="post"',
        "<form>",
    ),
    (5, "a header that is no tuple"): Mistake(
        "app.py",
        {'[("Location", "/")]': '["Location", "/"]'},
        "POST / with text=milk answers 303 See Other",
        "The header 'Location' is not a tuple of two str.",
    ),
}


@pytest.mark.parametrize(("number", "slip"), SLIPS, ids=lambda value: str(value))
def test_the_check_says_what_is_wrong_and_what_to_do(number: int, slip: str) -> None:
    status, text = check_with(folder_of(number), SLIPS[number, slip])
    assert status == FAILED
    assert f"✗ {SLIPS[number, slip].fails} " in text
    assert SLIPS[number, slip].shows in text


@pytest.mark.parametrize("number", STEPS)
def test_a_step_passes_its_own_check_and_not_its_exercise(number: int) -> None:
    status, text = check(number, folder_of(number))
    assert status == EXERCISE_LEFT, text


@pytest.mark.parametrize("number", STEPS[:-1])
def test_the_next_step_solves_the_exercise(number: int) -> None:
    with copied(folder_of(number + 1)) as copy:
        status, text = run(["exercise", str(number)], copy)
    assert status == DONE, text


@pytest.mark.timeout(300)
def test_all_pages_are_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--check"]) == 0, capsys.readouterr().out


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
