"""serve.py --reload: what it watches, what one sees meanwhile, and how it stops."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import read_texts
from playwright.sync_api import Browser, expect
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    TIMEOUT,
    Server,
    get,
    post,
    request,
    running,
    serve_command,
    status_of,
    wait_until,
)

from todo_wsgi import __version__
from todo_wsgi.server import command_line, reloading, systemd

pytestmark = POSIX_ONLY

BROKEN = "\nx = ('<b>'\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


def copy_project(folder: Path) -> Path:
    """Copy the project's files into the folder, to be changed there."""
    for name in ("todo_wsgi", "templates", "static"):
        leave_out = shutil.ignore_patterns("__pycache__", "reloading.py")
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for name in ("serve.py", "init_db.sql"):
        shutil.copy(ROOT / name, folder)
    # The coverage of this file is measured: so it is the project's own.
    (folder / "todo_wsgi/server/reloading.py").symlink_to(reloading.__file__)
    return folder


def reload_command(project: Path, *flags: str) -> list[str]:
    return [sys.executable, "-W", "error", str(project / "serve.py"), "--reload", *flags]


def start(project: Path, *flags: str) -> AbstractContextManager[Server]:
    environ = {"PYTHONDONTWRITEBYTECODE": ""}  # as if it was not set
    return running(reload_command(project, "--port", "0", *flags), project, environ)


def change(file: Path, old: str, new: str) -> None:
    """Replace a text in the file, at once for those who read it."""
    text = file.read_text()
    assert old in text
    write(file, text.replace(old, new))


def write(file: Path, text: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)


def wait_for(server: Server, status: int, text: str = "", path: str = "/") -> str:
    """Ask until the answer has the status and the text, and return it."""
    answer = ""
    while not (answer.startswith(f"HTTP/1.1 {status} ") and text in answer):
        answer = server.send(get(path)).decode()
    return answer


# What it watches


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("todo_wsgi/presentation/pages.py", '"all": "Todos"', '"all": "Tasks"'),
        ("templates/list.html", "Add todo", "Add to Tasks"),
        ("static/style.css", ":root", "/* Tasks */ :root"),
        ("static/icon.svg", "<svg", "<!-- Tasks --><svg"),
    ],
)
def test_a_change_shows_once_it_is_saved(project: Path, file: str, old: str, new: str) -> None:
    with start(project) as server:
        before = server.send(get()).decode()
        change(project / file, old, new)
        wait_until(lambda: server.output.count("Serving ") == 2)
        page = server.send(get()).decode()
        paths = re.findall(r'href="(/(?:style|icon)-[^"]+)"', page)
        assert len(paths) == 2
        assert page != before
        assert "Tasks" in page + "".join(server.send(get(path)).decode() for path in paths)
        assert f"{file} has changed.\n" in server.output
        assert server.stop() == 0


def test_files_that_are_not_of_the_application_change_nothing(project: Path) -> None:
    (project / "todo_wsgi/gone.py").symlink_to("nowhere")  # as if it vanished at the wrong moment
    with start(project) as server:
        for name in ("todo_wsgi/.handlers.py.swp", "templates/list.html~", "other.py"):
            (project / name).write_text("")
        change(project / "templates/list.html", "Add todo", "Add a task")
        wait_for(server, 200, "Add a task")
        assert server.stop() == 0
    assert server.output.count("has changed") == 1
    assert not list(project.rglob("handlers*.pyc"))  # it could be of a file saved in that second


# While the child cannot run


@pytest.mark.parametrize(
    ("file", "text", "seen"),
    [
        ("todo_wsgi/handlers.py", BROKEN, "x = (&#x27;&lt;b&gt;&#x27;\n        ^\nSyntaxError: "),
        ("todo_wsgi/storage/models.py", "\n1 / 0\n", "\nZeroDivisionError: division by zero\n"),
        ("todo_wsgi/__init__.py", BROKEN, "\nSyntaxError: &#x27;(&#x27; was never closed\n"),
        ("serve.py", BROKEN, "\nSyntaxError: &#x27;(&#x27; was never closed\n"),
        ("serve.py", "raise ValueError('\\0')", "\nValueError: \ufffd\n"),
    ],
)
def test_a_mistake_shows_until_it_is_mended(project: Path, file: str, text: str, seen: str) -> None:
    good = (project / file).read_text()
    before, main, after = good.partition('\nif __name__ == "__main__":\n    sys.exit')
    with start(project) as server:
        write(project / file, before + text + main + after)
        page = wait_for(server, 500, "<h1>The server does not run</h1>")
        assert seen in page
        assert f"File &quot;{project / file}&quot;, line " in page
        assert '<meta http-equiv="refresh" content="1">' in page
        assert "\r\nCache-Control: no-store\r\n" in page
        write(project / file, good)
        wait_for(server, 200, "Add todo")
        assert server.stop() == 0


