"""The database file: created, upgraded, shared or refused, without ever losing data."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import fill, in_process, read_texts, run_sql, shown
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    Server,
    get,
    need,
    post,
    running,
    serve_command,
    status_of,
    wait_until,
)
from werkzeug.test import Client

from todo_wsgi import Application, create_app
from todo_wsgi.storage import database as database_module
from todo_wsgi.storage import schema
from todo_wsgi.storage.database import MAX_LOG, Database
from todo_wsgi.storage.errors import DatabaseUnusable

# The script that created the database of the project's ancestor, a tutorial.
TUTORIAL_SCRIPT = """
    DROP TABLE IF EXISTS todos;
    CREATE TABLE todos (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        text TEXT NOT NULL
    );
    INSERT INTO todos (created_at, text) VALUES ('2020-01-01 00:00:00', 'from the tutorial');
"""
# The table as version 1 of this project created it.
VERSION_1_SCRIPT = """
    CREATE TABLE todos (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        text TEXT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        completed_at TIMESTAMP,
        deleted_at TIMESTAMP
    );
    PRAGMA user_version = 1;
    INSERT INTO todos (text, deleted_at) VALUES ('active', NULL), ('deleted', CURRENT_TIMESTAMP);
"""
# What version 3 added, to count the active todos.
VERSION_3_SCRIPT = f"""
    {VERSION_1_SCRIPT}
    ALTER TABLE todos ADD COLUMN moved_to INTEGER;
    ALTER TABLE todos ADD COLUMN place INTEGER AS (coalesce(moved_to, id));
    CREATE TABLE todo_count (id INTEGER PRIMARY KEY, active INTEGER NOT NULL, replaced INTEGER);
    INSERT INTO todo_count VALUES (1, 1, NULL);
    CREATE TRIGGER todo_inserting BEFORE INSERT ON todos BEGIN
        UPDATE todo_count SET replaced = NULL WHERE id = 1; END;
    CREATE TRIGGER todo_renumbering BEFORE UPDATE OF id ON todos BEGIN
        UPDATE todo_count SET replaced = NULL WHERE id = 1; END;
    CREATE TRIGGER todo_inserted AFTER INSERT ON todos BEGIN
        UPDATE todo_count SET active = active + 1 WHERE id = 1; END;
    CREATE TRIGGER todo_updated AFTER UPDATE OF id, completed_at, deleted_at ON todos BEGIN
        UPDATE todo_count SET active = active WHERE id = 1; END;
    CREATE TRIGGER todo_deleted AFTER DELETE ON todos BEGIN
        UPDATE todo_count SET active = active - 1 WHERE id = 1; END;
    PRAGMA user_version = 3;
