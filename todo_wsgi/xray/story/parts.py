"""The story of one request in nine parts, told from its trace.

The browser (`show/pages.py`) and the terminal (`show/terminal.py`) show what `tell` returns. The
function of a part yields its essence, one line of text, and then its content.
"""

import email
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes
from weakref import WeakKeyDictionary
from xml.etree.ElementTree import Element

from todo_wsgi.http.request import FORM_TYPE
from todo_wsgi.xray.record import wire
from todo_wsgi.xray.record.sql import explain
from todo_wsgi.xray.record.trace import (
    MAX_EVENTS,
    Call,
    Failure,
    Read,
    Statement,
    Trace,
    Traces,
    is_part,
)
from todo_wsgi.xray.record.values import CUT, cut, show_bytes
from todo_wsgi.xray.story.curl import curl
from todo_wsgi.xray.story.document import (
    PARTS,
    Content,
    Lesson,
    Message,
    Part,
    Step,
    Story,
    Summary,
    code,
    count,
    element,
    folded,
    paragraph,
    source,
    table,
)
from todo_wsgi.xray.story.lessons import find_lessons

TUTORIAL = "https://github.com/todo-wsgi/todo_wsgi/tree/main/tutorial/"

MAX_SHOWN = 2000  # characters of a body that are shown
MAX_FIELDS = 100  # of a form
MAX_LINE = 100  # characters of an essence
MAX_MESSAGES = 12  # to SQLite, in the picture; the rest are counted
OPEN_DEPTH = 3  # levels of the tree of calls that are not folded


def tell(trace: Trace, traces: Traces) -> Story:
    """Return the story of a request, with its secrets hidden."""
    explain(trace.statements)
    hidden = trace.hidden()
    lessons = find_lessons(hidden, traces)
    parts = []
    for number, tell_part in enumerate(_TELLERS, 1):
        essence, *content = tell_part(hidden)
        here = [lesson for lesson in lessons if lesson.part == number]
        elements = [item for item in [*content, *map(_remark, here)] if isinstance(item, Element)]
        line = cut(" ".join(str(essence).split()), MAX_LINE)
        parts.append(Part(number, *PARTS[number - 1], line, elements, _mistakes(here) != []))
    lanes = ["Browser", hidden.server, "Application", "SQLite"]
    summary = _summarize(hidden, lessons)
    return Story(summary, lanes, _messages(hidden), parts, curl(hidden))


def summarize(trace: Trace, traces: Traces) -> Summary:
    """Return the request in one line, with its secrets hidden."""
    # The list shows up to 50 of them every other second.
    state = (trace.finished, trace.led_to, len(trace.needs))
    if trace.is_running or trace not in _summaries or _summaries[trace][0] != state:
        hidden = trace.hidden()
        _summaries[trace] = (state, _summarize(hidden, find_lessons(hidden, traces)))
    return _summaries[trace][1]


_summaries: WeakKeyDictionary[Trace, tuple[object, Summary]] = WeakKeyDictionary()


def _summarize(trace: Trace, lessons: list[Lesson]) -> Summary:
    return Summary(
        trace.number,
        time.strftime("%H:%M:%S", time.localtime(trace.time)),
        f"{trace.method} {cut(trace.target, 80)}",
        trace.outcome,
        _media_type(trace),
        _steps(trace),
        trace.came_from or (trace.page if is_part(trace) else None),
        _mistakes(lessons),
    )


def _mistakes(lessons: list[Lesson]) -> list[Lesson]:
    return [lesson for lesson in lessons if lesson.is_mistake]


def _remark(lesson: Lesson) -> Element:
    title: Content = lesson.title
    if lesson.step:
        where = f" (tutorial, step {lesson.step[0]})" * lesson.is_mistake
        title = element("a", lesson.title, where, href=TUTORIAL + lesson.step, rel="noreferrer")
    kind = "mistake" if lesson.is_mistake else "fact"
    strong = element("strong", "✗ " * lesson.is_mistake, title, ".")
    return element("p", strong, f" {lesson.text}", class_=kind)


def _media_type(trace: Trace) -> str:
    return trace.header("content-type").partition(";")[0]


def _show_lines(data: bytes) -> str:
    """Return bytes as text, with visible line endings."""
    return show_bytes(data).replace("\r\n", "\\r\\n\n")


def _limit(text: str, size: int) -> Iterator[Element]:
    """Yield the text of a body, and its full size in bytes if it was cut."""
    yield code(text[:MAX_SHOWN] + CUT * (len(text) > MAX_SHOWN))
    if len(text) > MAX_SHOWN:
        yield paragraph(f"… cut: the body has {size:,} bytes.")


