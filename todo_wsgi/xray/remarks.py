"""What a request shows of the things that learners get wrong, and mistakes that it shows.

Each function is about one of fifteen things, and yields what this request has to say of it, with
the part of the story where it stands.
"""

import html
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import parse_qsl

from todo_wsgi.http.request import FORM_TYPE, SAFE_METHODS
from todo_wsgi.xray.blocks import ANSWER, ENVIRON, FORM, NEXT, SENT, SQL, TEMPLATE, Remark
from todo_wsgi.xray.trace import Trace, Traces, is_part, is_proxied
from todo_wsgi.xray.values import show_bytes

_MIN_TYPED = 3  # characters; what is shorter is found in any SQL by chance
_MIN_HTML = 6  # and in any page


Remarks = Iterable[Remark]


def find_remarks(trace: Trace, traces: Traces) -> list[Remark]:
    """Return all remarks on a request, in the order of the fifteen things."""
    return [remark for lesson in LESSONS for remark in lesson(trace, traces)]


def python_runs_on_the_server(trace: Trace, _: Traces) -> Remarks:
    """1. Python does not run in the browser."""
    text = (
        "The browser has sent text, and gets text back: it runs no Python. "
        f"All Python below ran in the server, in process {trace.process}."
    )
    yield Remark(SENT, 1, False, text)


def one_page_is_several_requests(trace: Trace, _: Traces) -> Remarks:
    """2. One page is several requests."""
    if is_part(trace):
        yield Remark(NEXT, 2, False, "This one is for a part of a page.")
    elif files := _files_of(trace):
        text = (
            f"This page needs {', '.join(files)} too; "
            f"{len(trace.needs)} of them came by now. What the browser has kept, it does not ask "
            "for."
        )
        yield Remark(NEXT, 2, False, text)


def _files_of(trace: Trace) -> list[str]:
    """Return the addresses of what the page needs: style sheets, icons, images."""
    if not trace.header("content-type").startswith("text/html"):
        return []
    tags = re.findall(r"<(?:link|img|script)\b[^>]*?\b(?:href|src)=[\"']([^\"'#]+)", trace.text)
    return [html.unescape(address) for address in dict.fromkeys(tags)]


def reload_posts_again(trace: Trace, _: Traces) -> Remarks:
    """3. Without a redirect, a reload posts again."""
    if trace.method in SAFE_METHODS or not trace.code:
        return
    if trace.redirects_to and trace.code in (307, 308):
        text = f"{trace.code} has the browser send the {trace.method} again, to the new address."
        yield Remark(NEXT, 3, True, text)
    elif trace.redirects_to:
        text = (
            "After this redirect, a reload repeats the GET that follows, and never this "
            f"{trace.method}. If a page had come instead, it would send the {trace.method} again."
        )
        yield Remark(NEXT, 3, False, text)
    elif trace.rows_changed:
        text = (
            f"The {trace.method} changed rows and was answered with a page instead of a redirect: "
            "whoever reloads this page sends it again, and changes them again. Answer 303."
        )
        yield Remark(NEXT, 3, True, text)
    else:
        text = f"A reload of this page would send the {trace.method} again; it has changed nothing."
        yield Remark(NEXT, 3, False, text)


def redirect_is_an_answer(trace: Trace, _: Traces) -> Remarks:
    """4. A redirect is an answer, and then a new request."""
    if trace.redirects_to:
        text = (
            f"A redirect is a whole answer: {trace.status}, headers, and a body of "
            f"{trace.body_size} bytes. The server does not go anywhere. The browser reads "
            "Location, and sends a new request, which knows nothing of this one."
        )
        yield Remark(NEXT, 4, False, text)
    if trace.came_from:
        text = f"This is a new request; the answer to request {trace.came_from} was the cause."
        yield Remark(NEXT, 4, False, text)


def get_and_post(trace: Trace, _: Traces) -> Remarks:
    """5. GET and POST differ in what may change, not in where parameters travel."""
    query, body = bool(trace.query), bool(trace.request_body)
    if not query and not body:
        return
    where = " and ".join(["in the address"] * query + ["in the body"] * body)
    rule = "must not change anything" if trace.method in SAFE_METHODS else "may change something"
    text = (
        f"Parameters came {where}; either method can have them in both places. What differs: a "
        f"{trace.method} {rule}. This one changed {_rows(trace.rows_changed)}."
    )
    yield Remark(FORM, 5, False, text)


def links_change_nothing(trace: Trace, _: Traces) -> Remarks:
    """6. A link must not delete."""
    if trace.method in SAFE_METHODS and trace.rows_changed:
        text = (
            f"A {trace.method} changed {_rows(trace.rows_changed)}. It is what a link sends, a "
            "browser that loads ahead, and a search engine. Use a form with method=post."
        )
        yield Remark(SQL, 6, True, text)


