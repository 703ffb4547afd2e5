"""Disk faults: a change that cannot be written is refused, and all works again when the disk does.

strace attaches itself to a real server and lets each write or sync of one of its files fail, until
it leaves again. Without its log (todos.db-wal) SQLite cannot commit. It can while the file itself
cannot be written: then the log grows until it can.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import run_sql
from servers import (
    ROOT,
    Server,
    broken_copy,
    cannot_run,
    exchange,
    get,
    need,
    post,
    running,
    serve_command,
    status_of,
)

LONG = (pytest.mark.long, pytest.mark.timeout(3600))
# What a client sees: the status of a POST, whether it has a Retry-After, the status of a GET.
REFUSED, ACCEPTED = (503, True, 200), (303, False, 200)
FAULTS = [
    ("todos.db-wal", "pwrite64", "ENOSPC", REFUSED),
    ("todos.db-wal", "pwrite64", "EIO", REFUSED),
    ("todos.db-wal", "fdatasync", "EIO", REFUSED),
    ("todos.db", "pwrite64", "ENOSPC", ACCEPTED),
    ("todos.db", "pwrite64", "EIO", ACCEPTED),
    ("todos.db", "fdatasync", "EIO", ACCEPTED),
]
# Makes the log so long that each commit tries to copy it into the file.
LENGTHEN_LOG = """
    PRAGMA wal_autocheckpoint = 0;
    CREATE TABLE large AS SELECT randomblob(5000000);
    DROP TABLE large;
"""
# Lets any process trace the one that this becomes (PR_SET_PTRACER); Ubuntu asks for that.
ALLOW = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_long(-1))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("processes", "changes", "rounds"),
    [(1, 16, 1), pytest.param(1, 200, 10, marks=LONG), pytest.param(2, 200, 10, marks=LONG)],
)
def test_a_fault_of_the_disk_loses_nothing_and_what_is_refused_is_not_done(
    tmp_path: Path, processes: int, changes: int, rounds: int
) -> None:
    assert fail_disk(tmp_path, processes, changes, rounds) == []


def test_an_error_that_is_swallowed_is_noticed(tmp_path: Path) -> None:
    file = "todo_wsgi/storage/group_commit.py"
    copy = broken_copy(tmp_path / "copy", file, "set_exception(error)", "set_result(0)")
    [answers, content] = fail_disk(tmp_path, 1, 16, 1, copy)
    assert "(303, False, 200)" in answers
    assert "lost" in content


def fail_disk(
    folder: Path, processes: int, changes: int, rounds: int, root: Path = ROOT
) -> list[str]:
    """Add todos while the disk fails and when it works again; return what is wrong first."""
    strace = need("strace")
    numbers = itertools.count()
    confirmed = ["ok"]  # the result of the integrity check
    command = serve_command("--port", "0", "--processes", str(processes), root=root)
    with (
        running([sys.executable, "-c", ALLOW, *command], folder) as server,
        ThreadPoolExecutor(8) as clients,
    ):

        def send(request: bytes) -> bytes:
            with server.connect() as connection:
                return exchange(connection, request)

        def add(number: int) -> tuple[int, bool, int]:
            answer, page = send(post(f"text={number}".encode())), send(get())
            if status_of(answer) == 303:
                confirmed.append(str(number))
            return status_of(answer), b"\r\nRetry-After: " in answer, status_of(page)

        for file, call, error, expected in FAULTS * rounds:
            run_sql(server.database, LENGTHEN_LOG)
            with failing(strace, server, file, call, error):
                during = {*clients.map(add, itertools.islice(numbers, changes))}
            after = {*clients.map(add, itertools.islice(numbers, changes))}
            problems = compare(server.database, confirmed)
            if problems or (during, after) != ({expected}, {ACCEPTED}):
                return [f"{error} of {call} for {file}: {during}, then {after}", *problems]
        server.stop(signal.SIGKILL)
    return compare(server.database, confirmed)


@contextmanager
def failing(strace: str, server: Server, file: str, call: str, error: str) -> Iterator[None]:
    """Let each such call of the server's processes for this file fail with this error."""
    pid, log = server.process.pid, server.database.with_name("strace.txt")
    pids = [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    options = ["-f", "-e", f"trace={call}", "-e", f"inject={call}:error={error}", "-o", str(log)]
    command = [strace, *options, "-P", str(server.database.with_name(file)), "-p", " ".join(pids)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            for _ in pids:
                line = process.stderr.readline()
                assert "attached" in line or cannot_run(line)
            yield
        finally:
            process.send_signal(signal.SIGINT)  # it lets go of the server
            process.communicate()
    assert "(INJECTED)" in log.read_text()


def compare(database: Path, confirmed: list[str]) -> list[str]:
    """Return how the list, and the result of its integrity check, differ from what they must be."""
    with closing(sqlite3.connect(database)) as connection:
        sql = "SELECT text FROM todos UNION ALL SELECT * FROM pragma_integrity_check"
        found, wanted = Counter(text for (text,) in connection.execute(sql)), Counter(confirmed)
    differences = {"lost": wanted - found, "never confirmed": found - wanted}
    return [f"{what}: {[*texts][:9]}" for what, texts in differences.items() if texts]
