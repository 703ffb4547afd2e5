"""Validation of the HTML that tests receive."""

from __future__ import annotations

from functools import lru_cache

import html5lib


@lru_cache(maxsize=1000)
def assert_is_correct(page: str) -> None:
    """Parse the page as browsers do (WHATWG HTML), but raise at the first parse error."""
    html5lib.HTMLParser(strict=True).parse(page)