"""
COLUMNS = ["id", "text", "created_at", "completed_at", "deleted_at", "moved_to", "place"]


def read_row(database: Path, sql: str) -> tuple[object, ...]:
    with closing(sqlite3.connect(database)) as connection:
        row: tuple[object, ...] = connection.execute(sql).fetchone()
        return row


def read_schema(database: Path) -> tuple[object, list[str]]:
    """Return the schema version and the column names."""
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return version, [name for _, name, *_ in connection.execute("PRAGMA table_xinfo(todos)")]


def test_a_missing_file_is_created(database: Path) -> None:
    create_app(database).close()
    assert read_schema(database) == (4, COLUMNS)


def test_no_connection_is_open_before_the_first_request(app: Application, database: Path) -> None:
    # A server may fork at this point; each process then opens its own.
    assert isinstance(app, Application)
    assert os.listdir(database.parent) == [database.name]


def test_an_empty_file_gets_the_schema(database: Path) -> None:
    database.touch()
    create_app(database).close()
    assert read_schema(database) == (4, COLUMNS)


@POSIX_ONLY
def test_a_path_may_contain_any_characters(tmp_path: Path) -> None:
    database = tmp_path / "a b?mode=ro#c%20 é🍞.db"
    in_process(create_app(database)).post("/", data={"text": "milk"})
    assert read_texts(database) == ["milk"]


def test_other_tables_in_the_file_are_left_alone(database: Path) -> None:
    run_sql(database, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('kept');")
    create_app(database).close()
    assert read_row(database, "SELECT text FROM notes") == ("kept",)
    assert read_schema(database) == (4, COLUMNS)


def test_todos_survive_restarts(database: Path) -> None:
    for text in ("milk", "bread"):
        app = create_app(database)
        in_process(app).post("/", data={"text": text})
        app.close()
    assert read_texts(database) == ["milk", "bread"]


def test_a_tutorial_database_is_upgraded_in_place(database: Path) -> None:
    run_sql(database, TUTORIAL_SCRIPT)
    inode = database.stat().st_ino
    app = create_app(database)
    assert in_process(app).post("/", data={"text": "new"}).status_code == 303
    app.close()
    version, columns = read_schema(database)
    assert version == 4
    assert sorted(columns) == sorted(COLUMNS)
    assert read_texts(database) == ["from the tutorial", "new"]
    assert read_row(database, "SELECT created_at FROM todos") == ("2020-01-01 00:00:00",)
    assert database.stat().st_ino == inode


def test_a_database_of_our_own_tutorial_is_upgraded_in_place(database: Path) -> None:
    run_sql(database, (ROOT / "tutorial/9-push/init_db.sql").read_text(encoding="utf-8"))
    run_sql(database, "UPDATE todos SET completed_at = CURRENT_TIMESTAMP WHERE text = 'laundry'")
    app = create_app(database)
    assert shown(in_process(app), "/?show=completed") == ["laundry"]
    app.close()
    assert read_texts(database) == ["laundry", "walk the dog"]
    assert sorted(read_schema(database)[1]) == sorted(COLUMNS)


def test_a_version_1_database_is_upgraded_in_place(database: Path) -> None:
    run_sql(database, VERSION_1_SCRIPT)
    app = create_app(database)
    client = in_process(app)
    assert shown(client) == ["active"]
    client.post("/", data={"text": "new"})
    client.post("/todos/1/up", data={"past": "3"})
    assert shown(client) == ["active", "new"]
    app.close()
    assert read_schema(database) == (4, COLUMNS)


@pytest.mark.parametrize(
    "script",
    [
        "",
        TUTORIAL_SCRIPT,
        VERSION_1_SCRIPT,
        VERSION_3_SCRIPT,
        f"{VERSION_3_SCRIPT} PRAGMA user_version = 0",  # as .dump leaves it
        f"{VERSION_3_SCRIPT} DROP TABLE todo_count",
    ],
)
def test_an_upgraded_database_equals_a_new_one(tmp_path: Path, script: str) -> None:
    schemas = []
    for path in (tmp_path / "new.db", tmp_path / "upgraded.db"):
        if path.name == "upgraded.db":
            run_sql(path, script)
        create_app(path).close()
        with closing(sqlite3.connect(path)) as connection:
            others = "SELECT name, sql FROM sqlite_schema WHERE name <> 'todos' ORDER BY name"
            columns = [column[1:6] for column in connection.execute("PRAGMA table_xinfo(todos)")]
            schemas.append((sorted(columns), connection.execute(others).fetchall()))
    assert schemas[0] == schemas[1]
    assert len(schemas[0][1]) == 7  # five indexes, sqlite_sequence and todo_way_back


def test_an_upgrade_from_version_3_keeps_every_row(database: Path) -> None:
    run_sql(database, VERSION_3_SCRIPT)
    with closing(sqlite3.connect(database)) as connection:
        before = connection.execute("SELECT * FROM todos").fetchall()
    app = create_app(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT * FROM todos").fetchall() == before
    assert in_process(app).post("/", data={"text": "new"}).status_code == 303
    assert shown(in_process(app)) == ["new", "active"]
    app.close()


def test_an_upgrade_leaves_foreign_tables_alone(database: Path) -> None:
    run_sql(database, f"{TUTORIAL_SCRIPT} CREATE TABLE todo_count (id, theirs)")
    create_app(database).close()
    assert read_row(database, "SELECT count(*) FROM todo_count") == (0,)


def test_a_database_reset_by_the_tutorial_script_is_upgraded(database: Path) -> None:
    create_app(database).close()  # leaves user_version at 4
    run_sql(database, TUTORIAL_SCRIPT)
    create_app(database).close()
    assert sorted(read_schema(database)[1]) == sorted(COLUMNS)
    assert read_texts(database) == ["from the tutorial"]


def test_a_database_restored_from_a_dump_is_opened(database: Path) -> None:
    create_app(database).close()
    run_sql(database, "PRAGMA user_version = 0")  # .dump leaves the version out
    create_app(database).close()
    assert read_schema(database) == (4, COLUMNS)


def test_missing_indexes_are_recreated(database: Path) -> None:
    create_app(database).close()
    run_sql(database, "DROP INDEX todos_all")
    create_app(database).close()
    names = "SELECT count(*) FROM sqlite_master WHERE name = 'todos_all'"
    assert read_row(database, names) == (1,)


def test_an_upgrade_that_fails_halfway_changes_nothing(database: Path) -> None:
    run_sql(database, f"{TUTORIAL_SCRIPT} CREATE TABLE todos_active (text)")
    before = database.read_bytes()
    with pytest.raises(DatabaseUnusable, match="already a table named todos_active"):
        create_app(database)
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("PRAGMA user_version = 5", "made by a newer version of todo_wsgi.* Update todo_wsgi"),
        ("CREATE TABLE todos (id, title)", r"other columns \(id, title\), so another program"),
        ("CREATE VIEW todos AS SELECT 1 AS id, 2 AS text, 3 AS created_at", "cannot be used"),
    ],
)
def test_an_unknown_database_is_refused_and_left_unchanged(
    database: Path, script: str, message: str
) -> None:
    run_sql(database, script)
    before = database.read_bytes()
    with pytest.raises(DatabaseUnusable, match=message):
        create_app(database)
    assert database.read_bytes() == before
    assert os.listdir(database.parent) == [database.name]


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"Buy milk.\n",
        b"\x00" * 4096,
        b"\x89PNG\r\n" + bytes(range(256)) * 400,
        b"SQLite format 3\x00",
        b"SQLite format 3\x00" + b"\xff" * 4000,
    ],
)
def test_a_non_database_file_is_refused_and_left_unchanged(database: Path, content: bytes) -> None:
    database.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match=r"not a database|no database"):
        create_app(database)
    assert database.read_bytes() == content
    assert os.listdir(database.parent) == [database.name]


def test_an_outdated_sqlite_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    with pytest.raises(DatabaseUnusable, match=r"Take one that has 3\.31 or later"):
        create_app(database)
    assert not database.exists()


def test_a_damaged_schema_is_refused(database: Path) -> None:
    create_app(database).close()
    database.write_bytes(database.read_bytes().replace(b"AUTOINCREMENT", b"AUTOINCREM\xf8NT"))
    with pytest.raises(DatabaseUnusable, match="cannot be used"):
        create_app(database)


def test_connections_are_durable_and_safe(app: Application) -> None:
    connection = app.database.connection()
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    values = [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    assert values == ["wal", 2, 1, 3000]  # 2 is FULL


def test_each_thread_reuses_its_own_connection(app: Application) -> None:
    assert app.database.connection() is app.database.connection()
    with ThreadPoolExecutor() as executor:
        other = executor.submit(app.database.connection).result()
    assert other is not app.database.connection()


def test_connections_of_finished_threads_are_closed(app: Application) -> None:
    connections: list[sqlite3.Connection] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: connections.append(app.database.connection()))
        thread.start()
        thread.join()
    for connection in connections[:2]:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    connections[2].execute("SELECT 1")


def test_close_closes_all_connections(database: Path) -> None:
    app = create_app(database)
    in_process(app).post("/", data={"text": "milk"})
    assert len(os.listdir(database.parent)) == 3  # with the write-ahead log and its index
    app.close()
    assert os.listdir(database.parent) == [database.name]
    assert read_texts(database) == ["milk"]


def test_connections_are_closed_when_the_interpreter_exits(database: Path) -> None:
    code = "import sys, todo_wsgi; todo_wsgi.create_app(sys.argv[1]).database.connection()"
    subprocess.run([sys.executable, "-W", "error", "-c", code, database], check=True)
    assert os.listdir(database.parent) == [database.name]


@POSIX_ONLY
def test_a_file_is_not_created_beside_the_newest_changes_of_a_moved_one(
    app: Application, database: Path
) -> None:
    in_process(app).post("/", data={"text": "milk"})
    moved = database.rename(database.with_name("moved.db"))
    with pytest.raises(DatabaseUnusable, match=r"todos\.db-wal holds .* Put that file back"):
        create_app(database)
    moved.rename(database)
    create_app(database).close()
    assert read_texts(database) == ["milk"]


@POSIX_ONLY
def test_a_new_database_is_readable_only_by_its_owner(database: Path) -> None:
    app = create_app(database)
    in_process(app).post("/", data={"text": "milk"})
    files = sorted(database.parent.iterdir())
    assert [file.name for file in files] == ["todos.db", "todos.db-shm", "todos.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    app.close()


@POSIX_ONLY
def test_an_existing_database_keeps_its_permissions(database: Path) -> None:
    database.touch()
    database.chmod(0o640)
    create_app(database).close()
    assert database.stat().st_mode & 0o777 == 0o640


def test_a_deleted_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(DatabaseUnusable, match="The current folder is gone"):
        create_app("todos.db")


def test_a_later_chdir_does_not_move_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    client = in_process(create_app("here.db"))
    monkeypatch.chdir(other)
    client.post("/", data={"text": "milk"})
    assert read_texts(tmp_path / "here.db") == ["milk"]
    assert os.listdir(other) == []


def test_the_path_is_the_argument_or_todo_db_or_todos_db(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert create_app().database.path == tmp_path / "todos.db"
    monkeypatch.setenv("TODO_DB", "elsewhere.db")
    assert create_app().database.path == tmp_path / "elsewhere.db"
    assert create_app("given.db").database.path == tmp_path / "given.db"


def test_importing_the_package_creates_no_database(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", "import todo_wsgi"], cwd=tmp_path, check=True)
    assert os.listdir(tmp_path) == []


def test_the_database_can_be_created_concurrently(database: Path) -> None:
    start = threading.Barrier(8)

    def open_and_add(number: int) -> None:
        start.wait()
        own = Database(database)
        with own.connection() as connection:
            connection.execute("INSERT INTO todos (text) VALUES (?)", (str(number),))
        own.close()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(open_and_add, range(8)))
    assert sorted(read_texts(database)) == list("01234567")


def test_a_file_in_use_keeps_its_journal_mode_for_now(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_app(database).close()
    run_sql(database, "PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(database)) as reader:
        rows = reader.execute("SELECT 1 FROM sqlite_schema")
        rows.fetchone()  # and no more, so the reader still holds its lock
        app = create_app(database)
        assert read_row(database, "PRAGMA journal_mode") == ("delete",)
        rows.close()
    assert in_process(app).get("/healthz").status_code == 200
    create_app(database).close()
    assert read_row(database, "PRAGMA journal_mode") == ("wal",)


def test_any_other_failure_to_enable_wal_is_an_error(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "upgrade", lambda connection, _: connection.execute("BEGIN"))
    with pytest.raises(DatabaseUnusable, match="cannot change into wal mode from within"):
        create_app(database)


# By hand, as in the tutorial: sqlite3 todos.db < init_db.sql


@pytest.mark.parametrize(
    "like_newer_versions", [[], ["-cmd", ".dbconfig dqs_ddl off", "-cmd", ".dbconfig dqs_dml off"]]
)
def test_init_db_sql_resets_the_database(
    client: Client, database: Path, stored: Callable[[], list[str]], like_newer_versions: list[str]
) -> None:
    client.post("/", data={"text": "milk"})
    with (ROOT / "init_db.sql").open("rb") as script:
        subprocess.run(
            [need("sqlite3"), "-bail", *like_newer_versions, database], stdin=script, check=True
        )
    assert read_schema(database) == (4, COLUMNS)
    assert stored() == ["laundry", "walk the dog"]
    assert client.post("/", data={"text": "bread"}).status_code == 303
    assert stored() == ["laundry", "walk the dog", "bread"]


def test_a_row_inserted_with_sqlite3_is_on_the_next_page(client: Client, database: Path) -> None:
    client.post("/", data={"text": "milk"})
    insert = "INSERT INTO todos (text) VALUES ('by hand')"
    subprocess.run([need("sqlite3"), database, insert], check=True)
    assert "by hand" in client.get("/").text


# What somebody has put there by hand


@pytest.mark.parametrize("value", ["'x'", "x'00ff'", "1.5", "-1", "9e99", "9223372036854775807"])
def test_a_place_that_is_no_number_moves_a_todo_but_breaks_no_page(
    client: Client, database: Path, value: str
) -> None:
    for text in ("milk", "bread", "jam"):
        client.post("/", data={"text": text})
    run_sql(database, f"UPDATE todos SET moved_to = {value} WHERE id = 2")
    assert sorted(shown(client)) == ["bread", "jam", "milk"]
    for path in ("/todos/2/complete", "/todos/2/reopen", "/todos/2/top", "/todos/1/top"):
        assert client.post(path).status_code == 303
    for path in ("/todos/2/down", "/todos/2/up"):
        assert client.post(path, data={"past": "1"}).status_code == 303
    time = client.post("/todos/2/delete").location
    assert client.get(time).status_code == 200
    assert sorted(shown(client)) == ["jam", "milk"]


def test_after_the_last_possible_id_the_list_can_be_read_and_moved(
    client: Client, database: Path
) -> None:
    run_sql(database, "INSERT INTO todos (id, text) VALUES (1, 'a'), (9223372036854775807, 'z')")
    assert client.post("/todos/1/top").status_code == 303
    assert sorted(shown(client)) == ["a", "z"]
    assert client.post("/", data={"text": "milk"}).status_code == 503
    assert sorted(shown(client)) == ["a", "z"]


def test_a_large_change_leaves_a_short_log(client: Client, database: Path) -> None:
    fill(database, 150_000)
    assert client.post("/complete-all").status_code == 303
    log = Path(f"{database}-wal")
    assert log.stat().st_size > MAX_LOG
    client.post("/", data={"text": "milk"})
    assert log.stat().st_size <= MAX_LOG


# A log that somebody has deleted


@POSIX_ONLY
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize(
    "command",
    [
        serve_command("--port", "0"),
        serve_command("--port", "0", "--processes", "2"),
        [str(BIN / "waitress-serve"), "--listen=127.0.0.1:0", "todo_wsgi:app"],
    ],
    ids=["serve.py", "two processes", "waitress-serve"],
)
def test_without_its_log_the_server_takes_no_change_and_loses_none(
    tmp_path: Path, command: list[str], suffix: str
) -> None:
    with running(command, tmp_path) as server:
        added = 0
        while added < 9 or not all(map(has_opened_it, processes_of(server))):
            assert status_of(server.send(post(b"text=milk"))) == 303
            added += 1
        Path(f"{server.database}{suffix}").unlink()
        for request in (get("/healthz"), post(b"text=bread")):
            assert status_of(server.send(request)) == 503
        wait_until(lambda: f"{suffix} is gone: No such file or directory" in server.output)
        server.process.kill()
    assert read_texts(server.database) == ["milk"] * added


def processes_of(server: Server) -> list[psutil.Process]:
    """Return the processes that answer requests."""
    first = psutil.Process(server.process.pid)
    return [one for one in first.children() if "spawn_main" in " ".join(one.cmdline())] or [first]


def has_opened_it(process: psutil.Process) -> bool:
    return any(file.path.endswith("-wal") for file in process.open_files())