def test_settings_that_become_wrong_show_too(project: Path) -> None:
    with start(project) as server:
        server.database.unlink()
        change(project / "init_db.sql", "CREATE TABLE", "CREATE TABEL")
        page = wait_for(server, 500)
        assert "It ended with status 2." in page
        assert "todos.db cannot be used: near &quot;TABEL&quot;: syntax error." in page
        change(project / "init_db.sql", "CREATE TABEL", "CREATE TABLE")
        wait_for(server, 200)


def test_a_mistake_that_was_there_before_shows_too(project: Path) -> None:
    write(project / "todo_wsgi/handlers.py", BROKEN)
    with start(project) as server:
        page = wait_for(server, 500, "SyntaxError")
        assert "It ended with status 1." in page
        assert f"http://127.0.0.1:{server.port}/ shows this. Save a correction.\n" in server.output
        shutil.copy(ROOT / "todo_wsgi/handlers.py", project / "todo_wsgi")
        wait_for(server, 200)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose child cannot run."""
    project = copy_project(tmp_path_factory.mktemp("broken"))
    write(project / "todo_wsgi/handlers.py", BROKEN)
    with start(project) as server:
        yield server


def test_other_methods_lead_back_to_the_list(broken: Server) -> None:
    page = broken.send(post(b"text=milk"))
    assert status_of(page) == 500
    assert b'<meta http-equiv="refresh" content="1; url=/">' in page
    head = broken.send(request("HEAD", "/"))
    assert status_of(head) == 500
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8080", b"127.0.0.1", b"127.0.0.1:80"])
def test_the_traceback_is_for_this_machine(broken: Server, host: bytes) -> None:
    assert status_of(broken.send(get().replace(b"localhost", host))) == 500


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"", b"a localhost"])
def test_the_traceback_is_for_no_other_name(broken: Server, host: bytes) -> None:
    asked = post(b"\r\nHost: 127.0.0.1\r\n\r\n").replace(b"localhost", host)
    answer = broken.send(asked)
    assert status_of(answer) == 421
    assert answer.endswith(b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_clients_that_send_nothing_or_read_nothing_hold_up_nobody(broken: Server) -> None:
    with broken.connect(), broken.connect() as hasty:
        hasty.close()
        assert status_of(broken.send(get())) == 500


def test_an_error_in_a_request_shows_its_traceback(project: Path) -> None:
    with start(project) as server:
        bug = 'raise ValueError("<b>")  # '
        change(project / "todo_wsgi/handlers.py", "listing = read", f"{bug}listing = read")
        page = wait_for(server, 500, "Something went wrong on our side")
        assert "in show_todos\n    raise ValueError(&quot;&lt;b&gt;&quot;)" in page
        assert "ValueError: &lt;b&gt;\n</pre>" in page


def test_without_it_no_page_has_a_traceback(tmp_path: Path) -> None:
    with running(serve_command("--port", "0"), tmp_path) as server:
        server.database.unlink()
        page = server.send(get())
        assert status_of(page) == 503
        assert b"Traceback" not in page


def test_the_browser_shows_the_mistake_and_later_the_list(project: Path, browser: Browser) -> None:
    with start(project) as server, browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        change(project / "templates/list.html", "$text", "$txt")
        wait_for(server, 500, "KeyError")
        page.reload()
        expect(page.locator("pre")).to_contain_text("KeyError: 'txt'")
        change(project / "templates/list.html", "$txt", "$text")
        write(project / "todo_wsgi/handlers.py", BROKEN)
        wait_for(server, 500, "SyntaxError")
        page.reload()
        expect(page.locator("pre")).to_contain_text("SyntaxError: '(' was never closed")
        shutil.copy(ROOT / "todo_wsgi/handlers.py", project / "todo_wsgi")
        expect(page.get_by_role("button", name="Add todo")).to_be_visible(timeout=TIMEOUT * 1000)


# Requests meanwhile


def test_saving_refuses_nobody_and_loses_nothing(project: Path) -> None:
    handlers = (project / "todo_wsgi/handlers.py").read_text()
    is_over = False

    cut_off: list[str] = []

    def post_until_over(name: str) -> list[str]:
        """Post and read over new connections; return what was confirmed."""
        confirmed: list[str] = []
        for number in itertools.takewhile(lambda _: not is_over, itertools.count()):
            text = f"{name}-{number}"
            answer = server.send(post(f"text={text}".encode()))
            (confirmed if answer.startswith(b"HTTP/1.1 303 ") else cut_off).append(text)
            page = server.send(get())
            assert not page or status_of(page) == 200
            cut_off.extend([text] * (not page))
        return confirmed

    # After a failure, the server stops before the executor waits: that ends the clients.
    with ThreadPoolExecutor() as executor, start(project) as server:
        clients = [executor.submit(post_until_over, f"client-{n}") for n in range(4)]
        for number in range(50):
            saved = server.output.count("Serving ")
            write(project / "todo_wsgi/handlers.py", f"{handlers}# {number}\n")
            time.sleep(0.1)  # often it has not seen the one before, or is starting
        wait_until(lambda: server.output.count("Serving ") > saved)
        is_over = True
        confirmed = [text for client in clients for text in client.result()]
        assert server.stop() == 0
    stored = read_texts(server.database)
    assert len(stored) == len(set(stored))
    assert set(confirmed) <= set(stored)
    assert len(cut_off) <= 2  # of hundreds, on a machine that is busy with other tests


# Its end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("code", "sign"),
    [
        ("", "Serving "),
        (BROKEN, "Save a correction."),
        ("import time; print('waits', flush=True); time.sleep(1000)", "waits"),
    ],
    ids=["alive", "broken", "starting"],
)
def test_a_signal_ends_parent_and_child(
    project: Path, number: signal.Signals, code: str, sign: str
) -> None:
    with start(project) as server:
        handlers = project / "todo_wsgi/handlers.py"
        write(handlers, handlers.read_text() + f"{code}\n")
        wait_until(lambda: sign in server.output)
        assert server.stop(number) == 0
        with pytest.raises(ConnectionRefusedError):  # no child is left that listens
            server.connect()
    assert "Traceback" not in server.output or code == BROKEN


def test_a_child_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal; signal.signal(2, signal.SIG_IGN); os.write(2, b'!'); signal.pause()"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", code])
    monkeypatch.setattr(reloading, "PATIENCE", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = reloading._Child(listener)
    child.read()
    child.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(child._pid, 0)


# The command line


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        (["--host", "0.0.0.0"], {}),
        (["--site", "todo.example"], {}),
        (["--trusted-proxy", "127.0.0.1"], {}),
        (["--processes", "2"], {}),
        ([], {"TODO_HOST": "::1"}),
        ([], {"TODO_SITE": "todo.example"}),
        ([], {"TRUSTED_PROXY": "127.0.0.1"}),
        ([], {"WEB_CONCURRENCY": "2"}),
    ],
)
def test_it_serves_this_machine_alone(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    environ: dict[str, str],
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        command_line.read_settings(["--reload", *flags], "serve.py")
    line = capsys.readouterr().err
    assert line.startswith("serve.py: --reload shows tracebacks, so one process serves this mach")
    assert line.count("\n") == 1


def test_a_wrong_setting_is_reported_as_always(tmp_path: Path) -> None:
    line = failure(tmp_path, "--port", "0", "--db", "missing/todos.db")
    assert "missing. Make it, or choose another file." in line


def failure(folder: Path, *flags: str, **environ: str) -> str:
    """Return the line with which the server reports why it cannot start."""
    done = subprocess.run(
        serve_command("--reload", *flags),
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_an_invalid_port_is_reported_as_always(tmp_path: Path, port: str) -> None:
    assert f"'{port}' is not a port: set --port" in failure(tmp_path, f"--port={port}")


def test_a_port_in_use_is_reported_as_always(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = failure(tmp_path, "--port", port)
        assert f"'127.0.0.1', port {port}: another program listens there." in line
        assert failure(tmp_path, PORT=port) == line


def test_a_socket_from_systemd_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["serve.py", "--port", str(taken.getsockname()[1])])
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        reloading.reload()  # the caller goes on, and must not serve it instead
    assert systemd.inherited_listener() is None


@pytest.mark.parametrize("command", [[str(ROOT / "serve.py")], ["-m", "todo_wsgi"]])
def test_flags_that_only_print_do_so(tmp_path: Path, command: list[str]) -> None:
    def run(*flags: str) -> str:
        python = [sys.executable, *command, *flags]
        return subprocess.check_output(python, cwd=tmp_path, text=True, stderr=subprocess.STDOUT)

    assert run("--reload", "--port", "0", "--version") == f"todo_wsgi {__version__}\n"
    assert run("--reload", "--port", "0", "--help") == run("--help")


@pytest.mark.parametrize("command", [["-m", "todo_wsgi"], [str(BIN / "todo-wsgi")]])
def test_the_package_reloads_like_serve_py(project: Path, command: list[str]) -> None:
    # The copy is found first, wherever the package is installed.
    environ = {"PYTHONPATH": str(project)}
    command = [sys.executable, *command, "--reload", "--port", "0"]
    with running(command, project, environ) as server:
        change(project / "templates/list.html", "Add todo", "Add a task")
        wait_for(server, 200, "Add a task")
        assert server.stop() == 0


def test_the_xray_keeps_its_address(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with start(project, "--xray", port) as server:
        change(project / "templates/list.html", "Add todo", "Add a task")
        wait_for(server, 200, "Add a task")
        wait_until(lambda: server.output.count("X-ray") == 2)
        before, after = re.findall(rf"http://127.0.0.1:{port}/.+/", server.output)
        assert before == after
        with urlopen(after, timeout=TIMEOUT) as answer:
            assert answer.status == 200
