"""The x-ray: watch a request pass through an application that knows nothing about it.

`serve.py --xray` shows it in the browser, `python -m todo_wsgi.xray` in a terminal. For other
applications, that command has `--app`, which `loading.py` imports, and `--serve`; in a program,
`XRay(app)` is the WSGI middleware, and `viewing` also serves the pages. Nothing here is imported
until it is used.

Three rooms, each of which imports only from those before it:

    record/   what happened: the trace of a request
    story/    what it means: nine parts, and the lessons that the request demonstrates
    show/     the browser and the terminal
"""

from todo_wsgi.xray.record.middleware import XRay
from todo_wsgi.xray.show.viewer import viewing

__all__ = ["XRay", "viewing"]
