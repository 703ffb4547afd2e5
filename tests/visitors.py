"""Visitors of four kinds, who ask a server until stdin closes: `visitors.py PORT`.

Each adds a todo and looks at the list in turn: `new` over a connection for each request, `busy`
over one that stays open, `thinking` with a pause of up to 0.3 s between two requests, `idle` with
one of up to 3 s. The last line is JSON: how many requests there were, which texts were confirmed,
what failed, which idle connections closed just as a request was sent, and the longest wait in
seconds.
"""

from __future__ import annotations

import json
import random
import select
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException

KINDS = {"new": (3, 0.02, 0.05), "busy": (2, 0, 0), "thinking": (6, 0.05, 0.3), "idle": (6, 2, 3)}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

port = int(sys.argv[1])
is_over = threading.Event()
confirmed: list[str] = []
failures: list[str] = []
closed: list[str] = []
waits: list[float] = []


def visit(kind: str, number: int, shortest: float, longest: float) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    count, pause = 0, 0.0
    while not is_over.wait(random.uniform(shortest, longest) + pause):
        # A client notices before it asks, as browsers do, that the server has closed.
        if kind == "new" or (connection.sock and select.select([connection.sock], [], [], 0)[0]):
            connection.close()
        count, pause = count + 1, 0
        text = f"{kind} {number} {count} {time.time_ns()}"
        began = time.monotonic()
        try:
            if count % 2:
                connection.request("POST", "/", f"text={text.replace(' ', '+')}", FORM)
            else:
                connection.request("GET", "/")
            with connection.getresponse() as response:
                response.read()
            assert response.status == (303 if count % 2 else 200), response.status
            if count % 2:
                confirmed.append(text)
        except (AssertionError, OSError, HTTPException) as error:
            # HTTP/1.1 cannot close an idle connection safely: clients ask again (RFC 9112, 9.3.1).
            is_idle = kind == "idle" and isinstance(error, ConnectionError)
            (closed if is_idle else failures).append(f"{kind} {count}: {error!r}")
            connection.close()
            pause = 0.05  # without one, systemd was busy refusing visitors, and did not shut down
        waits.append(time.monotonic() - began)
    connection.close()


threads = [
    threading.Thread(target=visit, args=(kind, number, shortest, longest))
    for kind, (visitors, shortest, longest) in KINDS.items()
    for number in range(visitors)
]
for thread in threads:
    thread.start()
sys.stdin.read()
is_over.set()
for thread in threads:
    thread.join()
print(json.dumps([len(waits), confirmed, failures, closed, max(waits)]))
