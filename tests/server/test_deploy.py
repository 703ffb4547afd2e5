"""`git push prod` on a machine of its own: the manual's commands, with real ssh, systemd and Caddy.

Meanwhile visitors of four kinds ask, over connections that go past Caddy, so that each one counts:
nobody may be refused, and each todo that was confirmed must be in the list, once.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import read_texts, run_sql
from machines import Machine, booted
from servers import ROOT, copy_project, read_manual, running, serve_command, wait_until

pytestmark = pytest.mark.timeout(240)

DATABASE = "var/lib/todo/todos.db"


class Production:
    """The list on a machine, and a clone of the project from which it is pushed."""

    def __init__(self, machine: Machine, laptop: Path) -> None:
        self.machine = machine
        self.laptop = laptop
        self.database = machine.root / DATABASE

    def type(self, command: str) -> str:
        """Run a command in the clone; return what the terminal shows."""
        return self.machine.type(command, self.laptop).stdout

    def push(self, **_: object) -> str:
        return self.type("git commit --quiet --all --message 'Change it'; git push prod main")

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.laptop / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def append(self, file: str, text: str) -> None:
        with open(self.laptop / file, "a") as opened:
            opened.write(text)

    @property
    def current(self) -> str:
        return self.machine.run("basename $(readlink /srv/todo/current)").strip()

    @property
    def commit(self) -> str:
        return self.type("git rev-parse --short=10 HEAD").strip()

    @property
    def page(self) -> str:
        return self.machine.run("curl -fsS http://127.0.0.1:8080/")

    @contextmanager
    def visited(self, *, may_fail: bool = False) -> Iterator[None]:
        """Let visitors ask meanwhile; then look up each todo that was confirmed."""
        program = [sys.executable, str(ROOT / "tests/visitors.py"), "8080"]
        there = ["nsenter", "--target", self.machine.leader, "--net", *program]
        # At the end of a thread, coverage's support of greenlets has kept a process busy for ever.
        environ = {name: os.environ[name] for name in os.environ if "COVERAGE" not in name}
        with subprocess.Popen(
            there, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as visitors:
            yield
            output, _ = visitors.communicate()
        count, confirmed, failures, closed, longest = json.loads(output)
        assert count > 20
        assert may_fail or (failures == [] and len(closed) <= 1)
        times = Counter(read_texts(self.database))
        assert [text for text in confirmed if times[text] != 1] == []
        assert max(times.values()) == 1
        print(f"{count} requests, {len(closed)} repeated, longest wait {longest:.2f} s")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """The list in production, as the manual's commands make it."""
    folder = tmp_path_factory.mktemp("machine")
    with booted(folder) as machine:
        production = Production(machine, copy_project(folder / "laptop"))
        production.type("git init --quiet --initial-branch=main && git add --all")
        production.type("git config user.name me && git config user.email me@todo.example")
        production.type("git commit --quiet --message 'Start'")
        output = production.type(read_manual(r"ssh root@todo\.example 'apt-get.*?\n(?=```)"))
        assert f"-- {production.commit} runs." in output
        assert "-- Anybody can change the list: it has no password yet." in output
        run_sql(production.database, "INSERT INTO todos (text) VALUES ('milk')")
        # Without the internet, Caddy has to make a certificate itself.
        machine.run("sed -i '1i {\\nlocal_certs\\n}' /etc/caddy/Caddyfile; systemctl reload caddy")
        yield production


@pytest.fixture
def production(first: Production) -> Production:
    """The same, with a clone in which nothing is changed."""
    first.type("git reset --quiet --hard prod/main")
    return first


ASK = """curl -sk --resolve todo.example:443:127.0.0.1 -o /dev/null \\
    -w '%{http_version} %{http_code}' https://todo.example """
BACK = read_manual(r"ssh root@todo\.example \S+/release back")


def test_a_push_is_released_and_can_be_taken_back(production: Production) -> None:
    before = production.current
    production.append("templates/list.html", "<!-- news -->")
    with production.visited():
        output = production.push()
        assert "main -> main\n" in output
        assert f"-- {production.commit} runs." in output
        assert "<!-- news -->" in production.page
        assert production.current == production.commit
        assert f"-- {before} runs." in production.type(BACK)
        assert "<!-- news -->" not in production.page
    assert len(production.machine.run("ls /srv/todo/releases").split()) <= 5


IN_EARNEST = (
    '\nimport os, time\nif os.environ.get("TODO_DB", "").startswith("/var/lib/todo/{}"): {}\n'
)
DEFECTS: dict[str, tuple[str, str, str]] = {
    "syntax": ("todo_wsgi/handlers.py", "\ndef broken(:\n", "SyntaxError: invalid syntax"),
    "import": ("todo_wsgi/handlers.py", "\nimport no_such_module\n", "No module named 'no_such_m"),
    "hash": ("requirements.txt", "\nsix==1.16.0 --hash=sha256:" + "0" * 64, "six==1.16.0"),
    "answer": (
        "todo_wsgi/handlers.py",
        "\ndef show_todos(*_: object) -> Response: raise ValueError('no list today')\n",
        "ValueError: no list today",
    ),
    "start": (
        "todo_wsgi/application.py",
        IN_EARNEST.format("", "raise OSError('no start')"),
        "OSError: no start",
    ),
    "hang": (
        "todo_wsgi/application.py",
        IN_EARNEST.format("", "time.sleep(999)"),
        "start operation timed out",
    ),
    "start in earnest": (
        "todo_wsgi/application.py",
        IN_EARNEST.format("todos.db", "raise OSError('not this list')"),
        "OSError: not this list",
    ),
}


