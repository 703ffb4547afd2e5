"""What can be wrong with the database: why it cannot be used at the start, or at the moment."""

import re
import sqlite3


class DatabaseUnusable(Exception):
    """The file or the cluster is gone, or has no todo list of ours; the message says what to do."""


# What SQLite reports when our own SQL or our use of it is wrong; all else is the file's condition.
_OUR_MISTAKES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}
# But the table or a column is missing when an older database was put in the place of ours.
_MISSING = re.compile(r"no such (table: (main\.)?todos$|column: )")


def is_unavailable(error: Exception) -> bool:
    """Whether `error` means that the database is locked, full, damaged or gone: no bug of ours."""
    # OSError: no room for a temporary file. UnicodeDecodeError: SQLite's message quotes a damaged
    # schema, and Python cannot decode it.
    if isinstance(error, DatabaseUnusable | OSError | UnicodeDecodeError):
        return True
    # An sqlite3.Error has the code, unless it comes from Python's module and not from SQLite. Its
    # low byte is the primary one: https://www.sqlite.org/rescode.html
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    return code & 0xFF not in _OUR_MISTAKES or bool(_MISSING.match(str(error)))
