"""Thousands of requests, valid and nasty alike: each is answered as an independent model says.

They come from a seed, and go straight to the WSGI callable. The model in list_model.py decodes each
of them on its own; after each change, the export must be the list that it has. The harness runs as
a program, so that it can import a broken copy of the project instead.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote_plus

import pytest
from list_model import FORM, HOSTS, Model, Row, read_fields
from servers import ROOT, broken_copy

REQUESTS = 3000  # from each seed, on a list of its own
FEW = pytest.param(range(2), marks=pytest.mark.timeout(300))
NOW = int(time.time())
MILLION = pytest.param(range(NOW, NOW + 334), marks=[pytest.mark.long, pytest.mark.timeout(3600)])


@pytest.mark.parametrize("seeds", [FEW, MILLION])
def test_every_request_is_answered_as_the_model_says(tmp_path: Path, seeds: Iterable[int]) -> None:
    assert fuzz(tmp_path, seeds) == ""


@pytest.mark.parametrize(
    ("file", "line", "instead"),
    [
        ("presentation/templating.py", "html.escape(str(value))", "html.escape(str(value), False)"),
        ("presentation/pages.py", "= escape(part)", "= SafeHTML(part)"),
        ("storage/models.py", "place <= coalesce", "place < coalesce"),
        ("storage/undo.py", "NULL WHERE {TIMES[column]} AND", "NULL WHERE"),
    ],
)
def test_the_model_notices_a_mistake(tmp_path: Path, file: str, line: str, instead: str) -> None:
    copy = broken_copy(tmp_path, f"todo_wsgi/{file}", line, instead)
    assert "expected" in fuzz(tmp_path, range(2), copy)


def fuzz(folder: Path, seeds: Iterable[int], root: Path = ROOT) -> str:
    """Return what is wrong first, and all that is logged: nothing if all is well."""
    program = [sys.executable, "-W", "error", __file__, str(folder), *map(str, seeds)]
    path = os.pathsep.join([str(root), str(ROOT / "tests")])
    environ = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(program, env=environ, stderr=subprocess.PIPE, text=True)
    return ended.stderr


def main(folder: str, *seeds: str) -> None:
    for seed in seeds:
        if problem := find_problem(Path(folder, f"{seed}.db"), int(seed)):
            sys.exit(f"seed {seed}, {problem}")


def find_problem(path: Path, seed: int) -> str:
    """Send the requests of a seed; return the first wrong answer or change, "" if all is well."""
    from todo_wsgi import create_app  # that of the copy, in the program

    random, model, location = Random(seed), Model(), ""
    with closing(create_app(path)) as app:
        app.database.connection().execute("PRAGMA synchronous = OFF")  # the disk is not on trial
        for number in range(REQUESTS):
            environ, body = make_request(random, model)
            if location and random.random() < 0.3:  # go where the last answer led
                environ, body = make_environ("GET", *location.split("?")), b""
            status, location, page = call(app, environ, body)
            said = read_fields(location.partition("?")[2].encode(), "strict")
            answer = model.answer(environ, body, said)
            what = f"request {number}, {environ} {body!r}: expected"
            if re.search("""[<>"'&]evil""", page) or (status, *see(page)) != answer:
                return f"{what} {answer}, got {status} {page}"
            if status == 303 and (lines := export(app)) != model.export():
                return f"{what} {model.export()}, got {lines}"
    return ""


def call(app: Any, environ: dict[str, Any], body: bytes = b"") -> tuple[int, str, str]:
    """Return the status, where it redirects to, and the body of the answer."""
    started: list[Any] = []
    parts = app({**environ, "wsgi.input": BytesIO(body)}, lambda *head: started.extend(head))
    page = b"".join(parts).decode()
    getattr(parts, "close", bool)()
    location = dict(started[1]).get("Location", "").partition("#")[0]
    return int(started[0][:3]), location, page


ROW = r'<li id="todo-(\d+)" class="(\w+) .*?<span class="text" dir="auto">(.*?)</span>'
FIELD = r'<input id="text" name="text" value="(.*?)" p|<textarea id="text".*?>\n(.*?)</textarea>'


def see(page: str) -> tuple[str | None, list[Row]]:
    """Return the text in the form's field, and id, state and text of each todo."""
    field = re.search(FIELD, page, re.DOTALL)
    rows = [
        (int(number), state, html.unescape(re.sub("<a [^>]*>|</a>", "", text)))
        for number, state, text in re.findall(ROW, page, re.DOTALL)
    ]
    return field and html.unescape("".join(field.groups(""))), rows


def export(app: Any) -> list[str]:
    """Return the lines of the export, without dates."""
    _, _, text = call(app, make_environ("GET", "/todos.txt"))
    day = r"\d{4}-\d\d-\d\d "
    return [re.sub(day, "", line, count=1 + line.startswith("x ")) for line in text.split("\n")]


# The requests

