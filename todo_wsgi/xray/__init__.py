"""The x-ray: watch a request pass through an application that knows nothing about it.

`serve.py --xray` shows it in the browser, `python -m todo_wsgi.xray` in a terminal. For other
applications, `XRay(app)` is the WSGI middleware, and `viewing` also serves the pages. Nothing here
is imported until it is used.

These modules record, in the order in which a request reaches them:

    wire.py         the bytes on the socket, from two patched methods of waitress
    middleware.py   XRay: the environ that goes in, the response that comes out
    environ.py      which environ entries are read, and how much of the body
    calls.py        the functions that run (a Python profile function)
    sql.py          the SQL (a subclass of sqlite3.Connection)
    todo.py         what only the todo list has: its routes, templates and changes
    trace.py        the record they all write to, and the last 50 requests
    source.py       lines of source code, and whether they are the application's
    values.py       values as text, with secrets hidden
    hooks.py        patching functions, and restoring them

These modules show what was recorded:

    lessons.py      sixteen things that learners get wrong, where a request demonstrates them
    story.py        the story of a request in nine parts, built from blocks.py
    text.py         the story in a terminal
    pages.py        the story as HTML (templates/), with picture.py and xray.css
    shell.py        the same request as a curl command
    viewer.py       the x-ray's web site: access control and routing
    background.py   a second waitress, which serves that site
    __main__.py     `python -m todo_wsgi.xray`
"""

from todo_wsgi.xray.middleware import XRay
from todo_wsgi.xray.viewer import viewing

__all__ = ["XRay", "viewing"]
