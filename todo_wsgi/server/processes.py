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
    """Run `target(listener, stop, *args)` in `count` processes until SIGTERM or Ctrl-C.

    One that ends is started anew. `stop` is the reading end of a pipe: the processes have to end
    when something comes there, or the pipe is at its end because this process is gone, whatever
    ended it. `started` is called once signals are handled. The listener is closed in the end. Call
    this in the main thread.
    """
    context = multiprocessing.get_context("spawn")  # each begins afresh, on every platform
    stop, stop_writer = context.Pipe(duplex=False)

    def stop_all(*_: object) -> None:
        stop_writer.send_bytes(b"stop")  # nobody takes it from there, so that all can see it

    def start() -> BaseProcess:
        process = context.Process(target=target, args=(listener, stop, *args))
        # A Ctrl-C goes to all processes of the terminal. The new one ignores it (as it inherits
        # that) until it can stop gently, and is told by the pipe.
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
                        logger.error("Another one cannot be started: %s", error)
    finally:
        stop_all()
        listener.close()  # nobody new is let in; the processes close it too
        for process in processes:
            process.join()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
