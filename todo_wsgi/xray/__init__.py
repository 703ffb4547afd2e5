"""The x-ray: watch one request go through an application, without a line there that knows of it.

`serve.py --xray` shows it in the browser, and `python -m todo_wsgi.xray` in a terminal. For other
applications, `XRay(app)` is the WSGI middleware, and `viewing` also shows what it sees. Nothing of
this is imported unless asked for.

What watches, in the order in which a request meets it:

    wire.py         the bytes on the socket, from two methods of waitress
    middleware.py   XRay: the environ that goes in, the answer that comes out
    environ.py      which entries of the environ are read, and how much of the body
    calls.py        the functions that run (a profile function of Python)
    sql.py          the SQL (a connection class of sqlite3)
    todo.py         what it knows of the todo list: its routes, templates, and changes
    trace.py        what all of them write into, and the last 50 requests
    source.py       lines of source: whose they are
    values.py       values as text; what is secret is hidden
    hooks.py        how functions are replaced while somebody watches

What shows it:

    remarks.py      fifteen things that learners get wrong, as far as a request shows them
    story.py        the story of a request in nine parts, made of blocks.py
    text.py         the story for a terminal
    pages.py        the story as HTML (templates/), with picture.py and xray.css
    shell.py        the same request as a command line
    viewer.py       the web site of the x-ray: who may see it, and which page
    background.py   a waitress for it, beside that of the application
    __main__.py     `python -m todo_wsgi.xray`
"""

from todo_wsgi.xray.middleware import XRay
from todo_wsgi.xray.viewer import viewing

__all__ = ["XRay", "viewing"]
