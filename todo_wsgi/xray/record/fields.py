"""The fields of a request, and whether the page repeats them as HTML of its own."""

import re
from itertools import islice
from urllib.parse import parse_qsl

from todo_wsgi.http.request import FORM_TYPE
from todo_wsgi.xray.record.trace import Trace
from todo_wsgi.xray.record.values import show_bytes

MAX_PAGE = 1_000_000  # bytes of a page that are searched
MAX_SEARCHED = 20  # fields that are searched for
MAX_PLACES = 100  # of one of them that are looked at
_BEFORE = 300  # characters before a value that show whether it is in an attribute
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
    suspects = [field for field in fields_of(trace) if re.search("[<>\"']", field[1])]
    if not suspects or not trace.header("content-type").startswith("text/html"):
        return []
    text = show_bytes(page)
    return [field for field in suspects[:MAX_SEARCHED] if _is_unescaped(field[1], text)]


def _is_unescaped(value: str, page: str) -> bool:
    if re.search("[<>]", value):
        return len(value) >= _MIN_HTML and not _LONE_TAG.fullmatch(value) and value in page
    if not re.search(r"\w{3}", value):
        return False
    # Quotation marks are harmless, except in an attribute that they end.
    for found in islice(re.finditer(re.escape(value), page), MAX_PLACES):
        before = page[max(found.start() - _BEFORE, 0) : found.start()]
        attribute = re.search(r"<\w[^<>]*=\s*([\"'])[^\"'<>]*$", before)
        if attribute and attribute[1] in value:
            return True
    return False
