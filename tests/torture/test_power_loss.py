"""Power losses: whatever the disk has kept, each change that was confirmed is in the list.

strace records what a real server writes, syncs and answers. From this record, the harness rebuilds
the files as the disk may have them at many moments, opens them with SQLite, and compares the list
with the answers so far. The disk has what was synced, and more or less of what was written later.
"""

from __future__ import annotations

import ast
import random
import re
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_plus

import pytest
from conftest import fill
from servers import ROOT, broken_copy, exchange, need, post, running, serve_command

from todo_wsgi import create_app

LONG = (pytest.mark.long, pytest.mark.timeout(3600))
WHOLE = 2**16  # bytes; SQLite writes a page at a time
# What the disk keeps of later writes: pieces of this size, each with this probability.
KEPT = {"nothing": (WHOLE, 0), "sectors": (512, 0.5), "writes": (WHOLE, 0.5), "all": (WHOLE, 1)}
OLD = 3000  # todos that are there before, so that changes touch many pages of the file
STRACE = "-D -f --seccomp-bpf -y -s 70000 -e trace=pwrite64,ftruncate,fsync,fdatasync,sendto -o"


@pytest.mark.parametrize(
    ("processes", "changes", "moments"),
    [
        (1, 450, 60),
        pytest.param(1, 2900, 2500, marks=LONG),
        pytest.param(2, 2900, 2500, marks=LONG),
    ],
)
def test_a_power_loss_loses_no_confirmed_change(
    tmp_path: Path, processes: int, changes: int, moments: int
) -> None:
    assert lose_power(tmp_path, processes, changes, moments) == []


def test_a_commit_that_does_not_wait_for_the_disk_is_noticed(tmp_path: Path) -> None:
    file = "todo_wsgi/storage/database.py"
    copy = broken_copy(tmp_path / "copy", file, "synchronous = FULL", "synchronous = NORMAL")
    [problem] = lose_power(tmp_path, 1, 450, 60, copy)
    assert ": 0 lost" not in problem


