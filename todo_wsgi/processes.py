"""Several processes that answer what arrives at one socket, to use all the cores of the machine.

Python runs one thread of a process at a time, so a process uses little more than one core. Those
that `serve.py --processes` starts share the socket, where the system gives each new connection to
one of them, and the database file, and nothing else. The process that the user has started answers
nothing itself: it only sees to it that the others are there.
"""

import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

logger = logging.getLogger("todo_wsgi")

RESTART_DELAY = 1  # seconds, so that processes that cannot start do not keep a core busy


def supervise(
    count: int,
    listener: socket.socket,
    target: Callable[..., object],
    *args: Any,
    started: Callable[[], None],
) -> None:
    """Run `target(listener, stopped, *args)` in `count` processes until SIGTERM or Ctrl-C.

    One that ends is started anew. They have to end when the connection `stopped` comes to its end,
    which it does when this process closes the other side of it, or is gone, whatever ended it.
    `started` is called once signals are handled. The listener is closed in the end. Call this in
    the main thread.
    """
    context = multiprocessing.get_context("spawn")  # each begins afresh, on every platform
    stopped, stop = context.Pipe(duplex=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.close())

    def start() -> BaseProcess:
        process = context.Process(target=target, args=(listener, stopped, *args))
        process.start()
        return process

    processes: list[BaseProcess] = []
    try:
        processes.extend(start() for _ in range(count))
        started()
        while stopped not in wait([stopped, *(process.sentinel for process in processes)]):
            for index, process in enumerate(processes):
                if process.exitcode is not None and not wait([stopped], RESTART_DELAY):
                    logger.error(
                        "Process %s ended with status %s; another one starts.",
                        process.pid,
                        process.exitcode,
                    )
                    processes[index] = start()
    finally:
        stop.close()
        listener.close()  # nobody new is let in; the processes close it too
        for process in processes:
            process.join()
