"""Put into the pages what is not typed there: code, differences, and what commands print.

In a README.md, a comment says what the fence below it holds:

    <!-- code app.py -->                           a file
    <!-- diff 4-add/app.py app.py -->              what changed since another file
    <!-- mistake no commit -->                     what to change to make a mistake of check.py
    <!-- check -->                                 what the check prints
    <!-- check no commit -->                       what it prints with the mistake
    <!-- xray POST / text=milk --part 6 -->        the x-ray of a request
    <!-- xray no commit: POST / text=milk -->      the x-ray with the mistake
"""

import difflib
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tutorial.checks import Mistake
from tutorial.inside import rules_of
from tutorial.running import check, copied, run

MARK = re.compile(r"<!-- (code|diff|mistake|check|xray)([^\n]*) -->\n")
FENCE = re.compile(rf"({MARK.pattern})```\w*\n.*?^```\n", re.DOTALL | re.MULTILINE)


def build(here: Path, *, is_check: bool) -> int:
    """Make all fences anew; or, for a check, only show what would change, and return 1 then."""
    pages = sorted(here.glob("[1-9]-*/README.md"))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(make_page, pages))
    stale = [(page, old, new) for page, (old, new) in zip(pages, made, strict=True) if old != new]
    for page, old, new in stale:
        if is_check:
            print(f"{page.relative_to(here)} is stale. Run: python -m tutorial build")
            print(difference(old, new), end="")
        else:
            page.write_text(new, encoding="utf-8", newline="\n")
            print(f"{page.relative_to(here)} is built")
    return 1 if stale and is_check else 0


def make_page(page: Path) -> tuple[str, str]:
    """Return the text of a page as it is, and as it has to be. ValueError for a wrong mark."""
    old = page.read_text(encoding="utf-8")
    if len(MARK.findall(old)) != len(FENCE.findall(old)):
        raise ValueError(f"{page}: a mark has no fence below it")
    unused = {*mistakes_of(page.parent)} - {*re.findall("<!-- mistake (.*) -->", old)}
    if unused:
        raise ValueError(f"{page} does not invite these mistakes: {unused}")
    return old, FENCE.sub(
        lambda found: found[1] + fence(page.parent, found[2], found[3].strip()), old
    )


def mistakes_of(folder: Path) -> dict[str, Mistake]:
    """Return the mistakes of a step, by name."""
    mistakes: dict[str, Mistake] = rules_of(folder).MISTAKES
    return mistakes


def fence(folder: Path, kind: str, what: str) -> str:
    """Return a fence with what its mark names."""
    language, text = "console", ""
    if kind == "code":
        language = {".py": "python", ".sql": "sql"}.get(Path(what).suffix, "sh")
        text = (folder / what).read_text(encoding="utf-8")
    elif kind == "diff":
        old, new = what.split()
        language, text = "diff", difference(read(folder.parent / old), read(folder / new))
    elif kind == "mistake":
        mistake = mistakes_of(folder)[what]
        old = read(folder / mistake.file)
        language, text = "diff", difference(old, apply(mistake, old), context=1)
        text = text.partition("\n")[2]  # without the @@ of the first place
    else:
        text = console(folder, kind, what)
    return f"```{language}\n{text.rstrip()}\n```\n"


def read(file: Path) -> str:
    """Return the text of a file."""
    return file.read_text(encoding="utf-8")


def difference(old: str, new: str, context: int = 2) -> str:
    """Return what changed, in the form of `diff -u`, without the names of files."""
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), n=context)
    return "".join(line for line in lines if not line.startswith(("---", "+++")))


def apply(mistake: Mistake, text: str) -> str:
    """Return the text of a file with the mistake in it. ValueError if it is not there once."""
    for old, new in mistake.edits.items():
        if text.count(old) != 1:
            raise ValueError(f"this has to be in {mistake.file} once: {old}")
        text = text.replace(old, new)
    return text


def console(folder: Path, kind: str, what: str) -> str:
    """Return a command and what it prints."""
    name, _, words = what.partition(": ")
    if kind == "xray" and name not in mistakes_of(folder):
        name, words = "", what
    number = int(folder.name[0])
    with copied(folder) as copy:
        if name:
            mistake = mistakes_of(folder)[name]
            file = copy / mistake.file
            file.write_text(apply(mistake, read(file)), encoding="utf-8")
        if kind == "check":
            return f"$ python -m tutorial check {number}\n{check(number, copy, is_masked=True)[1]}"
        _, text = run(["xray", "--app", "app", *shlex.split(words)], copy, is_masked=True)
        return f"$ python -m todo_wsgi.xray --app app {words}\n{text}"
