"""Several processes that serve one socket, to use all cores of the machine.

Python runs one thread of a process at a time, so a process uses little more than one core. Those
that `serve.py --processes` starts share the socket, where the system gives each new connection to
one of them, and the database file, and nothing else. The process that the user has started answers
nothing itself: it only keeps the others running.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from multiprocessing import resource_tracker
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
    processes: list[BaseProcess] = []

    def stop_all(number: int = signal.SIGTERM, *_: object) -> None:
        stop_writer.send_bytes(b"stop")  # nobody reads it, so that all can see it
        if number == signal.SIGINT:  # no lingering; from a terminal, they have it already
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)  # type: ignore[arg-type]  # it was started

    def start() -> BaseProcess:
        process = context.Process(target=work, args=(listener, stop, make_app, serve))
        # A Ctrl-C goes to all processes of the terminal. In the new one, which inherits that, it
        # waits until it can be handled.
        _hold_ctrl_c(True)
        try:
            process.start()
        finally:
            _hold_ctrl_c(False)
        return process

    signal.signal(signal.SIGTERM, stop_all)
    signal.signal(signal.SIGINT, stop_all)
    try:
        while len(processes) < count and not wait([stop], 0):
            processes.append(start())
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


def _hold_ctrl_c(hold: bool) -> None:
    """Let Ctrl-C wait from now on, or no longer."""
    if sys.platform == "win32":
        return
    if hold:
        resource_tracker.ensure_running()  # a helper of multiprocessing; its start ends the waiting
    signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, {signal.SIGINT})


def work(listener: socket.socket, stop: Connection, make_app: MakeApp, serve: Serve) -> None:
    """Serve as one of several processes, until something arrives at `stop`."""
    configure_logging()
    try:
        app = make_app()
    except DatabaseUnusable as error:
        sys.exit(one_line("todo_wsgi", error))
    with closing(app):
        serve(app, listener, started=partial(_hold_ctrl_c, False), until=lambda: wait([stop]))
