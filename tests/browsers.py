"""A real browser for the tests, and for the pictures in the README."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from servers import need

INSTALL = "playwright install chromium"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium: the one of Playwright, if it is there, or else the system's."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = own if os.path.exists(own) else need("chromium", or_run=INSTALL)
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
