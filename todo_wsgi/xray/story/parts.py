"""The story of one request, part by part, built from its trace.

The browser (`pages.py`) and the terminal (`text.py`) show the same story: they render what `tell`
returns, and nothing else. So secrets need to be hidden only here.
"""

import textwrap
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from urllib.parse import unquote_to_bytes

from todo_wsgi.http.request import FORM_TYPE
from todo_wsgi.xray.record import wire
from todo_wsgi.xray.record.source import Line
from todo_wsgi.xray.record.sql import explain
from todo_wsgi.xray.record.trace import (
    MAX_EVENTS,
    Call,
    Statement,
    Trace,
    Traces,
    is_part,
    is_proxied,
)
from todo_wsgi.xray.record.values import CUT, cut, show_bytes
from todo_wsgi.xray.story.blocks import (
    CALLS,
    ENVIRON,
    FORM,
    NEXT,
    RESPONSE,
    ROUTE,
    SENT,
    SQL,
    TEMPLATE,
    THREAD,
    Block,
    Code,
    Message,
    Node,
    Part,
    Picture,
    Source,
    Step,
    Steps,
    Story,
    Summary,
    Table,
    Text,
    Tree,
)
from todo_wsgi.xray.story.curl import curl
from todo_wsgi.xray.story.lessons import find_lessons

MAX_SHOWN = 2000  # characters of a body that are shown
MAX_FIELDS = 100  # of a form
MAX_CELL = 500  # characters of a table cell
MAX_MESSAGES = 20  # to SQLite, in the picture; the rest are added up


def tell(trace: Trace, traces: Traces) -> Story:
    """Return the story of a request, with its secrets hidden."""
    explain(trace.statements)
    trace = trace.hidden()
    lessons = find_lessons(trace, traces)
    parts = [
        Part(number, short, title, [*blocks(trace), *(a for a in lessons if a.part == number)])
        for number, short, title, blocks in _PARTS
    ]
    return Story(
        summarize(trace), _picture(trace), _times(trace), curl(trace), _facts(trace), parts
    )


def summarize(trace: Trace) -> Summary:
    """Return the request in one line, with its secrets hidden."""
    hide = trace.secrets.hide  # only what is shown: a list has many requests
    return Summary(
        trace.number,
        time.strftime("%H:%M:%S", time.localtime(trace.time)),
        hide(trace.method),
        hide(trace.target),
        hide(trace.outcome),
        milliseconds(trace.ended - trace.began),
        hide(_kind(trace)),
        _steps(trace),
    )


def _kind(trace: Trace) -> str:
    """Return the kind of response, as a browser would treat it."""
    if trace.code == 304:
        return "cache hit"
    if trace.redirects_to:
        return "redirect"
    kind = trace.header("content-type").partition(";")[0]
    return {"text/html": "page", "text/css": "style sheet"}.get(kind) or (
        "icon or image" if kind.startswith("image/") else kind
    )


def milliseconds(seconds: float) -> str:
    """Return a duration in seconds as text in milliseconds."""
    return f"{seconds * 1000:.2f} ms"


def _source(line: Line | None) -> Source:
    return Source(f"{line.name}:{line.number}", line.code) if line else Source("", "")


def _show_lines(data: bytes) -> str:
    """Return bytes as text, with visible line endings."""
    return show_bytes(data).replace("\r\n", "\\r\\n\n")


def _limit(text: str, size: int, what: str) -> list[Block]:
    """Return a block of text, and the full size in bytes if the text was cut."""
    if len(text) > MAX_SHOWN:
        return [Code(text[:MAX_SHOWN] + CUT), Text(f"… cut: {what} has {size:,} bytes.")]
    return [Code(text)]


# 1


