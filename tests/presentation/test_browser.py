"""The pages in a real browser without JavaScript; elements are found by accessible name.

Each feature is tested twice: with a mouse on a wide light screen, and with only the keyboard on a
narrow dark one.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import html_checks
import pytest
import screenshots
from axe_playwright_python.base import AXE_SCRIPT
from browsers import NARROW, WIDE, assert_is_accessible, new_page
from conftest import fill, run_sql
from playwright.sync_api import Browser, Locator, Page, expect
from servers import ROOT, Server, running, serve_command

Role = Literal["button", "link", "textbox", "searchbox"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(serve_command("--port", "0"), tmp_path_factory.mktemp("site")) as server:
        yield server


class Person:
    """Somebody who uses the site with a mouse, or with the keyboard alone."""

    def __init__(self, page: Page, site: Server, *, has_mouse: bool) -> None:
        self.page = page
        self.database = site.database
        self.has_mouse = has_mouse

    @contextmanager
    def next_page(self) -> Iterator[None]:
        """Run a block that leads to another page, wait for the page, and validate its HTML."""
        with self.page.expect_navigation() as navigation:
            yield
        html_checks.assert_is_correct(navigation.value.text())

    def open(self, path: str) -> None:
        with self.next_page():
            self.page.goto(path)

    def find(self, role: Role, name: str) -> Locator:
        return self.page.get_by_role(role, name=name, exact=True)

    def click(self, name: str, role: Role = "button") -> None:
        """Use a button or a link, and wait for the page that it leads to."""
        with self.next_page():
            self.press(self.find(role, name))

    def press(self, thing: Locator) -> None:
        if self.has_mouse:
            thing.click()
        else:
            self.tab_to(thing)
            self.page.keyboard.press("Enter")

    def open_menu(self, text: str) -> None:
        """Show the actions for a todo: they appear under the mouse, or in its menu."""
        if self.has_mouse:
            self.row(text).hover()
        else:
            self.press(self.row(text).locator("summary"))

    def act(self, name: str, text: str, role: Role = "button") -> None:
        """Use an action of a todo, like "Delete", and wait for the page that it leads to."""
        self.open_menu(text)
        self.click(name, role)

    def row(self, text: str) -> Locator:
        return self.page.locator("li").filter(has=self.page.get_by_text(text, exact=True))

    def edit(self, text: str) -> None:
        """Replace the text of a todo, and save it."""
        self.select("Todo")
        self.page.keyboard.insert_text(text)
        self.click("Save")

    def type(self, name: str, text: str, role: Role = "textbox") -> None:
        """Replace the text in a field, and press Enter."""
        self.select(name, role)
        self.page.keyboard.insert_text(text)
        with self.next_page():
            self.page.keyboard.press("Enter")

    def select(self, name: str, role: Role = "textbox") -> None:
        """Select the text in a field."""
        field = self.find(role, name)
        if self.has_mouse:
            field.click()
        else:
            self.tab_to(field)
        self.page.keyboard.press("Control+A")

    def tab_to(self, thing: Locator, key: str = "Tab") -> None:
        while not thing.evaluate("element => element === document.activeElement"):
            self.page.keyboard.press(key)

    def add(self, text: str) -> None:
        self.type("New todo", text)

    def have(self, *texts: str) -> None:
        """Open a list of these todos, the last one at the top."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            rows = [(text,) for text in texts]
            connection.executemany("INSERT INTO todos (text) VALUES (?)", rows)
        self.open("/")

    def sees(self, *names: str) -> list[bool]:
        """Return, for each name, whether its button is visible."""
        return [self.find("button", name).is_visible() for name in names]

    def shows_actions(self, *texts: str) -> list[bool]:
        """Return, for each todo, whether its actions are visible."""
        menus = [self.row(text).locator(".tools") for text in texts]
        look = "menu => menu.lastElementChild.checkVisibility({opacityProperty: true})"
        return [bool(menu.evaluate(look)) for menu in menus]

    @property
    def texts(self) -> list[str]:
        """The texts of the todos, top to bottom."""
        return self.page.locator("li .text").all_inner_texts()


@pytest.fixture(scope="module", params=["mouse", "keyboard"])
def window(browser: Browser, site: Server, request: pytest.FixtureRequest) -> Iterator[Person]:
    has_mouse = request.param == "mouse"
    width, scheme = (WIDE, "light") if has_mouse else (NARROW, "dark")
    with new_page(browser, site, width=width, color_scheme=scheme) as page:
        yield Person(page, site, has_mouse=has_mouse)


