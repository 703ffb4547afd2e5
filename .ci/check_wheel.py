"""Use an installed wheel in empty folders: `check_wheel.py WHEEL FOLDER_OF_ITS_PROGRAMS`."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from servers import assert_works, running

from todo_wsgi import __version__

wheel, programs = sys.argv[1], Path(sys.argv[2])
python = str(programs / "python")
run_once = [sys.executable, "-m", "pipx", "run", "--spec", wheel, "todo-wsgi"]
for command in (
    [str(programs / "waitress-serve"), "--listen=127.0.0.1:0", "todo_wsgi:app"],
    [str(programs / "todo-wsgi"), "--port=0"],
    [str(programs / "todo-wsgi"), "--port=0", "--processes=2"],
    [python, "-m", "todo_wsgi", "--port=0"],
    [*run_once, "--port=0"],
):
    with tempfile.TemporaryDirectory() as empty:
        with running(command, Path(empty)) as server:
            assert_works(server)
        assert [file.name for file in Path(empty).glob("*.db")] == ["todos.db"], command
        assert "Traceback" not in server.output, server.output
with tempfile.TemporaryDirectory() as empty:
    for command in ([python, "-m", "todo_wsgi"], run_once):
        version = subprocess.check_output([*command, "--version"], cwd=empty, text=True)
        assert version == f"todo_wsgi {__version__}\n"
    xray = [python, "-m", "todo_wsgi.xray", "POST", "/", "text=milk"]
    assert "INSERT INTO todos" in subprocess.check_output(xray, cwd=empty, text=True)
with ZipFile(wheel) as archive:
    [metadata] = [name for name in archive.namelist() if name.endswith("METADATA")]
    description = archive.read(metadata).decode()
assert "](https://" in description
assert not re.search(r"\]\((?!https?:)", description)  # such a link would not work on PyPI
print("Each command serves the page, adds a todo, and leaves todos.db in the folder.")
