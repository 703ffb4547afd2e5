"""The lessons: things that learners get wrong, where a request demonstrates them.

Each function covers one lesson: it yields what this request demonstrates, or the mistake that it
reveals, with the part of the story that shows it.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from urllib.parse import parse_qsl

from todo_wsgi.http.request import FORM_TYPE, SAFE_METHODS
from todo_wsgi.xray.record.fields import fields_of
from todo_wsgi.xray.record.source import Line
from todo_wsgi.xray.record.trace import Trace, Traces, is_part, is_proxied
from todo_wsgi.xray.record.values import HIDDEN, show_bytes
from todo_wsgi.xray.story.document import (
    CALLS,
    ENVIRON,
    FORM,
    NEXT,
    RESPONSE,
    SENT,
    SQL,
    TEMPLATE,
    Lesson,
    count,
)

_MIN_TYPED = 3  # characters; a shorter value occurs in any SQL by chance

Facts = Iterable[str]  # each is a Mistake, a General remark or a plain str
Find = Callable[[Trace, Traces], Facts]
_LESSONS: list[Callable[[Trace, Traces], Iterable[Lesson]]] = []


class Mistake(str):
    """What is wrong, and how to mend it; up to the first full stop or colon, a headline."""


class General(str):
    """A remark that is true of every request: only the first one that shows it has it."""


def find_lessons(trace: Trace, traces: Traces) -> list[Lesson]:
    """Return the lessons that a request demonstrates, in their order."""
    return [found for find in _LESSONS for found in find(trace, traces)]


def lesson(title: str, *, part: int, step: str = "") -> Callable[[Find], None]:
    """Decorate a function that yields what a request demonstrates of one lesson, in one part.

    `step` is the folder of the tutorial that teaches the lesson, if one does.
    """

    def add(find: Find) -> None:
        def found(trace: Trace, traces: Traces) -> Iterator[Lesson]:
            for text in find(trace, traces):
                first = min(trace.number, traces.first.get(title, trace.number))
                traces.first[title] = first
                if first == trace.number or not isinstance(text, General):
                    yield Lesson(part, isinstance(text, Mistake), text, title, step)

        _LESSONS.append(found)

    return add


def place(line: Line | None) -> str:
    """Return the file and number of a line of source code."""
    return f"{line.name}:{line.number}" if line else "an unknown line"


@lesson("Python does not run in the browser", part=SENT)
def _python_runs_on_the_server(trace: Trace, _: Traces) -> Facts:
    yield General(
        "The browser sends text and receives text: it does not run Python. "
        f"All the Python below ran on the server, in process {trace.process}."
    )


@lesson("One page is several requests", part=NEXT)
def _one_page_is_several_requests(trace: Trace, _: Traces) -> Facts:
    if is_part(trace):
        yield "This request loads a part of a page."
    elif trace.header("content-type").startswith("text/html"):
        tag = r"<(?:link|img|script)\b[^>]*?\b(?:href|src)=[\"']([^\"'#]+)"
        if files := dict.fromkeys(re.findall(tag, trace.text)):
            so_far = f"; requested so far: {len(trace.needs)}" if trace.needs else ""
            yield (
                f"This page also needs {', '.join(map(html.unescape, files))}{so_far}. Each is a "
                "request of its own, unless the browser has kept the file."
            )


@lesson("Without a redirect, a reload posts again", part=NEXT, step="5-again")
def _reload_posts_again(trace: Trace, _: Traces) -> Facts:
    is_form = trace.content_type in ("", FORM_TYPE, "multipart/form-data")
    if trace.method != "POST" or not is_form:
        return
    if trace.redirects_to and trace.code in (307, 308):
        yield Mistake(
            f"{trace.code} makes the browser send the POST again, to the new URL. "
            "Answer with 303 See Other instead: then it sends a GET."
        )
    elif trace.redirects_to:
        yield "After this redirect, a reload repeats only the GET that follows, never this POST."
    elif not trace.header("content-type").startswith("text/html"):
        return
    elif trace.rows_changed or trace.changed_globals:
        yield Mistake(
            "A POST changed data and got a page, not a redirect. Who reloads the page sends the "
            "POST again, and changes the data again. Answer with 303 See Other and a Location."
        )
    else:
        yield "Reloading this page sends the POST again. This time, the x-ray saw no data change."


@lesson("A redirect is a response, followed by a new request", part=NEXT, step="5-again")
def _redirect_is_a_response(trace: Trace, _: Traces) -> Facts:
    if trace.redirects_to:
        yield (
            f"A redirect is a complete response: {trace.status}, headers, and a body of "
            f"{count(trace.body_size, 'byte')}. The browser reads its Location, and sends a new "
            "request there."
        )
    if trace.came_from:
        yield f"This is a new request, caused by the response to request {trace.came_from}."


@lesson("GET and POST differ in what they may change", part=FORM, step="6-buttons")
def _get_and_post(trace: Trace, _: Traces) -> Facts:
    if trace.query or trace.request_body:
        may = "must not change anything" if trace.method in SAFE_METHODS else "may change something"
        rows = count(trace.rows_changed, "row") if trace.rows_changed else "no row"
        yield f"A {trace.method} {may}. This one changed {rows}."


@lesson("A link must not change anything", part=SQL, step="6-buttons")
def _links_change_nothing(trace: Trace, _: Traces) -> Facts:
    if trace.method in SAFE_METHODS and trace.rows_changed:
        yield Mistake(
            f"A {trace.method} changed {count(trace.rows_changed, 'row')}. Links, search engines "
            "and prefetching browsers send such requests. Use a form with method=post."
        )


@lesson("A form field is sent under its name", part=FORM, step="4-add")
def _names_are_sent(trace: Trace, traces: Traces) -> Facts:
    names = [name for name, _ in fields_of(trace)]
    if not names:
        return
    text = f"Fields sent by name: {', '.join(name or '(no name)' for name in names)}."
    page = traces.get(trace.page) if trace.page and not trace.came_from else None
    controls = _controls_of(page, trace, {*names}) if page else []
    missing = [control for control in dict.fromkeys(controls) if control[0] not in names]
    for name, kind, label in missing:
        reason = _REASONS.get(kind, "although it has a name: it may be disabled")
        text += f" Not sent: {label}, {reason if name else 'because it has no name'}."
    if not missing:
        text += " Fields without a name, unchecked boxes and other buttons are never sent."
    yield text


_CLICKED = dict.fromkeys(("submit", "button", "image"), "because it was not clicked")
_REASONS = dict.fromkeys(("checkbox", "radio"), "because it was not checked") | _CLICKED


def _controls_of(page: Trace, trace: Trace, names: set[str]) -> list[tuple[str, str, str]]:
    """Return the controls of the form that has all these names, or none if no form matches."""
    forms = _Forms(trace.method, trace.target.partition("?")[0])
    forms.feed(page.text)
    return next((found for found in forms.found if names <= {name for name, *_ in found}), [])


class _Forms(HTMLParser):
    """Collects the forms that submit to a path: the name, kind and label of each control."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__()
        self.found: list[list[tuple[str, str, str]]] = []
        self._wanted = (method, path)
        self._is_in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            method, path = given.get("method", "get").upper(), given.get("action")
            self._is_in_form = (method, path or self._wanted[1]) == self._wanted
            self.found.append([])
        elif self._is_in_form and tag in ("input", "select", "textarea", "button"):
            name = given.get("name", "")
            kind = given.get("type") or {"input": "text", "button": "submit"}.get(tag, tag)
            if name or tag != "button":  # which only submits the form
                label = f"{tag} {name or given.get('id', '')}".strip()
                self.found[-1].append((name, kind, f"{label} ({kind})"))

    def handle_endtag(self, tag: str) -> None:
        self._is_in_form = self._is_in_form and tag != "form"