def _sent(trace: Trace) -> Iterator[Content]:
    raw, headers = trace.raw, trace.request_headers
    size = raw.body_size if raw else sum(read.size for read in trace.reads)
    body = f"a body of {count(size, 'byte')}" if size else "no body"
    yield f"{trace.method} {cut(trace.target, 40)}, {count(len(headers), 'header')}, {body}"
    if raw is None:
        yield paragraph(
            "Reconstructed from the environ: this server does not expose the bytes on the socket."
        )
        head = f"{trace.method} {trace.target} {trace.environ.get('SERVER_PROTOCOL', '')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers)
        yield code(_show_lines(f"{head}\r\n".encode("latin-1", "replace")))
        if trace.read_body:
            yield from _limit(_show_lines(trace.read_body), size)
        return
    address, port = trace.client
    yield paragraph(f"{count(raw.size, 'byte')} arrived from {address}, port {port}.")
    yield code(_show_lines(raw.head))
    if raw.body:
        yield paragraph(f"After the empty line, the body: {count(size, 'byte')}.")
        yield from _limit(_show_lines(raw.body), size)
    yield source(wire.RECEIVES)


def _environ(trace: Trace) -> Iterator[Content]:
    ours, libraries, others = [], [], []
    for key, text in trace.entries:
        row = (key, text, _origin(trace, key))
        if key in trace.environ_reads:
            ours.append((*row, source(trace.environ_reads[key])))
        elif key in trace.library_reads:
            libraries.append((*row, trace.library_reads[key]))
        else:
            others.append(row)
    read = len(ours) + len(libraries)
    yield f"{read} of {len(trace.entries)} entries were read, {len(ours)} by your code"
    yield paragraph(
        "Each request has its own dictionary. The server called the application with this one in "
        f"process {trace.process}, thread {trace.thread}."
    )
    head = ("Entry", "Value", "From", "Read by")
    if ours:
        yield table(head, ours, "Entries that a line of the application read")
    if libraries:
        yield folded(f"Entries that only a library read: {len(libraries)}", table(head, libraries))
    yield folded(f"Entries that nobody read: {len(others)}", table(head[:3], others))
    if number := trace.process_variables:
        yield paragraph(f"And {count(number, 'environment variable')} of the server's process.")
    if trace.raw and (changes := list(wire.find_changes(trace))):
        changed = table(("Header", "Change"), changes)
        yield folded("Headers that the server changed", changed, source(wire.BUILDS_ENVIRON))


def _origin(trace: Trace, key: str) -> str:
    """Return where an entry of the environ comes from."""
    if key.startswith("HTTP_X_FORWARDED") or key in ("HTTP_FORWARDED", "HTTP_VIA"):
        return "a proxy"
    if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        header = f"header {key.removeprefix('HTTP_').replace('_', '-').title()}"
        return header if key in trace.environ else "the server"  # by default
    return "the request line" if key in _REQUEST_LINE else "the server"


