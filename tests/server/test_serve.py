"""serve.py: its output, startup, graceful shutdown, and startup errors."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from conftest import fill, in_process, read_texts
from servers import (
    BIN,
    POSIX_ONLY,
    ROOT,
    Server,
    assert_works,
    get,
    post,
    receive_all,
    running,
    serve_command,
    status_of,
    wait_until,
)

import serve
from todo_wsgi import __version__, create_app
from todo_wsgi.server import command_line
from todo_wsgi.server import serving as waitress_server
from todo_wsgi.server.serving import SETTINGS
from todo_wsgi.storage.models import PAGE_SIZE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_creates_the_database_serves_and_stops_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(serve_command("--port", "0"), tmp_path) as server:
        assert server.output == (
            f"Serving {tmp_path}/todos.db on http://127.0.0.1:{server.port}/ (Ctrl-C stops)\n"
        )
        assert status_of(server.send(post(b"text=milk"))) == 303
        assert server.stop(number) == 0
    assert server.output.count("\n") == 1
    assert os.listdir(tmp_path) == ["todos.db"]  # closed: the write-ahead log is merged into it
    assert read_texts(tmp_path / "todos.db") == ["milk"]


@POSIX_ONLY
def test_a_database_with_an_unprintable_path_is_served(tmp_path: Path) -> None:
    command = serve_command("--port", "0", "--db", "é\udcff.db")
    with running(command, tmp_path, {"PYTHONIOENCODING": "ascii:strict"}) as server:
        assert "\\xe9\\udcff.db on http://" in server.output
        assert status_of(server.send(get())) == 200


@POSIX_ONLY
def test_requests_in_progress_finish_before_shutdown(tmp_path: Path) -> None:
    body = b"text=in+hand"
    head, _, _ = post(body, "Expect: 100-continue").partition(body)
    head = head.replace(b"Connection: close\r\n", b"")
    with running(serve_command("--port", "0"), tmp_path) as server, ExitStack() as stack:
        # More clients than waitress has threads, each halfway through a POST: the server has read
        # the head, and confirms it with "100 Continue".
        clients = [stack.enter_context(server.connect()) for _ in range(12)]
        for client in clients:
            client.sendall(head)
            assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        # Nobody else can write, so requests that reach the database have to wait.
        lock = stack.enter_context(closing(sqlite3.connect("todos.db", isolation_level=None)))
        lock.execute("BEGIN IMMEDIATE")
        server.process.send_signal(signal.SIGTERM)
        with suppress(ConnectionError):  # soon new connections are refused
            while True:
                server.connect().close()
        for client in clients:
            client.sendall(body)
        lock.execute("ROLLBACK")
        for client in clients:
            answer = receive_all(client)
            assert status_of(answer) == 303
            assert b"\r\nConnection: close\r\n" in answer
        assert server.wait() == 0
    assert read_texts(tmp_path / "todos.db") == ["in hand"] * 12


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Restore the signal handlers after a test that runs a server in this process."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signal_handlers")
def test_two_signals_at_once_act_as_one(tmp_path: Path) -> None:
    def signal_twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    with (
        closing(create_app(tmp_path / "todos.db")) as app,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        waitress_server.serve(app, listener, started=signal_twice)
        assert listener.fileno() == -1  # closed


@POSIX_ONLY
def test_requests_sent_before_the_signal_get_a_response(tmp_path: Path) -> None:
    with running(serve_command("--port", "0"), tmp_path) as server, ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)  # it sleeps, and the kernel buffers the bytes
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            client.sendall(post(b"text=sent"))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert [status_of(receive_all(client)) for client in clients] == [303] * 20
        assert server.wait() == 0
    assert len(read_texts(tmp_path / "todos.db")) == 20


@POSIX_ONLY
def test_further_signals_during_shutdown_change_nothing(tmp_path: Path) -> None:
    head, _, body = post(b"text=in+hand", "Expect: 100-continue").partition(b"text=")
    with running(serve_command("--port", "0"), tmp_path) as server, server.connect() as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        server.process.send_signal(signal.SIGTERM)
        with suppress(ConnectionError):  # shutdown has begun when new connections are refused
            while True:
                server.connect().close()
        for _ in range(20):
            server.process.send_signal(signal.SIGTERM)
        client.sendall(b"text=" + body)
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        assert status_of(receive_all(client)) == 303
        assert server.wait() == 0
    assert server.output.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the open files")
def test_a_long_export_is_kept_in_a_file_for_all_until_the_list_changes(tmp_path: Path) -> None:
    def temporary_files() -> list[str]:
        opened = Path(f"/proc/{server.process.pid}/fd").glob("*")
        return [file for file in map(os.readlink, opened) if "(deleted)" in file]

    with running(serve_command("--port", "0"), tmp_path) as server, deaf_client(server) as client:
        received = client.recv(1)
        assert status_of(server.send(get("/healthz"))) == 200
        assert len(temporary_files()) == 1
        assert is_whole(server.send(get("/todos.txt")))
        assert is_whole(received + receive_all(client))
        assert len(temporary_files()) == 1
        assert status_of(server.send(post(b"", path="/complete-all"))) == 303
        server.send(get("/todos.txt"))
        assert len(temporary_files()) == 1


def test_no_page_is_long_enough_to_be_buffered_in_a_file(tmp_path: Path) -> None:
    client = in_process(create_app(tmp_path / "todos.db"))
    fill(tmp_path / "todos.db", PAGE_SIZE, "'+' || replace(printf('%0499d', 0), '0', char(39))")
    assert 2_500_000 < len(client.get("/").data) < SETTINGS["outbuf_overflow"] * 3 / 4


@POSIX_ONLY
def test_a_slow_client_gets_its_whole_response_before_shutdown(tmp_path: Path) -> None:
    with running(serve_command("--port", "0"), tmp_path) as server, deaf_client(server) as client:
        received = client.recv(1)
        server.process.send_signal(signal.SIGTERM)
        received += receive_all(client)
        assert is_whole(received)
        assert server.wait() == 0


@POSIX_ONLY
def test_busy_connections_do_not_prevent_shutdown(tmp_path: Path) -> None:
    def post_until_closed(port: int) -> int:
        added = 0
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        # A request that arrives just after the server has exited gets a reset.
        with (
            closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection,
            suppress(ConnectionError),
        ):
            closed = None
            while closed is None:
                connection.request("POST", "/", "text=busy", headers)
                response = connection.getresponse()
                response.read()
                added += response.status == 303
                posted.set()
                closed = response.getheader("Connection")
        return added

    posted = threading.Event()
    # After a failure, the server stops before the executor waits: that ends the clients.
    with (
        ThreadPoolExecutor() as executor,
        running(serve_command("--port", "0"), tmp_path) as server,
    ):
        clients = [executor.submit(post_until_closed, server.port) for _ in range(8)]
        posted.wait()
        assert server.stop() == 0
        added = sum(client.result() for client in clients)
    assert server.output.count("\n") == 1
    assert len(read_texts(tmp_path / "todos.db")) == added


@POSIX_ONLY
def test_a_client_that_does_not_read_times_out(tmp_path: Path) -> None:
    def is_connected() -> bool:
        connections = psutil.Process(server.process.pid).net_connections()
        return any(connection.status == "ESTABLISHED" for connection in connections)

    command = with_other_limits("s.SETTINGS |= {'channel_timeout': 1, 'cleanup_interval': 0}")
    with running(command, tmp_path) as server, deaf_client(server) as client:
        client.recv(1)
        assert is_connected()
        wait_until(lambda: not is_connected())


@POSIX_ONLY
def test_it_accepts_no_more_connections_than_the_system_allows(tmp_path: Path) -> None:
    command = ["bash", "-c", 'ulimit -n 60; exec "$@"', "bash", *serve_command("--port", "0")]
    with running(command, tmp_path) as server:
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(server.connect())
        assert status_of(server.send(get("/healthz"))) == 200
    assert server.output.count("\n") == 1


@POSIX_ONLY
def test_an_unfinished_request_does_not_prevent_shutdown(tmp_path: Path) -> None:
    with running(with_other_limits("s.GRACE = 0.1"), tmp_path) as server:
        head, _, _ = post(b"text=never", "Expect: 100-continue").partition(b"text=")
        with server.connect() as client:
            client.sendall(head)
            client.recv(100)
            assert server.stop() == 0


def with_other_limits(change: str) -> list[str]:
    """Return a serve.py command that first applies `change` to todo_wsgi.server.serving."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import serve; "
    code += "from todo_wsgi.server import serving as s; "
    return [sys.executable, "-W", "error", "-c", f"{code}{change}; serve.main(['--port', '0'])"]


