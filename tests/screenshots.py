"""Take the README's screenshots: `python tests/screenshots.py docs`."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from browsers import running_browser
from playwright.sync_api import Browser, ViewportSize
from servers import Server, running, serve_command

TODOS = [  # from the bottom of the list up; "x " marks a completed todo
    "x Book the cabin",
    "Ask Ada whether she brings the tent, or whether we need the one from the cellar",
    "x Read PEP 3333",
    "Water the lemon tree",
    "Call grandmother",
    "Buy bread & honey",
]
DESK = ViewportSize(width=760, height=640)
PHONE = ViewportSize(width=360, height=640)


def main(browser: Browser, folder: Path) -> None:
    """Write list.png, dark.png, phone.png and xray.png into the folder."""
    with (
        tempfile.TemporaryDirectory() as empty,
        running(serve_command("--port", "0", "--xray", "0"), Path(empty)) as server,
    ):
        with closing(sqlite3.connect(Path(empty) / "todos.db")) as connection, connection:
            connection.executemany(
                "INSERT INTO todos (text, completed_at) VALUES (?, ?)",
                [
                    (t.removeprefix("x "), "2026-11-20" if t.startswith("x ") else None)
                    for t in TODOS
                ],
            )
        take(browser, server, folder / "list.png", DESK)
        take(browser, server, folder / "phone.png", PHONE)
        take(browser, server, folder / "dark.png", DESK, click="Delete Call grandmother")
        take_xray(browser, server, folder / "xray.png")


def take(
    browser: Browser, server: Server, file: Path, viewport: ViewportSize, *, click: str = ""
) -> None:
    """Take a screenshot of the list; with `click`, a dark one, after clicking that button."""
    page = browser.new_page(
        viewport=viewport,
        color_scheme="dark" if click else "light",
        reduced_motion="reduce",
    )
    page.goto(f"http://127.0.0.1:{server.port}/")
    if click:
        with page.expect_navigation():
            page.get_by_role("button", name=click).click()
    page.screenshot(path=file)
    page.close()


def take_xray(browser: Browser, server: Server, file: Path) -> None:
    """Take a screenshot of a POST in the x-ray."""
    size = ViewportSize(width=1000, height=780)
    with browser.new_page(viewport=size, reduced_motion="reduce") as page:
        for _ in range(2):  # the first POST also opens a database connection
            page.goto(f"http://127.0.0.1:{server.port}/")
            page.get_by_label("New todo").fill("Bake a cake & eat it")
            with page.expect_navigation():
                page.get_by_role("button", name="Add todo").click()
        page.goto(f"{server.xray_address}?pause=1")
        with page.expect_navigation():
            page.get_by_role("row").filter(has_text="POST").first.get_by_role("link").first.click()
        page.screenshot(path=file)


if __name__ == "__main__":  # pragma: no cover  # a test calls main
    with running_browser() as browser:
        main(browser, Path(sys.argv[1]))