_REQUEST_LINE = {
    *("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "REQUEST_URI", "RAW_URI")
}


def _route(trace: Trace) -> Iterator[Content]:
    routing = trace.routing
    if routing is None:
        yield "not known: part 5 has the functions that ran"
        return
    *_, (method, path, handler, outcome) = routing.tried
    yield f"{method} {path} is {handler}" if outcome == "matched" else "no route matched"
    yield table(("Method", "Path", "Handler", "Outcome"), routing.tried, "In the order tried")
    if routing.rest:
        yield paragraph(f"{count(routing.rest, 'route')} after it: not tried.")
    yield source(routing.line)


def _form(trace: Trace) -> Iterator[Content]:
    body, tables = trace.request_body, []
    encoded_head = ("Split at “&”", "Percent-decoded", "Name", "Value as text")
    if query := trace.query.encode("latin-1", "replace"):
        tables.append(("In the URL, after the “?”", encoded_head, [*_fields(query)]))
    if trace.content_type == FORM_TYPE and body:
        tables.append(("In the body", encoded_head, [*_fields(body)]))
    elif trace.content_type == "multipart/form-data":
        tables.append(("In the body", ("File", "Size", "Name", "Value as text"), [*_parts(trace)]))
    values = [f"{name} = {value}" for *_, rows in tables for _, _, name, value in rows]
    is_other = body and (not tables or tables[-1][0] != "In the body")
    kind = trace.content_type or "without a Content-Type"
    yield ", ".join(values + [f"the body is {kind}"] * bool(is_other)) or "no parameters"
    for title, head, rows in tables:
        yield table(head, rows, title)
    if is_other:
        yield paragraph(f"The body is no form: it is {kind}.")
    if trace.reads:
        reads = [
            (f"{r.call}{_times(r)}", count(r.size, "byte"), source(r.line)) for r in trace.reads
        ]
        yield table(("Call", "Size", "By"), reads, "Calls that read from wsgi.input")
    elif body:
        yield paragraph("No read of wsgi.input was seen.")


def _parts(trace: Trace) -> Iterator[tuple[str, str, str, str]]:
    """Yield file name, size, name and value of each field of a multipart form (RFC 7578)."""
    head = f"Content-Type: {trace.environ['CONTENT_TYPE']}\r\n\r\n".encode("latin-1", "replace")
    for field in email.message_from_bytes(head + trace.request_body).walk():
        if name := field.get_param("name", header="content-disposition"):
            data = field.get_payload(decode=True)
            data = data if isinstance(data, bytes) else b""
            value = "" if field.get_filename() else cut(_as_text(data))
            yield field.get_filename() or "", count(len(data), "byte"), str(name), value


def _fields(encoded: bytes) -> Iterator[tuple[str, ...]]:
    for pair in encoded.split(b"&")[:MAX_FIELDS]:
        name, _, value = pair.partition(b"=")
        decoded = unquote_to_bytes(value.replace(b"+", b" "))
        name_bytes = unquote_to_bytes(name.replace(b"+", b" "))
        cells = (show_bytes(pair), repr(decoded), show_bytes(name_bytes), _as_text(decoded))
        yield tuple(cut(cell) for cell in cells)


def _as_text(data: bytes) -> str:
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return "not UTF-8"


def _calls(trace: Trace) -> Iterator[Content]:
    failures = [f"{failure.error} {_fate(failure)}" for failure in trace.failures]
    yield ", ".join([count(_inside(trace.calls)[Call], "call"), *failures])
    if trace.calls.children:
        yield _tree(trace.calls, 1)
    else:
        yield paragraph("No function of the application was recorded.")
    if trace.events > MAX_EVENTS:
        yield paragraph(f"Not recorded: {count(trace.events - MAX_EVENTS, 'more step')}.")
    for failure in trace.failures:
        title = f"{failure.error} {_fate(failure)}"
        if failure.values:
            title += f"; local variables of {failure.function}"
        yield table(("Variable", "Value"), failure.values, title)
        yield paragraph(source(failure.line))
    for warning in trace.warnings:
        yield paragraph(warning)


def _fate(failure: Failure) -> str:
    return "reached the server" if failure.left_application else "was caught"


def _inside(call: Call) -> Counter[type]:
    """Return the number of calls and of statements in a call, at any depth."""
    return sum(map(_inside, call.calls), Counter(map(type, call.children)))


def _tree(call: Call, depth: int, shown: object = None) -> Element:
    """Return the calls and the statements of a call as a list; `shown` is its line."""
    return element("ul", *(_node(child, depth, shown) for child in call.children), class_="tree")


def _node(child: Call | Statement, depth: int, shown: object) -> Element:
    if isinstance(child, Statement):
        text = f"SQL: {_short(child, 80)}"
        return element("li", element("code", text), f" → {_rows(child)}", class_="sql")
    arguments = ", ".join(f"{name}={value}" for name, value in child.arguments)
    label = f"{child.name}({cut(arguments, 160)})"
    result = cut(child.result or "", 160) or f"raised {cut(child.error or 'an exception', 60)}"
    if child.is_rest and child.count > 1:
        label, result = f"{child.name}, {child.count} more times", ""
    line = child.caller or child.line
    inner = _tree(child, depth + 1, line) if child.children else None
    if inner is not None and depth == OPEN_DEPTH:
        has = _inside(child)
        what = [count(has[Call], "call")] * bool(has[Call]) + ["the SQL"] * bool(has[Statement])
        inner = folded(f"{' and '.join(what)} in it", inner)
    return element(
        "li",
        "library: " if child.is_library else None,
        element("code", label),
        f" → {result}" if result else None,
        source(line) if line != shown and not child.is_library else None,
        inner,
        class_="library" if child.is_library else "call",
    )


def _rows(statement: Statement) -> str:
    """Return what a statement did to rows."""
    if statement.error:
        return statement.error
    if statement.rows_changed:
        verb = _VERBS.get(statement.keyword, "changed")
        by_triggers = statement.rows_changed_in_all - statement.rows_changed
        more = f", and {by_triggers:,} by triggers" if by_triggers else ""
        return f"{count(statement.rows_changed, 'row')} {verb}{more}"
    if statement.rows_read or statement.keyword == "SELECT":
        return f"{count(statement.rows_read, 'row')} read"
    return "done"


_VERBS = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}