@contextmanager
def deaf_client(server: Server) -> Iterator[socket.socket]:
    """Yield a client that has requested an 8 MB export, and has read none of it yet."""
    fill(server.database, 4000, "replace(printf('%0500d', i), '0', '🍞')")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        client.sendall(get("/todos.txt"))
        yield client


def is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}\r\n".encode() in head


def test_flags_override_settings_from_the_environment(tmp_path: Path) -> None:
    environ = {"TODO_HOST": "127.0.0.1", "PORT": "0", "TODO_DB": "environ.db"}
    with running(serve_command(), tmp_path, environ):
        assert (tmp_path / "environ.db").exists()
    environ = {"TODO_HOST": "no such host", "PORT": "no port", "TODO_DB": "unused.db"}
    flags = ("--host", "127.0.0.1", "--port", "0", "--db", "flag.db")
    with running(serve_command(*flags), tmp_path, environ):
        assert sorted(os.listdir(tmp_path)) == ["environ.db", "flag.db"]


def test_empty_variables_mean_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TODO_HOST", "PORT", "TODO_DB", "TODO_SITE", "TRUSTED_PROXY", "TODO_ACCESS_LOG"):
        monkeypatch.setenv(name, "")
    settings = command_line.read_settings([], "serve.py")
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.db, settings.trusted_proxy) == ("todos.db", None)
    assert (settings.site, settings.access_log) == (set(), None)