def _sent(trace: Trace) -> Iterable[Block]:
    address, port = trace.client
    raw = trace.raw
    if raw is None:
        yield Text(
            "Reconstructed from the environ: this server does not expose the bytes on the "
            f"socket. They arrived from {address or 'an unknown address'}"
            + (f", port {port}." if port else ".")
        )
        head = f"{trace.method} {trace.target} {trace.environ.get('SERVER_PROTOCOL', '')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in trace.request_headers)
        yield Code(_show_lines(f"{head}\r\n".encode("latin-1", "replace")))
        if trace.read_body:
            yield from _limit(_show_lines(trace.read_body), _body_size(trace), "the body")
        return
    yield Text(f"{raw.size:,} bytes arrived from {address}, port {port}.")
    yield Code(_show_lines(raw.head))
    if raw.body:
        yield Text(f"After the empty line, the body: {raw.size - raw.head_size:,} bytes.")
        if raw.is_hidden:
            yield Text("It arrived in chunks and contains a secret, so it is not shown.")
            return
        yield from _limit(_show_lines(raw.body), raw.size - raw.head_size, "the body")
    yield _source(wire.RECEIVES)


def _body_size(trace: Trace) -> int:
    return sum(read.size for read in trace.reads)


# 2


def _environ(trace: Trace) -> Iterable[Block]:
    yield Text(
        "Each request has its own dictionary. The server called the application with this one in "
        f"process {trace.process}, thread {trace.thread}."
    )
    rows, others = [], []
    for key, text in trace.entries:
        if key in trace.environ_reads:
            rows.append((key, text, _origin(trace, key), _source(trace.environ_reads[key])))
        else:
            others.append((key, text, _origin(trace, key)))
    yield Table("Entries that the application read", ("Entry", "Value", "From", "Read by"), rows)
    yield Table("Entries that it did not read", ("Entry", "Value", "From"), others, is_folded=True)
    if trace.raw:
        changes = list(wire.find_changes(trace))
        if changes:
            yield Table("Headers that the server changed", ("Header", "Change"), changes)
        yield _source(wire.BUILDS_ENVIRON)


def _origin(trace: Trace, key: str) -> str:
    """Return where an entry of the environ comes from."""
    if key.startswith("HTTP_X_FORWARDED") or key in ("HTTP_FORWARDED", "HTTP_VIA"):
        return "a proxy"
    if key.startswith("HTTP_"):
        return f"header {key[5:].replace('_', '-').title()}"
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return f"header {key.replace('_', '-').title()}"
    if key in (
        *("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL"),
        *("REQUEST_URI", "RAW_URI"),
    ):
        return "the request line"
    if key.startswith("wsgi."):
        return "the server, for WSGI"
    if key.startswith("REMOTE_"):
        return "a proxy" if is_proxied(trace) and key == "REMOTE_ADDR" else "the socket"
    return "the server"


# 3


def _route(trace: Trace) -> Iterable[Block]:
    routing = trace.routing
    if routing is None:
        yield Text(
            "The x-ray does not know how this application routes requests. Part 5 shows the "
            "functions that it called."
        )
        return
    head = ("Method", "Path", "Handler", "Outcome")
    yield Table("Routes, in the order tried", head, routing.tried)
    if routing.rest:
        yield Text(f"The {routing.rest} routes after it were not tried.")
    yield _source(routing.line)


# 4


def _form(trace: Trace) -> Iterable[Block]:
    query = trace.query
    if query:
        yield _fields("In the URL, after the “?”", query.encode("latin-1", "replace"))
    body = trace.request_body
    if trace.content_type == FORM_TYPE and body:
        yield _fields("In the body", body)
    elif body:
        kind = trace.content_type or "missing"
        yield Text(f"The body is not a percent-encoded form: its Content-Type is {kind}.")
    elif not query:
        yield Text("The request has no parameters, neither in the URL nor in a body.")
    if trace.reads:
        yield Table(
            "Calls that read from wsgi.input",
            ("Call", "Size", "Read by"),
            [(read.call, f"{read.size:,} bytes", _source(read.line)) for read in trace.reads],
        )
    elif body:
        yield Text("The application did not read wsgi.input.")


