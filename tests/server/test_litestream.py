"""Litestream, the real program with our configuration: no todo that it has copied is lost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import read_texts
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    Server,
    get,
    post,
    read_manual,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi.storage.backup import back_up, restore

pytestmark = POSIX_ONLY  # there is no Litestream for Windows


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of deploy/, for a list in a folder, copied to another folder."""
    text = (ROOT / "deploy" / "litestream.yml").read_text(encoding="utf-8")
    text = text.replace("/var/lib/todo/todos.db", str(tmp_path / "one" / "todos.db"))
    text, count = re.subn(r"url: .*", f"url: file://{tmp_path}/copies", text)
    assert count == 1
    (tmp_path / "one").mkdir()
    config = tmp_path / "litestream.yml"
    config.write_text(text, encoding="utf-8")
    return config


@contextmanager
def replicating(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Litestream as deploy/litestream.service does; stop it at the end."""
    unit = (ROOT / "deploy" / "litestream.service").read_text(encoding="utf-8")
    found = re.search(r"ExecStart=\S+/(litestream) (.*)", unit)
    assert found
    arguments = found[2].replace("/etc/litestream.yml", str(config)).split()
    with (config.parent / "litestream.log").open("ab") as log:
        process = subprocess.Popen([BIN / found[1], *arguments], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def restored(config: Path) -> list[str]:
    """Return the texts of the list that the manual's command restores, as `copy.db`."""
    line = read_manual(r"litestream restore .*?/var/lib/todo/todos\.db").replace("\\\n", " ")
    copy = config.parent / "copy.db"
    path = re.search(r"path: (.*)", config.read_text(encoding="utf-8"))
    assert path
    for there, here in {
        "/etc/litestream.yml": str(config),
        "/var/lib/todo/copy.db": str(copy),
        "/var/lib/todo/todos.db": path[1],
    }.items():
        assert there in line
        line = line.replace(there, here)
    copy.unlink(missing_ok=True)
    done = subprocess.run([BIN / "litestream", *line.split()[1:]], capture_output=True)
    return [] if done.returncode else read_texts(copy)


def add(server: Server, *texts: str) -> None:
    for text in texts:
        assert status_of(server.send(post(f"text={text}".encode()))) == 303


def test_the_list_goes_on_at_another_machine(config: Path) -> None:
    one, two = config.parent / "one", config.parent / "two"
    texts = [f"todo-{number}" for number in range(50)]
    with running(serve_command("--port", "0"), one) as server:
        with replicating(config) as litestream:
            add(server, *texts)
            wait_until(lambda: restored(config) == texts)
            litestream.kill()
        server.process.kill()
    two.mkdir()
    with running(serve_command("--port", "0"), two) as server:  # with an empty list
        restore(str(two / "todos.db"), str(config.parent / "copy.db"))
        shown = re.findall(r'dir="auto">(.*?)</span>', server.send(get()).decode())
        assert shown == texts[::-1]
        config.write_text(config.read_text().replace(str(one), str(two)))
        with replicating(config):
            add(server, "after")
            wait_until(lambda: restored(config) == [*texts, "after"])


def test_a_restored_list_reaches_the_other_machine(config: Path) -> None:
    one = config.parent / "one"
    database = str(one / "todos.db")
    with running(serve_command("--port", "0"), one) as server:
        add(server, "milk")
        copy = back_up(database, str(one / "copies"))  # without the tables of Litestream
        with replicating(config):
            add(server, "bread")
            wait_until(lambda: restored(config) == ["milk", "bread"])
            restore(database, str(copy))
            add(server, "butter")
            wait_until(lambda: restored(config) == ["milk", "butter"])
            add(server, "jam")
            wait_until(lambda: restored(config) == ["milk", "butter", "jam"])
