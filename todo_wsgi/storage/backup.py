"""Copies of the list, made and put back while a server runs: `--backup` and `--restore`.

SQLite's backup API reads a database as of one moment, and replaces one in one transaction: others
see the list of before, or the restored one. Unfinished files stay in a private folder.
"""

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from todo_wsgi.storage.database import connect
from todo_wsgi.storage.errors import DatabaseUnusable
from todo_wsgi.storage.schema import check_path, upgrade

KEPT = 30  # backups of one list in a folder

_IS_A_LIST = "SELECT text FROM todos LIMIT 0"  # an error if not; it reads the schema alone


def back_up(database: str, folder: str) -> Path:
    """Copy the list into the folder, delete all but the newest KEPT copies, and return this one.

    A missing folder is created. Raises DatabaseUnusable if there is no sound list, or no room.
    """
    with _explaining(f"cannot copy {database} into {folder}", "Correct that"):
        path, target = Path(database).absolute(), Path(folder).absolute()
        path.stat()  # whose errors say more than SQLite's
        with closing(connect(path, "rw")) as source:
            source.execute(_IS_A_LIST)
            target.mkdir(mode=0o700, exist_ok=True)
            copy = target / f"{path.stem}-{_now()}.db"
            _write(source, copy, check=True)
        pattern = re.escape(path.stem) + r"-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.db"
        others = {name for name in os.listdir(target) if re.fullmatch(pattern, name)} - {copy.name}
        for name in sorted(others)[: 1 - KEPT]:
            (target / name).unlink(missing_ok=True)  # another backup may have deleted it
        return copy


def restore(database: str, copy: str) -> Path | None:
    """Replace the list by the copy; return where the one before is now, or None if there was none.

    Raises DatabaseUnusable, and the list stays as it is, if the copy is damaged, no todo list or
    of a newer version, or if the list cannot be replaced.
    """
    with _explaining(f"cannot restore {copy}", "Choose another copy"):
        path = Path(database).absolute()
        source = Path(os.path.realpath(copy))  # logs are beside the file, not beside a link to it
        check_path(path)
        source.stat()
        if source == path.resolve():
            raise DatabaseUnusable(f"{copy} is the list itself. Choose a copy of it.")
        with (
            TemporaryDirectory(dir=path.parent) as private,
            closing(connect(Path(private, "list.db"), "rwc")) as ready,
        ):
            _read(source, ready)
            with _explaining(
                f"cannot replace {database}", "Try again, or stop its server and move it away"
            ):
                if path.exists():
                    return _replace(path, ready)
                _write(ready, path, check=True)
                return None


@contextmanager
def _explaining(problem: str, advice: str) -> Iterator[None]:
    """Turn what SQLite and the system report into a DatabaseUnusable that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise DatabaseUnusable(f"{problem}: {error}. {advice}.") from error


def _now() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def _write(source: sqlite3.Connection, path: Path, *, check: bool) -> None:
    """Copy the database to a new file, which gets its name once it is on disk and checked."""
    with TemporaryDirectory(dir=path.parent) as private:
        part = Path(private, path.name)
        with closing(connect(part, "rwc")) as target:
            source.backup(target, progress=_give_up_if_locked)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, which SQLite syncs
            if check:
                _check(target)
        part.rename(path)
    if sys.platform == "win32":
        return
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # so that the new name is on disk, too
    os.close(folder)


def _give_up_if_locked(status: int, *_: int) -> None:
    """Raise sqlite3.Error if BUSY_TIMEOUT is over; `backup` itself would go on forever."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("database is locked")


def _check(connection: sqlite3.Connection) -> None:
    """Read the whole database; sqlite3.Error if it is damaged."""
    [result] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise sqlite3.DatabaseError(result)


def _read(copy: Path, ready: sqlite3.Connection) -> None:
    """Make `ready` a sound list of this version, with the todos of the copy."""
    # Without "immutable", SQLite leaves two files beside a copy in WAL mode, or fails if it cannot
    # create them. With it, SQLite ignores a log that is there.
    is_alone = not any(os.path.exists(f"{copy}-{log}") for log in ("wal", "journal"))
    with closing(connect(copy, "ro&immutable=1" if is_alone else "ro")) as source:
        source.execute(_IS_A_LIST)
        source.backup(ready, progress=_give_up_if_locked)
    upgrade(ready, copy)
    _check(ready)


def _replace(path: Path, ready: sqlite3.Connection) -> Path:
    """Replace the list at `path`, and return the copy of it that is made first.

    While this writes, nobody else can: changes of others are in that copy, or come afterwards.
    """
    before = path.parent / "backups" / f"{path.stem}-before-restore-{_now()}.db"

    def copy_first(*progress: int) -> None:
        _give_up_if_locked(*progress)
        if not before.exists():
            before.parent.mkdir(mode=0o700, exist_ok=True)
            with closing(connect(path, "rw")) as source:
                _write(source, before, check=False)  # damage may be the reason to restore

    with closing(connect(path, "rw")) as target:
        target.execute(_IS_A_LIST)
        target.execute("PRAGMA journal_mode = WAL")  # in which one can read while another writes
        ready.backup(target, pages=1, progress=copy_first)  # calls it first after one page
    return before