def _fields(title: str, encoded: bytes) -> Table:
    rows = []
    for pair in encoded.split(b"&")[:MAX_FIELDS]:
        name, _, value = pair.partition(b"=")
        decoded = unquote_to_bytes(value.replace(b"+", b" "))
        name_bytes = unquote_to_bytes(name.replace(b"+", b" "))
        cells = (show_bytes(pair), repr(decoded), show_bytes(name_bytes), _as_text(decoded))
        rows.append(tuple(cut(cell, MAX_CELL) for cell in cells))
    return Table(title, ("Split at “&”", "Percent-decoded", "Name", "Value as text"), rows)


def _as_text(data: bytes) -> str:
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return "not UTF-8"


# 5


def _calls(trace: Trace) -> Iterable[Block]:
    if trace.calls.children:
        yield Tree([_node(trace, child) for child in trace.calls.children])
    else:
        yield Text("No function of the application was recorded.")
    if trace.events > MAX_EVENTS:
        yield Text(f"{trace.events - MAX_EVENTS:,} more steps were not recorded.")
    for failure in trace.failures:
        outcome = "reached the server" if failure.left_application else "was caught"
        yield Table(
            f"{failure.error} {outcome}; local variables of {failure.function}",
            ("Variable", "Value"),
            failure.values,
        )
        yield _source(failure.line)
    for warning in trace.warnings:
        yield Text(warning)


def _node(trace: Trace, child: Call | Statement) -> Node:
    if isinstance(child, Statement):
        sql = " ".join(child.sql.split())
        result = f"{child.rows_changed} changed" if child.rows_changed else ""
        result = f"{child.rows_read} read" if child.rows_read else result
        took = milliseconds(_took(child))
        return Node("sql", cut(sql, 80), result, took, _source(child.line), [])
    arguments = ", ".join(f"{name}={value}" for name, value in child.arguments)
    label = f"{child.name}({cut(arguments, 160)})"
    result = cut(child.result, 160) if child.result is not None else ""
    if child.result is None:
        result = f"raised {child.error or 'an exception'}"
    if child.is_rest and child.count > 1:
        label, result = f"{child.name}, {child.count} more times", ""
    return Node(
        "library" if child.is_library else "call",
        label,
        result,
        milliseconds(child.seconds),
        _source(child.caller or child.line),
        [_node(trace, grandchild) for grandchild in child.children],
    )


# 6


def _sql(trace: Trace) -> Iterable[Block]:
    if not trace.statements:
        yield Text(
            "No SQL was seen. The x-ray sees what Python's sqlite3 executes in the thread of the "
            "request, on connections that sqlite3.connect opened since it started."
        )
    for keyword, group in groupby(trace.statements, key=lambda statement: statement.keyword):
        statements = list(group)
        if keyword == "PRAGMA":
            rows = [(s.sql, milliseconds(s.execute_seconds), _source(s.line)) for s in statements]
            yield Table("PRAGMA: connection settings", ("SQL", "Time", "By"), rows)
            continue
        for statement in statements:
            yield Table(statement.keyword, ("", ""), list(_statement_rows(statement)))
            yield _source(statement.line)


def _statement_rows(statement: Statement) -> Iterable[tuple[str, str]]:
    yield "SQL", textwrap.dedent(statement.sql).strip()
    if statement.issuer:
        yield "Issued by", statement.issuer
    for parameters in statement.parameters:
        yield "Parameters", parameters
    if statement.count > 1:
        yield "Executions", f"{statement.count:,}, added up here"
    if statement.rows_read or statement.keyword == "SELECT":
        yield "Rows read", str(statement.rows_read)
    if statement.rows_changed_in_all:
        by_triggers = statement.rows_changed_in_all - statement.rows_changed
        more = f", and {by_triggers} by triggers" if by_triggers else ""
        yield "Rows changed", f"{statement.rows_changed}{more}"
    if statement.plan:
        yield "Query plan", "\n".join(statement.plan)
    if statement.error:
        yield "Error", statement.error
    yield "Execute", milliseconds(statement.execute_seconds)
    if statement.fetch_seconds:
        yield "Fetch", milliseconds(statement.fetch_seconds)


