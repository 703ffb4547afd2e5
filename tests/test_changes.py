"""What a visitor does with existing todos: complete, edit, delete, undo, move, filter."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import fill, in_process, read_sql, run_sql, shown
from werkzeug.test import Client, TestResponse

from todo_wsgi import Application
from todo_wsgi.storage import undo as undo_module

Rows = Callable[[], list[tuple[object, ...]]]


@pytest.fixture
def rows(database: Path) -> Rows:
    """A function that reads every row straight from the database."""

    def read() -> list[tuple[object, ...]]:
        return read_sql(database, "SELECT * FROM todos ORDER BY id")

    return read


@pytest.fixture
def three(client: Client) -> Client:
    """A client for a list of three todos: honey (3), bread (2) and milk (1), top to bottom."""
    add(client, "milk", "bread", "honey")
    return client


def add(client: Client, *texts: str) -> None:
    for text in texts:
        client.post("/", data={"text": text})


def act(client: Client, path: str, **fields: str) -> TestResponse:
    """Click a button, and return the page that it leads to."""
    answer = client.post(path, data=fields)
    assert answer.status_code == 303
    page = client.get(answer.headers["Location"])
    assert page.status_code == 200
    return page


def title(page: TestResponse) -> str:
    found = re.search("<title>(.*)</title>", page.text)
    assert found
    return html.unescape(found[1])


def undo(client: Client, page: TestResponse, **fields: str) -> TestResponse:
    """Click the "Undo" button on a page."""
    button = re.search('formaction="(.+?)" name="(.+?)" value="(.+?)" .*>Undo<', page.text)
    assert button
    return act(client, button[1], **{button[2]: button[3]}, **fields)


def has_undo(page: TestResponse) -> bool:
    return "Undo" in page.text


# Complete and reopen


def test_a_todo_can_be_completed_and_reopened(three: Client, rows: Rows) -> None:
    before = rows()
    page = act(three, "/todos/2/complete")
    assert re.search('action="/todos/2/reopen">.*>Reopen bread</span></button>', page.text)
    assert title(page) == "Completed: bread, 2 items left"
    page = act(three, "/todos/2/reopen")
    assert re.search('action="/todos/2/complete">.*>Complete bread</span></button>', page.text)
    assert title(page) == "Reopened: bread, 3 items left"
    assert rows() == before


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/todos/2/complete", {}),
        ("/todos/2/complete", {"show": "active"}),
        ("/todos/1/reopen", {}),
        ("/todos/1/reopen", {"show": "completed"}),
        ("/todos/2", {"text": "cake"}),
        ("/todos/2/delete", {}),
        ("/todos/1/top", {}),
        ("/todos/2/up", {"past": "3"}),
        ("/todos/2/down", {"past": "1"}),
        ("/complete-all", {}),
        ("/clear-completed", {}),
    ],
)
def test_the_second_of_two_clicks_changes_nothing(
    three: Client, rows: Rows, path: str, fields: dict[str, str]
) -> None:
    act(three, "/todos/1/complete")
    page = act(three, path, **fields)
    after = rows()
    assert act(three, path, **fields).text == page.text
    assert rows() == after


def test_an_action_redirects_to_the_row(three: Client) -> None:
    for path in ("/todos/2/complete", "/todos/2/reopen", "/todos/2/top", "/todos/2/up"):
        answer = three.post(path, data={"past": "3"})
        assert answer.headers["Location"].endswith("#todo-2")
        assert '<li id="todo-2"' in three.get(answer.headers["Location"]).text


@pytest.mark.parametrize(("restored", "next_row"), [("3", "2"), ("2", "1"), ("1", "2")])
def test_redirect_to_the_next_row_if_the_filter_hides_it(
    three: Client, restored: str, next_row: str
) -> None:
    act(three, f"/todos/{restored}/complete")
    answer = three.post("/undo", data={**delete(three, restored), "show": "active"})
    location = f"/?show=active&restored={restored}#todo-{next_row}"
    assert answer.headers["Location"] == location


def test_redirect_to_the_page_if_no_row_is_left(client: Client) -> None:
    add(client, "milk")
    act(client, "/todos/1/complete")
    answer = client.post("/undo", data={**delete(client, "1"), "show": "active"})
    assert answer.headers["Location"] == "/?show=active&restored=1"


def delete(client: Client, todo: str) -> dict[str, str]:
    """Delete a todo, and return the field that undoes it."""
    location = client.post(f"/todos/{todo}/delete").headers["Location"]
    return dict(parse_qsl(urlsplit(location).query))


# Edit


def test_each_todo_has_an_edit_page(three: Client) -> None:
    page = three.get("/todos/2?show=active")
    assert title(page) == "Edit: bread"
    assert re.search('<textarea id="text" name="text" .*>\nbread</textarea>', page.text)
    assert '<a href="/?show=active#todo-2">Back to the list</a>' in page.text
    assert "autofocus" not in page.text


def test_editing_keeps_the_place_the_times_and_the_state(three: Client, rows: Rows) -> None:
    act(three, "/todos/2/complete")
    before = rows()
    page = act(three, "/todos/2", text="  white\r\nbread ")
    assert title(page) == "Saved: white bread, 2 items left"
    assert shown(three) == ["honey", "white bread", "milk"]
    assert [(row[0], *row[2:]) for row in rows()] == [(row[0], *row[2:]) for row in before]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Write what there is to do."),
        ("x" * 501, "Shorten it to 500 characters: it has 501."),
        ("tab\there", "Remove the control characters"),
    ],
)
def test_an_invalid_edit_comes_back_with_the_reason(
    three: Client, rows: Rows, text: str, problem: str
) -> None:
    before = rows()
    page = three.post("/todos/2", data={"text": text, "show": "active", "from": "2"})
    assert page.status_code == 422
    assert title(page).startswith(f"Error: {problem}")
    assert f'<p id="problem" class="problem">{problem}' in page.text
    assert 'aria-invalid="true" aria-describedby="problem" autofocus' in page.text
    assert f">\n{text}</textarea>" in page.text
    assert '<input type="hidden" name="show" value="active">' in page.text
    assert '<input type="hidden" name="from" value="2">' in page.text
    assert rows() == before


def test_the_last_edit_wins(three: Client) -> None:
    act(three, "/todos/2", text="white bread")
    act(three, "/todos/2", text="brown bread")
    assert shown(three)[1] == "brown bread"


# Delete and undo


@pytest.mark.parametrize("is_completed", [False, True])
def test_undo_restores_the_todo_as_it_was(three: Client, rows: Rows, is_completed: bool) -> None:
    act(three, "/todos/2/up", past="3")
    if is_completed:
        act(three, "/todos/2/complete")
    before, count = rows(), 2 if is_completed else 3
    page = act(three, "/todos/2/delete")
    assert "Deleted &quot;bread&quot;" in page.text
    assert title(page) == "Deleted: bread, 2 items left"
    assert shown(three) == ["honey", "milk"]
    page = undo(three, page)
    assert title(page) == f"Restored: bread, {count} items left"
    assert rows() == before
    assert shown(three) == ["bread", "honey", "milk"]


@pytest.mark.parametrize(("deleted", "index"), [("3", 0), ("2", 1), ("1", 2)])
def test_undo_appears_in_place_of_the_deleted_todo(three: Client, deleted: str, index: int) -> None:
    page = act(three, f"/todos/{deleted}/delete")
    items = re.findall(r"<li .*?</li>", page.text, re.DOTALL)
    assert ["Undo" in item for item in items] == [number == index for number in range(3)]


def test_undo_redirects_to_the_row(three: Client) -> None:
    time = three.post("/todos/2/delete").headers["Location"].partition("=")[2]
    assert "#" not in time  # a fragment would take the focus from the button
    page = three.get(f"/?deleted_at={time}")
    value = re.search(r'name="deleted_at" value="(.+?)"', page.text)
    assert value
    for event in ("&restored=2#todo-2", ""):  # the second click has nothing to undo
        answer = three.post("/undo", data={"deleted_at": value[1], "show": "active"})
        assert answer.headers["Location"] == f"/?show=active{event}"


def test_a_deleted_todo_can_be_restored_for_30_days(
    three: Client, database: Path, stored: Callable[[], list[str]]
) -> None:
    def undo_delete(deleted_at: str) -> TestResponse:
        return three.post("/undo", data={"deleted_at": deleted_at})

    now = datetime.now(UTC)
    old, recent = str(now - timedelta(days=30.1)), str(now - timedelta(days=29.9))
    run_sql(database, f"UPDATE todos SET deleted_at = '{recent}' WHERE id = 1")
    run_sql(database, f"UPDATE todos SET deleted_at = '{old}' WHERE id = 2")
    assert not has_undo(three.get("/", query_string={"deleted_at": old}))
    assert has_undo(three.get("/", query_string={"deleted_at": recent}))

    assert undo_delete(old).status_code == 404
    assert "more than 30 days ago" in undo_delete(old).text
    assert stored() == ["milk", "bread", "honey"]
    act(three, "/todos/3/delete")  # the next deletion purges the old one
    assert stored() == ["milk", "honey"]
    assert undo_delete(recent).status_code == 303
    assert shown(three) == ["milk"]


@pytest.mark.parametrize("path", ["/todos/{}/delete", "/clear-completed"])
def test_a_deletion_purges_at_most_100_old_todos(
    client: Client, database: Path, stored: Callable[[], list[str]], path: str
) -> None:
    add(client, *["old"] * 150)
    run_sql(database, "UPDATE todos SET deleted_at = '2020-01-01 00:00:00'")
    for left in (50, 0):
        add(client, "new")
        client.post(path.format(150))
        client.post(path.format(151))
        assert stored().count("old") <= left
    assert "new" in stored()


@pytest.mark.parametrize(
    "mark", ["1", "'-'", "char(10)", "strftime('%s', 'now')", "'yes'", "x'00'"]
)
def test_a_foreign_deleted_at_value_never_causes_a_purge(
    three: Client, database: Path, stored: Callable[[], list[str]], mark: str
) -> None:
    run_sql(database, f"UPDATE todos SET deleted_at = {mark} WHERE id = 2")
    act(three, "/todos/3/delete")
    assert shown(three) == ["milk"]
    assert "bread" in stored()
    assert three.post("/todos/2/delete").status_code == 303


@pytest.mark.parametrize(("completed", "index"), [("3", 0), ("2", 1), ("1", 2)])
@pytest.mark.parametrize("show", ["active", "completed"])
def test_undo_appears_in_place_of_a_todo_that_the_filter_hides_now(
    three: Client, rows: Rows, show: str, completed: str, index: int
) -> None:
    action, told = "complete", "Completed"
    if show == "completed":
        act(three, "/complete-all")
        action, told = "reopen", "Reopened"
    before, places = rows(), range(3)
    page = act(three, f"/todos/{completed}/{action}", show=show)
    items = re.findall(r"<li .*?</li>", page.text, re.DOTALL)
    text = {"3": "honey", "2": "bread", "1": "milk"}[completed]
    assert [f"{told} &quot;{text}&quot;" in item for item in items] == [n == index for n in places]
    assert title(page).startswith(f"{told}: {text}, ")
    undo(three, page, show=show)
    assert [row[:2] for row in rows()] == [row[:2] for row in before]
    assert shown(three, f"/?show={show}") == ["honey", "bread", "milk"]


def test_the_button_undo_has_the_focus_where_a_row_is_gone(three: Client) -> None:
    for path, show in (("/todos/2/complete", "active"), ("/todos/2/reopen", "completed")):
        location = three.post(path, data={"show": show}).headers["Location"]
        assert "#" not in location  # a fragment would take the focus from the button
        assert "autofocus>Undo<" in three.get(location).text


def test_a_row_that_is_still_there_needs_no_undo(three: Client) -> None:
    assert not has_undo(act(three, "/todos/2/complete"))
    assert not has_undo(act(three, "/todos/2/reopen"))
    assert not has_undo(act(three, "/todos/2/reopen", show="active"))


def test_undo_takes_back_what_was_added(three: Client) -> None:
    page = act(three, "/", text="cake")
    assert "Added &quot;cake&quot;" in page.text
    assert 'formaction="/todos/4/delete"' in page.text
    page = undo(three, page)
    assert title(page) == "Deleted: cake, 3 items left"
    undo(three, page)
    assert shown(three) == ["cake", "honey", "bread", "milk"]


def test_undo_deletes_an_import_as_a_whole(three: Client) -> None:
    page = act(three, "/import", text="tea\nx coffee\ncocoa")
    assert title(page) == "Added 3 todos, 5 items left"
    assert page.text.index("Undo</button>") < page.text.index("tea")
    page = undo(three, page)
    assert title(page) == "Undone, 3 items left"
    assert shown(three) == ["honey", "bread", "milk"]
    page = undo(three, page)
    assert title(page) == "Undone, 5 items left"
    assert shown(three)[:4] == ["tea", "coffee", "cocoa", "honey"]


def test_a_second_click_on_undo_of_an_import_changes_nothing(three: Client, rows: Rows) -> None:
    page = act(three, "/import", text="tea\ncocoa")
    undone = undo(three, page)
    after = rows()
    assert undo(three, page).text == undone.text
    assert rows() == after


def test_two_imports_are_undone_separately(client: Client) -> None:
    pages = [act(client, "/import", text=text) for text in ("tea\ncocoa", "milk\nhoney")]
    undo(client, pages[0])
    assert shown(client) == ["milk", "honey"]
    undo(client, pages[1])
    assert shown(client) == []


def test_an_import_of_one_line_is_told_and_undone(client: Client) -> None:
    page = act(client, "/import", text="tea")
    assert title(page) == "Added 1 todo, 1 item left"
    assert title(undo(client, page)) == "Undone: tea, 0 items left"


def test_undo_of_an_import_leaves_alone_what_was_deleted_before(client: Client) -> None:
    page = act(client, "/import", text="tea\ncocoa\ncoffee")
    act(client, "/todos/1/delete")
    assert "Added 2 todos" in client.get(page.request.full_path).text
    undone = undo(client, page)
    assert shown(client) == []
    undo(client, undone)
    assert shown(client) == ["tea", "cocoa"]


def test_undo_of_an_import_whose_todos_are_gone_for_good(client: Client, database: Path) -> None:
    page = act(client, "/import", text="tea\ncocoa")
    run_sql(database, "DELETE FROM todos")
    assert title(undo(client, page)) == "Todos, 0 items left"


@pytest.mark.parametrize(
    "name",
    [
        "{first}-{last}-000000000000000",
        "{first}-{last}-",
        "{first}-{last}-%",
        "{first}-{last}-{digits}0",
        "{first}-{last}-%{digits}",
        "{first}-{last}- {digits}",
        "{last}-{first}-{digits}",
        "{first}-9223372036854775808-{digits}",
        "-1-{last}-{digits}",
        "٤-{last}-{digits}",
        "{digits}",
        "1-0-",
        "0-999-_______________",
        "' OR 1 --",
    ],
)
def test_a_forged_name_of_an_import_finds_nothing(three: Client, rows: Rows, name: str) -> None:
    location = three.post("/import", data={"text": "tea\ncocoa"}).headers["Location"]
    first, last, digits = location.partition("imported=")[2].split("-")
    assert (first, last, len(digits)) == ("4", "5", 15)
    before = rows()
    forged = name.format(first=first, last=last, digits=digits)
    assert not has_undo(three.get("/", query_string={"imported": forged}))
    assert title(act(three, "/undo", imported=forged)) == "Todos, 5 items left"
    assert rows() == before


def test_a_wider_range_of_ids_finds_no_other_todo(three: Client) -> None:
    location = three.post("/import", data={"text": "tea\ncocoa"}).headers["Location"]
    digits = location.rpartition("-")[2]
    act(three, "/undo", imported=f"1-999999999999999999-{digits}")  # more than a form can hold
    assert len(shown(three)) == 5
    act(three, "/undo", imported=f"1-99-{digits}")
    assert shown(three) == ["honey", "bread", "milk"]


# Bulk actions


def test_undo_reverts_mark_all_as_complete_in_one_step(three: Client, rows: Rows) -> None:
    act(three, "/todos/2/complete")
    before = rows()
    page = act(three, "/complete-all")
    assert title(page) == "Marked all as complete, 0 items left"
    assert "Mark all as complete" not in page.text
    assert "All done." in page.text
    assert page.text.index("Undo</button>") < page.text.index("honey")
    page = undo(three, page)
    assert title(page) == "Undone, 2 items left"
    assert rows() == before


def test_undo_reverts_clear_completed_in_one_step(three: Client, rows: Rows) -> None:
    for number in (1, 3):
        act(three, f"/todos/{number}/complete")
    before = rows()
    page = act(three, "/clear-completed")
    assert title(page) == "Cleared the completed todos, 1 item left"
    assert "Clear completed" not in page.text
    assert shown(three) == ["bread"]
    undo(three, page)
    assert rows() == before


def test_a_bulk_action_on_one_todo_names_it(client: Client, rows: Rows) -> None:
    add(client, "milk")
    before = rows()
    page = act(client, "/complete-all")
    assert title(page) == "Completed: milk, 0 items left"
    cleared = act(client, "/clear-completed")
    assert title(cleared) == "Deleted: milk, 0 items left"
    assert title(undo(client, cleared)) == "Restored: milk, 0 items left"
    assert title(undo(client, page)) == "Reopened: milk, 1 item left"
    assert rows() == before


def test_a_bulk_action_that_changed_nothing_offers_no_undo(client: Client, database: Path) -> None:
    lines = "x 2025-01-01 old\nx 2025-01-01 old\nx 2999-01-01 far\nx 2999-01-01 far"
    client.post("/import", data={"text": lines})
    assert not has_undo(act(client, "/complete-all"))
    run_sql(database, "UPDATE todos SET deleted_at = datetime('now', '-1 minute')")
    assert not has_undo(act(client, "/clear-completed"))


def test_changes_at_the_same_clock_time_are_undone_separately(
    three: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> StoppedClock:
            return cls(2999, 1, 1, tzinfo=tz)

    monkeypatch.setattr(undo_module, "datetime", StoppedClock)
    act(three, "/todos/1/complete")
    page = act(three, "/complete-all")
    act(three, "/todos/1/delete")
    deleted = act(three, "/todos/2/delete")
    undo(three, deleted)
    assert shown(three) == ["honey", "bread"]
    undo(three, page)
    assert shown(three, "/?show=active") == ["honey", "bread"]


def test_undo_skips_todos_that_changed_since(three: Client) -> None:
    page = act(three, "/complete-all")
    act(three, "/todos/2/reopen")
    act(three, "/todos/2/complete")
    act(three, "/todos/3/delete")
    undo(three, page)
    assert shown(three, "/?show=completed") == ["bread"]
    assert shown(three, "/?show=active") == ["milk"]


def test_bulk_buttons_appear_only_when_they_apply(client: Client) -> None:
    def buttons(query: str = "") -> list[bool]:
        page = client.get(f"/{query}").text
        return ["Mark all as complete" in page, "Clear completed" in page]

    assert buttons() == [False, False]
    add(client, "milk")
    assert buttons() == [True, False]
    act(client, "/todos/1/complete")
    assert buttons() == [False, True]
    add(client, "bread")
    assert buttons() == [True, True]
    assert buttons("?show=active") == [True, False]
    assert buttons("?show=completed") == [False, True]
    assert buttons("?q=milk") == [False, False]
    page = client.get("/").text
    assert page.index("</ul>") < page.index("Mark all as complete") < page.index("Clear completed")


@pytest.mark.parametrize("path", ["/complete-all", "/clear-completed"])
def test_a_bulk_action_on_an_empty_list_does_nothing(client: Client, path: str) -> None:
    assert title(act(client, path)) == "Todos, 0 items left"


# Filters, the counter, the title


def test_each_filter_shows_the_matching_todos(three: Client) -> None:
    act(three, "/todos/2/complete")
    for path, texts, name in [
        ("/", ["honey", "bread", "milk"], "All"),
        ("/?show=active", ["honey", "milk"], "Active"),
        ("/?show=completed", ["bread"], "Completed"),
    ]:
        assert shown(three, path) == texts
        page = three.get(path).text
        assert re.findall('aria-current="page">(.*)</a>', page) == [name]
        for link in ("/", "/?show=active", "/?show=completed"):
            assert f'<a href="{link}" aria-current=' in page


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/", {"text": "cake"}),
        ("/todos/1/complete", {}),
        ("/todos/1/reopen", {}),
        ("/todos/1/delete", {}),
        ("/todos/1/top", {}),
        ("/todos/1/up", {"past": "2"}),
        ("/todos/2/down", {"past": "1"}),
        ("/todos/1", {"text": "cake"}),
        ("/complete-all", {}),
        ("/clear-completed", {}),
        ("/undo", {"deleted_at": "x"}),
        ("/undo", {"imported": "x"}),
    ],
)
def test_an_action_keeps_the_filter(three: Client, path: str, fields: dict[str, str]) -> None:
    page = act(three, path, show="active", **fields)
    assert 'aria-current="page">Active</a>' in page.text
    assert '<input type="hidden" name="show" value="active">' in page.text


def test_an_empty_list_has_a_field_and_a_friendly_line_only(client: Client) -> None:
    parts = ("<nav", 'role="search"', "items left</p>", "Export", "Mark all")
    page = client.get("/").text
    assert "Nothing to do yet. Write the first todo above." in page
    assert '<input id="text"' in page
    assert "Add several" in page
    assert not any(part in page for part in parts)
    add(client, "milk")
    page = client.get("/").text.replace("1 item left", "1 items left")
    assert all(part in page for part in parts)


def test_a_link_beside_the_field_leads_to_the_import(client: Client) -> None:
    [field] = re.findall('<div class="field">.*?</div>', client.get("/").text, re.DOTALL)
    assert re.search('<a href="/import">.*<span>Add several</span></a>', field)


def test_the_counter_is_beside_the_heading(three: Client) -> None:
    assert "<header><h1>Todos</h1> <p>3 items left</p></header>" in three.get("/").text


def test_the_list_is_a_list_for_screen_readers_too(three: Client) -> None:
    page = three.get("/").text
    assert '<ul role="list">' in page  # Safari drops the role with `list-style: none`
    assert "aria-pressed" not in page
    assert page.count("<svg ") == page.count('aria-hidden="true"')


def test_the_page_after_adding_always_shows_the_new_todo(three: Client) -> None:
    for fields in ({"show": "completed"}, {"from": "1"}, {"show": "active", "from": "1"}):
        page = act(three, "/", text="cake", **fields)
        assert ">cake</span>" in page.text
        assert title(page).startswith("Added: cake, ")


@pytest.mark.parametrize(
    ("completed", "path", "heading"),
    [
        ("", "/", "Todos, 3 items left"),
        ("1", "/", "Todos, 2 items left"),
        ("1 2", "/?show=active", "Active todos, 1 item left"),
        ("1 2 3", "/?show=completed", "Completed todos, 0 items left"),
    ],
)
def test_counter_and_title_agree(three: Client, completed: str, path: str, heading: str) -> None:
    for number in completed.split():
        act(three, f"/todos/{number}/complete")
    page = three.get(path)
    assert title(page) == heading
    assert f"<p>{heading.partition(', ')[2]}</p>" in page.text


@pytest.mark.parametrize(
    ("completed", "path", "remark"),
    [
        ("", "/?show=completed", "Nothing completed yet."),
        ("1", "/?show=active", "All done. Enjoy the rest of the day."),
        ("1", "/", "All done. Enjoy the rest of the day."),
        ("1", "/?show=completed", ""),
        ("", "/", ""),
        ("", "/?from=0", "No more todos here."),
    ],
)
def test_a_friendly_hint_appears_when_nothing_is_left(
    client: Client, completed: str, path: str, remark: str
) -> None:
    add(client, "milk")
    for number in completed:
        act(client, f"/todos/{number}/complete")
    assert f'<p class="hint">{remark}</p>' in client.get(path).text


@pytest.mark.parametrize(
    "query",
    [
        "added=9",
        "added=x",
        "deleted_at=never",
        "deleted_at=",
        "completed_at=never",
        "completed=1",
        "undone=milk",
        "imported=1-3-000000000000000",
        "imported=milk",
        "reopened=2",
        "deleted=milk",
        "text=milk",
    ],
)
def test_a_message_the_database_contradicts_is_not_shown(three: Client, query: str) -> None:
    act(three, "/todos/2/complete")
    assert three.get(f"/?{query}").text == three.get("/").text


def test_only_the_changed_row_is_highlighted(three: Client) -> None:
    assert '<li id="todo-2" class="completed changed">' in act(three, "/todos/2/complete").text
    page = act(three, "/todos/3/complete", show="active")
    assert "changed" not in page.text
    assert "changed" not in three.get("/").text


def test_a_freshly_opened_page_has_no_autofocus(three: Client) -> None:
    for path in ("/", "/?show=active", "/todos/1", "/import", "/nothing"):
        assert "autofocus" not in three.get(path).text


def test_the_field_has_focus_after_adding_and_after_an_error(client: Client) -> None:
    field = r'<input id="text" name="text" .*autofocus>'
    assert re.search(field, act(client, "/", text="milk").text)
    assert re.search(field, client.post("/", data={"text": ""}).text)
    page = act(client, "/todos/1/delete").text
    assert not re.search(field, page)
    assert page.count("autofocus") == 1


# Order


def test_a_todo_can_be_moved_up_and_down(three: Client) -> None:
    page = act(three, "/todos/1/up", past="2")
    assert title(page) == "Moved: milk, 3 items left"
    assert shown(three) == ["honey", "milk", "bread"]
    act(three, "/todos/1/up", past="3")
    assert shown(three) == ["milk", "honey", "bread"]
    act(three, "/todos/3/down", past="2")
    assert shown(three) == ["milk", "bread", "honey"]
    add(three, "cake")
    assert shown(three) == ["cake", "milk", "bread", "honey"]


def test_a_todo_can_be_moved_to_the_top(three: Client) -> None:
    page = act(three, "/todos/1/top")
    assert title(page) == "Moved: milk, 3 items left"
    assert shown(three) == ["milk", "honey", "bread"]
    act(three, "/todos/2/top")
    assert shown(three) == ["bread", "milk", "honey"]


def test_what_is_new_is_above_what_was_moved_to_the_top(three: Client, database: Path) -> None:
    for number in ("1", "1", "2", "3"):
        act(three, f"/todos/{number}/top")
    add(three, "cake")
    assert shown(three) == ["cake", "honey", "bread", "milk"]
    act(three, "/todos/1/top")
    run_sql(database, "INSERT INTO todos (text) VALUES ('by hand')")
    act(three, "/todos/2/top")
    three.post("/import", data={"text": "tea\ncoffee"})
    assert shown(three)[:5] == ["tea", "coffee", "bread", "by hand", "milk"]


def test_the_top_is_above_all_filters_and_below_nothing(three: Client) -> None:
    act(three, "/todos/3/complete")
    act(three, "/todos/1/top", show="active")
    assert shown(three) == ["milk", "honey", "bread"]
    act(three, "/todos/3/delete")
    act(three, "/todos/2/top")
    assert shown(three) == ["bread", "milk"]


def test_a_todo_at_the_top_stays_where_it_is(three: Client, rows: Rows) -> None:
    before = rows()
    act(three, "/todos/3/top")
    assert rows() == before


def test_a_move_to_the_top_of_a_long_list_leads_there(client: Client, database: Path) -> None:
    client.get("/")
    fill(database, 250)
    answer = client.post("/todos/7/top", data={"from": "50"})
    assert answer.headers["Location"] == "/?from=251&moved=7#todo-7"
    assert shown(client)[:2] == ["todo 7", "todo 250"]


def test_moves_to_the_top_at_the_same_time_share_no_place(app: Application, database: Path) -> None:
    def work(number: int) -> None:
        client = in_process(app)
        client.asks_twice = False  # between both, others change the list
        for _ in range(10):
            act(client, f"/todos/{number}/top")
            act(client, "/", text="new")

    in_process(app).get("/")
    fill(database, 4)
    with ThreadPoolExecutor() as executor:
        [*executor.map(work, (1, 2, 3, 4))]
    assert read_sql(database, "SELECT count(*), count(DISTINCT place) FROM todos") == [(44, 44)]
    act(in_process(app), "/", text="newest")
    assert shown(in_process(app))[0] == "newest"


def test_the_menu_is_open_on_the_row_that_was_moved(three: Client) -> None:
    def is_open(page: TestResponse) -> list[bool]:
        return [bool(word) for word in re.findall('name="tools" (.*)>', page.text)]

    for path, past in (("/todos/2/up", "3"), ("/todos/2/down", "3"), ("/todos/2/top", "")):
        page = act(three, path, past=past)
        place = shown(three).index("bread")
        assert is_open(page) == [number == place for number in range(3)]
    assert is_open(act(three, "/todos/1/complete")) == is_open(three.get("/")) == [False] * 3


@pytest.mark.parametrize(
    ("path", "past", "fragment"),
    [
        ("/todos/1/up", "2", "up-1"),
        ("/todos/2/up", "3", "todo-2"),
        ("/todos/3/down", "2", "down-3"),
        ("/todos/2/down", "1", "todo-2"),
        ("/todos/1/top", "3", "todo-1"),
    ],
)
def test_the_pressed_button_has_the_focus_while_there_is_a_way(
    three: Client, path: str, past: str, fragment: str
) -> None:
    location = three.post(path, data={"past": past}).headers["Location"]
    assert location.partition("#")[2] == fragment
    assert three.get(location).text.count(f' id="{fragment}"') == 1


def test_a_row_is_a_circle_a_text_and_a_menu(three: Client) -> None:
    [row] = re.findall('<li id="todo-2".*?</li>', three.get("/").text, re.DOTALL)
    assert re.findall('<span class="hidden">(.*?)</span>', row) == [
        "Complete bread",
        "Actions for bread",
        "Move bread to the top",
        "Move bread up",
        "Move bread down",
        "Edit bread",
        "Delete bread",
    ]
    assert row.count("<svg ") == row.count('<svg width="24" height="24" aria-hidden="true">') == 7
    assert row.count('<details class="tools" name="tools" >') == 1
    assert "aria-label" not in row
    assert "aria-pressed" not in row


def test_arrows_that_lead_nowhere_are_hidden(client: Client) -> None:
    add(client, "milk")
    add(client, "bread")
    shown = re.findall("<button [^>]*[^n]>.*Move (.*)</span>", client.get("/").text)
    assert shown == ["bread down", "milk to the top", "milk up"]


def test_the_move_buttons_name_the_neighbours(three: Client) -> None:
    def neighbours(path: str) -> list[tuple[str, str, str]]:
        pattern = r'"/todos/(\d)/(up|down)" name="past" value="(\d+)"'
        return re.findall(pattern, three.get(path).text)

    assert neighbours("/") == [
        ("3", "down", "2"),
        ("2", "up", "3"),
        ("2", "down", "1"),
        ("1", "up", "2"),
    ]
    act(three, "/todos/2/complete")
    assert neighbours("/?show=active") == [("3", "down", "1"), ("1", "up", "3")]


def test_a_move_within_a_filter_skips_hidden_todos(three: Client) -> None:
    act(three, "/todos/2/complete")
    act(three, "/todos/1/up", past="3", show="active")
    assert shown(three) == ["milk", "bread", "honey"]


def test_a_move_past_a_deleted_todo_returns_404(three: Client, rows: Rows) -> None:
    act(three, "/todos/3/delete")
    before = rows()
    answer = three.post("/todos/1/up", data={"past": "3"})
    assert answer.status_code == 404
    assert "This todo, or the one to move it past, is gone." in answer.text
    assert rows() == before


@pytest.mark.parametrize(
    ("path", "field"), [("/todos/1/up", "past"), ("/todos/1/down", "past"), ("/undo", "deleted_at")]
)
def test_a_400_names_the_missing_field(three: Client, rows: Rows, path: str, field: str) -> None:
    before = rows()
    for fields in ({}, {field: ""}):
        answer = three.post(path, data=fields)
        assert answer.status_code == 400
        assert f" field `{field}`" in answer.text
    assert rows() == before


# Long lists


def numbers(client: Client, path: str) -> list[int]:
    return [int(text.removeprefix("todo ")) for text in shown(client, path)]


def link(page: TestResponse, name: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" aria-current="false">{name}</a>', page.text)
    return html.unescape(found[1]) if found else None


def test_a_page_shows_100_todos_and_links_to_the_rest(client: Client, database: Path) -> None:
    fill(database, 250)
    for show, query in (("", ""), ("active", "&show=active")):
        path: str | None = f"/?show={show}"
        pages, back = [], []
        while path:
            pages.append(numbers(client, path))
            page = client.get(path)
            back.append(link(page, "Previous page"))
            path = link(page, "Next page")
        assert [(page[0], page[-1]) for page in pages] == [(250, 151), (150, 51), (50, 1)]
        assert back == [
            None,
            f"/?{query[1:]}" if query else "/",
            f"/?{query[1:] + '&' if query else ''}from=150",
        ]


def test_previous_page_is_the_top_if_less_than_a_page_is_above(
    client: Client, database: Path
) -> None:
    fill(database, 250)
    assert link(client.get("/?from=200"), "Previous page") == "/"
    assert link(client.get("/?from=20"), "Previous page") == "/?from=120"


def test_new_and_deleted_todos_do_not_shift_a_page(client: Client, database: Path) -> None:
    fill(database, 250)
    add(client, "todo 251")
    act(client, "/todos/249/delete")
    assert numbers(client, "/?from=150") == list(range(150, 50, -1))


def test_an_action_redirects_to_the_same_page(client: Client, database: Path) -> None:
    fill(database, 250)
    fields = {"from": "150"}
    answer = client.post("/todos/140/complete", data=fields)
    assert answer.headers["Location"] == "/?from=150&completed=140#todo-140"
    page = act(client, "/todos/140/delete", **fields)
    assert '<li id="todo-139"' in page.text
    assert '<li id="todo-140"' in undo(client, page, **fields).text


@pytest.mark.parametrize("path", ["/complete-all", "/clear-completed"])
def test_a_bulk_action_redirects_to_the_same_page(
    client: Client, database: Path, path: str
) -> None:
    fill(database, 250)
    act(client, "/todos/250/complete")
    location = client.post(path, data={"from": "150"}).headers["Location"]
    assert location.startswith("/?from=150&")


@pytest.mark.parametrize(
    ("path", "fields", "location"),
    [
        ("/todos/1/delete", {"from": "1"}, "/?from=2&deleted_at="),
        ("/complete-all", {"from": "1", "show": "active"}, "/?show=active&completed_at="),
        ("/clear-completed", {"from": "1", "show": "completed"}, "/?show=completed&deleted_at="),
        (
            "/todos/1/complete",
            {"from": "1", "show": "active"},
            "/?show=active&from=2&completed_at=",
        ),
        ("/todos/1/reopen", {"from": "1", "show": "completed"}, "/?show=completed&reopened=1"),
    ],
)
def test_redirect_above_if_the_page_is_now_empty(
    client: Client, database: Path, path: str, fields: dict[str, str], location: str
) -> None:
    fill(database, 101)
    if path == "/clear-completed":
        run_sql(database, "UPDATE todos SET completed_at = CURRENT_TIMESTAMP")
    assert client.post(path, data=fields).headers["Location"].startswith(location)


@pytest.mark.parametrize(
    ("path", "fields", "location"),
    [
        ("/todos/1", {"text": "x", "q": "todo", "from": "1"}, "/?from=2&q=todo&{}#todo-2"),
        ("/todos/7", {"text": "todo 7"}, "/?from=7&{}#todo-7"),
        ("/todos/7/complete", {"from": "150"}, "/?from=7&{}#todo-7"),
        ("/todos/7", {"text": "x", "q": "todo", "from": "300"}, "/?from=6&q=todo&{}#todo-6"),
    ],
)
def test_the_redirect_leads_to_the_page_with_the_row(
    client: Client, database: Path, path: str, fields: dict[str, str], location: str
) -> None:
    fill(database, 250)
    answer = client.post(path, data=fields)
    event = ("saved=" if "text" in fields else "completed=") + path.split("/")[2]
    assert answer.headers["Location"] == location.format(event)
    assert f'<li id="{location.partition("#")[2]}"' in client.get(answer.headers["Location"]).text


@pytest.mark.parametrize(
    ("path", "past", "location"),
    [
        ("/todos/150/up", "151", "/?from=151&moved=150#up-150"),
        ("/todos/51/down", "50", "/?from=50&moved=51#down-51"),
        ("/todos/100/down", "99", "/?from=150&moved=100#down-100"),
    ],
)
def test_a_move_to_another_page_redirects_there(
    client: Client, database: Path, path: str, past: str, location: str
) -> None:
    fill(database, 250)
    assert f'action="{path}" name="past" value="{past}"' in client.get("/?from=150").text
    answer = client.post(path, data={"past": past, "from": "150"})
    assert answer.headers["Location"] == location
    assert f' id="{location.partition("#")[2]}" ' in client.get(location).text


# Missing todos, and requests that none of our pages send


@pytest.mark.parametrize("todo", ["2", "9", "-1", "999999999999999999"])
@pytest.mark.parametrize("action", ["complete", "reopen", "edit", "top", "up", "down"])
def test_an_action_on_a_missing_todo_returns_a_helpful_404(
    three: Client, rows: Rows, todo: str, action: str
) -> None:
    three.post("/todos/2/reopen" if action == "complete" else "/todos/2/complete")
    three.post("/todos/2/delete")
    before = rows()
    path = f"/todos/{todo}" + ("" if action == "edit" else f"/{action}")
    answer = three.post(path, data={"text": "cake", "past": "3"})
    assert answer.status_code == 404
    assert "is gone" in answer.text
    assert '<p class="typed" dir="auto">cake</p>' in answer.text  # nobody has to retype it
    assert '<a href="/">Go to the list</a>' in answer.text
    assert rows() == before


def test_a_missing_todo_has_no_pages(three: Client) -> None:
    assert three.post("/todos/9/delete").status_code == 404
    three.post("/todos/2/delete")
    assert three.get("/todos/2").status_code == 404
    assert three.post("/todos/2", data={"text": ""}).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/?show=nonsense",
        "/?from=x",
        "/?from=1.0",
        "/?from=9223372036854775808",
        "/?from=-9223372036854775809",
        "/?from=" + "9" * 5000,
        "/?from=%D9%A9",
        "/todos/9223372036854775808",
        "/todos/" + "9" * 5000,
        "/todos/1_0",
        "/todos/%D9%A9",
        "/todos/+1",
        "/todos/{id}",
        "/todos/",
        "/todos",
        "/todos/1/",
        "/todos/1/nonsense",
    ],
)
def test_an_invalid_address_returns_404(three: Client, path: str) -> None:
    assert three.get(path).status_code == 404


def test_an_unknown_filter_returns_404_and_changes_nothing(three: Client, rows: Rows) -> None:
    before = rows()
    for path in ("/", "/todos/1", "/todos/1/delete", "/complete-all", "/undo"):
        fields = {"show": "nonsense", "text": "cake", "deleted_at": "x"}
        assert three.post(path, data=fields).status_code == 404
    assert rows() == before


def test_get_on_an_action_returns_405_and_changes_nothing(three: Client, rows: Rows) -> None:
    before = rows()
    for path in ("/todos/1/complete", "/todos/1/delete", "/complete-all", "/undo"):
        answer = three.get(path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert rows() == before


def test_todos_with_ids_of_zero_or_below_work(client: Client, database: Path) -> None:
    run_sql(database, "INSERT INTO todos (id, text) VALUES (-5, 'below zero'), (0, 'zero')")
    act(client, "/todos/-5/up", past="0")
    act(client, "/todos/-5", text="on top")
    assert shown(client) == ["on top", "zero"]
