"""Serve the todo list: `python serve.py --help` names the settings.

Start reading here: settings, application, server. Then go on in `todo_wsgi/application.py`.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from socket import socket

from todo_wsgi import Application, create_app
from todo_wsgi.server import command_line
from todo_wsgi.storage.errors import DatabaseUnusable


def main(arguments: Sequence[str] | None = None, program: str = "serve.py") -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit status: 0, or 2 if it could not start."""
    settings = command_line.read_settings(arguments, program)
    command_line.configure_logging()
    try:
        with (
            command_line.take_listener(settings) as listener,
            closing(create_app(settings.db, sites=settings.site)) as app,
        ):
            serve(app, listener, settings)
    except (command_line.CannotServe, DatabaseUnusable) as error:
        print(command_line.one_line(program, error), file=sys.stderr)
        return 2
    return 0


def serve(app: Application, listener: socket, settings: Namespace) -> None:
    """Hand the application to the server: as it is, in several processes, or under the x-ray."""
    from todo_wsgi.server import serving  # not above: it needs waitress

    address, proxy = command_line.address_of(listener), settings.trusted_proxy
    message = f"Serving {app.database.path} on {address} (Ctrl-C stops)"
    started = partial(command_line.announce, message)
    if settings.processes > 1:
        from todo_wsgi.server.processes import supervise

        app.close()  # each process makes its own, on the file that is there now
        make_app = partial(create_app, app.database.path, mode="rw", sites=settings.site)
        supervise(settings.processes, listener, make_app, proxy, started)
    elif settings.xray is None:
        serving.serve(app, listener, proxy, started)
    else:
        from todo_wsgi.xray import viewing

        second = command_line.listen("127.0.0.1", settings.xray)
        with second, viewing(app, second, address) as (watched, xray_address):
            started = partial(started, f"X-ray of each request on {xray_address}")
            serving.serve(watched, listener, proxy, started)


if __name__ == "__main__":
    sys.exit(main())