@pytest.fixture
def person(window: Person, site: Server) -> Person:
    """Somebody who has just opened the site, with an empty list."""
    run_sql(site.database, "DELETE FROM todos; DELETE FROM sqlite_sequence")
    window.open("/")
    return window


def test_adding_one_todo_after_another(person: Person) -> None:
    expect(person.page.get_by_text("Nothing to do yet.")).to_be_visible()
    expect(person.page.locator("*:focus")).to_have_count(0)
    person.add("milk")
    expect(person.page).to_have_title("Added: milk, 1 item left")
    expect(person.find("textbox", "New todo")).to_be_focused()
    person.page.keyboard.type("<b>bread</b> & honey")  # the field has the focus
    with person.next_page():
        person.press(person.find("button", "Add todo"))
    assert person.texts == ["<b>bread</b> & honey", "milk"]
    expect(person.page.get_by_text("2 items left", exact=True)).to_be_visible()


def test_reloading_the_page_adds_nothing(person: Person) -> None:
    person.add("milk")
    with person.next_page():
        person.page.reload()
    assert person.texts == ["milk"]


def test_several_lines_become_one_todo(person: Person) -> None:
    person.type("New todo", "milk\nand\r\nhoney")
    assert person.texts == ["milk and honey"]


def test_an_overlong_text_comes_back_with_the_reason(person: Person) -> None:
    person.have("milk")
    person.type("New todo", "x" * 501)
    field = person.find("textbox", "New todo")
    expect(field).to_be_focused()
    expect(field).to_have_value("x" * 501)
    expect(field).to_have_accessible_description(re.compile("Shorten it to 500 characters"))
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(person.page).to_have_title(re.compile("^Error: Shorten it"))
    assert person.texts == ["milk"]
    person.type("New todo", "bread")
    assert person.texts == ["bread", "milk"]


def test_a_todo_can_be_completed_and_reopened(person: Person) -> None:
    person.have("milk", "bread", "honey")
    person.click("Complete bread")
    button = person.find("button", "Reopen bread")
    expect(button).to_be_visible()
    expect(person.page.get_by_text("2 items left", exact=True)).to_be_visible()
    expect(person.page.get_by_text("bread", exact=True)).to_have_css(
        "text-decoration-line", "line-through"
    )
    person.page.keyboard.press("Tab")  # continues from the row
    expect(button).to_be_focused()
    person.click("Reopen bread")
    expect(person.find("button", "Complete bread")).to_be_visible()
    expect(person.page).to_have_title("Reopened: bread, 3 items left")


def test_a_todo_can_be_edited(person: Person) -> None:
    person.have("milk", "bread")
    person.act("Edit milk", "milk", "link")
    field = person.find("textbox", "Todo")
    expect(field).to_have_value("milk")
    expect(field).to_be_focused()
    person.edit("")
    expect(field).to_have_accessible_description("Write what there is to do.")
    expect(field).to_be_focused()
    person.edit("oat milk")
    expect(person.page).to_have_title("Saved: oat milk, 2 items left")
    assert person.texts == ["bread", "oat milk"]
    person.page.keyboard.press("Tab")
    expect(person.find("button", "Complete oat milk")).to_be_focused()


def test_an_edit_can_be_abandoned(person: Person) -> None:
    person.have("milk")
    person.click("Active", "link")
    person.act("Edit milk", "milk", "link")
    person.click("Back to the list", "link")
    expect(person.find("link", "Active")).to_have_attribute("aria-current", "page")
    assert person.texts == ["milk"]


def test_a_deletion_can_be_undone(person: Person) -> None:
    person.have("milk", "bread", "honey")
    person.act("Delete bread", "bread")
    expect(person.page.get_by_text('Deleted "bread"', exact=True)).to_be_visible()
    expect(person.page).to_have_title("Deleted: bread, 2 items left")
    expect(person.find("button", "Undo")).to_be_focused()
    expect(person.find("button", "Undo")).to_have_accessible_description('Deleted "bread"')
    assert person.texts == ["honey", "milk"]
    person.click("Undo")
    assert person.texts == ["honey", "bread", "milk"]
    expect(person.page).to_have_title("Restored: bread, 3 items left")
    person.page.keyboard.press("Tab")
    expect(person.find("button", "Complete bread")).to_be_focused()


