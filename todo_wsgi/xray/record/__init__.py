"""What happened: one request on its way through a server and an application, as a trace.

In the order in which a request reaches them:

    wire.py         the bytes on the socket, from two patched methods of waitress
    middleware.py   XRay: the environ that goes in, the response that comes out
    environ.py      which environ entries are read, and how much of the body
    calls.py        the functions that run (a Python profile function)
    sql.py          the SQL (a subclass of sqlite3.Connection)
    shared.py       global variables that change during a request
    fields.py       the fields of a request, and whether the page repeats them unescaped
    todo.py         what only the todo list has: its routes, templates and changes
    trace.py        the record they all write to, and the last 50 requests
    source.py       lines of source code, and whether they are the application's
    values.py       values as text, with secrets hidden
    hooks.py        patching functions, and restoring them
"""