# 7


def _template(trace: Trace) -> Iterable[Block]:
    if not trace.renderings:
        yield Text("No template of this application was rendered.")
    for rendering in trace.renderings:
        count = trace.rendered[rendering.name]
        title = f"templates/{rendering.name}" if rendering.name else "A template"
        title += f", rendering {rendering.number} of {count:,}" if count > 1 else ""
        rows = [(f"${name}", before, after) for name, before, after in rendering.placeholders]
        yield Table(title, ("Placeholder", "Value", "Inserted text"), rows)
        yield _source(rendering.line)


# 8


def _response(trace: Trace) -> Iterable[Block]:
    if not trace.types:
        yield Text("The application did not call start_response.")
        if trace.sent_head:
            yield Text("So the server created a response of its own. See the server's log.")
            yield Code(_show_lines(trace.sent_head))
        return
    yield Text(f"Status {trace.status}, body of {trace.body_size:,} bytes ({trace.body_type}).")
    yield Table("Headers", ("Header", "Value", "Set by"), list(_response_headers(trace)))
    yield _source(trace.response_line)
    if trace.sent_head is None:
        yield Text("This server does not expose the bytes that it sends.")
    else:
        rest = "then the body" if trace.body_size else "no body"
        yield Text(f"On the wire: {trace.sent_size:,} bytes of head, {rest}.")
        yield Code(_show_lines(trace.sent_head))
    if trace.header("content-encoding") == "gzip":
        yield Text("The body was compressed with gzip; this is the decompressed text.")
    if trace.body:
        yield from _limit(trace.text, trace.body_size, "the body")


def _response_headers(trace: Trace) -> Iterable[tuple[str, str, str]]:
    own = {name.lower() for name, _ in trace.headers}
    for name, value in trace.headers:
        yield name, value, "the application"
    for line in (trace.sent_head or b"").decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        if name and name.lower() not in own:
            yield name, value, "the server"


# 9


def _next(trace: Trace) -> Iterable[Block]:
    yield Text(_what_it_is(trace))
    if trace.redirects_to:
        yield _source(trace.response_line)
    if steps := _steps(trace):
        yield Steps(steps)


def _steps(trace: Trace) -> list[Step]:
    steps = []
    if trace.came_from:
        steps.append(Step(trace.came_from, "Came from", "which redirected the browser here"))
    if trace.page:
        relation = "Part of" if is_part(trace) else "Sent from"
        steps.append(Step(trace.page, relation, "the page in its Referer header"))
    if trace.led_to:
        steps.append(Step(trace.led_to, "Led to", "which followed on the same connection"))
    steps += [Step(number, "Loaded", "for this page") for number in trace.needs]
    return steps


def _what_it_is(trace: Trace) -> str:
    """Return what the browser does with the response."""
    kind = trace.header("content-type").partition(";")[0]
    if trace.left_with_exception:
        return f"The browser shows what the server sent instead: {trace.outcome}."
    if trace.code == 304:
        return "304: the browser's cached copy is still current, so the response has no body."
    if location := trace.redirects_to:
        method = trace.method if trace.code in (307, 308) else "GET"
        return f"The browser sends a new request: {method} {location}."
    if is_part(trace):
        return f"Not a page, but a part of one ({kind}): the browser may cache it for the page."
    if kind == "text/html":
        return "The browser shows the page, and requests the files that the page needs."
    return f"The browser shows or saves the response ({kind or 'without a Content-Type'})."


# The picture, and the facts to compare


def _times(trace: Trace) -> Table:
    rows = []
    raw = trace.raw
    if raw:
        rows.append(("The server received the request", milliseconds(raw.ended - raw.began)))
        rows.append(("It waited for a thread", milliseconds(max(trace.began - raw.ended, 0))))
    rows.append(("The application handled it", milliseconds(trace.ended - trace.began)))
    sql = sum(map(_took, trace.statements))
    rows.append((f"of that, {len(trace.statements)} SQL statements", milliseconds(sql)))
    if trace.sent_at:
        rows.append(("Until the server sent", milliseconds(max(trace.sent_at - trace.ended, 0))))
    return Table("Durations (including the x-ray's overhead)", ("", ""), rows)