def names_are_sent(trace: Trace, traces: Traces) -> Remarks:
    """7. `name` is what is sent; a box that is not ticked is not."""
    sent = _fields_of(trace)
    if not sent:
        return
    text = f"Sent are names and values: {', '.join(name or '(no name)' for name, _ in sent)}."
    page = traces.get(trace.page) if trace.page and not trace.came_from else None
    names = {name for name, _ in sent}
    controls = _controls_of(page, trace, names) if page else []
    missing = [c for c in dict.fromkeys(controls) if c.name not in names]
    for control in missing:
        text += f" Not sent: {control.label}, {control.reason}."
    if not missing:
        text += " A field without a name, a box not ticked, a button not clicked would not be."
    yield Remark(FORM, 7, False, text)


class _Control(NamedTuple):
    """A control of a form."""

    name: str
    kind: str
    label: str

    @property
    def reason(self) -> str:
        if not self.name:
            return "since it has no name"
        if self.kind in ("checkbox", "radio"):
            return "since it was not ticked"
        if self.kind in ("submit", "button", "image"):
            return "since it was not clicked"
        return "though it has a name: it may be disabled"


class _Forms(HTMLParser):
    """Collects the forms of a page that lead to a path, with a method."""

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
            if not (tag == "button" and not name):  # such a button only sends the form
                label = f"{tag} {name or given.get('id') or ''}".strip()
                self.forms[-1].append(_Control(name, kind, f"{label} ({kind})"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_in_form = False


def _controls_of(page: Trace, trace: Trace, names: set[str]) -> list[_Control]:
    """Return the controls of the form that the fields came from, or none if that is not known."""
    forms = _Forms(trace.method, trace.target.partition("?")[0])
    forms.feed(page.text)
    for controls in forms.forms:
        if names <= {control.name for control in controls}:
            return controls
    return []


def _fields_of(trace: Trace) -> list[tuple[str, str]]:
    """Return the fields that were sent, in the address and in the body."""
    fields = parse_qsl(trace.query, keep_blank_values=True)
    if trace.content_type == FORM_TYPE:
        fields += parse_qsl(show_bytes(trace.request_body), keep_blank_values=True)
    return fields


def body_is_read_once(trace: Trace, _: Traces) -> Remarks:
    """8. The body is a stream that is read once."""
    sizes = [read.size for read in trace.reads]
    if not sizes:
        return
    # A loop that reads to the end also finds nothing at last, but always at the same line.
    is_again = len({read.place for read in trace.reads}) > 1
    if is_again and sizes[0] and not sizes[-1]:
        text = (
            f"The body is a stream: the first read got {sizes[0]} bytes, the last one 0, since all "
            "was read. What is needed twice has to be kept."
        )
        yield Remark(FORM, 8, True, text)
    else:
        text = f"The body is a stream: {sum(sizes)} bytes were read, and cannot be read again."
        yield Remark(FORM, 8, False, text)


def four_stages(trace: Trace, _: Traces) -> Remarks:
    """9. Bytes, percent-encoding, str and HTML are four stages of one value."""
    pairs = show_bytes(trace.request_body if trace.content_type == FORM_TYPE else b"").split("&")
    pairs += trace.query.split("&")
    for pair in pairs:
        for name, value in parse_qsl(pair):
            encoded = pair.partition("=")[2]
            if encoded != value:
                text = (
                    f"Four stages of {name}: percent-encoded as it was sent, {encoded}; the bytes "
                    f"{value.encode()!r}; the text {value!r}; and HTML, in which it has to be "
                    f"written as {html.escape(value)}."
                )
                yield Remark(FORM, 9, False, text)
                return


def types_of_wsgi(trace: Trace, _: Traces) -> Remarks:
    """10. What types WSGI wants, and what `wsgiref.validate` says."""
    if not trace.types:  # start_response was not called
        return
    text = (
        "WSGI wants a str like '200 OK', a list of tuples of two str, and an iterable of bytes "
        f"(PEP 3333). It got {', '.join(trace.types)}, and {trace.body_type or 'nothing'}."
    )
    if trace.wrong_header:
        text += f" The header {trace.wrong_header} is no tuple of two str."
    for who, problem in (("server", trace.invalid_environ), ("application", trace.invalid_answer)):
        if problem:
            complaint = f"wsgiref.validate complains about the {who}: {problem}"
            yield Remark(ANSWER, 10, True, complaint)
    if not (trace.invalid_answer or trace.wrong_header or trace.left_with_exception):
        text += " wsgiref.validate has nothing to say against it."
    yield Remark(ANSWER, 10, bool(trace.wrong_header), text)


def commit_saves(trace: Trace, _: Traces) -> Remarks:
    """11. execute does not save, commit does."""
    for count, end in dict.fromkeys(trace.transactions):
        rows = _rows(count)
        text = {
            "COMMIT": f"execute changed {rows}, but saved nothing: until COMMIT, nobody else sees "
            "it, and a crash undoes it. COMMIT saved it.",
            "ROLLBACK": f"{rows} changed, and ROLLBACK undid it: nothing was saved.",
            "autocommit": "Outside of a transaction each statement is saved by itself "
            "(autocommit).",
            "": f"execute changed {rows}, and nobody committed: it is not saved, and other writers "
            "wait. Call commit(), or write inside of “with connection:”.",
        }[end]
        yield Remark(SQL, 11, not end, text)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def parameters_are_no_formatting(trace: Trace, _: Traces) -> Remarks:
    """12. `?` is no string formatting."""
    for statement in trace.statements:
        for name, value in _fields_of(trace):
            if _is_pasted(value, statement.sql):
                text = (
                    f"The value of {name} stands within the text of the SQL: {value!r}. Whoever "
                    "sends it can write SQL of their own (SQL injection). Write ? and pass the "
                    "value as a parameter."
                )
                yield Remark(SQL, 12, True, text)
    if any("?" in statement.sql and statement.parameters for statement in trace.statements):
        text = (
            "SQLite gets the text of the statement and the parameters apart, so a parameter is "
            "never read as SQL."
        )
        yield Remark(SQL, 12, False, text)


def _is_pasted(value: str, sql: str) -> bool:
    """Whether the value stands in the SQL as what it was meant for: text, or more than a name."""
    if len(value) < _MIN_TYPED or value not in sql:
        return False
    in_quotes = re.search(rf"'[^']*{re.escape(value)}[^']*'", sql)
    return bool(in_quotes) or not re.fullmatch(r"\w+", value)


def globals_are_no_storage(trace: Trace, _: Traces) -> Remarks:
    """13. A global variable is no storage."""
    for name, place in trace.written_globals.items():
        text = (
            f"{place.name}:{place.line} can write the global variable {name}. It lives in process "
            f"{trace.process} alone, all its threads share it, and it is gone after a restart. "
            "Store what is to last in the database."
        )
        yield Remark(ENVIRON, 13, True, text)
    text = (
        f"This ran in thread {trace.thread} of process {trace.process}. All threads of a process "
        "share its global variables, and may change them at the same time; another process has "
        "its own, and a restart loses them."
    )
    yield Remark(ENVIRON, 13, False, text)


def where_escaping_happens(trace: Trace, _: Traces) -> Remarks:
    """14. Where escaping happens."""
    for name, value in _fields_of(trace):
        if re.search("[<>]", value) and len(value) >= _MIN_HTML and _is_in_page(trace, value):
            text = (
                f"{name} came with the request as {value!r} and stands in the page as it is: "
                "whoever sends it can write HTML of their own (cross-site scripting). Escape it "
                "where it becomes HTML."
            )
            yield Remark(TEMPLATE, 14, True, text)
    for filling in trace.fillings:
        for name, before, after in filling.holes:
            if re.search("&(amp|lt|gt|quot|#x27);", after) and before.startswith(("'", '"')):
                text = f"Escaped where it becomes HTML, and only there: ${name}, {before} → {after}"
                yield Remark(TEMPLATE, 14, False, text)
                return


def _is_in_page(trace: Trace, value: str) -> bool:
    return trace.header("content-type").startswith("text/html") and value in trace.text


def who_did_what(trace: Trace, _: Traces) -> Remarks:
    """15. What the server, WSGI, the application and a proxy each did."""
    proxy = (
        "a proxy took the request from the browser and passed it on, with headers of its own; "
        if is_proxied(trace)
        else "there is no sign of a proxy; "
    )
    text = (
        f"Who did what: {proxy}{trace.server} read bytes and made the environ; WSGI is only the "
        "agreement between the two: an environ, start_response, an iterable of bytes; the "
        f"application chose status, headers and body; {trace.server} added its headers and sent "
        "the bytes."
    )
    yield Remark(ENVIRON, 15, False, text)


LESSONS: list[Callable[[Trace, Traces], Remarks]] = [
    python_runs_on_the_server,
    one_page_is_several_requests,
    reload_posts_again,
    redirect_is_an_answer,
    get_and_post,
    links_change_nothing,
    names_are_sent,
    body_is_read_once,
    four_stages,
    types_of_wsgi,
    commit_saves,
    parameters_are_no_formatting,
    globals_are_no_storage,
    where_escaping_happens,
    who_did_what,
]