# "evil" stands only behind characters that a page has to escape.
WORDS = [
    *("milk", "Bread +house", "@town", "\u202eקפה\u200f", "e\u0301\u0323", "I \u0130 \u0131 ß"),
    *("<evil>", "</evil", '"evil', "'evil", "&evil;", "&lt;", "&amp", "https://x/?&evil='evil"),
    *("$text ${text} %s {0}", "'; DROP TABLE todos; --", "%41 + %", "a=b&c;d", "\\", "\r\n"),
    *("x 1", "(A) 2", "2026-11-20 3", "2026-02-30", "🍞 👩‍👧", "\ufdd0", "\U0010ffff", "\ufeff"),
]
BAD_WORDS = ["\0", "\t", "\x9b", "\ud800", "x" * 490]
NUMBERS = [
    *("0", "-1", "007", "", " 1", "1_0", "+1", "\u0667", "7\n", "é", "9" * 18, "9" * 19, "9" * 5000)
]
LINE_STARTS = ["", "x ", "x 2026-11-22 ", "x 2026-11-22 2026-11-20 ", "2026-11-20 ", "(B) "]
SITES = [
    *({"HTTP_ORIGIN": origin} for origin in ("http://localhost", "null", "http://evil.example")),
    *({"HTTP_SEC_FETCH_SITE": site} for site in ("same-origin", "none", "cross-site", "\xff")),
    {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "null"},
    {"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_ORIGIN": "http://localhost"},
]
LENGTHS = ["", "0", "-1", "+5", "1_0", "\xb2", "5 ", "5", "1000", "65536", "65537", "9" * 30]
TYPES = ["", "text/plain", "multipart/form-data", FORM.upper(), f"{FORM} ; charset=x", f"{FORM}2"]
NOISE = [b"%", b"%zz", b"%00", b"%ED%A0%80", b"%C0%AF", b"%C3", b"\xff", b"\0", b"+", b"&", b"="]
FIELDS = [b"&text=b", b"&te%78t=c", b"&show=active", b"&q=" * 99, b"&" * 99, b"&x=" + b"x" * 65536]
ASKED = {  # and how often
    **{"GET /": 15, "POST /": 22, "GET /todos/{id}": 2, "POST /todos/{id}": 6, "GET /healthz": 1},
    **{"POST /todos/{id}/complete": 12, "POST /todos/{id}/reopen": 5, "POST /todos/{id}/delete": 6},
    **{"POST /todos/{id}/up": 6, "POST /todos/{id}/down": 6, "POST /todos/{id}/top": 4},
    **{"POST /undo": 12, "POST /complete-all": 2, "POST /clear-completed": 4, "POST /import": 2},
    **{"GET /import": 1, "HEAD /": 1, "BREW /undo": 0.5, "GET /complete-all": 0.5, "POST /x": 0.5},
    **{"GET /todos/\ud800": 0.5, "GET //": 0.5, "GET ": 0.5},
}


def make_request(random: Random, model: Model) -> tuple[dict[str, Any], bytes]:
    """Return environ and body of a request; most are valid."""

    def seldom(choices: list[Any], usual: Any, chance: float = 0.02) -> Any:
        return random.choice(choices) if random.random() < chance else usual

    def text() -> str:
        words = [seldom(BAD_WORDS, random.choice(WORDS)) for _ in range(random.randint(0, 4))]
        return str(seldom(["x" * 500, "🍞" * 501], random.choice(["", " "]).join(words)))

    def number() -> str:
        near = random.randint(max(0, model.last - 30), model.last + 1)  # it may be deleted
        known = random.choice([random.choice(listed or [1]), near, *listed[:1]])
        return str(seldom(NUMBERS, known, 0.05))

    def encode(text: str) -> bytes:
        plain = text.encode("utf-8", "surrogatepass")
        every = "".join(f"%{byte:02x}" for byte in plain)
        return str(seldom([every], quote_plus(plain), 0.1)).encode()

    listed = [todo.id for todo in model.listed()]
    [asked] = random.choices([*ASKED], [*ASKED.values()])
    method, path = asked.replace("{id}", number()).split(" ", 1)
    lines = [random.choice(LINE_STARTS) + text() for _ in range(random.randint(0, 4))]
    lines *= seldom([60], 1, 0.1)  # more than a page shows
    name, value = random.choice(model.told[:4] + model.told[-8:])
    fields = {
        "show": seldom(WORDS, random.choice(["", "all", "active", "active", "completed"])),
        "from": seldom([number(), text()], "", 0.1),
        "q": seldom([text(), text()[:3], "m"], "", 0.1),
        name: seldom([text()], value),
        "past": number(),
        "text": random.choice(["\n", "\r\n", "\r"]).join(lines) if "import" in path else text(),
    }
    kept = [field for field in fields if random.random() < (0.3 if method == "GET" else 0.99)]
    encoded = b"&".join(encode(field) + b"=" + encode(fields[field]) for field in kept)
    environ = make_environ(method, path, encoded.decode())  # a POST must ignore this query
    if method == "GET" or random.random() < 0.02:
        return environ, b""
    cut = random.randint(0, len(encoded))
    noisy = encoded[:cut] + random.choice(NOISE) + encoded[cut:]
    body = seldom([noisy, encoded + random.choice(FIELDS), encoded[:cut]], encoded, 0.04)
    environ["CONTENT_LENGTH"] = seldom([random.choice(LENGTHS), str(cut)], str(len(body)), 0.03)
    environ["CONTENT_TYPE"] = seldom(TYPES, FORM)
    environ["HTTP_HOST"] = seldom([*HOSTS], "localhost")
    return {**environ, **seldom(SITES, {}, 0.1)}, body


def make_environ(method: str, path: str, query: str = "") -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode("utf-8", "surrogatepass").decode("latin-1"),
        "QUERY_STRING": query,
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
