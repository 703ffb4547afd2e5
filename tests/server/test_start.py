"""`./start`, which hosts run that give a program its port, and the requirements it installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import read_texts
from servers import BIN, POSIX_ONLY, copy_project, get, post, running, status_of

pytestmark = [POSIX_ONLY, pytest.mark.timeout(120)]  # it makes an environment


def test_start_makes_what_is_missing_and_keeps_the_list(tmp_path: Path) -> None:
    [command] = (copy_project(tmp_path) / "Procfile").read_text().splitlines()
    start = command.removeprefix("web: ").split()
    environ = {"PORT": "0"}
    for text in ("milk", "bread"):  # the second time, in the folder as it was left
        with running(start, tmp_path, environ, patience=100) as server:  # pip takes its time
            assert server.process.args == start
            assert status_of(server.send(get())) == 200
            assert status_of(server.send(post(f"text={text}".encode()))) == 303
            assert server.stop() == 0  # the signal reaches the server, not a shell around it
    assert read_texts(tmp_path / "todos.db") == ["milk", "bread"]


def test_the_requirements_are_those_of_setup_cfg(tmp_path: Path) -> None:
    requirements = copy_project(tmp_path) / "requirements.txt"
    pinned = requirements.read_text()
    subprocess.run([BIN / "pip-compile", "--quiet", "setup.cfg"], cwd=tmp_path, check=True)
    assert requirements.read_text() == pinned