def test_bulk_actions_can_be_undone(person: Person) -> None:
    both = ("Mark all as complete", "Clear completed")
    assert person.sees(*both) == [False, False]
    person.have("milk", "bread", "honey")
    person.click("Complete bread")
    assert person.sees(*both) == [True, True]
    person.click("Mark all as complete")
    expect(person.find("button", "Undo")).to_be_focused()
    expect(person.page.get_by_text("0 items left", exact=True)).to_be_visible()
    assert person.sees(*both) == [False, True]
    person.click("Undo")
    expect(person.page.get_by_text("2 items left", exact=True)).to_be_visible()
    person.click("Clear completed")
    assert person.texts == ["honey", "milk"]
    assert person.sees(*both) == [True, False]
    person.click("Undo")
    assert person.texts == ["honey", "bread", "milk"]
    expect(person.find("button", "Reopen bread")).to_be_visible()


def test_each_filter_shows_the_matching_todos(person: Person) -> None:
    person.have("milk", "bread", "honey")
    person.click("Complete bread")
    for name, texts in [
        ("Completed", ["bread"]),
        ("Active", ["honey", "milk"]),
        ("All", ["honey", "bread", "milk"]),
    ]:
        person.click(name, "link")
        person.open(person.page.url)  # as a bookmark would
        expect(person.page.locator('[aria-current="page"]')).to_have_text(name)
        assert person.texts == texts

    person.click("Active", "link")
    person.click("Complete honey")
    assert person.texts == ["milk"]
    expect(person.find("link", "Active")).to_have_attribute("aria-current", "page")
    expect(person.find("button", "Undo")).to_be_focused()  # in place of the row, which is gone
    person.page.keyboard.press("Tab")
    expect(person.find("button", "Complete milk")).to_be_focused()
    person.click("Completed", "link")
    person.add("cake")
    assert person.texts == ["cake", "honey", "bread", "milk"]


def test_a_todo_can_be_moved_up_and_down(person: Person) -> None:
    person.have("milk", "bread", "honey")
    person.open_menu("honey")
    assert person.sees("Move honey up", "Move honey down") == [False, True]
    person.act("Move milk up", "milk")
    expect(person.find("button", "Move milk up")).to_be_focused()
    person.click("Move milk up")  # the menu is open, and its button up is gone
    assert person.texts == ["milk", "honey", "bread"]
    assert person.sees("Move milk up", "Move milk down") == [False, True]
    person.page.keyboard.press("Tab")  # continues from the row
    expect(person.find("button", "Complete milk")).to_be_focused()
    person.act("Move honey down", "honey")
    assert person.texts == ["milk", "bread", "honey"]


def test_a_todo_can_be_moved_to_the_top(person: Person) -> None:
    person.have("milk", "bread", "honey")
    person.act("Move milk to the top", "milk")
    assert person.texts == ["milk", "honey", "bread"]
    expect(person.page).to_have_title("Moved: milk, 3 items left")
    assert person.sees("Move milk to the top", "Move milk down") == [False, True]


def test_each_enter_moves_the_todo_one_further(person: Person) -> None:
    person.have("milk", "bread", "honey", "cake")
    person.act("Move milk up", "milk")
    for place in (1, 0):
        expect(person.find("button", "Move milk up")).to_be_focused()
        with person.next_page():
            person.page.keyboard.press("Enter")
        assert person.texts[place] == "milk"


def test_one_menu_is_open_at_a_time(person: Person) -> None:
    person.have("milk", "bread")
    person.open_menu("milk")
    assert person.shows_actions("milk", "bread") == [True, False]
    person.open_menu("bread")
    assert person.shows_actions("milk", "bread") == [False, True]


def test_the_actions_of_a_row_show_when_it_has_the_focus(person: Person) -> None:
    person.have("milk", "bread")
    person.tab_to(person.find("button", "Complete milk"))
    assert person.shows_actions("milk", "bread") == [person.has_mouse, False]


def test_todos_are_found_by_their_words(person: Person) -> None:
    person.have("milk", "brown bread", "white bread")
    person.type("Find", "BREAD own", "searchbox")
    assert person.texts == ["brown bread"]
    expect(person.find("searchbox", "Find")).to_have_value("BREAD own")
    person.click("Complete brown bread")  # an action leads back to what was found
    assert person.texts == ["brown bread"]
    person.click("Active", "link")
    expect(person.page.get_by_text("Nothing found.")).to_be_visible()
    person.type("Find", "", "searchbox")
    assert person.texts == ["white bread", "milk"]


