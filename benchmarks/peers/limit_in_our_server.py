"""The same constant bytes, but in the server of todo_wsgi, which is waitress with changes."""

import logging
import socket
import sys

import limit

from todo_wsgi.server import serving as server


class Application:
    """What `server.serve` wants: a WSGI application that can be closed."""

    __call__ = staticmethod(limit.app)

    def close(self) -> None:
        pass


logging.getLogger("waitress").setLevel(logging.ERROR)  # as serve.py does
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    server.serve(Application(), listener, trusted_proxy=None)
