"""The upper bound for a server: an application that returns a fixed byte string."""

import os
from wsgiref.types import StartResponse, WSGIEnvironment

BODY = b"x" * int(os.environ["LENGTH"])


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response(
        "200 OK",
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(BODY)))],
    )
    return [BODY]
