"""The architecture: what may import what, and whether the README describes it correctly."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from servers import ROOT, need, read_manual

import todo_wsgi

PACKAGE = ROOT / "todo_wsgi"
FILES = [ROOT / "serve.py", *sorted(PACKAGE.rglob("*.py"))]
CORE = [file for file in FILES if "xray" not in file.parts]

# What each room (a folder, or a file beside the folders) may import from the others.
MAY_IMPORT = {
    "serve": {"todo_wsgi", "server", "storage", "xray"},
    "__main__": {"server", "storage"},
    "__init__": {"application", "http", "presentation", "storage"},
    "application": {"handlers", "http", "presentation", "storage"},
    "handlers": {"http", "presentation", "storage"},
    "server": {"todo_wsgi", "http", "storage"},
    "presentation": {"http", "storage"},
    "storage": set(),
    "http": set(),
    "xray": {"todo_wsgi", "http", "presentation", "storage"},
}
# The only modules of the storage tier that these rooms may import.
KNOWN_OF_STORAGE = {
    "presentation": {"models", "resources", "transfer"},  # what a todo is; where templates are
    "server": {"backup", "errors", "rqlite"},
    "__main__": {"resources"},
    "__init__": {"database", "guesses", "rqlite"},
    "serve": {"errors"},
}
MAY_NOT_IMPORT = {
    "http": {"sqlite3", "waitress"},
    "presentation": {"sqlite3", "waitress"},
    "storage": {"http", "wsgiref", "waitress"},
    "server": {"sqlite3"},
    "application": {"sqlite3", "waitress"},
    "handlers": {"waitress"},
}


def room_of(file: Path) -> str:
    """Return the room that a file belongs to: its folder in the package, or the file itself."""
    return file.stem if file.parent in (ROOT, PACKAGE) else file.relative_to(PACKAGE).parts[0]


def imports_of(file: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, at the top or anywhere else."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".replace(".", "/")
                is_module = (ROOT / f"{inner}.py").exists() or (ROOT / inner).is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def arrows() -> set[tuple[str, str]]:
    """Return all imports between rooms as (from, to); "todo_wsgi" stands for `__init__`."""
    return {
        (room_of(file), name.split(".")[1] if "." in name else "todo_wsgi")
        for file in FILES
        for name in imports_of(file)
        if name.split(".")[0] == "todo_wsgi"
        and ("." not in name or name.split(".")[1] != room_of(file))
    }


def test_imports_between_rooms_are_exactly_those_allowed() -> None:
    assert {(one, other) for one in MAY_IMPORT for other in MAY_IMPORT[one]} == arrows()
    assert len(arrows()) <= 26


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_tier_imports_the_internals_of_another(file: Path) -> None:
    names = {name.split(".")[0] for name in imports_of(file)}
    names -= {"http"} if file.stem == "rqlite" else set()  # a client of it, and no server
    assert not names & MAY_NOT_IMPORT.get(room_of(file), set())
    of_storage = {name.split(".")[2] for name in imports_of(file) if ".storage." in name}
    assert of_storage <= KNOWN_OF_STORAGE.get(room_of(file), of_storage)


def test_there_are_no_circular_imports() -> None:
    def module_of(file: Path) -> str:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        return name.removesuffix(".__init__")

    imports = {module_of(file): set(imports_of(file)) for file in FILES}
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert order.index("todo_wsgi.http.errors") < order.index("todo_wsgi.handlers")


def test_only_the_command_line_imports_the_xray() -> None:
    knowing = {file.name for file in CORE if any(".xray" in name for name in imports_of(file))}
    assert knowing == {"serve.py"}


def test_the_xray_records_then_tells_then_shows() -> None:
    rooms = ["record", "story", "show"]
    for file in PACKAGE.glob("xray/*/*.py"):
        known = {name.split(".")[2] for name in imports_of(file) if "todo_wsgi.xray." in name}
        assert known <= set(rooms[: rooms.index(file.parent.name) + 1]), file


def test_no_mistake_in_the_application_can_stop_what_reloads_it() -> None:
    code = "import sys, todo_wsgi.server.reloading; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    ours = {"todo_wsgi", "todo_wsgi.server", "todo_wsgi.server.reloading"}
    assert {name for name in loaded if name.split(".")[0] == "todo_wsgi"} == ours


def test_the_package_is_a_handful_of_files_and_folders() -> None:
    entries = [entry for entry in PACKAGE.iterdir() if entry.name != "__pycache__"]
    assert len([entry for entry in entries if entry.is_file()]) <= 5
    assert len([entry for entry in entries if entry.is_dir()]) <= 5


@pytest.mark.parametrize("file", CORE, ids=lambda file: str(file.relative_to(ROOT)))
def test_helpers_are_defined_below_their_first_caller(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [*calls_that_point_up(tree), *calls_that_point_up_in_classes(tree)] == []


def calls_that_point_up(body: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Yield the functions of a module, or methods of a class, defined above all callers."""
    functions = [node for node in body.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    lines = {node.name: node.lineno for node in functions if isinstance(node, ast.FunctionDef)}
    callers: dict[str, list[int]] = {}
    for function in functions:
        for node in ast.walk(function):
            is_own = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
            name = getattr(node, "attr" if is_own else "id", "")
            if name in lines and name != function.name:
                callers.setdefault(name, []).append(function.lineno)
    yield from (name for name in callers if lines[name] < min(callers[name]))


def calls_that_point_up_in_classes(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from calls_that_point_up(node)


def test_the_reading_list_is_as_short_as_the_readme_says() -> None:
    tonight = read_manual(r"\| tonight .*?\n\n")
    rows = re.findall(r"\]\((\S+?)\).*?\| (\d+) \|", tonight)
    assert len(rows) >= 9
    for path, lines in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert len(text.splitlines()) == int(lines), path
    assert sum(int(lines) for _, lines in rows) <= 1200


@pytest.mark.parametrize(
    "page",
    [page for pattern in ("*.md", "[a-z]*/*.md", "tutorial/*/*.md") for page in ROOT.glob(pattern)],
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_every_relative_link_resolves(page: Path) -> None:
    text = re.sub("(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_files_a_reader_opens_first_are_short() -> None:
    for name, most in [("serve.py", 60), ("init_db.sql", 50), ("README.md", 140)]:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most


def test_an_unknown_package_attribute_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'application_'"):
        _ = todo_wsgi.application_


# The test helpers


def test_a_missing_program_skips_a_test_but_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert need("python3") == shutil.which("python3")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"install it .*, or run: make it$"):
        need("no-such-program", or_run="make it")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"install it \(.*\)$"):
        need("no-such-program")