def test_a_tag_links_to_the_todos_that_have_it(person: Person) -> None:
    person.have("milk +shop", "call Ada", "bread +shop @town")
    person.press(person.find("link", "+shop").first)
    person.page.wait_for_url("**/?q=%2Bshop")
    assert person.texts == ["bread +shop @town", "milk +shop"]


@pytest.mark.parametrize(
    ("view", "button", "told"),
    [
        ("Active", "Complete bread", 'Completed "bread"'),
        ("Completed", "Reopen white bread", 'Reopened "white bread"'),
    ],
)
def test_a_todo_that_vanishes_can_be_called_back(
    person: Person, view: str, button: str, told: str
) -> None:
    person.have("milk", "bread", "honey", "brown bread", "white bread", "rye bread")
    run_sql(person.database, "UPDATE todos SET completed_at = CURRENT_TIMESTAMP WHERE id > 3")
    person.click(view, "link")
    before = person.texts
    person.click(button)
    expect(person.page.get_by_text(told, exact=True)).to_be_visible()
    assert person.page.locator("li").all_inner_texts()[1].startswith(told)
    expect(person.find("button", "Undo")).to_be_focused()
    with person.next_page():
        person.page.keyboard.press("Enter")
    assert person.texts == before


def test_adding_can_be_undone(person: Person) -> None:
    person.add("milk")
    expect(person.page.get_by_text('Added "milk"', exact=True)).to_be_visible()
    person.click("Undo")
    expect(person.page).to_have_title("Deleted: milk, 0 items left")
    person.click("Undo")
    assert person.texts == ["milk"]


def test_an_import_can_be_undone_and_brought_back(person: Person) -> None:
    person.have("milk")
    person.click("Add several", "link")
    person.find("textbox", "Todos, one per line").fill("bread\nhoney\ncake")
    person.click("Add")
    expect(person.page.get_by_text("Added 3 todos", exact=True)).to_be_visible()
    expect(person.find("button", "Undo")).to_be_focused()
    person.click("Undo")
    assert person.texts == ["milk"]
    expect(person.page).to_have_title("Undone, 1 item left")
    person.click("Undo")
    assert person.texts == ["bread", "honey", "cake", "milk"]


def test_a_long_list_is_split_into_pages(person: Person, site: Server) -> None:
    fill(site.database, 250)
    person.open("/")
    ends = [person.texts[0], person.texts[-1]]
    for _ in range(2):
        if not person.has_mouse:
            person.tab_to(person.find("link", "Next page"), "Shift+Tab")  # from the end of the page
        person.click("Next page", "link")
        ends += [person.texts[0], person.texts[-1]]
    assert ends == [f"todo {number}" for number in (250, 151, 150, 51, 50, 1)]
    assert not person.find("link", "Next page").is_visible()

    person.act("Move todo 50 up", "todo 50")
    assert person.texts[:2] == ["todo 50", "todo 51"]
    person.click("Complete todo 49")
    assert person.texts[:2] == ["todo 50", "todo 51"]
    if not person.has_mouse:
        person.tab_to(person.find("link", "Previous page"), "Shift+Tab")
    person.click("Previous page", "link")
    assert "todo 52" in person.texts


def test_the_list_can_be_exported_and_imported(person: Person) -> None:
    person.have("milk")
    with person.page.expect_download() as download:
        person.press(person.find("link", "Export"))
    assert download.value.suggested_filename == "todos.txt"
    exported = download.value.path().read_text(encoding="utf-8")
    assert exported.endswith(" milk\n")

    person.click("Add several", "link")
    field = person.find("textbox", "Todos, one per line")
    field.fill("x bread\nhoney\n2026-02-30 cake\n")
    person.click("Add")
    expect(person.page).to_have_title("Error: Line 3: there is no date 2026-02-30. Correct it.")
    expect(field).to_have_accessible_description(
        re.compile("^Line 3: there is no date 2026-02-30.")
    )
    expect(field).to_be_focused()
    field.fill(field.input_value().replace("02-30", "02-28"))
    person.click("Add")
    assert person.texts == ["bread", "honey", "cake", "milk"]
    assert person.sees("Reopen bread", "Complete cake") == [True, True]


