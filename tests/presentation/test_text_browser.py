"""The list in a text browser, Lynx: it reads the pages, and presses the keys that a person would.

Lynx knows no `formaction`, so there the buttons of a todo are those on its own page.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, need, running, serve_command


class Reader:
    """Somebody at a terminal with Lynx, who starts at the top of the list."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{server.port}"
        # A text field takes keys only after Enter, so that "/" can search.
        self.lynx = [need("lynx"), "-term=vt100", "-nopause", "-tna"]

    def run(self, *arguments: str) -> str:
        return subprocess.run(
            [*self.lynx, *arguments],
            env={"HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=20,
        ).stdout

    def read(self, path: str = "/") -> str:
        """Return the text of a page as one line."""
        return " ".join(self.run("-dump", "-nolist", self.address + path).split())

    def press(self, *keys: str) -> None:
        """Open the list, press the keys, and quit."""
        script = self.folder / "script"
        script.write_text("".join(f"key {key}\n" for key in [*keys, "Q"]))
        self.run(f"-cmd_script={script}", self.address)

    def follow(self, *names: str) -> None:
        """Open the list, then search for each link or button by its name, and press Enter."""
        self.press(*(key for name in names for key in ("/", *typed(name), "^J", "^J")))

    @property
    def texts(self) -> list[str]:
        """The list as it is exported, without the dates."""
        lines = self.run("-source", f"{self.address}/todos.txt").splitlines()
        return [" ".join(part for part in line.split() if part[0] != "2") for line in lines]


def typed(text: str) -> list[str]:
    return ["<space>" if key == " " else key for key in text]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody who has written two todos."""
    with running(serve_command("--port", "0"), tmp_path) as server:
        reader = Reader(server, tmp_path)
        for text in ("milk", "bread"):
            reader.press("^J", *typed(text), "<tab>", "^J")
        yield reader


def test_it_shows_the_name_of_each_button(reader: Reader) -> None:
    names = ["Complete milk", "Move milk to the top", "Edit milk", "Delete milk", "Add todo"]
    page = reader.read()
    assert [name for name in names if name not in page] == []
    for name in ("Save", "Complete milk", "Move milk to the top", "Delete milk"):
        assert f"(BUTTON) {name} " in reader.read("/todos/1")


def test_it_adds_todos(reader: Reader) -> None:
    assert reader.texts == ["bread", "milk"]
    assert "2 items left" in reader.read()


def test_it_completes_and_reopens_a_todo(reader: Reader) -> None:
    reader.follow("Edit milk", "Complete milk")
    assert reader.texts == ["bread", "x milk"]
    assert "(BUTTON) Reopen milk" in reader.read("/todos/1")
    reader.follow("Edit milk", "Reopen milk")
    assert reader.texts == ["bread", "milk"]


def test_it_moves_a_todo_to_the_top(reader: Reader) -> None:
    reader.follow("Edit milk", "Move milk to the top")
    assert reader.texts == ["milk", "bread"]


def test_it_deletes_a_todo(reader: Reader) -> None:
    reader.follow("Edit milk", "Delete milk")
    assert reader.texts == ["bread"]


def test_it_changes_the_text_of_a_todo(reader: Reader) -> None:
    edit = ("/", *typed("Edit milk"), "^J", "^J", "^J", *typed(" of oats"), "<tab>")
    reader.press(*edit, "/", *typed("Save"), "^J", "^J")
    assert reader.texts == ["bread", "milk of oats"]