@pytest.mark.parametrize(("file", "added", "shown"), DEFECTS.values(), ids=DEFECTS)
def test_a_release_that_does_not_work_is_refused(
    production: Production, file: str, added: str, shown: str
) -> None:
    before = production.current
    production.append(file, added)
    with production.visited():
        output = production.push()
    assert shown in output
    assert "The release before goes on." in output
    assert "! [remote rejected] main -> main" in output
    assert production.current == before
    assert "Todos" in production.page
    assert production.commit not in production.machine.run("ls /srv/todo/releases")


def test_a_commit_that_cannot_be_released_is_refused(production: Production) -> None:
    production.type("git rm --quiet deploy/release")
    assert "! [remote rejected] main -> main" in production.push()
    assert "-- " in production.type(BACK.replace(" back", ""))  # the script is still there


def test_changed_files_on_the_server_are_not_overwritten(production: Production) -> None:
    production.machine.run("echo '# by hand' >> /srv/todo/app/serve.py")
    production.append("templates/list.html", "<!-- other -->")
    output = production.push()
    assert "-- Files were changed on the server." in output
    assert "# by hand" in production.machine.run("tail -1 /srv/todo/app/serve.py")
    production.machine.run("git -C /srv/todo/app checkout --quiet .")
    production.push()
    assert production.current == production.commit