def test_completing_a_deleted_todo_shows_an_error_page(person: Person, site: Server) -> None:
    person.have("milk", "bread")
    run_sql(site.database, "UPDATE todos SET deleted_at = CURRENT_TIMESTAMP WHERE text = 'milk'")
    person.click("Complete milk")
    expect(person.page).to_have_title("Error: 404 Not Found")
    expect(person.page.get_by_text("This todo is gone")).to_be_visible()
    person.click("Go to the list", "link")
    assert person.texts == ["bread"]


# Appearance


LONG = "Donaudampfschifffahrtsgesellschaft" * 14 + "x" * 24


def see_list(person: Person) -> None:
    person.have("milk", LONG, "bread")
    person.click("Complete milk")


def see_completed_list(person: Person) -> None:
    see_list(person)
    person.click("Mark all as complete")


def see_deletion(person: Person) -> None:
    see_list(person)
    person.act(f"Delete {LONG}", LONG)


def see_empty_list(person: Person) -> None:
    person.open("/")


def see_empty_filter(person: Person) -> None:
    person.have("milk")
    person.click("Completed", "link")


def see_open_menu(person: Person) -> None:
    see_list(person)
    person.act(f"Move {LONG} to the top", LONG)


def see_undo_of_adding(person: Person) -> None:
    see_list(person)
    person.add("honey +shop https://example.org/" + "x" * 100)


def see_undo_of_completing(person: Person) -> None:
    see_list(person)
    person.click("Active", "link")
    person.click(f"Complete {LONG}")


def see_undo_of_import(person: Person) -> None:
    see_list(person)
    see_import(person)
    person.find("textbox", "Todos, one per line").fill("honey\ncake")
    person.click("Add")


def see_search(person: Person) -> None:
    see_list(person)
    person.type("Find", "i", "searchbox")


def see_search_without_result(person: Person) -> None:
    see_list(person)
    person.type("Find", LONG + "!", "searchbox")


def see_problem(person: Person) -> None:
    see_list(person)
    person.type("New todo", LONG + "!")


def see_edit(person: Person) -> None:
    see_list(person)
    person.act(f"Edit {LONG}", LONG, "link")


def see_edit_problem(person: Person) -> None:
    see_edit(person)
    person.edit("")


def see_import(person: Person) -> None:
    person.click("Add several", "link")


def see_import_problem(person: Person) -> None:
    see_import(person)
    person.find("textbox", "Todos, one per line").fill(LONG + "!")
    person.click("Add")


def see_error(person: Person) -> None:
    person.open("/nothing")


@pytest.mark.parametrize(
    "see",
    [
        see_empty_list,
        see_list,
        see_completed_list,
        see_open_menu,
        see_deletion,
        see_undo_of_adding,
        see_undo_of_completing,
        see_undo_of_import,
        see_search,
        see_search_without_result,
        see_empty_filter,
        see_problem,
        see_edit,
        see_edit_problem,
        see_import,
        see_import_problem,
        see_error,
    ],
)
def test_a_page_is_accessible_and_nothing_overflows(
    browser: Browser, site: Server, see: Callable[[Person], None]
) -> None:
    run_sql(site.database, "DELETE FROM todos; DELETE FROM sqlite_sequence")
    # axe-core is JavaScript that runs in the page.
    with new_page(browser, site, width=WIDE, java_script_enabled=True, bypass_csp=True) as page:
        person = Person(page, site, has_mouse=True)
        person.open("/")
        see(person)
        assert_is_accessible(page)


@pytest.mark.parametrize("see", [see_open_menu, see_undo_of_completing])
def test_a_page_is_accessible_in_the_colours_of_the_system(
    browser: Browser, site: Server, see: Callable[[Person], None]
) -> None:
    run_sql(site.database, "DELETE FROM todos; DELETE FROM sqlite_sequence")
    settings = {"java_script_enabled": True, "bypass_csp": True, "forced_colors": "active"}
    with new_page(browser, site, width=WIDE, **settings) as page:
        see(Person(page, site, has_mouse=True))
        page.evaluate(AXE_SCRIPT)
        assert page.evaluate("axe.run({resultTypes: ['violations']})")["violations"] == []


@pytest.fixture
def busy(browser: Browser, site: Server) -> Iterator[Page]:
    """A window that shows 22 todos, some with a long text."""
    run_sql(site.database, "DELETE FROM todos; DELETE FROM sqlite_sequence")
    with new_page(browser, site, width=390) as page:
        texts = itertools.islice(itertools.cycle(screenshots.TODOS), 22)
        Person(page, site, has_mouse=True).have(*texts)
        yield page


