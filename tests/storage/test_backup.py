"""Backup and restore: whole copies, while servers run, and nothing is changed if it cannot be."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import fill, in_process, read_texts, run_sql
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    Server,
    get,
    post,
    running,
    serve_command,
    status_of,
    wait_until,
)
from test_database import COLUMNS, TUTORIAL_SCRIPT, VERSION_3_SCRIPT, read_row, read_schema

from todo_wsgi import create_app
from todo_wsgi.storage import backup
from todo_wsgi.storage import database as database_module
from todo_wsgi.storage.backup import back_up, restore
from todo_wsgi.storage.errors import DatabaseUnusable

NAME = re.compile(r"todos-\d{8}T\d{6}\.\d{6}Z\.db")
NAME_OF_THE_ONE_BEFORE = re.compile(r"todos-before-restore-\d{8}T\d{6}\.\d{6}Z\.db")


def make_list(path: Path, *texts: str) -> Path:
    create_app(path).close()
    for text in texts:
        run_sql(path, f"INSERT INTO todos (text) VALUES ('{text}')")
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in the folder and below."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def damage(database: Path) -> None:
    """Overwrite all pages but the first one, which has the names of the tables."""
    size = database.stat().st_size
    database.write_bytes(database.read_bytes()[:4096] + b"\xff" * (size - 4096))


# Backup


def test_a_backup_is_one_file_with_the_whole_list(database: Path) -> None:
    with closing(create_app(database)) as app:
        in_process(app).post("/", data={"text": "milk"})
        copy = back_up(str(database), str(database.parent / "copies"))
    assert os.listdir(database.parent / "copies") == [copy.name]
    assert NAME.fullmatch(copy.name)
    assert read_row(copy, "PRAGMA journal_mode") == ("delete",)
    assert read_texts(copy) == ["milk"]
    assert os.listdir(copy.parent) == [copy.name]


@POSIX_ONLY
def test_only_its_owner_can_read_a_backup(database: Path) -> None:
    copy = back_up(str(make_list(database)), str(database.parent / "copies"))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("stem", ["todos", "a[b]c", "*", "a.b"])
def test_the_newest_thirty_backups_stay_and_so_do_other_files(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    old = [f"{stem}-20200101T000000.{number:06}Z.db" for number in range(35)]
    others = [f"{stem}-old.db", f"{stem}.db", f"x{stem}{old[0]}", f"{old[0]}.gz", f"abc-{old[0]}"]
    for name in [*old, *others]:
        (folder / name).touch()
    copy = back_up(str(make_list(tmp_path / f"{stem}.db")), str(folder))
    assert sorted(os.listdir(folder)) == sorted([*old[-29:], copy.name, *others])


def test_a_backup_stays_although_the_clock_was_put_back(database: Path) -> None:
    for number in range(40):
        (database.parent / f"todos-29990101T000000.{number:06}Z.db").touch()
    copy = back_up(str(make_list(database)), str(database.parent))
    assert read_texts(copy) == []
    assert len(os.listdir(database.parent)) == 31


def test_a_missing_list_is_not_created_by_a_backup(database: Path) -> None:
    with pytest.raises(DatabaseUnusable, match=r"cannot copy .*: .*No such file"):
        back_up(str(database), str(database.parent / "copies"))
    assert os.listdir(database.parent) == []


@pytest.mark.parametrize("content", [b"", b"x", b"Buy milk.\n", os.urandom(9000)])
def test_what_is_no_list_is_not_backed_up(database: Path, content: bytes) -> None:
    database.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match=r"not a database|no such table: todos"):
        back_up(str(database), str(database.parent / "copies"))
    assert content_of(database.parent) == {"todos.db": content}
    assert os.listdir(database.parent) == ["todos.db"]


def test_no_copy_of_a_damaged_list_stays(database: Path) -> None:
    damage(make_list(database, "milk"))
    with pytest.raises(DatabaseUnusable, match=r"(?s)cannot copy .* Correct that"):
        back_up(str(database), str(database.parent / "copies"))
    assert os.listdir(database.parent / "copies") == []


def test_a_folder_that_cannot_be_made_is_reported(database: Path) -> None:
    make_list(database)
    with pytest.raises(DatabaseUnusable, match=r"Not a directory|cannot find the path"):
        back_up(str(database), str(database / "copies"))


def test_a_backup_gives_up_while_the_list_is_locked(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_list(database)
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    write = backup._write

    def lock_and_write(source: sqlite3.Connection, copy: Path, *, check: bool) -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            write(source, copy, check=check)

    monkeypatch.setattr(backup, "_write", lock_and_write)
    run_sql(database, "PRAGMA journal_mode = DELETE")
    with pytest.raises(DatabaseUnusable, match="database is locked"):
        back_up(str(database), str(database.parent / "copies"))
    assert os.listdir(database.parent / "copies") == []


# Restore


def test_a_restored_list_replaces_the_one_that_is_copied_first(database: Path) -> None:
    make_list(database, "old")
    inode = database.stat().st_ino
    before = restore(str(database), str(make_list(database.parent / "copy.db", "milk", "bread")))
    assert before
    assert read_texts(database) == ["milk", "bread"]
    assert read_texts(before) == ["old"]
    assert database.stat().st_ino == inode
    assert before.parent == database.parent / "backups"
    assert os.name != "posix" or stat.S_IMODE(before.parent.stat().st_mode) == 0o700
    assert NAME_OF_THE_ONE_BEFORE.fullmatch(before.name)
    assert sorted(os.listdir(database.parent)) == ["backups", "copy.db", "todos.db"]


@POSIX_ONLY
def test_a_missing_list_is_created_by_a_restore(database: Path) -> None:
    copy = make_list(database.parent / "copy.db", "milk")
    copy.chmod(0o644)
    assert restore(str(database), str(copy)) is None
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert read_texts(database) == ["milk"]
    assert sorted(os.listdir(database.parent)) == ["copy.db", "todos.db"]


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        (TUTORIAL_SCRIPT, ["from the tutorial"]),
        (VERSION_3_SCRIPT, ["active", "deleted"]),
        (f"PRAGMA encoding = 'UTF-16'; {TUTORIAL_SCRIPT}", ["from the tutorial"]),
    ],
)
def test_a_copy_of_an_older_version_is_upgraded(
    database: Path, script: str, texts: list[str]
) -> None:
    copy = database.parent / "copy.db"
    run_sql(copy, script)
    untouched = copy.read_bytes()
    make_list(database, "old")
    restore(str(database), str(copy))
    version, columns = read_schema(database)
    assert (version, sorted(columns)) == (4, sorted(COLUMNS))
    assert read_texts(database) == texts
    assert copy.read_bytes() == untouched


@pytest.mark.parametrize("page_size", [512, 8192])
def test_a_copy_with_other_pages_needs_the_list_moved_away(database: Path, page_size: int) -> None:
    copy = database.parent / "copy.db"
    run_sql(copy, f"PRAGMA page_size = {page_size}; {TUTORIAL_SCRIPT}")
    with pytest.raises(DatabaseUnusable, match="move it away"):
        restore(str(make_list(database, "old")), str(copy))
    assert read_texts(database) == ["old"]
    database.unlink()
    restore(str(database), str(copy))
    assert read_texts(database) == ["from the tutorial"]


def make_random(path: Path) -> None:
    path.write_bytes(os.urandom(9000))


def make_foreign(path: Path) -> None:
    run_sql(path, "CREATE TABLE todos (id, text, title)")


def make_other(path: Path) -> None:
    run_sql(path, "CREATE TABLE notes (text)")


def make_newer(path: Path) -> None:
    run_sql(make_list(path), "PRAGMA user_version = 5")


def make_damaged(path: Path) -> None:
    damage(make_list(path, "milk"))


def make_torn(path: Path) -> None:
    path.write_bytes(make_list(path, "milk").read_bytes()[:9000])


def make_unreadable_schema(path: Path) -> None:
    content = make_list(path).read_bytes()
    path.write_bytes(content.replace(b"AUTOINCREMENT", b"AUTOINCREM\xf8NT"))


def make_the_same(path: Path) -> None:
    path.symlink_to("todos.db")


@pytest.mark.parametrize("there_is_a_list", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Path.touch, id="empty"),
        pytest.param(Path.mkdir, id="folder"),
        pytest.param(lambda path: path, id="missing"),
        pytest.param(lambda path: path.write_bytes(b"x"), id="1 byte"),
        make_random,
        make_foreign,
        make_other,
        make_newer,
        make_damaged,
        make_torn,
        make_unreadable_schema,
        pytest.param(make_the_same, marks=POSIX_ONLY),
    ],
)
def test_a_file_that_is_no_list_changes_nothing(
    database: Path, make: Callable[[Path], object], there_is_a_list: bool
) -> None:
    copy = database.parent / "copy.db"
    make(copy)
    if there_is_a_list:
        make_list(database, "old")
    before, names = content_of(database.parent), os.listdir(database.parent)
    with pytest.raises(DatabaseUnusable, match=r"[Cc]hoose a"):
        restore(str(database), str(copy))
    assert content_of(database.parent) == before
    assert os.listdir(database.parent) == names


@pytest.mark.parametrize(
    "content", [b"", b"x", b"Buy milk.\n", b"SQLite format 3\x00" + b"\xff" * 4000]
)
def test_a_list_that_is_none_is_not_replaced(database: Path, content: bytes) -> None:
    database.write_bytes(content)
    copy = make_list(database.parent / "copy.db")
    with pytest.raises(DatabaseUnusable, match=r"move it away|not a database"):
        restore(str(database), str(copy))
    assert database.read_bytes() == content
    assert sorted(os.listdir(database.parent)) == ["copy.db", "todos.db"]


def test_a_damaged_list_is_kept_and_replaced(database: Path) -> None:
    copy = make_list(database.parent / "copy.db", "milk")
    damage(make_list(database, "old"))
    damaged = database.read_bytes()
    before = restore(str(database), str(copy))
    assert before
    assert before.read_bytes()[4096:] == damaged[4096:]
    assert read_texts(database) == ["milk"]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_restore_gives_up_while_the_list_is_locked(
    database: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    run_sql(make_list(database, "old"), f"PRAGMA journal_mode = {mode}")
    copy = make_list(database.parent / "copy.db", "milk")
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnusable, match=r"cannot replace .*: database is locked"):
            restore(str(database), str(copy))
    assert read_texts(database) == ["old"]
    assert sorted(os.listdir(database.parent)) == ["copy.db", "todos.db"]


def test_a_list_that_no_server_has_opened_is_replaced(database: Path) -> None:
    run_sql(database, TUTORIAL_SCRIPT)
    before = restore(str(database), str(make_list(database.parent / "copy.db", "milk")))
    assert before
    assert read_texts(before) == ["from the tutorial"]
    assert read_texts(database) == ["milk"]


def test_a_list_that_cannot_be_copied_first_is_not_replaced(database: Path) -> None:
    make_list(database, "old")
    (database.parent / "backups").touch()  # so there can be no folder of this name
    with pytest.raises(DatabaseUnusable, match=r"cannot replace .*exists"):
        restore(str(database), str(make_list(database.parent / "copy.db", "milk")))
    assert read_texts(database) == ["old"]


def test_nobody_can_write_between_the_copy_and_the_restore(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = make_list(database.parent / "copy.db", "milk")
    write = backup._write

    def try_to_change_and_write(source: sqlite3.Connection, path: Path, *, check: bool) -> None:
        write(source, path, check=check)
        with (
            closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other,
            pytest.raises(sqlite3.OperationalError, match="database is locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        assert read_texts(database) == ["old"]

    monkeypatch.setattr(backup, "_write", try_to_change_and_write)
    restore(str(make_list(database, "old")), str(copy))
    assert read_texts(database) == ["milk"]


def test_a_copy_in_wal_mode_needs_no_other_files(tmp_path: Path) -> None:
    copy = make_list(tmp_path / "copy.db", "milk")
    assert read_row(copy, "PRAGMA journal_mode") == ("wal",)
    (tmp_path / "here").mkdir()
    restore(str(tmp_path / "here" / "todos.db"), str(copy))
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "here"]


def test_a_copy_with_a_log_beside_it_has_the_changes_in_the_log(tmp_path: Path) -> None:
    with closing(create_app(tmp_path / "copy.db")) as app:
        in_process(app).post("/", data={"text": "milk"})
        restore(str(tmp_path / "todos.db"), str(tmp_path / "copy.db"))
    assert read_texts(tmp_path / "todos.db") == ["milk"]


@POSIX_ONLY
def test_a_link_to_a_copy_has_the_changes_in_its_log_too(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link.db").symlink_to("../copy.db")
    with closing(create_app(tmp_path / "copy.db")) as app:
        in_process(app).post("/", data={"text": "milk"})
        restore(str(tmp_path / "todos.db"), str(tmp_path / "here" / "link.db"))
    assert read_texts(tmp_path / "todos.db") == ["milk"]


# The command line


def run(command: list[str | Path], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


def fails(*arguments: str | Path) -> str:
    """Run the command `todo-wsgi`, assert that it fails, and return the line that it prints."""
    done = run([BIN / "todo-wsgi"], *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-W", "error", ROOT / "serve.py"],
        [sys.executable, "-W", "error", "-m", "todo_wsgi"],
        [BIN / "todo-wsgi"],
    ],
)
def test_a_list_is_backed_up_and_restored(command: list[str | Path], database: Path) -> None:
    make_list(database, "milk")
    folder = database.parent / "copies"
    done = run(command, "--db", database, "--backup", folder)
    [copy] = folder.iterdir()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{copy}\n", "")
    run_sql(database, "DELETE FROM todos")
    done = run(command, "--db", database, "--restore", copy)
    [before] = (database.parent / "backups").iterdir()
    line = f"Restored {copy}. The list before it is in {before}.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
    assert read_texts(database) == ["milk"]
    database.unlink()
    done = run(command, "--db", database, "--restore", copy)
    assert done.stdout == f"Restored {copy}. There was no list before.\n"


@POSIX_ONLY
def test_names_may_contain_any_characters(tmp_path: Path) -> None:
    database = make_list(tmp_path / "a b?mode=ro#c%20 \u00e9\U0001f35e\udcff.db", "milk")
    done = run([BIN / "todo-wsgi"], "--db", database, "--backup", tmp_path / "?mode=ro#%20\udcff")
    assert done.returncode == 0
    [copy] = (tmp_path / "?mode=ro#%20\udcff").iterdir()
    run_sql(database, "DELETE FROM todos")
    assert run([BIN / "todo-wsgi"], "--db", database, "--restore", copy).returncode == 0
    assert read_texts(database) == ["milk"]


@POSIX_ONLY
def test_an_error_is_one_line_whatever_the_names(database: Path) -> None:
    make_list(database)
    line = fails("--db", database, "--restore", "no\nsuch\ncopy")
    assert line.startswith("todo-wsgi: cannot restore no such copy: [Errno 2] No such file")
    assert "No such file" in fails("--db", database, "--backup", "no/such\nfolder")
    assert "There is no folder" in fails("--db", "no/such\nlist", "--restore", database)


def test_backup_and_restore_exclude_each_other(database: Path) -> None:
    line = fails("--db", database, "--backup", "here", "--restore", "copy.db")
    assert line == "todo-wsgi: argument --restore: not allowed with argument --backup"


def test_they_need_no_waitress(database: Path) -> None:
    bare: list[str | Path] = [
        sys.executable,
        "-S",
        ROOT / "serve.py",
    ]  # -S leaves out site-packages
    done = run(bare, "--db", make_list(database, "milk"), "--backup", database.parent / "copies")
    assert read_texts(Path(done.stdout.rstrip())) == ["milk"]
    assert run(bare, "--db", database, "--restore", done.stdout.rstrip()).returncode == 0


def run_patched(database: Path, code: str, *arguments: str | Path) -> int:
    """Run serve.py after `code`, which can name the module `backup`; return the exit status."""
    imports = "import os, signal, sys; import serve; from todo_wsgi.storage import backup"
    command = f"{imports}\n{code}\nserve.main(sys.argv[1:])"
    words = [sys.executable, "-W", "error", "-c", command, "--db", database, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True).returncode


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_copy(database: Path, number: signal.Signals) -> None:
    copy = make_list(database.parent / "copy.db", "milk")
    before = content_of(make_list(database, "old").parent)
    code = f"backup._check = lambda _: signal.raise_signal({number})"
    assert run_patched(database, code, "--backup", database.parent) == 2
    assert run_patched(database, code, "--restore", copy) == 2
    assert content_of(database.parent) == before


KILL = """
calls = []
def kill(status, remaining, _):
    calls.append(status)
    if {}:
        os.kill(os.getpid(), signal.SIGKILL)