def _sql(trace: Trace) -> Iterator[Content]:
    shown = [s for s in trace.statements if not _is_housekeeping(s)]
    others = [s for s in trace.statements if _is_housekeeping(s)]
    changes: Counter[str] = Counter()
    for statement in shown:
        changes[_VERBS.get(statement.keyword, "changed")] += statement.rows_changed
    changed = [f"{count(rows, 'row')} {verb}" for verb, rows in changes.items() if rows]
    ends = dict.fromkeys(_ENDS[end] for _, end in trace.transactions)
    read = sum(s.rows_read for s in shown)
    failed = [f"{count(n, 'statement')} failed"] if (n := sum(bool(s.error) for s in shown)) else []
    if changed or failed:
        yield ", ".join([*changed, *failed, *ends])
    elif shown:
        yield f"{count(read, 'row')} read by {count(len(shown), 'statement')}"
    else:
        yield _kept(trace) or "none was seen"
    if not (trace.statements or trace.kept_since):
        yield paragraph(
            "No SQL was seen. The x-ray sees what Python's sqlite3 executes in the thread of the "
            "request, on connections opened since it started."
        )
    if shown:
        rows = [
            (_text(s), "\n".join(s.parameters), f"{_rows(s)}{_times(s)}", source(s.line))
            for s in shown
        ]
        yield table(("SQL", "Parameters", "Rows", "By"), rows)
        took = [(_short(s, 60), "\n".join(s.plan), _milliseconds(s)) for s in shown]
        yield folded("Query plans and times", table(("SQL", "Plan", "Time"), took))
    if others:
        rows = [(_text(s), "", _rows(s), source(s.line)) for s in others]
        head = ("SQL", "", "Rows", "By")
        yield folded(f"Housekeeping: {count(len(others), 'statement')}", table(head, rows))


def _kept(trace: Trace) -> str:
    since = trace.kept_since
    return f"none: the application has kept this answer since request {since}" if since else ""


_ENDS = {
    "COMMIT": "saved by COMMIT",
    "ROLLBACK": "undone by ROLLBACK",
    "autocommit": "saved at once, outside a transaction",
    "": "not saved",
}


def _is_housekeeping(statement: Statement) -> bool:
    """Return whether a statement is about the connection, not about the application's data."""
    return statement.keyword == "PRAGMA" or "sqlite_master" in statement.sql


def _text(statement: Statement) -> str:
    by = f"\n(by {statement.issuer})" if statement.issuer else ""
    return textwrap.dedent(statement.sql).strip() + by


def _short(statement: Statement, length: int) -> str:
    return cut(" ".join(statement.sql.split()), length)


def _times(event: Statement | Read) -> str:
    return f", {event.count:,} times" if event.count > 1 else ""


def _milliseconds(statement: Statement) -> str:
    return f"{(statement.execute_seconds + statement.fetch_seconds) * 1000:.2f} ms"


def _template(trace: Trace) -> Iterator[Content]:
    names = [f"{name} ({n:,} times)" if n > 1 else name for name, n in trace.rendered.items()]
    nothing = "none was used" if trace.routing else "not known: part 8 has the response"
    yield ", ".join(names) or _kept(trace) or nothing
    for rendering in trace.renderings:
        times = trace.rendered[rendering.name]
        title = f"templates/{rendering.name}" if rendering.name else "A template"
        title += f", rendering {rendering.number} of {times:,}" if times > 1 else ""
        rows = [(f"${name}", before, after) for name, before, after in rendering.placeholders]
        head = ("Placeholder", "Value", "Inserted text")
        escaped = [row for row in rows if _is_escaped(row)]
        if escaped:
            yield table(head, escaped, f"{title}: changed by escaping")
        yield folded(f"{title}: {count(len(rows), 'placeholder')}", table(head, rows))
        yield source(rendering.line)


def _is_escaped(row: tuple[str, str, str]) -> bool:
    _, before, after = row
    return "&" in after and before.startswith(("'", '"'))