@lesson("The body is a stream that can be read once", part=FORM, step="4-add")
def _body_is_read_once(trace: Trace, _: Traces) -> Facts:
    sizes = [read.size for read in trace.reads]
    # The last read of a loop also returns nothing, but all its reads are on one line.
    if len({read.line for read in trace.reads}) > 1 and sizes[0] and not sizes[-1]:
        yield Mistake(
            "The body was read again, when nothing was left of it. It is a stream: the first read "
            f"returned {count(sizes[0], 'byte')}, the last one 0. Read it once, into a variable."
        )
    elif sizes:
        yield f"The body is a stream: what was read, {count(sum(sizes), 'byte')}, is gone from it."


@lesson("Bytes, percent-encoding, str and HTML are four stages of one value", part=FORM)
def _four_stages(trace: Trace, _: Traces) -> Facts:
    pairs = show_bytes(trace.request_body if trace.content_type == FORM_TYPE else b"").split("&")
    for pair in [*pairs, *trace.query.split("&")]:
        for name, value in parse_qsl(pair):
            encoded = pair.partition("=")[2]
            if encoded != value and "\ufffd" not in value and HIDDEN not in value:
                yield (
                    f"Four stages of {name}: percent-encoded as sent, {encoded}; the bytes "
                    f"{value.encode()!r}; the text {value!r}; and as HTML, {html.escape(value)}."
                )
                return


