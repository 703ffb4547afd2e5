"""The same request as a curl command for a shell."""

import shlex
from collections.abc import Iterator

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
        if b"\0" in body or len(body) >= MAX_BODY:
            words += ["--data-binary", BODY_FILE]
        else:
            words += ["--data-raw", body.decode("utf-8", "surrogateescape")]
    get = trace.environ.get
    host = get("HTTP_HOST") or f"{get('SERVER_NAME')}:{get('SERVER_PORT')}"
    return [*words, f"{get('wsgi.url_scheme')}://{host}{trace.target}"]


def note(words: list[str]) -> str:
    """Return what else it takes to send the same request, or "" if nothing does."""
    if BODY_FILE in words:
        return (
            "First save the body as body.bin: it is too long for a command line, or has null bytes."
        )
    if HIDDEN in "".join(words):
        return f"First put the real values in place of {HIDDEN}."
    return ""


def quote(word: str) -> str:
    """Return the word quoted for a shell; control characters need the `$'...'` of bash."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(_escape(character) for character in word)
    return f"$'{escaped}'"


def _escape(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def join(words: list[str]) -> str:
    """Return the command as one line."""
    return " ".join(map(quote, words))


def lines(words: list[str], width: int) -> Iterator[str]:
    """Yield the command in lines of at most `width` characters, each continued by a backslash."""
    line = quote(words[0])
    for word in words[1:]:
        if len(f"{line} {quote(word)}") < width - 2:
            line += f" {quote(word)}"
            continue
        yield f"{line} \\"  # the shell continues on the next line
        while len(quote(word)) > width - 2:  # 'one''word'
            size = len(word)
            while len(quote(word[:size])) > width - 2:
                size -= 1
            yield f"{quote(word[:size])}\\"
            word = word[size:]
        line = quote(word)
    yield line