def _picture(trace: Trace) -> Picture:
    began = trace.raw.began if trace.raw else trace.began
    browser, server, application, sqlite = range(4)
    messages = []

    def add(at: float, lane: int, to: int, text: str, took: float | None = None) -> None:
        duration = "" if took is None else milliseconds(took)
        messages.append(Message(milliseconds(at - began), lane, to, cut(text, 36), duration))

    size = f", {trace.raw.size:,} bytes" if trace.raw else ""
    add(began, browser, server, f"{trace.method} {cut(trace.target, 30)}{size}")
    add(trace.began, server, application, "application(environ, start_response)")
    shown = [s for s in trace.statements if s.keyword != "PRAGMA"]
    settings = [s for s in trace.statements if s.keyword == "PRAGMA"]
    if settings:
        text = f"{len(settings)} settings (PRAGMA)"
        add(settings[0].at, application, sqlite, text, sum(map(_took, settings)))
    for statement in shown[:MAX_MESSAGES]:
        add(statement.at, application, sqlite, " ".join(statement.sql.split()), _took(statement))
    if rest := shown[MAX_MESSAGES:]:
        text = f"{len(rest)} more statements"
        add(rest[0].at, application, sqlite, text, sum(map(_took, rest)))
    worked = trace.ended - trace.began
    add(trace.ended, application, server, trace.status or trace.outcome, worked)
    if trace.sent_head is not None and trace.sent_at:
        first_line = trace.sent_head.partition(b"\r\n")[0].decode("latin-1")
        size = f"{trace.sent_size + trace.body_size:,} bytes"
        add(trace.sent_at, server, browser, f"{first_line}, {size}")
    else:
        add(trace.ended, server, browser, trace.outcome)
    return Picture(["Browser", trace.server, "Application", "SQLite"], messages)


def _took(statement: Statement) -> float:
    return statement.execute_seconds + statement.fetch_seconds


def _facts(trace: Trace) -> list[tuple[str, str]]:
    query = trace.query
    tried = trace.routing.tried if trace.routing else []
    taken = [f"{method} {path}" for method, path, _, outcome in tried if outcome == "matched"]
    statements = [
        f"{cut(' '.join(s.sql.split()), 60)} {' '.join(s.parameters)}".strip()
        for s in trace.statements
        if s.keyword != "PRAGMA"
    ]
    return [
        ("Request", f"{trace.method} {trace.target}"),
        ("Fields in the URL", query or "none"),
        ("Fields in the body", cut(show_bytes(trace.request_body), MAX_CELL) or "none"),
        ("Route", ", ".join(taken) or "none"),
        ("SQL", "\n".join(statements) or "none"),
        ("Rows changed", str(trace.rows_changed)),
        ("Exceptions", "\n".join(failure.error for failure in trace.failures) or "none"),
        ("Status", trace.outcome),
        ("Location", trace.header("location") or "none"),
        ("Body", f"{trace.body_size:,} bytes"),
        (THREAD, f"{trace.process}, {trace.thread}"),
    ]


_PARTS: list[tuple[int, str, str, Callable[[Trace], Iterable[Block]]]] = [
    (SENT, "Sent", "What the browser sent", _sent),
    (ENVIRON, "Environ", "What the server passed to the application", _environ),
    (ROUTE, "Route", "The route", _route),
    (FORM, "Form", "The form", _form),
    (CALLS, "Functions", "The functions that ran", _calls),
    (SQL, "SQL", "SQL", _sql),
    (TEMPLATE, "Template", "The template", _template),
    (RESPONSE, "Response", "What the server sent back", _response),
    (NEXT, "Next", "What the browser does next", _next),
]