@lesson("WSGI requires certain types", part=RESPONSE, step="1-hello")
def _types_of_wsgi(trace: Trace, _: Traces) -> Facts:
    for what, value in trace.wrong.items():
        kind = trace.body_type if what == "body" else "str" if value[0] in "'\"" else ""
        text = _COMPLAINTS.get(f"{what}: {kind}") or _COMPLAINTS[what]
        yield Mistake(text.format(value))
    if trace.is_whole and not trace.status and not trace.error:
        yield Mistake(
            "start_response was never called. It passes on the status and the headers: call "
            "start_response('200 OK', [('Content-Type', 'text/html')]) before you return the body."
        )
    yield General(
        "WSGI wants a status such as '200 OK', a list of headers, each a tuple of two str, and a "
        "body in pieces of bytes (PEP 3333)."
    )


_ASYNC = (
    "The application is an async function. WSGI servers do not await it, so it never runs. Write "
    "def instead of async def."
)
# By what is wrong, and its type if that matters.
_COMPLAINTS = {
    **dict.fromkeys(("body: coroutine", "body: async_generator"), _ASYNC),
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


@lesson("Content-Length counts bytes", part=RESPONSE, step="2-page")
def _content_length_counts_bytes(trace: Trace, _: Traces) -> Facts:
    declared, size = trace.declared_size, trace.body_size
    if (
        not trace.is_whole
        or declared in (None, size)
        or (trace.method == "HEAD" or trace.code in (204, 304))
        or (trace.wrong or trace.error or trace.is_servers_page)
    ):
        return
    less = f"takes only the first {declared}. Count bytes, as in len(page.encode()), not characters"
    what = less if declared < size else "waits for more. Return all that was counted"
    text = f"Content-Length is {declared}, but the body has {size} bytes: the browser {what}; or "
    yield Mistake(f"{text}leave the header out, and the server adds it.")


@lesson("What is sent cannot be taken back", part=RESPONSE)
def _what_is_sent_is_sent(trace: Trace, _: Traces) -> Facts:
    if trace.is_cut_off and trace.error:
        yield Mistake(
            "The response broke off. Its head had already been sent, so the server could not send "
            "an error page instead, only close the connection. Do what may fail before the first "
            "piece of the body."
        )


@lesson("A request ends with return", part=CALLS)
def _requests_end_with_return(trace: Trace, _: Traces) -> Facts:
    if trace.error.startswith("SystemExit"):
        left = [failure.line for failure in trace.failures if failure.left_application]
        at = "".join(f", at {line.name}:{line.number}" for line in left[-1:] if line)
        yield Mistake(
            f"The application called sys.exit{at}. That is for programs that run once: a server "
            "goes on to the next request, and this one gets no answer. Use return."
        )


@lesson("execute does not save; commit does", part=SQL, step="4-add")
def _commit_saves(trace: Trace, _: Traces) -> Facts:
    for number, end in dict.fromkeys(trace.transactions):
        changed = f"execute changed {count(number, 'row')}"
        if end == "COMMIT":
            yield f"{changed}, and COMMIT saved that. Before it, nobody else could see the change."
        elif end == "ROLLBACK":
            yield f"{changed}, and ROLLBACK undid that: nothing was saved."
        elif end:
            yield f"{changed}, saved at once: each statement is committed on its own (autocommit)."
        else:
            yield Mistake(
                f"{changed} without a commit: the change is not saved, and other writers wait. "
                "Call commit(), or use “with connection:”."
            )


@lesson("The ? is not string formatting", part=SQL, step="4-add")
def _parameters_are_no_formatting(trace: Trace, _: Traces) -> Facts:
    for statement in trace.statements:
        for name, value in fields_of(trace):
            if _is_pasted(value, statement.sql):
                yield Mistake(
                    f"The value of {name} is part of the SQL text: {value!r}. Visitors can write "
                    "SQL of their own there (SQL injection). Write ? instead, and pass the value "
                    "as a parameter: execute(sql, (value,))."
                )
    if any("?" in statement.sql and statement.parameters for statement in trace.statements):
        yield "SQLite gets the parameters apart from the SQL, so it never takes one for SQL."


def _is_pasted(value: str, sql: str) -> bool:
    """Return whether the SQL contains the value in quotes, or a value that is not just a word."""
    if len(value) < _MIN_TYPED or value not in sql:
        return False
    in_quotes = re.search(rf"'[^']*{re.escape(value)}[^']*'", sql)
    return bool(in_quotes) or not re.fullmatch(r"\w+", value)


@lesson("A global variable is not storage", part=ENVIRON, step="7-crowd")
def _globals_are_no_storage(trace: Trace, _: Traces) -> Facts:
    for name, file in trace.changed_globals.items():
        yield Mistake(
            f"The global variable {name} of {file} changed during this request. A restart loses "
            "it, and another process does not see it. Store it in the database."
        )
    yield General(
        f"This ran in thread {trace.thread} of process {trace.process}. The threads of a process "
        "share its global variables; each process has its own, and a restart loses them."
    )


@lesson("Values are escaped where they become HTML", part=TEMPLATE, step="2-page")
def _where_escaping_happens(trace: Trace, _: Traces) -> Facts:
    for name, value in trace.unescaped:
        yield Mistake(
            f"The page contains the value of {name} unescaped: {value!r}. Visitors can write HTML "
            "of their own (cross-site scripting). Write html.escape(value) where you build it."
        )
    for rendering in trace.renderings:
        for name, before, after in rendering.placeholders:
            if re.search("&(amp|lt|gt|quot|#x27);", after) and before.startswith(("'", '"')):
                yield f"Escaped where it becomes HTML, and only there: ${name}, {before} → {after}"
                return


@lesson("Server, WSGI, application and proxy each have their own job", part=ENVIRON, step="1-hello")
def _who_did_what(trace: Trace, _: Traces) -> Facts:
    if is_proxied(trace):
        yield "A proxy received this request and forwarded it, with headers of its own."
    yield General(
        f"{trace.server} read the bytes and made the environ from them. The application chose "
        f"status, headers and body. {trace.server} added headers of its own and sent the bytes. "
        "WSGI is how the two talk to each other."
    )


@lesson("A password is sent with each request", part=SENT)
def _password_is_sent_each_time(trace: Trace, _: Traces) -> Facts:
    if trace.environ.get("HTTP_AUTHORIZATION", "")[:6].lower() == "basic ":
        yield (
            "The browser sends name and password with each request, in the header Authorization. "
            "Base64 hides nothing: only HTTPS does. "
            f"This request came by {trace.environ['wsgi.url_scheme']}."
        )


@lesson("A password is sent with each request", part=NEXT)
def _browser_asks_for_a_password(trace: Trace, _: Traces) -> Facts:
    if trace.code == 401:
        yield "The browser asks its user for a password, and sends the same request again with it."


@lesson("An exception that your code does not catch ends the response", part=CALLS, step="3-list")
def _exceptions_end_the_response(trace: Trace, _: Traces) -> Facts:
    caught = [failure for failure in trace.failures if failure.catcher and trace.code >= 500]
    for failure in trace.failures:
        call = re.match(r"(\S*)\(\) (takes|missing) .*argument", failure.message)
        is_told = failure.kind == "SystemExit" or trace.wrong  # by another lesson
        has_ended = failure.left_application or failure in caught[-1:]
        if not has_ended or is_told or not (failure.function or call):
            continue
        message = f": {failure.message.removesuffix('.')}" if failure.message else ""
        text = f"{failure.kind} at {place(failure.line)}{message}. "
        if not failure.left_application:
            text += f"Your code did not catch it: {failure.catcher} did, and answered {trace.code}."
        elif failure.function or not call:
            text += "Nothing caught it: the server sends an error page, or cuts off what it began."
        elif re.search("create|make|build|factory", call[1]):
            text += "It looks like a factory, a function that returns the application. Call it: "
            text += f"{call[1]}(), or in the command --app 'module:{call[1]}()'."
        else:
            text += "A WSGI application takes two arguments: def app(environ, start_response)."
        yield Mistake(text)