def test_the_host_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "x86_64-conda-linux-gnu")  # set by conda's compilers and by tcsh
    assert command_line.read_settings([], "serve.py").host == "127.0.0.1"


@pytest.mark.parametrize("command", [["serve.py"], ["-m", "todo_wsgi"], [BIN / "todo-wsgi"]])
def test_version_prints_the_version(tmp_path: Path, command: list[str | Path]) -> None:
    if command == ["serve.py"]:
        command = [ROOT / "serve.py"]
    python = [] if BIN / "todo-wsgi" in command else [sys.executable]
    done = subprocess.run(
        [*python, *command, "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"todo_wsgi {__version__}\n")
    assert version("todo_wsgi") == __version__


@pytest.mark.parametrize(
    "command", [[sys.executable, "-W", "error", "-m", "todo_wsgi"], [str(BIN / "todo-wsgi")]]
)
@pytest.mark.parametrize("flags", [[], ["--processes", "2"]])
def test_the_installed_package_serves_like_serve_py(
    tmp_path: Path, command: list[str], flags: list[str]
) -> None:
    with running([*command, "--port", "0", *flags], tmp_path) as server:
        assert_works(server)
        assert server.stop() == 0
    assert server.output.count("\n") == 1
    assert read_texts(tmp_path / "todos.db") == ["milk & 🍞"]


def test_the_command_reports_errors_under_its_own_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "todo-wsgi", "--db", tmp_path, "--port", "0"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == f"todo-wsgi: {tmp_path} is a folder. Choose a file.\n"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/"),
        ("0.0.0.0", "http://127.0.0.1:{}/"),
        ("::1", "http://[::1]:{}/"),
        ("::", "http://[::1]:{}/"),
    ],
)
def test_the_printed_address_can_be_clicked(host: str, address: str) -> None:
    with command_line.listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert command_line.address_of(listener) == address.format(port)


