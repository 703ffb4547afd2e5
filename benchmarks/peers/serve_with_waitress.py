"""Serve a peer with waitress and the settings of todo_wsgi: serve_with_waitress.py PORT NAME."""

import importlib
import logging
import sys

import waitress

from todo_wsgi.server import SETTINGS

port, name = sys.argv[1:]
logging.getLogger("waitress").setLevel(logging.ERROR)  # as serve.py does
waitress.serve(importlib.import_module(name).app, host="127.0.0.1", port=int(port), **SETTINGS)
