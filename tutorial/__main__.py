"""The command line of the tutorial: copy a step, check a folder against it, build the pages."""

import os
import sys

if __name__ == "__main__":  # in the learner's folder, whose html.py must not hide Python's own
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import argparse
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tutorial import building, running
from tutorial.inside import DONE, EXERCISE_LEFT, HERE, folder_of
from tutorial.running import files_of

STEPS = sorted(int(path.name[0]) for path in HERE.glob("[1-9]-*"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Return 0, 1 if a check fails, or 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m tutorial", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "start": "copy the files of a step into your folder, to begin with",
        "check": "check the program in your folder against a step",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("step", type=int, choices=STEPS)
        command.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: this")
    command.add_argument("--watch", action="store_true", help="check again when a file is saved")
    command = commands.add_parser("build", help="put code and outputs into the pages")
    command.add_argument("folder", type=Path, nargs="?", default=HERE, help="default: tutorial/")
    command.add_argument("--check", action="store_true", help="only say whether that was done")
    given = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    if given.command == "build":
        return building.build(given.folder, is_check=given.check)
    if given.command == "start":
        return start(given.step, given.folder)
    with suppress(KeyboardInterrupt):
        return (watch if given.watch else check)(given.step, given.folder)
    return 130


def start(number: int, folder: Path) -> int:
    """Copy the files of a step, unless one of them is there."""
    names = sorted({path.name for path in files_of(folder_of(number))} - {"README.md", "check.py"})
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        print(
            f"{', '.join(taken)} would be overwritten, so nothing is copied. Name an empty folder:"
        )
        print(f"python -m tutorial start {number} step{number}")
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(folder_of(number) / name, folder)
    print(f"Copied to {folder.resolve()}: {', '.join(names)}")
    return 0


def watch(number: int, folder: Path) -> int:
    """Check whenever a file was saved, until Ctrl-C."""
    known: dict[Path, int] = {}
    while True:
        files = known
        with suppress(FileNotFoundError):  # editors replace files
            files = {path: path.stat().st_mtime_ns for path in files_of(folder)}
        if files != known:
            known = files
            print("\x1b[2J\x1b[H" * sys.stdout.isatty(), end="")  # clears the screen
            check(number, folder)
            print("Save a file to check again. Ctrl-C ends.", flush=True)
        time.sleep(0.3)


def check(number: int, folder: Path) -> int:
    """Check a copy of the folder, so that nobody's todos are touched."""
    if not (folder / "app.py").is_file():
        print(f"There is no app.py in {folder.resolve()}. Go to the folder that has yours (cd), or")
        print(f"name it: python -m tutorial check {number} FOLDER")
        return 2
    status, text = running.check(number, folder)
    print(text, end="", flush=True)
    return 0 if status in (DONE, EXERCISE_LEFT) else 1


if __name__ == "__main__":
    sys.exit(main())
