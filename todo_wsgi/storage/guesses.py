"""Who guessed the password, in a small database beside that of the list.

All processes that serve the list share it, and its lock lets them judge one guess at a time.
"""

import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from todo_wsgi.storage.database import BUSY_TIMEOUT, connect

LIMIT = 10  # wrong guesses, after which an address has to wait
PAUSE = 60  # seconds from the last of them
AT_LEAST = 0.2  # seconds that a wrong guess takes, however fast the machine is

_TABLES = """CREATE TABLE IF NOT EXISTS wrong (address TEXT PRIMARY KEY, count INTEGER, last REAL);
CREATE TABLE IF NOT EXISTS knowing (address TEXT PRIMARY KEY)"""
_OLD = "DELETE FROM wrong WHERE last NOT BETWEEN ? AND ?"
_KNOWS = "SELECT count(*) FROM knowing WHERE address = ?"
_LAST = "SELECT max(last) FROM wrong WHERE address = ? AND count >= ?"
_COUNT = """INSERT INTO wrong VALUES (?, 1, ?)
ON CONFLICT DO UPDATE SET count = count + 1, last = excluded.last"""


def judge(
    path: Path, address: str, is_right: Callable[[], bool], is_new: bool, is_first: bool
) -> int | None:
    """Return None if `is_right()`, else the seconds until `address` may guess again.

    These are 0 after an ordinary mistake. They are more, and the guess is not looked at, after
    LIMIT mistakes, or while another one is judged. But who was right before and is new to this
    process is looked at, and waits for the other one; so does everybody if `is_first` says that
    this process has not seen the password yet.
    """
    with closing(connect(path, "rwc")) as connection:
        connection.executescript(_TABLES)
        [knows] = connection.execute(_KNOWS, (address,)).fetchone()
        is_patient = is_first or (is_new and knows)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000 * is_patient:.0f}")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another guess is judged
            return 1
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
        with connection:
            now = time.time()
            connection.execute(_OLD, (now - PAUSE, now))
            [last] = connection.execute(_LAST, (address, LIMIT)).fetchone()
            wait = max(1, math.ceil(last + PAUSE - now)) if last else 0
            if wait and not (is_new and knows):
                return wait
            if is_right():
                connection.execute("INSERT OR IGNORE INTO knowing VALUES (?)", (address,))
                return None
            if not wait:
                connection.execute(_COUNT, (address, now))
            time.sleep(max(0, now + AT_LEAST - time.time()))
            return wait
