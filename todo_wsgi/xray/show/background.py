"""A waitress that serves in a background thread."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import WSGIApplication

import waitress
from waitress import wasyncore


@contextmanager
def serving(app: WSGIApplication, listener: socket.socket) -> Iterator[None]:
    """Serve `app` on `listener` during the `with` block, then close the listener."""
    connections: dict[int, Any] = {}
    server = waitress.create_server(app, map=connections, sockets=[listener], threads=2)
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
