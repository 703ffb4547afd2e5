"""The pages of the x-ray: a story as HTML, styled like the application."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

from todo_wsgi.http.errors import HTTPError
from todo_wsgi.http.response import Response, status_text
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.xray.record.trace import MAX_REQUESTS
from todo_wsgi.xray.show.picture import draw
from todo_wsgi.xray.story import curl
from todo_wsgi.xray.story.document import (
    Content,
    Part,
    Story,
    Summary,
    code,
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


def list_page(app: str, summaries: list[Summary], *, is_paused: bool) -> Response:
    """Return the list of requests to `app`, which reloads itself unless it is paused."""
    state = "" if is_paused else f" This list reloads every {REFRESH} seconds."
    head = ("Request", "Target", "Status", "Kind", "Verdict", "Time")
    parents = {summary.number: summary.parent for summary in summaries}

    def path(number: int) -> list[int]:
        """Return the numbers of the requests that this one belongs to, and its own."""
        parent = parents[number]
        return [*path(parent), number] if parent in parents else [number]

    paths = {number: path(number) for number in parents}
    ordered = sorted(summaries, key=lambda s: (-paths[s.number][0], paths[s.number]))
    rows = [_row(summary, len(paths[summary.number]) - 1) for summary in ordered]
    return _page(
        "X-ray",
        _nav("This page", _link(".", "Resume") if is_paused else _link("?pause=1", "Pause")),
        element("h1", "X-ray"),
        paragraph(
            f"The last {MAX_REQUESTS} requests to ", _link(app, app), f", newest first.{state}"
        ),
        element("div", table(head, rows), class_="list") if rows else None,
        None if rows else paragraph("No requests yet. Use the application."),
        headers=[] if is_paused else [("Refresh", str(REFRESH))],
    )


def _row(summary: Summary, depth: int) -> list[Content]:
    number = str(summary.number)
    title = "\u00a0\u00a0\u00a0" * (depth - 1) + "↳ " * (depth > 0) + summary.title
    verdict = _verdict(summary, number) if summary.mistakes else None
    return [_link(number, number), title, summary.status, summary.kind, verdict, summary.time]


def request_page(story: Story, others: list[Summary], *, is_open: bool) -> Response:
    """Return the page of one request; `others` are the requests to compare it with."""
    summary = story.summary
    wrong = {mistake.part for mistake in summary.mistakes}
    steps = [(str(s.number), f"{s.relation} request {s.number}") for s in summary.steps]
    jumps = [
        _link(f"#part-{part.number}", f"{part.number}. {part.short}{' ✗' * (part.number in wrong)}")
        for part in story.parts
    ]
    status = element("strong", summary.status)
    return _page(
        f"{'✗ ' * bool(wrong)}{summary.title}, request {summary.number}",
        _nav("Requests", _link(".", "All requests"), *(_link(*step) for step in steps)),
        element("h1", summary.title),
        element("p", f"Request {summary.number}, answered ", status, class_="status"),
        _verdict(summary),
        _choices(summary.number, others) if others else None,
        draw(story.lanes, story.messages),
        _nav("Parts", *jumps, _link("?open=all", "Open all")),
        *(_fold(part, is_open=is_open) for part in story.parts),
        folded("The same request as a shell command", code(curl.join(story.curl))),
        paragraph(note) if (note := curl.note(story.curl)) else None,
    )


def _verdict(summary: Summary, page: str = "") -> Element:
    """Return the verdict, with links to the parts of the page that show the mistakes."""
    if not summary.mistakes:
        return element("p", summary.verdict, class_="verdict")
    items: list[Content] = [f"✗ {count(len(summary.mistakes), 'mistake')}"]
    for mistake in summary.mistakes:
        link = _link(f"{page}#part-{mistake.part}", mistake.where)
        items += ["; " if items[1:] else ": ", f"{mistake.headline} (", link, ")"]
    return element("p", *items, class_="verdict wrong")


def _fold(part: Part, *, is_open: bool) -> Element:
    # A link to what is inside opens the part.
    inner = element("div", *part.content, id=f"part-{part.number}")
    state = {"open": "open"} if is_open or part.is_open else {}
    return element("details", _heading(part, part.essence), inner, class_="part", **state)


def _heading(part: Part, essence: str) -> Element:
    title = element("h2", f"{part.number}. {part.title}")
    return element("summary", title, element("span", essence, class_="essence"))


def _choices(number: int, others: list[Summary]) -> Element:
    options = [element("option", f"{o.number}: {o.title}", value=str(o.number)) for o in others]
    return element(
        "form",
        element("input", type="hidden", name="left", value=str(number)),
        element("label", "Compare with another request", for_="right"),
        element("select", *options, id="right", name="right"),
        element("button", "Compare", class_="main"),
        action="compare",
        class_="compare",
    )


def compare_page(left: Story, right: Story) -> Response:
    """Return a page with two requests side by side, headed by a table of their differences."""
    numbers = [str(story.summary.number) for story in (left, right)]
    pairs = [*zip(left.parts, right.parts, strict=True)]
    differ = [(one, other) for one, other in pairs if one.essence != other.essence]
    rows = [(f"{one.number}. {one.title}", one.essence, other.essence) for one, other in differ]
    same = [_fold_both(*pair) for pair in pairs if pair not in differ]
    head = ("", *(f"Request {number}" for number in numbers))
    title = f"Requests {' and '.join(numbers)}"
    return _page(
        title,
        _nav("Requests", _link(".", "All requests"), *map(_link, numbers, head[1:])),
        element("h1", title),
        element("div", table(head, rows, "What differs"), class_="facts") if differ else None,
        *(_fold_both(*pair) for pair in differ),
        folded(f"The same in both: {count(len(same), 'part')}", *same),
    )


def _fold_both(one: Part, other: Part) -> Element:
    essence = " ⇄ ".join(dict.fromkeys([one.essence, other.essence]))
    sides = (element("div", *part.content) for part in (one, other))
    inner = element("div", *sides, class_="sides")
    return element("details", _heading(one, essence), inner, class_="part")


def error_page(error: HTTPError) -> Response:
    """Return a page that explains the error."""
    title = status_text(error.status)
    content = (element("h1", title), paragraph(error.detail))
    return _page(f"Error: {title}", *content, status=error.status, headers=error.headers)


# Shared by all pages


def _link(href: str, text: str) -> Element:
    return element("a", text, href=href)


def _nav(label: str, *links: Element) -> Element:
    return element("nav", *links, aria_label=label)


def _page(title: str, *content: Content, **settings: Any) -> Response:
    """Return a page; the settings are those of Response."""
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("link", rel="icon", href=ICON.path, type="image/svg+xml"),
            element("link", rel="stylesheet", href=STYLE.path),
            element("link", rel="stylesheet", href=STYLE_PATH),
        ),
        element("body", element("main", *content, class_="xray")),
        lang="en",
    )
    text = "<!doctype html>\n" + tostring(page, "unicode", method="html")
    return Response(text.encode(), **settings)
