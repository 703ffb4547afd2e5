"""A real browser for the tests and for the README's screenshots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright
from servers import Server, need

WIDE, NARROW = 1280, 320  # CSS pixels
Scheme = Literal["light", "dark"]
SCHEMES: list[Scheme] = ["light", "dark"]

INSTALL = "playwright install chromium"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium: Playwright's own if it is installed, else the system's."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = own if os.path.exists(own) else need("chromium", or_run=INSTALL)
        lookup = "--host-resolver-rules=MAP *.example 127.0.0.1"  # as somebody's DNS could say
        browser = playwright.chromium.launch(executable_path=path, args=[lookup])
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, site: Server, *, width: int, **settings: Any) -> Iterator[Page]:
    """Open a window, and fail on any unexpected console message."""
    with browser.new_context(
        base_url=f"http://127.0.0.1:{site.port}",
        viewport={"width": width, "height": 800},
        **{"java_script_enabled": False, "reduced_motion": "reduce", **settings},
    ) as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        yield page
    # The browser logs an error for each 4xx response; the tests expect those.
    assert [text for text in console if "the server responded with a status of 4" not in text] == []


def assert_is_accessible(page: Page) -> None:
    """Assert that axe finds nothing, nothing overflows, and targets are at least 44 px.

    One width is enough for each colour scheme, since neither affects the other. axe-core is
    JavaScript that runs in the page.
    """
    page.evaluate(AXE_SCRIPT)
    for scheme, width in zip(SCHEMES, (WIDE, NARROW), strict=True):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        found = page.evaluate("axe.run({resultTypes: ['violations']})")
        assert found["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        targets = (
            "button, input, textarea, select, .tools summary, nav a, footer a, .field a, .tools a"
        )
        # Enter presses the hidden button of a field; a closed menu has none to press.
        sides = """
            targets => [...document.querySelectorAll(targets)]
                .filter(element => element.checkVisibility() && element.className !== "hidden")
                .map(element => element.getBoundingClientRect())
                .flatMap(box => [box.width, box.height])
        """
        assert min(page.evaluate(sides, targets), default=44) >= 44
