"""A command line for a shell, from the words that the program is to get."""

import shlex
from collections.abc import Iterator

BODY_FILE = "@body.bin"
NOTE = "Put the body into the file body.bin first: it is too long for a line, or has bytes 0."


def quote(word: str) -> str:
    """Return the word as a shell reads it; with `$'...'` of bash if it has control characters."""
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
    """Yield the command in lines of at most `width` characters, to be copied together."""
    line = quote(words[0])
    for word in words[1:]:
        if len(f"{line} {quote(word)}") < width - 2:
            line += f" {quote(word)}"
            continue
        yield f"{line} \\"  # so the shell reads on in the next line
        while len(quote(word)) > width - 2:  # 'one''word'
            size = len(word)
            while len(quote(word[:size])) > width - 2:
                size -= 1
            yield f"{quote(word[:size])}\\"
            word = word[size:]
        line = quote(word)
    yield line