def lose_power(
    folder: Path, processes: int, changes: int, moments: int, root: Path = ROOT
) -> list[str]:
    """Change the list, then rebuild it as of random moments; return the first that is wrong."""
    strace, seed = need("strace"), random.randrange(10**6)
    chance = random.Random(seed)
    database, record = folder / "todos.db", folder / "record"
    create_app(database).close()
    fill(database, OLD)
    disk = {"todos.db": File(database.read_bytes()), "todos.db-wal": File(b"")}
    confirmed = read_list(folder, database.read_bytes(), b"")
    command = [strace, *STRACE.split(), str(record)]
    command += serve_command("--port", "0", "--processes", str(processes), root=root)
    with running(command, folder) as server, ThreadPoolExecutor(8) as clients:

        def make(change: tuple[str, str, str]) -> tuple[str, str]:
            """Make a change; return its name in the answer, and the text of its todo."""
            path, form, text = change
            with server.connect() as connection:
                return name_in(exchange(connection, post(form.encode(), path=path))), text

        made = confirmed | {*clients.map(make, choose_changes(changes, chance))}
    texts = dict(made)
    events = read_record(record)
    answers = [number for number, call in events if call.name == "sendto"]
    others = [number for number, call in events if call.name != "sendto"]
    checkpoints = [number for number, call in events if call.file == "todos.db"]
    assert checkpoints[0] < answers[-1]
    chosen = {*chance.sample(answers, moments // 2), *chance.sample(others, moments // 2)}
    for number, call in events:
        if call.name == "sendto":
            name = name_in(call.data)
            confirmed.add((name, texts[name]))
        else:
            disk[call.file].note(number, call)
        for kept, odds in KEPT.items() if number in chosen else ():
            found = read_list(folder, *(file.left(*odds, chance) for file in disk.values()))
            lost, wrong = confirmed - found, found - made
            if lost or wrong:
                moment = f"{record} (seed {seed}), line {number}, {kept} kept"
                return [f"{moment}: {len(lost)} lost, like {[*lost][:3]}; wrong: {[*wrong][:3]}"]
    assert confirmed == made
    return []


def choose_changes(count: int, chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield the path and the form of each change, and the text of its todo."""
    for number, todo in enumerate(chance.sample(range(1, OLD + 1), count)):
        yield (
            ("/", f"text=new+{todo}", f"new {todo}"),
            (f"/todos/{todo}/complete", "show=active", f"todo {todo}"),
            (f"/todos/{todo}/delete", "", f"todo {todo}"),
        )[number % 3]


def name_in(answer: bytes) -> str:
    """Return the name of the change that an answer confirms, like "added=7"."""
    [name] = re.findall(rb"\r\nLocation: \S*[?&](\w+=\S+)\r\n", answer)
    return unquote_plus(name.decode())


LIST = """
    SELECT 'added=' || id, text FROM todos
    UNION ALL SELECT 'completed_at=' || completed_at, text FROM todos WHERE completed_at <> ''
    UNION ALL SELECT 'deleted_at=' || deleted_at, text FROM todos WHERE deleted_at <> ''
    UNION ALL SELECT 'integrity', integrity_check FROM pragma_integrity_check
"""


def read_list(folder: Path, database: bytes, log: bytes) -> set[tuple[str, str]]:
    """Return the name of each change that these files have, and the text of its todo."""
    path = folder / "found.db"
    path.write_bytes(database)
    Path(f"{path}-wal").write_bytes(log)
    with closing(sqlite3.connect(path)) as connection:  # whose end removes the log
        connection.execute("PRAGMA synchronous = OFF")  # this is but a copy
        return {*connection.execute(LIST)}


class Call(NamedTuple):
    """A call of the system, and the number of the line where it begins."""

    name: str
    file: str
    data: bytes
    offset: int
    begin: int


CALL = re.compile(
    r"(?P<name>\w+)\(\d+<(?:socket:\S+|\S*/(?P<file>todos\.db|todos\.db-wal))>"
    r'(?:, (?P<data>".*"))?(?:, (?P<number>\w+))*'
)


def read_record(record: Path) -> list[tuple[int, Call]]:
    """Return the line where an answer began, or another call was over, and the call; in order."""
    calls: dict[str, Call] = {}
    events = []
    for number, line in enumerate(record.read_text().splitlines()):
        process, text = line.split(maxsplit=1)
        if found := CALL.match(text):
            data = ast.literal_eval("b" + (found["data"] or "''"))
            offset = int(found["number"] or 0)
            calls[process] = Call(found["name"], found["file"], data, offset, number)
        if process in calls and not text.endswith("<unfinished ...>"):
            call = calls.pop(process)
            events.append((call.begin if call.name == "sendto" else number, call))
    return sorted(events)


class File:
    """A file on the disk: what is synced, and the calls that changed it later."""

    def __init__(self, content: bytes) -> None:
        self._synced = bytearray(content)
        self._later: list[tuple[int, Call]] = []

    def note(self, number: int, call: Call) -> None:
        """Take in a call that is over."""
        if "sync" in call.name:  # it covers what was over before it began
            covered = [earlier for over, earlier in self._later if over < call.begin]
            self._synced = self._changed_by(covered)
            self._later = self._later[len(covered) :]
        else:
            self._later.append((number, call))

    def left(self, size: int, odds: float, chance: random.Random) -> bytes:
        """Return what a power loss leaves: of what is not synced, random pieces of this size."""
        pieces = (
            call._replace(data=call.data[start : start + size], offset=call.offset + start)
            for _, call in self._later
            for start in range(0, len(call.data) or 1, size)
            if chance.random() < odds
        )
        return bytes(self._changed_by(pieces))

    def _changed_by(self, calls: Iterable[Call]) -> bytearray:
        content = self._synced.copy()
        for call in calls:
            content.extend(bytes(max(0, call.offset - len(content))))
            end = call.offset + len(call.data) if call.data else None  # ftruncate has no data
            content[call.offset : end] = call.data
        return content