def _response(trace: Trace) -> Iterator[Content]:
    location = f", Location: {trace.redirects_to}" if trace.redirects_to else ""
    yield f"{trace.outcome}{location}, {_body(trace)}"
    if not trace.status:
        yield paragraph("The application did not call start_response.")
    own = {name.lower() for name, _ in trace.headers if not trace.is_servers_page}
    headers = [
        (f"{name}: {value}", "the application" if name.lower() in own else trace.server)
        for name, value in trace.sent_headers
    ]
    by = trace.server if trace.is_servers_page or not trace.status else "the application"
    line = (trace.sent_head or b"").decode("latin-1").partition("\r\n")[0] or trace.status
    yield table(("Line", "Set by"), [(line, by), *headers])
    yield source(trace.response_line)
    if trace.server_error and not trace.error:
        yield paragraph(f"{trace.server} could not send this: {trace.server_error}.")
    if trace.sent_head is None:
        yield paragraph("This server does not expose the bytes that it sends.")
    if trace.text and not trace.is_servers_page:
        if trace.header("content-encoding") == "gzip":
            yield paragraph("The body was compressed with gzip; this is the decompressed text.")
        yield from _limit(trace.text, trace.body_size)


def _body(trace: Trace) -> str:
    if trace.is_file:
        return f"a file that the server sends by itself, {count(trace.sent_size, 'byte')}"
    return f"a body of {count(trace.sent_size, 'byte')}" if trace.sent_size else "no body"


def _next(trace: Trace) -> Iterator[Content]:
    yield _what_it_does(trace)
    for step in _steps(trace):
        link = element("a", f"request {step.number}", href=str(step.number))
        yield paragraph(f"{step.relation} ", link, f", {step.text}.")


def _steps(trace: Trace) -> list[Step]:
    steps = []
    if trace.came_from:
        steps.append(Step(trace.came_from, "Came from", "which redirected the browser here"))
    if trace.page:
        relation = "Part of" if is_part(trace) else "Sent from"
        steps.append(Step(trace.page, relation, "the page in its Referer header"))
    if trace.led_to:
        steps.append(Step(trace.led_to, "Led to", "which followed on the same connection"))
    return [*steps, *(Step(number, "Loaded", "for this page") for number in trace.needs)]


def _what_it_does(trace: Trace) -> str:
    """Return what the browser does with the response."""
    if trace.is_running:
        return f"It waits for the rest of the response: {trace.outcome}"
    if trace.sent_head is None and trace.error:
        waits = "It waits: " if trace.raw else ""  # otherwise the x-ray does not know
        return f"{waits}{trace.server} got an exception instead of a response"
    if trace.is_servers_page or trace.is_cut_off:
        return f"It shows what it got: {trace.outcome}"
    if trace.code == 304:
        return "304: its cached copy is still current, so the response has no body"
    if location := trace.redirects_to:
        method = trace.method if trace.code in (307, 308) else "GET"
        return f"It sends a new request: {method} {location}"
    kind = _media_type(trace)
    if is_part(trace):
        return f"Not a page, but a part of one ({kind}): it may cache it for the page"
    if kind == "text/html":
        return "It shows the page, and requests the files that the page needs"
    return f"It shows or saves the response ({kind or 'without a Content-Type'})"


# The picture


def _messages(trace: Trace) -> list[Message]:
    """Return the messages of the picture, in order of time."""
    browser, server, application, sqlite = range(4)
    size = f", {count(trace.raw.size, 'byte')}" if trace.raw else ""
    request = Message(browser, server, f"{trace.method} {cut(trace.target, 30)}{size}")
    found = [
        (0.0, request),
        (0.0, Message(server, application, "application(environ, …)")),
    ]
    shown = [s for s in trace.statements if not _is_housekeeping(s)]
    for statement in shown[:MAX_MESSAGES]:
        rows = f": {_rows(statement)}" if statement.rows_changed or statement.rows_read else ""
        text = _short(statement, 36 - len(rows)) + rows
        found.append((statement.at, Message(application, sqlite, text, is_answered=True)))
    if rest := shown[MAX_MESSAGES:]:
        text = count(len(rest), "more statement")
        found.append((rest[0].at, Message(application, sqlite, text, is_answered=True)))
    if trace.answered:
        error = trace.error if trace.answered == trace.finished else ""
        text = error or trace.status or trace.outcome
        found.append((trace.answered, Message(application, server, text)))
    if trace.sent_head is not None and trace.sent_at:
        size = _body(trace)
        found.append((trace.sent_at, Message(server, browser, f"{trace.outcome}, {size}")))
    elif trace.finished:
        found.append((trace.finished, Message(server, browser, trace.outcome)))
    if trace.sent_at and (trace.finished or 0) > trace.sent_at:
        text = trace.error or "the end of the body"
        found.append((trace.finished or 0, Message(application, server, text)))
    return [message for _, message in sorted(found, key=lambda pair: pair[0])]


_TELLERS = [_sent, _environ, _route, _form, _calls, _sql, _template, _response, _next]
