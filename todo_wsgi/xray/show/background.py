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
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.task_dispatcher.shutdown(timeout=1)
        server.trigger.pull_trigger(lambda: wasyncore.close_all(connections))  # ends server.run
        thread.join()
