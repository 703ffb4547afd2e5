"""The pages of the x-ray: a story as HTML, styled like the application."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from xml.etree.ElementTree import Element, tostring

from todo_wsgi.http.errors import HTTPError
from todo_wsgi.http.response import Response, status_text
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.xray.record.trace import MAX_REQUESTS
from todo_wsgi.xray.show.picture import draw
from todo_wsgi.xray.story import curl
from todo_wsgi.xray.story.document import (
    THREAD,
    Content,
    Part,
    Story,
    Summary,
    count,
    element,
    folded,
    paragraph,
    table,
)

REFRESH = 2  # seconds between reloads of the list

STYLE_PATH = "/xray.css"
OWN_STYLE = Response(
    (Path(__file__).parent / "xray.css").read_bytes(), content_type="text/css; charset=utf-8"
)


def list_page(base: str, app: str, summaries: list[Summary], *, is_paused: bool) -> Response:
    """Return the list of requests, which reloads itself unless it is paused.

    `base` is the path of the x-ray, `app` the URL of the application.
    """
    state = "" if is_paused else f" This list reloads every {REFRESH} seconds."
    switch = _link(base, "Resume") if is_paused else _link(f"{base}?pause=1", "Pause")
    rows = [_row(summary, depth) for summary, depth in _nest(summaries)]
    head = ("Request", "Target", "Status", "Kind", "Verdict", "Time")
    return _page(
        "X-ray",
        element("h1", "X-ray"),
        paragraph(
            f"The last {MAX_REQUESTS} requests to ", _link(app, app), f", newest first.{state}"
        ),
        element("nav", switch, aria_label="This page"),
        _classed("list", table(head, rows))
        if rows
        else paragraph("No requests yet. Use the application."),
        headers=[] if is_paused else [("Refresh", str(REFRESH))],
    )


def _nest(summaries: list[Summary]) -> Iterator[tuple[Summary, int]]:
    """Yield the requests, the newest first, each followed by those that belong to it."""
    numbers = {summary.number for summary in summaries}

    def follow(parent: int | None, depth: int) -> Iterator[tuple[Summary, int]]:
        for summary in reversed(summaries) if depth else summaries:
            if (summary.parent if summary.parent in numbers else None) == parent:
                yield summary, depth
                yield from follow(summary.number, depth + 1)

    return follow(None, 0)


def _row(summary: Summary, depth: int) -> list[Content]:
    number = str(summary.number)
    indent = "\u00a0\u00a0\u00a0" * (depth - 1) + "↳ " * (depth > 0)
    verdict = _mistakes("", summary) if summary.mistakes else None
    title = f"{indent}{summary.title}"
    return [_link(number, number), title, summary.status, summary.kind, verdict, summary.time]


def request_page(
    base: str, story: Story, others: list[Summary], *, is_open: bool = False
) -> Response:
    """Return the page of one request; `others` are the requests to compare it with."""
    summary = story.summary
    around = [
        _link(f"{base}{step.number}", f"{step.relation} request {step.number}")
        for step in summary.steps
    ]
    wrong = {mistake.part for mistake in summary.mistakes}
    jumps = [
        _link(f"#part-{part.number}", f"{part.number}. {part.short}{' ✗' * (part.number in wrong)}")
        for part in story.parts
    ]
    return _page(
        f"{'✗ ' * bool(wrong)}{summary.title}, request {summary.number}",
        element("nav", _link(base, "All requests"), *around, aria_label="Requests"),
        element("h1", summary.title),
        element(
            "p",
            f"Request {summary.number}, answered ",
            element("strong", summary.status),
            class_="status",
        ),
        _mistakes("", summary),
        _choices(base, summary.number, others) if others else None,
        draw(story.lanes, story.messages),
        element("nav", *jumps, _link("?open=all", "Open all"), aria_label="Parts"),
        *(_fold(part, is_open=is_open) for part in story.parts),
        element(
            "details",
            element("summary", element("h2", "Again")),
            paragraph("The same request as a shell command:"),
            element("pre", curl.join(story.curl), class_="code"),
        ),
        paragraph(note) if (note := curl.note(story.curl)) else None,
    )


def _mistakes(page: str, summary: Summary) -> Element:
    """Return the verdict, with links to the parts that show the mistakes."""
    if not summary.mistakes:
        return element("p", summary.verdict, class_="verdict")
    made = element("p", f"✗ {count(len(summary.mistakes), 'mistake')}: ", class_="verdict wrong")
    for index, mistake in enumerate(summary.mistakes):
        link = _link(f"{page}#part-{mistake.part}", mistake.where)
        for item in (f"{'; ' * bool(index)}{mistake.headline} (", link, ")"):
            _append(made, item)
    return made


def _fold(part: Part, *, is_open: bool) -> Element:
    heading = element("h2", f"{part.number}. {part.title}")
    summary = element("summary", heading, element("span", part.essence, class_="essence"))
    # A link to what is inside opens the part.
    inner = element("div", *part.content, id=f"part-{part.number}")
    made = element("details", summary, inner, class_="part")
    if is_open or part.is_open:
        made.set("open", "open")
    return made


def _choices(base: str, number: int, others: list[Summary]) -> Element:
    options = [
        element("option", f"{other.number}: {other.title}", value=str(other.number))
        for other in others
    ]
    return element(
        "form",
        element("input", type="hidden", name="left", value=str(number)),
        element("label", "Compare with another request", for_="right"),
        element("select", *options, id="right", name="right"),
        element("button", "Compare", class_="main"),
        action=f"{base}compare",
        class_="compare",
    )


def compare_page(base: str, left: Story, right: Story) -> Response:
    """Return a page with two requests side by side, headed by a table of their differences."""
    one, other = left.summary.number, right.summary.number
    pairs = [
        (name, here, there)
        for (name, here), (_, there) in zip(left.facts, right.facts, strict=True)
    ]
    # Process and thread differ by chance.
    differ = [pair for pair in pairs if pair[1] != pair[2] and pair[0] != THREAD]
    same = [pair for pair in pairs if pair not in differ]
    head = ("", f"Request {one}", f"Request {other}")
    sides = [
        element(
            "details",
            element("summary", element("h2", f"{a.number}. {a.title}"), _essence(a, b)),
            element("div", element("div", *a.content), element("div", *b.content), class_="sides"),
            class_="part",
        )
        for a, b in zip(left.parts, right.parts, strict=True)
    ]
    return _page(
        f"Requests {one} and {other}",
        element(
            "nav",
            _link(base, "All requests"),
            *(_link(f"{base}{number}", f"Request {number}") for number in (one, other)),
            aria_label="Requests",
        ),
        element("h1", f"Requests {one} and {other}"),
        _classed("facts", table(head, differ, "What differs")) if differ else None,
        folded(f"The same in both: {', '.join(pair[0] for pair in same)}", table(head, same)),
        *sides,
    )


def _essence(one: Part, other: Part) -> Element:
    both = dict.fromkeys([one.essence, other.essence])
    return element("span", " ⇄ ".join(both), class_="essence")


def error_page(error: HTTPError) -> Response:
    """Return a page that explains the error."""
    title = status_text(error.status)
    return _page(
        f"Error: {title}",
        element("h1", title),
        paragraph(error.detail),
        status=error.status,
        headers=error.headers,
    )


# Shared by all pages


def _link(href: str, text: str) -> Element:
    return element("a", text, href=href)


def _classed(name: str, made: Element) -> Element:
    made.set("class", name)
    return made


def _append(made: Element, item: Element | str) -> None:
    if isinstance(item, Element):
        made.append(item)
    elif len(made):
        made[-1].tail = (made[-1].tail or "") + item
    else:
        made.text = (made.text or "") + item


def _page(
    title: str,
    *content: Content,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    about = "What happens to a request on its way through the application."
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="description", content=about),
            element("title", title),
            element("link", rel="icon", href=ICON.path, type="image/svg+xml"),
            element("link", rel="stylesheet", href=STYLE.path),
            element("link", rel="stylesheet", href=STYLE_PATH),
        ),
        element("body", element("main", *content, class_="xray")),
        lang="en",
    )
    text = "<!doctype html>\n" + tostring(page, "unicode", method="html")
    return Response(text.encode(), status=status, headers=headers)
