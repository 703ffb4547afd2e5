"""The same fixed byte string, served by todo_wsgi's own server: waitress with changes."""

import logging
import socket
import sys

import limit

from todo_wsgi.server import serving as server


class Application:
    """A WSGI application with `close()`, like the one that serve.py serves."""

    __call__ = staticmethod(limit.app)

    def close(self) -> None:
        pass


logging.getLogger("waitress").setLevel(logging.ERROR)  # as serve.py does
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    server.serve(Application(), listener)
