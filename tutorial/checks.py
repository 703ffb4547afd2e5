"""What each check.py is written in: a site to ask over HTTP, and answers to examine.

A check asks the learner's application and says what it needs of each answer. At the first need
that is not met it stops, and prints the x-ray of the request that caused it.
"""

import faulthandler
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from todo_wsgi.xray.record.trace import Trace, Traces
from todo_wsgi.xray.story.document import FORM

TIMEOUT = 2.5  # seconds that the application has to answer, and a program to listen
PATIENCE = 4  # seconds until a process ends that runs code which no thread can interrupt
HOST = "127.0.0.1:8000"  # as in the pages, whatever the port of a check
FORM_TYPE = "application/x-www-form-urlencoded"


class Mistake(NamedTuple):
    """A mistake that a page invites: in `file`, replace each key of `edits` by its value.

    Then the check fails at the need `fails`, and prints the sentence `shows`.
    """

    file: str
    edits: dict[str, str]
    fails: str
    shows: str


class Failed(Exception):
    """A need is not met; the message is the need. `details` is printed below it."""

    def __init__(self, need: str, details: str, trace: Trace | None, parts: tuple[int, ...]):
        super().__init__(need)
        self.details, self.trace, self.parts = details, trace, parts


class Answer:
    """What came back for a request: `status` (0 for none), `text`, `headers`, and its trace."""

    def __init__(self, asked: str, status: int, what: str, trace: Trace | None) -> None:
        self.status, self.text, self.trace = status, "", trace
        self.headers: dict[str, str] = {}  # by lower-case name
        self._asked, self._what = asked, what

    @property
    def items(self) -> int:
        """The number of todos on the page."""
        return len(re.findall(r"<li\b", self.text))

    @property
    def redirects(self) -> bool:
        """Whether the browser goes on to another page with a GET."""
        return self.status in (301, 302, 303)

    def needs(self, is_met: bool, need: str, *parts: int, hint: str = "") -> None:
        """Print that the need is met, or else raise Failed, with these parts of the x-ray."""
        if not is_met:
            details = f"{self._asked} {self._what}."
            raise Failed(need, f"{details}\n{hint}".rstrip(), self.trace, parts)
        print(f"  ✓ {need}", flush=True)

    def needs_sized_reads(self) -> None:
        """Print that the form was read as far as it goes, or else raise Failed."""
        calls = {read.call for read in self.trace.reads} if self.trace else set()
        need = "it reads as many bytes as were announced"
        hint = (
            """Write read(int(environ["CONTENT_LENGTH"])): read() waits for more, under wsgiref."""
        )
        self.needs(not {"read()", "read(-1)"} & calls, need, FORM, hint=hint)


class Site:
    """An application that is being served: at `port`, and with these `traces` of the x-ray."""

    def __init__(self, port: int, traces: Traces | None = None) -> None:
        self.port, self._traces = port, traces

    def get(self, path: str, **headers: str) -> Answer:
        """Send a GET; an underscore in the name of a header is a hyphen."""
        return self.ask("GET", path, **headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form."""
        return self.ask("POST", path, urlencode(fields), **headers)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """Send a request, and return the answer. An application that gives none is no error."""
        sent = {"Host": HOST, "Connection": "close"}
        if body is not None:
            sent["Content-Type"] = FORM_TYPE
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        asked = f"{method} {path}" + (f" with {body[:50]}" if body else "")
        number = len(self._traces.last()) + 1 if self._traces else 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)  # see explain in running.py
        status, page, what = 0, b"", ""
        received: dict[str, str] = {}
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            status, what = response.status, f"was answered {response.status} {response.reason}"
            received = {name.lower(): value for name, value in response.getheaders()}
            page = response.read()
        except TimeoutError:
            what = f"was not answered within {TIMEOUT} s{self._where(number)}"
            status = 0
        except http.client.IncompleteRead as error:
            status, page, what = 0, error.partial, f"{what}, but the page broke off"
        except (http.client.HTTPException, OSError, UnicodeError) as error:  # of a Location, too
            what = f"was not answered: {str(error).strip() or type(error).__name__}"
        finally:
            connection.close()
        answer = Answer(asked, status, what, self._trace(number))
        answer.headers, answer.text = received, page.decode("utf-8", "replace")
        return answer

    def follow(self, answer: Answer) -> Answer:
        """Do what a browser does: after a redirect, get the page; else show the answer."""
        return self.get(answer.headers.get("location", "/")) if answer.redirects else answer

    def button(self, label: str) -> Callable[[], Answer] | None:
        """Return what presses the button with this label on the page /, or None without it."""
        found = _Buttons(self.get("/").text).found.get(label)
        if found is None:
            return None
        method, path, fields = found
        if method == "POST":
            return lambda: self.post(path, fields)
        return lambda: self.get(f"{path}?{urlencode(fields)}")

    def links(self) -> list[str]:
        """Return the links of the page /, within the site."""
        return re.findall(r"""<a\b[^>]*\bhref=["']?(/[^"'\s>]*)""", self.get("/").text)

    def _trace(self, number: int) -> Trace | None:
        """Return the trace of a request, which ends a little after the answer came."""
        trace = self._traces.get(number) if self._traces else None
        end = time.monotonic() + 0.5
        while trace and trace.is_running and time.monotonic() < end:
            time.sleep(0.01)
        return trace

    def _where(self, number: int) -> str:
        trace = self._traces.get(number) if self._traces else None
        line = trace.where() if trace else None
        return f". It is still at {line.name}, line {line.number}: {line.code}" if line else ""


class _Buttons(HTMLParser):
    """The buttons of a page: the method, path and fields that each sends, by its label."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, tuple[str, str, dict[str, str]]] = {}
        self._form: dict[str, str] = {}
        self._hidden: dict[str, str] = {}
        self._button: dict[str, str] | None = None
        self._label = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form, self._hidden = given, {}
        elif tag == "input" and given.get("type") == "hidden":
            self._hidden[given.get("name", "")] = given.get("value", "")
        elif tag == "button":
            self._button, self._label = given, ""

    def handle_data(self, data: str) -> None:
        self._label += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "button" and (button := self._button) is not None:
            method = button.get("formmethod") or self._form.get("method", "get")
            path = button.get("formaction") or self._form.get("action") or "/"
            own = {button["name"]: button.get("value", "")} if button.get("name") else {}
            label = button.get("aria-label") or " ".join(self._label.split())
            self.found[label] = (method.upper(), path, self._hidden | own)
            self._button = None


@contextmanager
def running(file: str, **settings: str) -> Iterator[Site]:
    """Run a program of the learner with a free PORT, and these variables, during the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = Path("log.txt")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", file],
            env={**os.environ, "PORT": str(port), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(port, log, process)
        yield Site(port)
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a program listens at the port; Failed, with the end of its log, if none does."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and (process is None or process.poll() is None):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    need = "the program listens at the port that the variable PORT names"
    raise Failed(need, "\n".join(["It printed:", *lines[-8:]]), None, ())
