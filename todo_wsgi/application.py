"""The application: the table of its routes, and the callable that a WSGI server calls.

`Application.__call__` and `Application.respond` are the whole request cycle: a request comes in, a
route leads to its handler, a response goes out. Everything else is called from here.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from todo_wsgi import handlers
from todo_wsgi.http.errors import Forbidden, HTTPError, InternalServerError, ServiceUnavailable
from todo_wsgi.http.request import SAFE_METHODS, Request
from todo_wsgi.http.routing import Route, match
from todo_wsgi.presentation import pages
from todo_wsgi.presentation.static import FILES
from todo_wsgi.storage.database import Database
from todo_wsgi.storage.errors import is_unavailable

logger = logging.getLogger("todo_wsgi")

ROUTES = [
    Route("GET", "/", handlers.show_todos),
    Route("POST", "/", handlers.create_todo),
    Route("GET", "/todos/{id}", handlers.show_todo),
    Route("POST", "/todos/{id}", handlers.edit_todo),
    Route("POST", "/todos/{id}/complete", handlers.complete_todo),
    Route("POST", "/todos/{id}/reopen", handlers.reopen_todo),
    Route("POST", "/todos/{id}/delete", handlers.delete_todo),
    Route("POST", "/todos/{id}/top", handlers.move_todo_to_top),
    Route("POST", "/todos/{id}/up", handlers.move_todo_up),
    Route("POST", "/todos/{id}/down", handlers.move_todo_down),
    Route("POST", "/complete-all", handlers.complete_all),
    Route("POST", "/clear-completed", handlers.clear_completed),
    Route("POST", "/undo", handlers.undo_change),
    Route("GET", "/todos.txt", handlers.export_todos),
    Route("GET", "/import", handlers.show_import),
    Route("POST", "/import", handlers.import_todos),
    Route("GET", "/healthz", handlers.check_health),
    *(Route("GET", file.path, file.send) for file in FILES),
]


class Application:
    """The WSGI application (PEP 3333): any WSGI server can call it, from any number of threads.

    `admit` is called with each request first, and raises an HTTPError for one that it refuses.
    With `debug`, the page of an unexpected exception has its traceback, too.
    """

    def __init__(
        self, database: Database, admit: Callable[[Request], None], *, debug: bool = False
    ) -> None:
        self.database = database
        self.admit = admit
        self.debug = debug

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: the server calls this for each (PEP 3333)."""
        response = self.respond(Request(environ))
        return response(environ, start_response)

    def respond(self, request: Request) -> WSGIApplication:
        """Return the response of the request's handler, or the page of the error that it raised.

        A response is itself callable, as a WSGI application. Nothing that a client sends, and no
        state of the database, makes this raise.
        """
        try:
            self.admit(request)
            handler, numbers = match(ROUTES, request.method, request.path)
            if request.method not in SAFE_METHODS and request.is_from_another_site:
                raise Forbidden
            return handler(request, self.database, *numbers)
        except HTTPError as error:
            return pages.error_page(error, request.typed)
        except Exception as error:
            trace = traceback.format_exc() if self.debug else ""
            if is_unavailable(error):
                logger.error("%s %r: %s", request.method, request.path, error)
                return pages.error_page(ServiceUnavailable(), request.typed, trace)
            logger.exception("%s %r", request.method, request.path)
            return pages.error_page(InternalServerError(), request.typed, trace)

    def close(self) -> None:
        """Close the database. Call it when no request is running, and none will come."""
        self.database.close()
