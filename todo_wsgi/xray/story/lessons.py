"""The sixteen lessons: things that learners get wrong, where a request demonstrates them.

Each function covers one lesson: it yields what this request demonstrates, or the mistake that it
reveals, with the part of the story that shows it.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from todo_wsgi.http.request import FORM_TYPE, SAFE_METHODS
from todo_wsgi.xray.record.trace import Trace, Traces, is_part, is_proxied
from todo_wsgi.xray.record.values import show_bytes
from todo_wsgi.xray.story.blocks import (
    CALLS,
    ENVIRON,
    FORM,
    NEXT,
    RESPONSE,
    SENT,
    SQL,
    TEMPLATE,
    Lesson,
)

_MIN_TYPED = 3  # characters; a shorter value occurs in any SQL by chance
_MIN_HTML = 6  # and a shorter one than this in any page

Facts = Iterable[str]  # each is a Mistake, a General remark or a plain str
_LESSONS: list[Callable[[Trace, Traces], Iterable[Lesson]]] = []


class Mistake(str):
    """What is wrong, and how to mend it; up to the first full stop or colon, a headline."""


class General(str):
    """A remark that is true of every request: only the first one that shows it has it."""


def find_lessons(trace: Trace, traces: Traces) -> list[Lesson]:
    """Return the lessons that a request demonstrates, in their order."""
    return [found for find in _LESSONS for found in find(trace, traces)]


def lesson(title: str, *, part: int) -> Callable[[Callable[[Trace, Traces], Facts]], None]:
    """Decorate a function that yields what a request demonstrates of one lesson, in one part."""

    def add(find: Callable[[Trace, Traces], Facts]) -> None:
        def found(trace: Trace, traces: Traces) -> Iterator[Lesson]:
            for text in find(trace, traces):
                is_first = traces.first.setdefault(title, trace.number) == trace.number
                if is_first or not isinstance(text, General):
                    yield Lesson(part, isinstance(text, Mistake), text, title)

        _LESSONS.append(found)

    return add


@lesson("Python does not run in the browser", part=SENT)
def _python_runs_on_the_server(trace: Trace, _: Traces) -> Facts:
    text = (
        "The browser sends text and receives text: it does not run Python. "
        f"All the Python code below ran on the server, in process {trace.process}."
    )
    yield text


@lesson("One page is several requests", part=NEXT)
def _one_page_is_several_requests(trace: Trace, _: Traces) -> Facts:
    if is_part(trace):
        yield "This request loads a part of a page."
    elif files := _files_of(trace):
        text = (
            f"This page also needs {', '.join(files)}; requested so far: {len(trace.needs)}. "
            "The browser does not request files that it has cached."
        )
        yield text


def _files_of(trace: Trace) -> list[str]:
    """Return the URLs of the files that the page needs: style sheets, icons, scripts, images."""
    if not trace.header("content-type").startswith("text/html"):
        return []
    tags = re.findall(r"<(?:link|img|script)\b[^>]*?\b(?:href|src)=[\"']([^\"'#]+)", trace.text)
    return [html.unescape(address) for address in dict.fromkeys(tags)]


@lesson("Without a redirect, a reload posts again", part=NEXT)
def _reload_posts_again(trace: Trace, _: Traces) -> Facts:
    if trace.method in SAFE_METHODS or not trace.code:
        return
    if trace.redirects_to and trace.code in (307, 308):
        text = f"{trace.code} makes the browser send the {trace.method} again, to the new URL."
        yield Mistake(text)
    elif trace.redirects_to:
        text = (
            "After this redirect, a reload repeats the GET that follows, never this "
            f"{trace.method}. Without the redirect, a reload would repeat the {trace.method}."
        )
        yield text
    elif trace.rows_changed:
        text = (
            f"The {trace.method} changed rows, and the response is not a redirect: reloading this "
            "page sends it again, and changes rows again. Respond with 303."
        )
        yield Mistake(text)
    else:
        text = f"Reloading this page sends the {trace.method} again; it changed nothing this time."
        yield text


@lesson("A redirect is a response, followed by a new request", part=NEXT)
def _redirect_is_a_response(trace: Trace, _: Traces) -> Facts:
    if trace.redirects_to:
        text = (
            f"A redirect is a complete response: {trace.status}, headers, and a body of "
            f"{trace.body_size} bytes. The server does not follow it. The browser reads the "
            "Location header and sends a new request, which is independent of this one."
        )
        yield text
    if trace.came_from:
        text = f"This is a new request, caused by the response to request {trace.came_from}."
        yield text


@lesson("GET and POST differ in what they may change", part=FORM)
def _get_and_post(trace: Trace, _: Traces) -> Facts:
    query, body = bool(trace.query), bool(trace.request_body)
    if not query and not body:
        return
    where = " and ".join(["in the URL"] * query + ["in the body"] * body)
    rule = "must not change anything" if trace.method in SAFE_METHODS else "may change something"
    text = (
        f"This request has parameters {where}; either method allows both. The difference: a "
        f"{trace.method} {rule}. This one changed {_rows(trace.rows_changed)}."
    )
    yield text


@lesson("A link must not delete anything", part=SQL)
def _links_change_nothing(trace: Trace, _: Traces) -> Facts:
    if trace.method in SAFE_METHODS and trace.rows_changed:
        text = (
            f"A {trace.method} changed {_rows(trace.rows_changed)}. Links, prefetching browsers "
            "and search engines send such requests. Use a form with method=post."
        )
        yield Mistake(text)


@lesson("A form field is sent under its name", part=FORM)
def _names_are_sent(trace: Trace, traces: Traces) -> Facts:
    sent = _fields_of(trace)
    if not sent:
        return
    text = f"Fields sent by name: {', '.join(name or '(no name)' for name, _ in sent)}."
    page = traces.get(trace.page) if trace.page and not trace.came_from else None
    names = {name for name, _ in sent}
    controls = _controls_of(page, trace, names) if page else []
    missing = [c for c in dict.fromkeys(controls) if c.name not in names]
    for control in missing:
        text += f" Not sent: {control.label}, {control.reason}."
    if not missing:
        text += " Fields without a name, unchecked boxes and other buttons are never sent."
    yield text


class _Control(NamedTuple):
    """A control of a form."""

    name: str
    kind: str
    label: str

    @property
    def reason(self) -> str:
        if not self.name:
            return "because it has no name"
        if self.kind in ("checkbox", "radio"):
            return "because it was not checked"
        if self.kind in ("submit", "button", "image"):
            return "because it was not clicked"
        return "although it has a name: it may be disabled"


class _Forms(HTMLParser):
    """Collects the forms of a page that submit to a path with a method."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__()
        self.forms: list[list[_Control]] = []
        self._wanted = (method, path)
        self._is_in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            method, path = (given.get("method") or "get").upper(), given.get("action")
            self._is_in_form = (method, path or self._wanted[1]) == self._wanted
            self.forms.append([])
        elif self._is_in_form and tag in ("input", "select", "textarea", "button"):
            name = given.get("name") or ""
            kind = given.get("type") or {"input": "text", "button": "submit"}.get(tag, tag)
            if not (tag == "button" and not name):  # such a button only submits the form
                label = f"{tag} {name or given.get('id') or ''}".strip()
                self.forms[-1].append(_Control(name, kind, f"{label} ({kind})"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_in_form = False


def _controls_of(page: Trace, trace: Trace, names: set[str]) -> list[_Control]:
    """Return the controls of the form that has all these names, or none if no form matches."""
    forms = _Forms(trace.method, trace.target.partition("?")[0])
    forms.feed(page.text)
    for controls in forms.forms:
        if names <= {control.name for control in controls}:
            return controls
    return []


def _fields_of(trace: Trace) -> list[tuple[str, str]]:
    """Return the fields of the request, in the URL and in the body."""
    fields = parse_qsl(trace.query, keep_blank_values=True)
    if trace.content_type == FORM_TYPE:
        fields += parse_qsl(show_bytes(trace.request_body), keep_blank_values=True)
    return fields


@lesson("The body is a stream that can be read once", part=FORM)
def _body_is_read_once(trace: Trace, _: Traces) -> Facts:
    sizes = [read.size for read in trace.reads]
    if not sizes:
        return
    # The last read of a loop also returns nothing, but all its reads are on one line.
    is_again = len({read.line for read in trace.reads}) > 1
    if is_again and sizes[0] and not sizes[-1]:
        text = (
            f"The body is a stream: the first read returned {sizes[0]} bytes, the last one 0, as "
            "nothing was left. Read it once, and store what you need again."
        )
        yield Mistake(text)
    else:
        text = f"The body is a stream: {sum(sizes)} bytes were read and cannot be read again."
        yield text


@lesson("Bytes, percent-encoding, str and HTML are four stages of one value", part=FORM)
def _four_stages(trace: Trace, _: Traces) -> Facts:
    pairs = show_bytes(trace.request_body if trace.content_type == FORM_TYPE else b"").split("&")
    pairs += trace.query.split("&")
    for pair in pairs:
        for name, value in parse_qsl(pair):
            encoded = pair.partition("=")[2]
            if encoded != value:
                text = (
                    f"Four stages of {name}: percent-encoded as sent, {encoded}; the bytes "
                    f"{value.encode()!r}; the text {value!r}; and HTML, which must spell it "
                    f"{html.escape(value)}."
                )
                yield text
                return


@lesson("WSGI requires certain types", part=RESPONSE)
def _types_of_wsgi(trace: Trace, _: Traces) -> Facts:
    for what, value in trace.wrong.items():
        kind = trace.body_type if what == "body" else "str" if value[0] in "'\"" else ""
        text = _COMPLAINTS.get(f"{what}: {kind}") or _COMPLAINTS[what]
        yield Mistake(text.format(value))
    if trace.is_whole and not trace.status and not trace.error:
        text = (
            "start_response was never called. It passes on the status and the headers: call "
            "start_response('200 OK', [('Content-Type', 'text/html')]) before you return the body."
        )
        yield Mistake(text)
    objection = "" if trace.wrong or not trace.status else _validate(trace)
    if objection:
        text = f"{objection}. So says wsgiref.validate, Python's own checker of applications."
        yield Mistake(text)
    text = (
        "WSGI requires a str such as '200 OK', a list of tuples of two str, and an iterable of "
        "bytes (PEP 3333)."
    )
    if trace.is_whole and not (objection or trace.wrong or trace.error or trace.server_error):
        text += " wsgiref.validate found no error."
    yield General(text)


# By what is wrong, and its type if that matters.
_COMPLAINTS = {
    "status": "The status is {0}, not text. Write number and words in quotes: '200 OK'.",
    "headers": "The headers are {0}, not a list. Write [('Content-Type', 'text/html')].",
    "header": "The header {0} is not a tuple of two str. Write a name and a value, each in "
    "quotes: ('Content-Length', '5').",
    "again": "start_response was called twice, the second time at {0}. Choose status and headers "
    "first, with if and else; then call it once.",
    "body": "The application returned {0}, not a list of bytes. Write return [page.encode()].",
    "body: NoneType": "The application returned None: a return is missing. Let it end with "
    "return [page.encode()].",
    "body: str": "The body is text, not a list of bytes. Put .encode() behind it, and brackets "
    "around it: return [page.encode()].",
    "body: bytes": "The body is bytes without a list around it. Put brackets around it: "
    "return [page].",
    "chunk": "The body contains {0}, not bytes. Make it text with str(), and bytes with .encode().",
    "chunk: str": "The body is text, not bytes. Put .encode() behind it: return [page.encode()].",
}


def _validate(trace: Trace) -> str:
    """Return what `wsgiref.validate` says against the head of the response, or ""."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(trace.status, trace.headers)
        return [b""]

    environ: WSGIEnvironment = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    try:
        body: Any = validator(app)(environ, lambda *_: lambda _: None)
        with closing(body):
            list(body)
    except Exception as error:  # an AssertionError, or a warning where warnings are errors
        return str(error)
    return ""


@lesson("Content-Length counts bytes", part=RESPONSE)
def _content_length_counts_bytes(trace: Trace, _: Traces) -> Facts:
    declared, size = trace.declared_size, trace.body_size
    if (
        not trace.is_whole
        or declared in (None, size)
        or (trace.method == "HEAD" or trace.code in (204, 304))
        or (trace.wrong or trace.error or trace.is_servers_page)
    ):
        return
    what = f"takes only the first {declared}" if declared < size else "waits for more"
    text = (
        f"Content-Length is {declared}, but the body has {size} bytes: the browser {what}. Count "
        "the bytes, as in len(page.encode()), not the characters; or leave the header out, and "
        "the server adds it."
    )
    yield Mistake(text)


@lesson("What is sent cannot be taken back", part=RESPONSE)
def _what_is_sent_is_sent(trace: Trace, _: Traces) -> Facts:
    if trace.is_cut_off and trace.error:
        text = (
            "The response broke off. Its head had already been sent, so the server could not send "
            "an error page instead, only close the connection. Do what may fail before the first "
            "piece of the body."
        )
        yield Mistake(text)


@lesson("A request ends with return", part=CALLS)
def _requests_end_with_return(trace: Trace, _: Traces) -> Facts:
    if trace.error.startswith("SystemExit"):
        left = [failure.line for failure in trace.failures if failure.left_application]
        at = "".join(f", at {line.name}:{line.number}" for line in left[-1:] if line)
        text = (
            f"The application called sys.exit{at}. That is for programs that run once: a server "
            "goes on to the next request, and this one gets no answer. Use return."
        )
        yield Mistake(text)


@lesson("execute does not save; commit does", part=SQL)
def _commit_saves(trace: Trace, _: Traces) -> Facts:
    for count, end in dict.fromkeys(trace.transactions):
        rows = _rows(count)
        text = {
            "COMMIT": f"execute changed {rows}, but saved nothing: until COMMIT, no other "
            "connection sees the change, and a crash undoes it. COMMIT saved it.",
            "ROLLBACK": f"execute changed {rows}, and ROLLBACK undid that: nothing was saved.",
            "autocommit": "Outside a transaction, each statement is committed on its own "
            "(autocommit).",
            "": f"execute changed {rows} without a commit: the change is not saved, and other "
            "writers wait. Call commit(), or use “with connection:”.",
        }[end]
        yield text if end else Mistake(text)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


@lesson("The ? is not string formatting", part=SQL)
def _parameters_are_no_formatting(trace: Trace, _: Traces) -> Facts:
    for statement in trace.statements:
        for name, value in _fields_of(trace):
            if _is_pasted(value, statement.sql):
                text = (
                    f"The value of {name} is part of the SQL text: {value!r}. Anyone who sends a "
                    "request can inject their own SQL (SQL injection). Write ? instead, and pass "
                    "the value as a parameter."
                )
                yield Mistake(text)
    if any("?" in statement.sql and statement.parameters for statement in trace.statements):
        text = (
            "SQLite receives the SQL text and the parameters separately, so it never parses a "
            "parameter as SQL."
        )
        yield text


def _is_pasted(value: str, sql: str) -> bool:
    """Return whether the SQL contains the value in quotes, or a value that is not just a word."""
    if len(value) < _MIN_TYPED or value not in sql:
        return False
    in_quotes = re.search(rf"'[^']*{re.escape(value)}[^']*'", sql)
    return bool(in_quotes) or not re.fullmatch(r"\w+", value)


@lesson("A global variable is not storage", part=ENVIRON)
def _globals_are_no_storage(trace: Trace, _: Traces) -> Facts:
    for name, line in [*trace.written_globals.items()]:
        text = (
            f"{line.name}:{line.number} can assign the global variable {name}. It exists only in "
            f"process {trace.process}, all its threads share it, and a restart loses it. Store "
            "lasting data in the database."
        )
        yield Mistake(text)
    text = (
        f"This ran in thread {trace.thread} of process {trace.process}. All threads of a process "
        "share its global variables, and may change them at the same time; each process has its "
        "own, and a restart loses them."
    )
    yield text


@lesson("Values are escaped where they become HTML", part=TEMPLATE)
def _where_escaping_happens(trace: Trace, _: Traces) -> Facts:
    for name, value in _fields_of(trace):
        if re.search("[<>]", value) and len(value) >= _MIN_HTML and _is_in_page(trace, value):
            text = (
                f"The request has {name} as {value!r}, and the page contains it unescaped: whoever "
                "sends it can inject their own HTML (cross-site scripting). Escape the value where "
                "it becomes HTML."
            )
            yield Mistake(text)
    for rendering in trace.renderings:
        for name, before, after in rendering.placeholders:
            if re.search("&(amp|lt|gt|quot|#x27);", after) and before.startswith(("'", '"')):
                text = f"Escaped where it becomes HTML, and only there: ${name}, {before} → {after}"
                yield text
                return


def _is_in_page(trace: Trace, value: str) -> bool:
    return trace.header("content-type").startswith("text/html") and value in trace.text


@lesson("Server, WSGI, application and proxy each have their own job", part=ENVIRON)
def _who_did_what(trace: Trace, _: Traces) -> Facts:
    proxy = (
        "a proxy received the request and forwarded it, with headers of its own; "
        if is_proxied(trace)
        else "there is no sign of a proxy; "
    )
    text = (
        f"Who did what: {proxy}{trace.server} read bytes and created the environ; WSGI is only "
        "the interface: environ, start_response, and an iterable of bytes; the application chose "
        f"status, headers and body; {trace.server} added its own headers and sent the bytes."
    )
    yield text


@lesson("A password is sent with each request", part=SENT)
def _password_is_sent_each_time(trace: Trace, _: Traces) -> Facts:
    if trace.environ.get("HTTP_AUTHORIZATION", "")[:6].lower() == "basic ":
        text = (
            "The browser sends name and password with each request, in the header Authorization. "
            "Base64 is no encryption: everybody on the way can decode it, unless that is HTTPS. "
            f"This request came by {trace.environ['wsgi.url_scheme']}."
        )
        yield text


@lesson("A password is sent with each request", part=NEXT)
def _browser_asks_for_a_password(trace: Trace, _: Traces) -> Facts:
    if trace.code == 401:
        text = "The browser asks its user for a password, and sends the same request again with it."
        yield text
