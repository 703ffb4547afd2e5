"""Several processes that serve one socket, to use all cores of the machine.

Python runs one thread of a process at a time, so a process uses little more than one core. Those
that `serve.py --processes` starts share the socket, where the system gives each new connection to
one of them, and the database file, and nothing else. The process that the user has started answers
nothing itself: it only keeps the others running.
"""

import logging
import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from todo_wsgi.server.command_line import configure_logging, one_line
from todo_wsgi.storage.errors import DatabaseUnusable

logger = logging.getLogger("todo_wsgi")

RESTART_DELAY = 1  # seconds, so that processes that cannot start do not keep a core busy
MakeApp = Callable[[], Any]  # returns a WSGI application that can be closed
Serve = Callable[..., None]  # `serving.serve`, with settings


def supervise(
    count: int,
    listener: socket.socket,
    make_app: MakeApp,
    serve: Serve,
    started: Callable[[], None],
) -> None:
    """Serve `make_app()` in each of `count` processes until SIGTERM or Ctrl-C.

    A process that ends is replaced. `started` is called once signals are handled. The listener is
    closed in the end. Call this in the main thread.
    """
    context = multiprocessing.get_context("spawn")  # each begins afresh, on every platform
    # The processes stop when something arrives in this pipe, or when it closes because this process
    # is gone, whatever ended it.
    stop, stop_writer = context.Pipe(duplex=False)

    def stop_all(*_: object) -> None:
        stop_writer.send_bytes(b"stop")  # nobody reads it, so that all can see it

    def start() -> BaseProcess:
        process = context.Process(target=work, args=(listener, stop, make_app, serve))
        # A Ctrl-C goes to all processes of the terminal. The new one ignores it (as it inherits
        # that) until it can stop gracefully, and hears of it through the pipe.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, stop_all)
        return process

    signal.signal(signal.SIGTERM, stop_all)
    processes = []
    try:
        for _ in range(count):
            processes.append(start())  # noqa: PERF401  those that started are to be stopped
        started()
        while stop not in wait([stop, *(process.sentinel for process in processes)]):
            for index, process in enumerate(processes):
                if process.exitcode is not None and not wait([stop], RESTART_DELAY):
                    logger.error("Process %s ended: status %s", process.pid, process.exitcode)
                    try:
                        processes[index] = start()
                    except OSError as error:  # no memory, perhaps; the next turn tries again
                        logger.error("Cannot replace it: %s", error)
    finally:
        stop_all()
        listener.close()  # nobody new gets in; the processes close it, too
        for process in processes:
            process.join()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(listener: socket.socket, stop: Connection, make_app: MakeApp, serve: Serve) -> None:
    """Serve as one of several processes, until something arrives at `stop`."""
    configure_logging()
    try:
        app = make_app()
    except DatabaseUnusable as error:
        sys.exit(one_line("todo_wsgi", error))
    with closing(app):
        serve(app, listener, until=lambda: wait([stop]))
