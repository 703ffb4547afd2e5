"""What systemd and its services agree on, in variables: a listening socket, and "I am ready"."""

import os
import socket
from contextlib import suppress


def inherited_listener() -> socket.socket | None:
    """Return the socket that systemd has passed, or None if it has not (sd_listen_fds(3)).

    That goes on listening while the server restarts. Raises OSError if there is not one, of TCP.
    """
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return None
    listener = socket.socket(fileno=3)
    listener.set_inheritable(False)
    is_tcp = listener.type == socket.SOCK_STREAM and listener.family != socket.AF_UNIX
    if os.environ.pop("LISTEN_FDS", "") != "1" or not is_tcp:
        listener.close()
        raise OSError("set ListenStream to one address and port, like 127.0.0.1:8080")
    return listener


def notify_ready() -> None:
    """Tell systemd that the server is ready, if it wants to know (sd_notify(3))."""
    if address := os.environ.pop("NOTIFY_SOCKET", ""):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))
