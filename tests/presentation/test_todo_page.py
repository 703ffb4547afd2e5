"""A todo's own page: its text in a field that grows, and a form for each thing to do with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsers import NARROW, assert_is_accessible, new_page
from conftest import InProcessClient, run_sql, shown
from playwright.sync_api import Browser, Page, expect
from servers import Server, running, serve_command

LONG = "whether Ada brings the tent " * 15


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(serve_command("--port", "0"), tmp_path_factory.mktemp("site")) as server:
        yield server


@pytest.fixture
def page(browser: Browser, site: Server) -> Iterator[Page]:
    """The page of the first of two todos, milk and bread, reached from the active ones."""
    texts = "INSERT INTO todos (text) VALUES ('milk'), ('bread')"
    run_sql(site.database, f"DELETE FROM todos; DELETE FROM sqlite_sequence; {texts}")
    with new_page(browser, site, width=NARROW) as page:
        page.goto("/todos/1?show=active")
        yield page


def press(page: Page, name: str) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).click()


def test_it_completes_and_reopens_the_todo(page: Page) -> None:
    press(page, "Complete milk")
    expect(page).to_have_title("Completed: milk, 1 item left")
    page.goto("/todos/1")
    press(page, "Reopen milk")
    expect(page).to_have_title("Reopened: milk, 2 items left")


def test_it_moves_the_todo_to_the_top_of_the_listing_it_came_from(page: Page) -> None:
    press(page, "Move milk to the top")
    assert page.locator("li .text").all_inner_texts() == ["milk", "bread"]
    expect(page.get_by_role("heading", name="Active todos")).to_be_visible()


def test_a_deleted_todo_can_be_brought_back(page: Page) -> None:
    press(page, "Delete milk")
    expect(page).to_have_title("Deleted: milk, 1 item left")
    press(page, "Undo")
    assert page.locator("li .text").all_inner_texts() == ["bread", "milk"]


def test_line_breaks_in_the_field_become_spaces(page: Page) -> None:
    field = page.get_by_label("Todo", exact=True)
    field.press_sequentially("buy\nthe ")
    press(page, "Save")
    expect(page).to_have_title("Saved: buy the milk, 2 items left")


def test_the_link_in_the_list_leads_into_the_field(page: Page) -> None:
    page.goto("/")
    page.locator("summary", has_text="Actions for milk").click()
    page.get_by_role("link", name="Edit milk").click()
    field = page.get_by_label("Todo", exact=True)
    expect(field).to_be_focused()  # not only scrolled to
    page.keyboard.type("fresh ")  # where it begins to read
    expect(field).to_have_value("fresh milk")


def test_the_field_grows_with_its_text(page: Page) -> None:
    field = page.get_by_label("Todo", exact=True)
    field.fill(LONG)
    assert field.evaluate("field => field.scrollHeight <= field.clientHeight")


@pytest.mark.parametrize("state", ["active", "completed"])
def test_it_is_accessible(browser: Browser, site: Server, state: str) -> None:
    run_sql(site.database, f"DELETE FROM todos; INSERT INTO todos (id, text) VALUES (1, '{LONG}')")
    # axe-core is JavaScript that runs in the page.
    with new_page(browser, site, width=NARROW, java_script_enabled=True, bypass_csp=True) as page:
        page.goto("/todos/1")
        if state == "completed":
            press(page, f"Complete {LONG.strip()}")
            page.goto("/todos/1")
        assert_is_accessible(page)


def test_a_refused_text_does_not_change_the_names_of_the_other_buttons(
    client: InProcessClient,
) -> None:
    client.post("/", data={"text": "a <b>"})
    answer = client.post("/todos/1", data={"text": "\n\n"})
    assert answer.status_code == 422
    assert '<button>Delete<span class="hidden"> a &lt;b&gt;</span></button>' in answer.text
    assert shown(client) == ["a <b>"]
