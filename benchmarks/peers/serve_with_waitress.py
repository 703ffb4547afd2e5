"""Serve a peer under stock waitress: serve_with_waitress.py PORT NAME.

The environment variable WAITRESS holds the settings of waitress, as JSON.
"""

import importlib
import json
import logging
import os
import sys

import waitress

port, name = sys.argv[1:]
settings = json.loads(os.environ["WAITRESS"])
logging.getLogger("waitress").setLevel(logging.ERROR)  # as serve.py does
waitress.serve(importlib.import_module(name).app, host="127.0.0.1", port=int(port), **settings)