@pytest.mark.parametrize(
    ("width", "height", "least"), [(390, 844, 10), (320, 568, 5), (1280, 800, 11)]
)
def test_the_first_screen_shows_many_todos(busy: Page, width: int, height: int, least: int) -> None:
    busy.set_viewport_size({"width": width, "height": height})
    boxes = [row.bounding_box() for row in busy.locator("li").all()]
    assert sum(box["y"] + box["height"] <= height for box in boxes if box) >= least


def test_few_tab_stops_lead_through_a_narrow_page(busy: Page) -> None:
    stops = 0
    busy.keyboard.press("Tab")
    while not busy.evaluate("document.activeElement === document.body"):
        stops += 1
        busy.keyboard.press("Tab")
    assert 44 < stops <= 60  # a circle and a menu for each todo


def test_text_of_twice_the_size_fits_into_a_narrow_window(busy: Page) -> None:
    busy.set_viewport_size({"width": NARROW, "height": 800})
    busy.evaluate("document.documentElement.style.fontSize = '2.125rem'")
    assert busy.evaluate("document.documentElement.scrollWidth") == NARROW
    count_lines = """
        link => {
            const range = document.createRange();
            range.selectNodeContents(link);
            return range.getClientRects().length;
        }
    """
    for link in busy.locator("nav a, footer a").all():
        assert link.evaluate(count_lines) == 1


def test_the_icons_keep_their_size_without_the_style_sheet(busy: Page) -> None:
    busy.route("**/*.css", lambda route: route.fulfill(body="", content_type="text/css"))
    with busy.expect_response("**/*.css"):
        busy.reload()
    boxes = [icon.bounding_box() for icon in busy.locator("svg:visible").all()]
    sizes = [(box["width"], box["height"]) for box in boxes if box and box["width"]]
    assert len(sizes) > 44
    assert {*sizes} == {(24, 24)}


def test_links_form_a_row_and_todos_form_a_column(person: Person) -> None:
    person.have("milk", "bread")
    for parts, count in (("nav a", 1), ("footer a", 1), ("li", 2)):
        tops = {
            box["y"] for part in person.page.locator(parts).all() if (box := part.bounding_box())
        }
        assert len(tops) == count


def test_the_background_follows_the_colour_scheme(browser: Browser, site: Server) -> None:
    for scheme, color in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 24, 28)")):
        with new_page(browser, site, width=WIDE, color_scheme=scheme) as page:
            page.goto("/")
            expect(page.locator("html")).to_have_css("background-color", color)


def test_only_the_list_is_printed(person: Person) -> None:
    person.have("milk", "honey", "bread")
    person.act("Delete honey", "honey")
    person.page.emulate_media(media="print")
    assert person.texts == ["bread", "milk"]
    expect(person.page.get_by_text("2 items left", exact=True)).to_be_visible()
    for part in (".field", ".tools", ".notice", "nav", "footer", ".all button"):
        assert not any(element.is_visible() for element in person.page.locator(part).all())
        assert person.page.locator(part).count() > 0
    person.page.emulate_media(media="screen")


@pytest.mark.parametrize("reduced_motion", ["no-preference", "reduce"])
def test_changes_are_animated_unless_motion_is_reduced(
    browser: Browser, site: Server, reduced_motion: str
) -> None:
    run_sql(site.database, "DELETE FROM todos; INSERT INTO todos (id, text) VALUES (1, 'milk')")
    with new_page(
        browser,
        site,
        width=WIDE,
        reduced_motion=reduced_motion,
        java_script_enabled=True,
        bypass_csp=True,
    ) as page:
        page.add_init_script(
            "window.addEventListener('pagereveal', e => window.glides = `${!!e.viewTransition}`)"
        )
        page.goto("/")
        with page.expect_navigation():
            page.get_by_role("button", name="Complete milk").click()
        glides = page.wait_for_function("window.glides").json_value()
        assert glides == ("true" if reduced_motion == "no-preference" else "false")
        # The name by which the browser matches rows across the two pages.
        name = "todo-1" if reduced_motion == "no-preference" else "none"
        expect(page.locator("#todo-1")).to_have_css("view-transition-name", name)


def test_a_script_takes_the_readmes_screenshots(browser: Browser, tmp_path: Path) -> None:
    screenshots.main(browser, tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in tmp_path.iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"docs/{picture.name}" in readme
        assert (ROOT / "docs" / picture.name).exists()
    assert len(list(tmp_path.iterdir())) == 4
