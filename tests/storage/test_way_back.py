"""The way back: an older release opens the file of a newer one, and no value is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import in_process, run_sql, shown
from servers import ROOT
from test_database import COLUMNS, read_row, read_schema

from todo_wsgi import create_app
from todo_wsgi.storage import schema
from todo_wsgi.storage.errors import DatabaseUnusable

# What two newer releases might add to init_db.sql: each a column, and an index that slows us down.
# They are written like this on purpose: several statements in a line, a semicolon in a string, and
# no semicolon at the end.
NOTES = {
    5: "DROP INDEX todos_by_due; UPDATE todos SET text = text || '; late' WHERE due < '2000'",
    6: "DROP INDEX todos_by_owner;\n-- The column stays; so do its values.\n",
}


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that makes this release a newer one, or the present one again."""
    script, columns = schema._read_script(), dict(schema._ADDED_COLUMNS)

    def become(version: int) -> None:
        added, new = columns, script
        for number, name in [(5, "due"), (6, "owner")][: version - 4]:
            added = {**added, name: "TEXT"}
            note = NOTES[number].replace("'", "''")
            new += f"""
                CREATE INDEX IF NOT EXISTS todos_by_{name} ON todos ({name});
                INSERT OR REPLACE INTO todo_way_back VALUES ({number}, '{note}');
                PRAGMA user_version = {number};
            """
            new = new.replace("    place INTEGER AS", f"    {name} TEXT,\n    place INTEGER AS")
        monkeypatch.setattr(schema, "_read_script", lambda: new)
        monkeypatch.setattr(schema, "_ADDED_COLUMNS", added)

    return become


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("newer", [5, 6])
def test_no_value_is_lost_on_the_way_back_and_up_again(
    database: Path,
    release: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
    newer: int,
    is_new: bool,
) -> None:
    if not is_new:
        create_app(database).close()
    release(newer)
    create_app(database).close()
    run_sql(database, "INSERT INTO todos (text, due) VALUES ('milk', '2027-01-01')")
    release(4)
    with closing(create_app(database)) as app:
        assert in_process(app).post("/", data={"text": "bread"}).status_code == 303
        assert shown(in_process(app)) == ["bread", "milk"]
    assert caplog.messages == [f"{database}: went back from schema {newer} to 4"]
    assert read_schema(database)[0] == 4
    indexes = "SELECT count(*) FROM sqlite_schema WHERE name IN ('todos_by_due', 'todos_by_owner')"
    assert read_row(database, indexes) == (0,)
    create_app(database).close()
    assert len(caplog.messages) == 1  # the file is current now
    release(newer)
    create_app(database).close()
    assert read_schema(database)[0] == newer
    assert read_row(database, "SELECT text, due FROM todos") == ("milk", "2027-01-01")
    assert read_row(database, indexes) == (newer - 4,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM todo_way_back WHERE version = 5", "its schema is 6, this one knows 4"),
        ("DELETE FROM todo_way_back WHERE version = 6", "its schema is 6, this one knows 4"),
        ("DROP TABLE todo_way_back", "its schema is 6, this one knows 4"),
        ("UPDATE todo_way_back SET script = 'DROP INDEX x' WHERE version = 5", "no such index: x"),
        ("UPDATE todo_way_back SET script = 'DROP; x' WHERE version = 5", "syntax error"),
        ("UPDATE todo_way_back SET script = 'SELECT ''' WHERE version = 5", "unrecognized token"),
    ],
)
def test_a_way_back_with_a_gap_or_an_error_changes_nothing(
    database: Path, release: Callable[[int], None], change: str, message: str
) -> None:
    release(6)
    create_app(database).close()
    run_sql(database, change)
    before = database.read_bytes()
    release(4)
    with pytest.raises(DatabaseUnusable, match=message) as error:
        create_app(database)
    assert len(str(error.value).splitlines()) == 1
    assert database.read_bytes() == before


def test_a_note_does_not_decide_the_version(database: Path, release: Callable[[int], None]) -> None:
    release(5)
    create_app(database).close()
    run_sql(database, "UPDATE todo_way_back SET script = 'PRAGMA user_version = 99'")
    release(4)
    create_app(database).close()
    assert read_schema(database)[0] == 4


def test_a_file_of_this_version_without_the_table_is_left_as_it_is(database: Path) -> None:
    create_app(database).close()
    run_sql(database, "DROP TABLE todo_way_back")
    before = database.read_bytes()
    create_app(database).close()
    assert database.read_bytes() == before
    assert read_schema(database) == (4, COLUMNS)


def test_several_processes_may_go_back_at_once(
    database: Path, release: Callable[[int], None]
) -> None:
    release(6)
    create_app(database).close()
    code = "import sys, todo_wsgi; sys.stdin.read(); todo_wsgi.create_app(sys.argv[1]).close()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, database],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()  # now
    said = []
    for process in processes:
        assert process.stderr
        with process.stderr as lines:
            said.append(lines.read())
        assert process.wait() == 0
    assert sorted(said) == ["", "", "", f"{database}: went back from schema 6 to 4\n"]
    assert read_schema(database)[0] == 4