# Startup errors: one line on stderr that says what to do, and exit status 2


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run serve.py, assert that it fails, and return the line that it prints."""
    try:
        status = serve.main(["--port", "0", *arguments])
    except SystemExit as exit_by_argparse:
        status = int(exit_by_argparse.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.startswith("serve.py: ")
    assert printed.err.endswith("\n")
    assert len(printed.err.splitlines()) == 1
    return printed.err


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails(capsys, "--port", str(port))
    assert f"'127.0.0.1', port {port}: another program listens there. Stop it, or choose" in line
    assert not Path("todos.db").exists()


@pytest.mark.parametrize("port", ["http", "-1", "65536", "8080.0", "٨", "9" * 5000, ""])
def test_an_invalid_port_is_reported(capsys: pytest.CaptureFixture[str], port: str) -> None:
    line = fails(capsys, "--port", port)
    assert f"'{port}' is not a port: set --port, PORT or --xray to a number from 0 to 65535" in line


@pytest.mark.parametrize("host", ["no such host", "256.0.0.1", "192.0.2.1", "a" * 70, "a..b", ""])
def test_an_unusable_host_is_reported(capsys: pytest.CaptureFixture[str], host: str) -> None:
    line = fails(capsys, "--host", host)
    assert f"cannot listen on {host!r}, port 0: " in line
    assert "Correct it, or choose another address with --host" in line


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "two", "100", "1_0", "\u0662"])
def test_an_invalid_count_is_reported(capsys: pytest.CaptureFixture[str], count: str) -> None:
    line = fails(capsys, f"--processes={count}")
    assert f"'{count}' is not a count: set --processes or WEB_CONCURRENCY to a number" in line


@pytest.mark.parametrize("address", ["proxy", "*", "127.0.0.1, ::1", "127.0.0.1:80"])
def test_an_invalid_proxy_is_reported(capsys: pytest.CaptureFixture[str], address: str) -> None:
    line = fails(capsys, "--trusted-proxy", address)
    assert f"'{address}' is not an IP address: set --trusted-proxy or TRUSTED_PROXY" in line


@pytest.mark.parametrize("site", ["https://todo.example", "todo.example:443", "*.example"])
def test_an_invalid_site_is_reported(capsys: pytest.CaptureFixture[str], site: str) -> None:
    line = fails(capsys, "--site", site)
    assert f"'{site}' is not a host name: set --site or TODO_SITE to a name like todo.ex" in line


@pytest.mark.parametrize("text", ["open sesame", ""])
def test_a_password_that_is_not_hashed_is_reported_and_not_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TODO_PASSWORD", text)
    assert fails(capsys) == (
        "serve.py: TODO_PASSWORD has to be a hash: "
        "set it to what `todo-wsgi --password` prints, or unset it\n"
    )


@pytest.mark.parametrize("path", [".", "missing/access.log"])
def test_an_unusable_access_log_is_reported(capsys: pytest.CaptureFixture[str], path: str) -> None:
    line = fails(capsys, "--access-log", path)
    assert f"cannot write the access log {path!r}: " in line
    assert line.endswith("Set --access-log or TODO_ACCESS_LOG to another file\n")


def test_line_breaks_do_not_split_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--host", "--db", "--site", "--trusted-proxy", "--port", "--access-log"):
        fails(capsys, flag, "a\nb/c")
    fails(capsys, "a\nb")


def test_an_unknown_flag_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --prot" in fails(capsys, "--prot")
    assert "unrecognized arguments: --back x" in fails(capsys, "--back", "x")
    assert "name a folder after --backup" in fails(capsys, "--backup", "")


def test_a_missing_folder_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "--db", "missing/todos.db")
    assert "There is no folder" in line
    assert "Make it, or choose another file." in line


@pytest.mark.skipif(sys.platform != "linux", reason="even root cannot create a file in /proc")
def test_a_folder_that_allows_no_new_file_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "--db", "/proc/todos.db")
    assert "The database /proc/todos.db cannot be used: unable to open database file." in line


@pytest.mark.parametrize("place", ["folder", "file"])
def test_an_unwritable_file_or_folder_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = Path("folder").absolute()
    folder.mkdir()
    database = folder / "todos.db"
    create_app(database).close()
    forbidden = folder if place == "folder" else database
    # root may write anywhere, so this simulates what other users would get.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != forbidden)
    line = fails(capsys, "--db", str(database))
    assert f"{forbidden} is not writable. Allow it, or choose another file." in line


def test_a_file_that_is_not_a_database_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.txt").write_text("Buy milk.\n" * 100)
    assert "file is not a database" in fails(capsys, "--db", "list.txt")
    assert Path("list.txt").read_text() == "Buy milk.\n" * 100


def test_a_folder_given_as_the_database_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder. Choose a file." in fails(capsys, "--db", ".")


def test_a_missing_waitress_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "waitress", None)
    line = fails(capsys)
    assert f"waitress is not installed. Run: {sys.executable} -m pip install waitress" in line


def test_a_bare_python_reports_the_missing_waitress() -> None:
    # -S leaves out site-packages.
    bare = subprocess.run(
        [sys.executable, "-S", ROOT / "serve.py", "--port", "0"], capture_output=True, text=True
    )
    assert bare.returncode == 2
    assert bare.stderr.startswith("serve.py: waitress is not installed.")
    assert len(bare.stderr.splitlines()) == 1
