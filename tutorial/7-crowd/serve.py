import os

import waitress

from app import app

# The port that the environment names, or else 8000.
port = int(os.environ.get("PORT", 8000))
print(f"Open http://127.0.0.1:{port}/ (Ctrl-C stops)")
# Each of the four threads answers one request at a time.
waitress.serve(app, host="127.0.0.1", port=port, threads=4)
