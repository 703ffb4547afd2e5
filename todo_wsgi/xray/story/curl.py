"""The same request as a curl command for a shell."""

import shlex

from todo_wsgi.xray.record.trace import MAX_BODY, Trace
from todo_wsgi.xray.record.values import HIDDEN

BODY_FILE = "@body.bin"


def curl(trace: Trace) -> list[str]:
    """Return the words of a command that sends the same request."""
    body = trace.request_body
    words = ["curl", "-i", "--globoff", "--path-as-is"]
    if trace.method == "HEAD":
        words.append("--head")
    elif trace.method != ("POST" if body else "GET"):
        words += ["-X", trace.method]
    for name, value in trace.request_headers:
        if name not in ("Host", "Content-Length", "Connection", "Accept-Encoding"):
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
    if "HTTP_ACCEPT_ENCODING" in trace.environ:
        words.append("--compressed")
    if body:
        text = body.decode("utf-8", "surrogateescape")
        is_typable = text.isprintable() and len(body) < MAX_BODY
        words += ["--data-raw", text] if is_typable else ["--data-binary", BODY_FILE]
    get = trace.environ.get
    host = get("HTTP_HOST") or f"{get('SERVER_NAME')}:{get('SERVER_PORT')}"
    return [*words, f"{get('wsgi.url_scheme')}://{host}{trace.target}"]


def note(words: list[str]) -> str:
    """Return what else it takes to send the same request, or "" if nothing does."""
    if BODY_FILE in words:
        return "First save the body as body.bin: it is too long, or not printable."
    if HIDDEN in "".join(words):
        return f"First put the real values in place of {HIDDEN}."
    return ""


def join(words: list[str]) -> str:
    """Return the command as text for a shell."""
    return shlex.join(words)
