"""Start reading here: settings, application, server. Then go on in `todo_wsgi/application.py`."""

import _signal  # built in, and so there at once; `signal` would import others first
import sys

if __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C while imports run is no traceback
    if "--reload" in sys.argv:
        from todo_wsgi.server import reloading

        reloading.reload()  # runs this command again, as its child, and returns there

from contextlib import closing
from functools import partial
from socket import socket

from todo_wsgi import Application, create_app
from todo_wsgi.server import command_line
from todo_wsgi.storage.errors import DatabaseUnusable


def main(arguments: list[str] | None = None, program: str = "serve.py") -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit status: 0, or 2 if it could not start."""
    settings = command_line.read_settings(arguments, program)
    command_line.configure_logging()
    make_app = partial(create_app, settings.db, sites=settings.site, debug=settings.reload)
    try:
        with command_line.take_listener(settings) as listener, closing(make_app()) as app:
            serve(app, listener, settings)
    except (command_line.CannotServe, DatabaseUnusable, OSError) as error:
        print(command_line.one_line(program, error), file=sys.stderr)
        return 2
    return 0


def serve(app: Application, listener: socket, settings: command_line.Settings) -> None:
    """Hand the application to the server: as it is, in several processes, or under the x-ray."""
    from todo_wsgi.server import serving  # not above: it needs waitress

    started = partial(command_line.announce, app.database.path, listener)
    proxy, log = settings.trusted_proxy, settings.access_log
    run = partial(serving.serve, trusted_proxy=proxy, access_log=log)
    if settings.processes > 1:
        from todo_wsgi.server.processes import supervise

        app.close()  # each process makes its own, on the file that is there now
        make_app = partial(create_app, settings.db, mode="rw", sites=settings.site)
        supervise(settings.processes, listener, make_app, run, started)
    elif settings.xray is None:
        run(app, listener, started=started)
    else:
        from todo_wsgi.xray import viewing

        with viewing(app, settings.xray, command_line.address_of(listener)) as (watched, xray):
            run(watched, listener, started=partial(started, xray))


if __name__ == "__main__":
    sys.exit(main())
