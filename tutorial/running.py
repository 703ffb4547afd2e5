"""Run the learner's code on a copy of the folder, in a process of its own (`inside.py`)."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutorial.inside import DONE, EXERCISE_LEFT, FAILED, folder_of

LIMIT = 60  # seconds for a whole check
MAX_SIZE = 1_000_000  # bytes of a file


def check(number: int, folder: Path, *, is_masked: bool = False) -> tuple[int, str]:
    """Check a copy of a folder against a step. Return the exit status, and what to print."""
    with copied(folder) as copy:
        status, text = run(["check", str(number)], copy, is_masked=is_masked)
    verdict = {
        DONE: f"Step {number} is done, and so is its exercise.",
        EXERCISE_LEFT: f"Step {number} is done. Its exercise is not.",
    }.get(status, f"Step {number} is not done.")
    return status, f"Step {folder_of(number).name.replace('-', ', ')}\n{text}{verdict}\n"


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Copy a folder for the `with` block, so that nobody's todos are touched."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        copy = Path(scratch).resolve() / "copy"
        copy.mkdir()
        for file in files_of(folder):
            shutil.copy(file, copy)
        yield copy


def files_of(folder: Path) -> list[Path]:
    """Return what can belong to a program in a folder, which may be somebody's home."""
    files = [path for path in folder.iterdir() if path.is_file() and ".db" not in path.name]
    return [file for file in files if file.stat().st_size < MAX_SIZE]


def run(words: list[str], copy: Path, *, is_masked: bool = False) -> tuple[int, str]:
    """Run `tutorial.inside` in a folder. Return its exit status and output.

    If the learner's code did not let it end, the output says so, and the status is FAILED.
    """
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",  # what a program printed before it got stuck may say why
        "COLUMNS": "100",
        "TUTORIAL_MASKED": "1" if is_masked else "",
    }
    command = [sys.executable, "-P", "-m", "tutorial.inside", *words]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            status = subprocess.run(
                command,
                cwd=copy,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                timeout=LIMIT,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
        out.seek(0)
        errors.seek(0)
        text, log = out.read().decode("utf-8", "replace"), errors.read().decode("utf-8", "replace")
    if status in (DONE, EXERCISE_LEFT, FAILED):
        return status, text
    return FAILED, f"{text}  ✗ {explain(status, log, copy)}\n"


def explain(status: int, log: str, copy: Path) -> str:
    """Say how the learner's code ended the process, or did not let it end."""
    line = re.search(rf'File "{re.escape(str(copy))}.(.*)", line (\d+)', log)
    where = f" at {line[1]}, line {line[2]}" if line else ""
    if "Timeout (" in log:  # of faulthandler
        guard = (
            ' If it starts a server there, move that below this line: if __name__ == "__main__":'
        )
        return f"Your program is stuck{where}.{guard * ('import_app' in log)}"
    if status == -1:
        return f"The check did not end within {LIMIT} s."
    if status == 1 and "Traceback" in log:
        return f"The check itself failed{where}: {log.splitlines()[-1]}"
    return f"Your program ended, with exit status {status}. A server goes on to the next request."
