"""Serve the page with an installed wheel: `check_wheel.py PATH_OF_WAITRESS_SERVE`."""

import subprocess
import sys
import tempfile
from pathlib import Path

from servers import running
from test_wsgi_servers import assert_works

with tempfile.TemporaryDirectory() as empty:
    command = [sys.argv[1], "--listen=127.0.0.1:0", "todo_wsgi:app"]
    with running(command, Path(empty)) as server:
        assert_works(server)
    assert [file.name for file in Path(empty).glob("*.db")] == ["todos.db"]
    xray = [Path(sys.argv[1]).with_name("python"), "-m", "todo_wsgi.xray", "POST", "/", "text=milk"]
    assert "INSERT INTO todos" in subprocess.check_output(xray, cwd=empty, text=True)
print("The page is served, a todo is added, and todos.db is in the folder.")
