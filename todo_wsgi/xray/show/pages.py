"""The pages of the x-ray: a story as HTML, styled like the application."""

from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from todo_wsgi.http.errors import HTTPError
from todo_wsgi.http.response import Response, status_text
from todo_wsgi.presentation.static import ICON, STYLE
from todo_wsgi.presentation.templating import SafeHTML, Template
from todo_wsgi.xray.record.trace import MAX_REQUESTS
from todo_wsgi.xray.show.picture import draw
from todo_wsgi.xray.story import curl as shell
from todo_wsgi.xray.story.blocks import (
    THREAD,
    Block,
    Code,
    Node,
    Part,
    Source,
    Steps,
    Story,
    Summary,
    Table,
    Text,
    Tree,
)

REFRESH = 2  # seconds between reloads of the list
OPEN_DEPTH = 3  # levels of the tree of calls that are initially open

_FOLDER = Path(__file__).parent
STYLE_PATH = "/xray.css"
OWN_STYLE = Response((_FOLDER / "xray.css").read_bytes(), content_type="text/css; charset=utf-8")


def _load(name: str) -> Template:
    return Template((_FOLDER / "templates" / name).read_text(encoding="utf-8"), name)


_PAGE = _load("page.html")
_LIST = _load("list.html")
_REQUEST = _load("request.html")
_CHOOSE = _load("choose.html")
_COMPARE = _load("compare.html")
_ERROR = Template("<h1>$title</h1>\n<p>$detail</p>\n")

_PART = Template('<section>\n<h2 id="part-$number">$number. $title</h2>\n$blocks</section>\n')
_SIDES = Template(
    '<section>\n<h2 id="part-$number">$number. $title</h2>\n<div class="sides">\n'
    "<div>$left</div>\n<div>$right</div>\n</div>\n</section>\n"
)
_TEXT = Template("<p>$text</p>\n")
_CODE = Template('<pre class="code">$text</pre>\n')
_SOURCE = Template('<span class="source">$line <code>$code</code></span>')
_TABLE = Template('<table class="$kind">\n$caption$head<tbody>\n$rows</tbody>\n</table>\n')
_FOLD = Template("<details><summary>$title</summary>\n$content</details>\n")
_CAPTION = Template("<caption>$title</caption>\n")
_HEAD = Template("<thead><tr>$cells</tr></thead>\n")
_HEAD_CELL = Template('<th scope="col">$text</th>')
_ROW = Template('<tr class="$kind">$cells</tr>\n')
_CELL = Template("<td>$content</td>")
_TREE = Template('<div class="tree">$nodes</div>\n')
_BRANCH = Template(
    '<details class="$kind"$open>'
    '<summary><code>$label</code> $result<span class="took">$time</span></summary>\n'
    '$source<div class="tree">$children</div></details>\n'
)
_LEAF = Template(
    '<div class="$kind"><p><code>$label</code> $result<span class="took">$time</span></p>\n'
    "$source</div>\n"
)
_RESULT = Template("→ <code>$text</code> ")
_LESSON = Template('<p class="lesson-$kind"><strong>$title</strong> $text</p>\n')
_STEP = Template('<p>$relation <a href="$number">request $number</a>, $text.</p>\n')
_LINK = Template('<a href="$href">$label</a>')
_CHAIN = Template('$relation <a href="$number">$number</a> ')
_CHOICE = Template('<option value="$number">$label</option>')


def list_page(base: str, app: str, summaries: list[Summary], *, is_paused: bool) -> Response:
    """Return the list of requests, which reloads itself unless it is paused.

    `base` is the path of the x-ray, `app` the URL of the application.
    """
    rows = [_list_row(summary) for summary in summaries]
    table = _TABLE.render(
        kind="list",
        caption="",
        head=_render_head(
            ("Request", "Time", "Method", "Target", "Status", "Duration", "Kind", "Related")
        ),
        rows=_join(rows),
    )
    content = _LIST.render(
        limit=MAX_REQUESTS,
        app=app,
        rows=table if rows else _TEXT.render(text="No requests yet. Use the application."),
        state="" if is_paused else f"This list reloads every {REFRESH} seconds.",
        switch_href=base if is_paused else f"{base}?pause=1",
        switch="Resume" if is_paused else "Pause",
    )
    headers = [] if is_paused else [("Refresh", str(REFRESH))]
    return _page("X-ray", content, headers=headers)


def _list_row(summary: Summary) -> SafeHTML:
    number = _LINK.render(href=summary.number, label=summary.number)
    steps = _join(
        _CHAIN.render(relation=step.relation.lower(), number=step.number) for step in summary.steps
    )
    cells = [
        number,
        summary.time,
        summary.method,
        summary.target,
        summary.status,
        summary.took,
        summary.kind,
        steps,
    ]
    return _ROW.render(kind="", cells=_join(_CELL.render(content=cell) for cell in cells))


