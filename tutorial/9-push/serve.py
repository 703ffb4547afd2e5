import os

import waitress
from app import app

port = int(os.environ.get("PORT", 8000))
waitress.serve(app, host="127.0.0.1", port=port, threads=4)