def test_one_push_at_a_time(production: Production) -> None:
    production.append("templates/list.html", "<!-- one -->")
    first = subprocess.Popen(
        ["bash", "-c", "git commit --quiet --all --message one; git push prod main"],
        cwd=production.laptop,
        env=production.machine.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert first.stdout
    assert "-- Installing" in first.stdout.readline()
    assert "Somebody else is releasing." in production.type("git push prod main")
    assert "main -> main\n" in first.communicate()[0]
    assert production.current == production.commit


def test_a_newer_schema_goes_up_and_back_and_up_again(production: Production) -> None:
    database = production.database
    version = version_of(database)
    way_back = f"INSERT OR REPLACE INTO todo_way_back VALUES ({version + 1}, '');"
    pragma = "PRAGMA user_version = {};"
    new = f"{way_back}\n{pragma.format(version + 1)}"
    production.edit("init_db.sql", pragma.format(version), new)
    columns = "_ADDED_COLUMNS = {"
    production.edit("todo_wsgi/storage/schema.py", columns, columns + '"note": "TEXT",')
    with production.visited():
        output = production.push()
        assert f"-- {production.commit} runs." in output
        run_sql(database, "UPDATE todos SET note = 'with cream' WHERE id = 1")
        production.type(BACK)
        assert production.current != production.commit
        assert version_of(database) == version
        production.type(BACK.replace("back", "main"))
    assert production.current == production.commit
    assert version_of(database) == version + 1
    assert production.machine.run(f"sqlite3 /{DATABASE} 'SELECT note FROM todos WHERE id = 1'") == (
        "with cream\n"
    )


def test_a_schema_without_a_way_back_is_refused_unless_that_is_meant(
    production: Production,
) -> None:
    before, version = production.current, version_of(production.database)
    pragma = "PRAGMA user_version = {};"
    production.edit("init_db.sql", pragma.format(version), pragma.format(version + 2))
    with production.visited():
        output = production.push()
        assert "There would be no way back." in output
        assert production.current == before
        assert version_of(production.database) == version
        command = read_manual(r"ssh root@todo\.example NO_WAY_BACK=1 \S+ COMMIT")
        output = production.type(command.replace("COMMIT", production.commit))
        assert output.endswith(f"-- {production.commit} runs.\n")
        assert version_of(production.database) == version + 2
    assert "There is no release to go back to." in production.type(BACK)
    assert "main -> main\n" in production.type("git push prod main")


def version_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_restarts_refuse_nobody(production: Production) -> None:
    with production.visited():
        for _ in range(20):
            production.machine.run("systemctl restart todo")


def test_nothing_confirmed_is_lost_when_the_server_is_killed(production: Production) -> None:
    with production.visited(may_fail=True):
        for _ in range(5):
            time.sleep(0.5)
            production.machine.run("systemctl kill --signal=KILL todo")
            assert "Todos" in production.page  # asks as soon as it is back


def test_nothing_confirmed_is_lost_in_a_reboot(production: Production) -> None:
    with production.visited(may_fail=True):
        time.sleep(1)
        production.machine.reboot()
    wait_until(lambda: production.machine.run(ASK) == "2 200")
    ended = "todo.service: Deactivated successfully."  # systemd did not have to kill it
    assert ended in production.machine.run("journalctl --boot=-1 --unit=todo --no-pager")


def test_copies_are_made_each_night_and_put_back(production: Production) -> None:
    machine = production.machine
    run_sql(production.database, "INSERT INTO todos (text) VALUES ('precious')")
    assert "todo-backup.timer" in machine.run("systemctl list-timers --no-pager")
    machine.run("systemctl start todo-backup")
    copy = machine.run("ls /var/lib/todo/backups").split()[-1]
    run_sql(production.database, "DELETE FROM todos WHERE text = 'precious'")
    restore = read_manual(r"ssh root@todo\.example 'runuser.*?db'")
    output = production.type(re.sub(r"todos-\S+Z\.db", copy, restore))
    assert copy in output
    assert "precious" in production.page
    assert set(machine.run("stat --format %U /var/lib/todo/*").split()) == {"todo"}
    assert machine.run("stat --format '%U %a' /var/lib/todo") == "todo 700\n"


@pytest.mark.parametrize("name", ["", "https://todo.example", "todo.example:80", "-x", "todo..x"])
def test_setup_wants_a_host_name(production: Production, name: str) -> None:
    output = production.machine.run(f"/srv/todo/app/deploy/setup {name} 2>&1")
    assert output == ("Give a host name, without https:// or a port: deploy/setup todo.example\n")


def test_setup_again_leads_to_the_same_release_by_another_name(production: Production) -> None:
    production.append("templates/list.html", "<!-- regretted -->")
    production.push()
    production.type(BACK)
    machine, before = production.machine, production.current
    assert before != production.commit
    machine.run("printf 'WEB_CONCURRENCY=2' >>/etc/todo.env")  # without an end of line
    setup = read_manual(r"/srv/todo/app/deploy/setup todo\.example")
    with production.visited():
        machine.run(setup.replace("todo.example", "list.example"))
        there = "curl -s -o /dev/null -w '%{http_code}' -H 'Host: list.example' 127.0.0.1:8080"
        assert machine.run(there) == "200"
        assert production.current == before
    machine.run("sed -i /WEB/d /etc/todo.env")
    machine.run(setup)
    assert machine.run(there) == "421"
    assert machine.run("cat /etc/todo.env") == "TODO_SITE=todo.example\n"


def test_settings_that_prevent_every_start_are_reported(production: Production) -> None:
    production.append("templates/list.html", "<!-- later -->")
    production.machine.run("echo TODO_PASSWORD=plain >>/etc/todo.env")
    output = production.push()
    assert "TODO_PASSWORD has to be" in output
    assert "-- Nothing starts" in output
    production.machine.run("sed -i /PASSWORD/d /etc/todo.env")
    assert "Todos" in production.page  # systemd has gone on trying


def test_caddy_encrypts_and_the_password_is_asked_for(production: Production) -> None:
    machine = production.machine
    wait_until(lambda: machine.run(ASK) == "2 200")
    assert machine.run(f"{ASK} -d text=tea") == "2 303"
    assert machine.run(f"{ASK} -d text=tea -H 'Origin: https://evil.example'") == "2 403"
    assert "HTTP/1.1 308" in machine.run("curl -sI -H 'Host: todo.example' http://127.0.0.1")
    password = read_manual(r"ssh -t root@todo\.example '.*?todo'")
    production.type(f"printf 'sesame\\nsesame\\n' | {password}")
    assert machine.run(ASK) == "2 401"
    assert machine.run(f"{ASK} -u me:sesame") == "2 200"
    machine.run("sed -i /PASSWORD/d /etc/todo.env; systemctl restart todo")


@pytest.mark.parametrize(("site", "status"), [("todo.example", 200), ("evil.example", 421)])
def test_a_tunnel_leads_to_a_server_at_home(
    production: Production, tmp_path: Path, site: str, status: int
) -> None:
    machine = production.machine
    serve = read_manual(r"serve\.py --site todo\.example --trusted-proxy [0-9.]+")
    flags = serve.replace("todo.example", site).split()[1:]
    with running(serve_command("--port", "0", *flags), tmp_path) as server:
        ssh = read_manual(r"ssh -N -R \S+ root@todo\.example").replace("8080", str(server.port))
        with subprocess.Popen(
            ["bash", "-c", f"exec {ssh}"], cwd=tmp_path, env=machine.environ
        ) as tunnel:
            machine.run("sed -i s/8080/8085/ /etc/caddy/todo.caddy; systemctl reload caddy")
            wait_until(lambda: machine.run(ASK) == f"2 {status}")
            posted = machine.run(f"{ASK} -d text=tea -H 'Origin: https://todo.example'")
            machine.run("sed -i s/8085/8080/ /etc/caddy/todo.caddy; systemctl reload caddy")
            tunnel.terminate()
    assert posted == ("2 303" if status == 200 else "2 421")
    assert read_texts(tmp_path / "todos.db") == (["tea"] if status == 200 else [])