backup._give_up_if_locked = kill
"""


@POSIX_ONLY
@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("len(calls) == 1", "old"),  # the copy has been read
        ("len(calls) == 2", "old"),  # a page has been written, and the old list not copied yet
        ("len(calls) == 3", "old"),
        ("len(calls) == 300", "old"),
        ("status == 0 and remaining == 1", "old"),  # one page is missing
        ("status == 101 and len(calls) > 300", "new"),  # SQLITE_DONE
    ],
)
def test_kill_9_leaves_the_list_of_before_or_the_restored_one(
    database: Path, moment: str, text: str
) -> None:
    fill(make_list(database), 50_000, "'old'")
    copy = make_list(database.parent / "copy.db")
    fill(copy, 50_000, "'new'")
    assert run_patched(database, KILL.format(moment), "--restore", copy) == -signal.SIGKILL
    assert read_row(database, "PRAGMA integrity_check") == ("ok",)
    assert read_texts(database) == [text] * 50_000
    assert restore(str(database), str(copy))
    assert read_texts(database) == ["new"] * 50_000


# While servers run


@contextmanager
def busy(server: Server) -> Iterator[list[str]]:
    """Let four clients add todos and read pages; yield the texts that have been confirmed."""
    confirmed: list[str] = []
    is_over = threading.Event()

    def use(client: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            text = f"{client}.{number}."
            assert status_of(server.send(post(f"text={text}".encode()))) == 303
            confirmed.append(text)
            assert status_of(server.send(get())) == 200

    with ThreadPoolExecutor() as executor:
        clients = [executor.submit(use, client) for client in range(4)]
        try:
            yield confirmed
        finally:
            is_over.set()
        for client in clients:
            client.result()


@POSIX_ONLY
@pytest.mark.parametrize(
    "command",
    [
        serve_command("--port", "0"),
        serve_command("--port", "0", "--processes", "2"),
        [str(BIN / "waitress-serve"), "--listen=127.0.0.1:0", "todo_wsgi:app"],
    ],
    ids=["serve.py", "processes", "waitress-serve"],
)
def test_no_confirmed_todo_is_lost_while_a_server_runs(tmp_path: Path, command: list[str]) -> None:
    with running(command, tmp_path) as server:
        database = str(server.database)
        server.send(post(b"text=milk"))
        copy = back_up(database, str(tmp_path / "copies"))
        with busy(server) as confirmed:
            wait_until(lambda: len(confirmed) > 20)
            before_backup = set(confirmed)
            assert before_backup <= set(read_texts(back_up(database, str(tmp_path / "copies"))))
            before_restore = set(confirmed)
            before = restore(database, str(copy))
            assert before
            after_restore = len(confirmed)
            wait_until(lambda: len(confirmed) > after_restore + 20)
        in_copy, in_list = set(read_texts(before)), set(read_texts(server.database))
        assert before_restore <= in_copy
        assert in_copy | in_list == {"milk", *confirmed}
        assert in_copy & in_list == {"milk"}
        restore(database, str(copy))
        for _ in range(10):  # by whichever process
            page = server.send(get()).decode()
            assert re.findall(r'dir="auto">(.*?)</span>', page) == ["milk"]
    assert "ERROR" not in server.output
