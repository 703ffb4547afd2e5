"""The fields of a request, and whether the page repeats them as HTML of its own."""

import re
from urllib.parse import parse_qsl

from todo_wsgi.http.request import FORM_TYPE
from todo_wsgi.xray.record.trace import Trace
from todo_wsgi.xray.record.values import show_bytes

MAX_PAGE = 1_000_000  # bytes of a page that are searched
_MIN_HTML = 6  # characters; a shorter value may be in any page by chance
_LONE_TAG = re.compile(r"\s*</?\w+\s*/?>\s*")  # and so may this one


def fields_of(trace: Trace) -> list[tuple[str, str]]:
    """Return the fields of the request, in the URL and in the body."""
    fields = parse_qsl(trace.query, keep_blank_values=True)
    if trace.content_type == FORM_TYPE:
        fields += parse_qsl(show_bytes(trace.request_body), keep_blank_values=True)
    return fields


def find_unescaped(trace: Trace, page: bytes) -> list[tuple[str, str]]:
    """Return the fields that the page repeats unescaped."""
    if not trace.header("content-type").startswith("text/html"):
        return []
    text = show_bytes(page)
    return [(name, value) for name, value in fields_of(trace) if _is_unescaped(value, text)]


def _is_unescaped(value: str, page: str) -> bool:
    if re.search("[<>]", value):
        return len(value) >= _MIN_HTML and not _LONE_TAG.fullmatch(value) and value in page
    # Quotation marks are harmless, except in an attribute that they end.
    quotes = [quote for quote in "\"'" if quote in value and re.search(r"\w{3}", value)]
    attribute = r"<\w[^<>]*=\s*{}[^\"'<>]*"
    return any(re.search(attribute.format(quote) + re.escape(value), page) for quote in quotes)
