"""A waitress that serves in a background thread, and the port for it."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import WSGIApplication

import waitress
from waitress import wasyncore


def listen(port: int) -> socket.socket:
    """Return a socket that listens at this port of this machine; OSError says what to do."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OSError(
            f"cannot listen at 127.0.0.1, port {port}: {reason}. Stop the program that does, or "
            "choose another port. (A reloader, such as Flask's, runs a program twice.)"
        ) from error


@contextmanager
def serving(app: WSGIApplication, listener: socket.socket, threads: int = 2) -> Iterator[None]:
    """Serve `app` on `listener` during the `with` block, then close the listener."""
    connections: dict[int, Any] = {}
    server = waitress.create_server(app, map=connections, sockets=[listener], threads=threads)
    is_stopping = threading.Event()

    def loop() -> None:
        while not is_stopping.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=connections, count=1)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_stopping.set()
        server.pull_trigger()  # wakes the loop
        thread.join()
        server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(connections)