def request_page(base: str, story: Story, others: list[Summary]) -> Response:
    """Return the page of one request; `others` are the requests to compare it with."""
    summary = story.summary
    around = [
        _LINK.render(href=f"{base}{step.number}", label=f"{step.relation} request {step.number}")
        for step in summary.steps
    ]
    content = _REQUEST.render(
        list=base,
        around=_join(around),
        title=summary.title,
        number=summary.number,
        status=summary.status,
        jumps=_join(
            _LINK.render(href=f"#part-{part.number}", label=f"{part.number}. {part.short}")
            for part in story.parts
        ),
        picture=draw(story.picture),
        times=_render_block(story.times),
        parts=_join(
            _PART.render(number=part.number, title=part.title, blocks=_render_blocks(part))
            for part in story.parts
        ),
        curl=shell.join(story.curl),
        curl_note=_TEXT.render(text=note) if (note := shell.note(story.curl)) else "",
        compare=_render_choices(base, summary.number, others) if others else "",
    )
    return _page(f"{summary.title}, request {summary.number}", content)


def _render_choices(base: str, number: int, others: list[Summary]) -> SafeHTML:
    choices = (
        _CHOICE.render(number=other.number, label=f"{other.number}: {other.title}")
        for other in others
    )
    return _CHOOSE.render(action=f"{base}compare", number=number, choices=_join(choices))


def compare_page(base: str, left: Story, right: Story) -> Response:
    """Return a page with two requests side by side, headed by a table of their differences."""
    numbers = (left.summary.number, right.summary.number)
    rows = []
    for (name, here), (_, there) in zip(left.facts, right.facts, strict=True):
        cells = _join(_CELL.render(content=cell) for cell in (name, here, there))
        is_marked = here != there and name != THREAD  # which differs by chance
        rows.append(_ROW.render(kind="differs" if is_marked else "", cells=cells))
    head = ("", *(f"Request {number}" for number in numbers))
    sides = [
        _SIDES.render(
            number=part.number,
            title=part.title,
            left=_render_blocks(part),
            right=_render_blocks(other),
        )
        for part, other in zip(left.parts, right.parts, strict=True)
    ]
    content = _COMPARE.render(
        list=base,
        left=f"{base}{numbers[0]}",
        right=f"{base}{numbers[1]}",
        left_number=numbers[0],
        right_number=numbers[1],
        facts=_TABLE.render(
            kind="facts",
            caption=_CAPTION.render(title="Differences are highlighted"),
            head=_render_head(head),
            rows=_join(rows),
        ),
        parts=_join(sides),
    )
    return _page("Requests {} and {}".format(*numbers), content)


def error_page(error: HTTPError) -> Response:
    """Return a page that explains the error."""
    title = status_text(error.status)
    content = _ERROR.render(title=title, detail=error.detail)
    return _page(f"Error: {title}", content, status=error.status, headers=error.headers)


# The blocks of a story


def _render_blocks(part: Part) -> SafeHTML:
    return _join(map(_render_block, part.blocks))


def _render_block(block: Block) -> SafeHTML:
    match block:
        case Text(text):
            return _TEXT.render(text=text)
        case Code(text):
            return _CODE.render(text=text)
        case Source():
            return _TEXT.render(text=_render_source(block)) if block.line else SafeHTML()
        case Table():
            return _render_table(block)
        case Tree(nodes):
            return _TREE.render(nodes=_render_nodes(nodes, 0))
        case Steps(steps):
            return _join(_STEP.render(**step._asdict()) for step in steps)
        case _:
            kind, sign = ("mistake", "Mistake: ") if block.is_mistake else ("fact", "")
            return _LESSON.render(kind=kind, title=f"{sign}{block.title}.", text=block.text)


def _render_source(source: Source) -> SafeHTML | str:
    return _SOURCE.render(**source._asdict()) if source.line else ""


def _render_table(table: Table) -> SafeHTML:
    rows = (
        _ROW.render(
            kind="",
            cells=_join(
                _CELL.render(content=_render_source(cell) if isinstance(cell, Source) else cell)
                for cell in row
            ),
        )
        for row in table.rows
    )
    rendered = _TABLE.render(
        kind="",
        caption=_CAPTION.render(title=table.title),
        head=_render_head(table.head),
        rows=_join(rows),
    )
    return _FOLD.render(title=table.title, content=rendered) if table.is_folded else rendered


def _render_head(names: Iterable[str]) -> SafeHTML | str:
    if not any(names):
        return ""
    cells = (_HEAD_CELL.render(text=n) if n else _CELL.render(content="") for n in names)
    return _HEAD.render(cells=_join(cells))


def _render_nodes(nodes: list[Node], depth: int) -> SafeHTML:
    """Return the calls as nested lists, open down to OPEN_DEPTH."""
    parts = []
    for node in nodes:
        values = {
            "kind": node.kind,
            "label": node.label,
            "result": _RESULT.render(text=node.result) if node.result else "",
            "time": node.time,
            "source": _render_source(node.source),
        }
        if node.children:
            children = _render_nodes(node.children, depth + 1)
            is_open = SafeHTML(" open") if depth < OPEN_DEPTH else ""
            parts.append(_BRANCH.render(**values, children=children, open=is_open))
        else:
            parts.append(_LEAF.render(**values))
    return _join(parts)


# Shared by all pages


def _join(parts: Iterable[SafeHTML]) -> SafeHTML:
    return SafeHTML("".join(parts))


def _page(
    title: str,
    content: SafeHTML,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    page = _PAGE.render(
        title=title, content=content, style=STYLE.path, icon=ICON.path, own_style=STYLE_PATH
    )
    # UTF-8 cannot encode lone surrogates, so they are shown as escapes.
    body = page.encode("utf-8", "backslashreplace")
    return Response(body, status=status, headers=headers)
