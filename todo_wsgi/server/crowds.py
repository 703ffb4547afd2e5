"""What keeps a crowd from locking others out: threads for readers, and connections that must go.

A client may send its request a byte at a time, or not read the answer. Alone it does no harm. A
thousand of them would take all connections, or all memory. Such connections are closed, the oldest
first, and only as many as it takes.
"""

import ctypes
import time
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from operator import attrgetter
from typing import Any

from waitress.task import ThreadedTaskDispatcher

from todo_wsgi.server.waitress_fixes import Channel

REQUEST_TIME = 60  # seconds in which a request must have come in
AT_LEAST = 1  # seconds that it has, however many others want to come in
MAX_UNSENT = 32 * 1024 * 1024  # bytes of answers in memory that are not sent yet
LARGE = 256 * 1024  # bytes
_M_MMAP_THRESHOLD = -3  # of mallopt(3)


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Gives `changing` threads the requests that change something, and `reading` others the rest.

    A change may wait for the disk, or for another program that writes; the rest does not, unless a
    cluster (`rqlite.py`) has lost its leader.
    """

    def __init__(self, changing: int, reading: int) -> None:
        super().__init__()
        self.set_thread_count(changing)
        self._readers = ThreadedTaskDispatcher()
        self._readers.set_thread_count(reading)

    def add_task(self, channel: Channel) -> None:
        """Let a thread answer the request that has arrived at this connection."""
        if channel.requests[0].command == "POST":
            super().add_task(channel)
        else:
            self._readers.add_task(channel)

    def shutdown(self, **options: Any) -> None:
        """End all threads."""
        self._readers.shutdown(**options)
        super().shutdown(**options)


def return_large_blocks() -> None:
    """Let glibc, the C library of Linux, give large blocks back to the system when they are freed.

    It begins with that, but keeps them once a program has freed some (mallopt(3)).
    """
    with suppress(AttributeError, TypeError):  # this is another library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)


def relieve(server: Any) -> None:
    """Close what must go. At the limit, that is one connection: so another can come in."""
    channels: list[Channel] = list(server.active_channels.values())
    now = time.monotonic()
    for channel in channels:
        # waitress has marked the idle ones. It would close them once all is sent, which never
        # happens if a client does not read.
        if channel.will_close or (channel.request and channel.since < now - REQUEST_TIME):
            channel.handle_close()
    by_age = attrgetter("since")
    if len(channels) >= server.max_channels:
        idle = [channel for channel in channels if not channel.requests]
        oldest = min(idle, key=by_age, default=None)
        if oldest and oldest.since < now - AT_LEAST:
            oldest.handle_close()
    reading = sorted((channel for channel in channels if channel.total_outbufs_len), key=by_age)
    while _measure_unsent(reading) > MAX_UNSENT:
        reading.pop(0).handle_close()


def _measure_unsent(channels: Iterable[Channel]) -> int:
    """Return how much memory the unsent answers take; a page for many clients counts once."""
    sizes = {}
    for channel in channels:
        with channel.outbuf_lock:  # a thread may be adding to it
            for buffer in channel.outbufs:
                file = getattr(buffer, "file", None)
                # What a BytesIO was made from: no copy, but the page that others send, too. It
                # stays until the last byte is sent.
                content = file.getvalue() if isinstance(file, BytesIO) else buffer
                sizes[id(content)] = len(content)
    return sum(sizes.values())
