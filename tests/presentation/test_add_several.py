"""The page that adds several todos at once, from lines or from a todo.txt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsers import NARROW, assert_is_accessible, new_page
from playwright.sync_api import Browser, Page, expect
from servers import Server, running, serve_command


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(serve_command("--port", "0"), tmp_path_factory.mktemp("site")) as server:
        yield server


@pytest.fixture
def page(browser: Browser, site: Server) -> Iterator[Page]:
    """The page, reached by its link in the list."""
    with new_page(browser, site, width=NARROW, java_script_enabled=True, bypass_csp=True) as page:
        page.goto("/")
        with page.expect_navigation():
            page.get_by_role("link", name="Add several").click()
        yield page


def add(page: Page, text: str) -> None:
    page.get_by_label("Todos, one per line").fill(text)
    with page.expect_navigation():
        page.get_by_role("button", name="Add", exact=True).click()


def test_the_lines_become_the_top_of_the_list(page: Page) -> None:
    expect(page.get_by_role("heading", name="Add several todos")).to_be_visible()
    add(page, "milk\nx 2026-11-22 2026-11-20 bread")
    expect(page.get_by_text("Added 2 todos")).to_be_visible()
    assert page.locator("li .text").all_inner_texts()[:2] == ["milk", "bread"]


def test_a_wrong_line_comes_back_with_all_others(page: Page) -> None:
    add(page, "honey\n2026-02-30 cake")
    expect(page.get_by_text("Line 2")).to_be_visible()
    expect(page.get_by_label("Todos, one per line")).to_have_value("honey\n2026-02-30 cake")


def test_it_is_accessible(page: Page) -> None:
    assert_is_accessible(page)
