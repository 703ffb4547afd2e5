"""Measure todo_wsgi beside what people would use instead: `python benchmarks/run.py`.

The systems take turns in short rounds, so that the noise of the machine hits all alike. What counts
are the ratios between the medians of one run; the numbers themselves are those of one machine at
one hour. The report is Markdown, as in `benchmarks/README.md`.
"""

import argparse
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path

import psutil
from systems import (
    BOTTLE,
    FLASK,
    GUNICORN,
    HERE,
    LIMIT,
    LIMITS,
    ONE,
    OUR_LIMIT,
    SYSTEMS,
    TWO,
    Refused,
    Server,
    System,
    make_database,
    running,
)

Results = dict[str, list[float]]  # the values of all rounds, by the name of what was measured

WITHOUT_XRAY = "todo_wsgi without the files of the x-ray"
WATCHED = "todo_wsgi --xray"
BARE = "bare sqlite3 inserts, one thread"
PACKAGES = ["waitress", "gunicorn", "Flask", "Jinja2", "bottle", "falcon"]


def main() -> None:
    settings = parse_settings()
    sizes = [size for size in (100, 10_000) if size < settings.todos] + [settings.todos]
    rounds = range(settings.rounds)
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name).resolve()
        print(describe_machine(folder), flush=True)
        reading = measure_reading(folder, rounds, settings.seconds)
        print_table("GETs a second of the homepage with 50 todos", reading)
        writing = measure_changing(folder, rounds, settings.seconds, "post")
        print_table("POSTs a second of a todo, from 50 todos on", writing)
        mixed = measure_changing(folder, rounds, settings.seconds, "mixed")
        print_table("Requests a second, of which 1 in 20 is a POST and 1 another page", mixed)
        masters = {}
        for size in [0, *sizes]:
            masters[size] = folder / f"{size}.db"
            make_database(masters[size], ONE.schema, size)
        xray = measure_xray(folder, rounds, settings.seconds)
        print_table("Requests a second, and what the x-ray costs", xray)
        latency = measure_latency(folder, rounds, sizes, masters)
        print_table("Median latency for one client, milliseconds", latency)
        starting = measure_starting(folder, rounds, masters, settings.todos)
        print_table("From the start of the process to the first answer, seconds", starting)
        measure_memory(folder, masters[settings.todos], settings.requests)
    ratios = [
        *compare(reading, writing, latency, starting, sizes),
        *compare_with_xray(xray),
    ]
    print("\n| ratio of medians | measured | aim |\n|---|---|---|")
    for name, value, aim in ratios:
        print(f"| {name} | {value:.2f} | {aim} |")
    if settings.picture:
        draw(reading, writing, settings.picture)


def parse_settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure todo_wsgi beside its peers, with wrk.")
    parser.add_argument("--rounds", type=positive, default=5, help="of each kind (default 5)")
    parser.add_argument(
        "--seconds", type=positive, default=5, help="that wrk sends requests, in each (default 5)"
    )
    parser.add_argument(
        "--todos",
        type=positive,
        default=1_000_000,
        help="in the longest list, such as 10_000_000 (default 1_000_000)",
    )
    parser.add_argument(
        "--requests",
        type=positive,
        default=100_000,
        help="after which the memory is measured, and after half of them (default 100_000)",
    )
    parser.add_argument(
        "--folder", help="where the databases are made, on a disk (default: for temporary files)"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw GET and POST as an SVG")
    return parser.parse_args()


def positive(text: str) -> int:
    """Return the number that `text` names; argparse makes a message of the error."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


# Measuring


def measure_reading(folder: Path, rounds: Iterable[int], seconds: int) -> Results:
    results: Results = defaultdict(list)
    with running(ONE, folder) as server:
        length = len(server.read_page().encode())
    with ExitStack() as stack:
        servers = [
            (system, stack.enter_context(running(system, folder, length=length)))
            for system in SYSTEMS
        ]
        for system, server in servers:
            if system not in LIMITS:
                server.check_page(50)
            server.load("get", 1)  # to warm up
        for _ in rounds:
            for system, server in servers:
                results[system.name].append(server.load("get", seconds).rate)
    return results


def measure_changing(folder: Path, rounds: Iterable[int], seconds: int, work: str) -> Results:
    """Each round begins with a fresh database of 50 todos."""
    results: Results = defaultdict(list)
    for _ in rounds:
        if work == "post":
            results[BARE].append(insert_without_server(folder, seconds))
        for system in SYSTEMS:
            if system not in LIMITS:
                with running(system, folder) as server:
                    server.check_page(50)
                    server.load("get", 1)  # to warm up
                    load = server.load(work, seconds)
                    results[system.name].append(load.rate)
                    if work == "post" and server.count_todos() < 50 + load.requests:
                        raise Refused(f"{system.name} has not stored what it confirmed")
    return results


def insert_without_server(folder: Path, seconds: int) -> float:
    """Return how many inserts a second SQLite makes, each of them on the disk before the next."""
    database = folder / "bare.db"
    make_database(database, BOTTLE.schema, 50)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        inserts, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.execute("INSERT INTO todos (text) VALUES ('buy milk')")
            inserts += 1
    database.unlink()
    return inserts / seconds


def measure_xray(folder: Path, rounds: Iterable[int], seconds: int) -> Results:
    """todo_wsgi as it is, without the files of the x-ray, and while that is at work."""
    copy = folder / "without"
    ignore = shutil.ignore_patterns(".*", "*.db*", "xray", "tests", "benchmarks", "docs")
    shutil.copytree(HERE.parent, copy, ignore=ignore)
    command = [sys.executable, str(copy / "serve.py"), "--port", "{port}"]
    without = System(WITHOUT_XRAY, command, ONE.schema)
    watched = System(WATCHED, [*ONE.command, "--xray", "0"], ONE.schema)
    results: Results = defaultdict(list)
    with ExitStack() as stack:
        servers = [(s, stack.enter_context(running(s, folder))) for s in (ONE, without, watched)]
        for _, server in servers:
            server.load("get", 1)  # to warm up
        for work in ("get", "post"):
            for _ in rounds:
                for system, server in servers:
                    rate = server.load(work, seconds).rate
                    results[f"{work.upper()}, {system.name}"].append(rate)
    return results


def measure_latency(
    folder: Path, rounds: Iterable[int], sizes: list[int], masters: dict[int, Path]
) -> Results:
    """How long one client waits, in lists of these sizes; the tutorial's only up to 10,000."""
    results: Results = defaultdict(list)
    with ExitStack() as stack:
        servers = {}
        for size in sizes:
            server = stack.enter_context(running(ONE, folder, master=masters[size]))
            servers[f"todo_wsgi, {size:,} todos"] = server
        for size in [size for size in sizes if size <= 10_000]:
            server = stack.enter_context(running(FLASK, folder, todos=size))
            servers[f"tutorial (Flask), waitress, {size:,} todos"] = server
        for _ in rounds:
            for name, server in servers.items():
                results[f"GET, {name}"].append(server.load("get", 1, 1).latency)
            for name, server in servers.items():
                results[f"POST, {name}"].append(server.load("post", 1, 1).latency)
            for name, server in servers.items():
                results[f"GET after a POST, {name}"].append(read_after_writing(server))
    return {name: results[name] for name in sorted(results, key=lambda name: name.split(",")[0])}


def read_after_writing(server: Server) -> float:
    """Return the median time of GETs of which each follows a POST, so that no page is kept."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    times = []
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        for _ in range(20):
            connection.request("POST", "/", "text=buy+milk", headers)
            connection.getresponse().read()
            start = time.perf_counter()
            connection.request("GET", "/")
            connection.getresponse().read()
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def measure_starting(
    folder: Path, rounds: Iterable[int], masters: dict[int, Path], most: int
) -> Results:
    results: Results = defaultdict(list)
    for _ in rounds:
        for size in (0, most):
            with running(ONE, folder, master=masters[size]) as server:
                results[f"todo_wsgi, {size:,} todos"].append(server.start_time)
        for system in (FLASK, GUNICORN):
            with running(system, folder) as server:
                results[f"{system.name}, 50 todos"].append(server.start_time)
    return results


def measure_memory(folder: Path, master: Path, requests: int) -> None:
    """At rest, and after many requests: GETs of the homepage, of other pages, and POSTs."""
    print("\n| memory, MB | of the process (RSS) | of all (PSS) |\n|---|---|---|")

    def tell(name: str, server: Server) -> None:
        resident, proportional = server.memory()
        print(f"| {name} | {resident:.1f} | {proportional:.1f} |", flush=True)

    for system in SYSTEMS:
        if system not in LIMITS:
            with running(system, folder) as server:
                tell(f"{system.name}, 50 todos, at rest", server)
    with running(ONE, folder, master=master) as server:
        tell("todo_wsgi, the longest list, at rest", server)
        done = 0
        for until in (requests // 2, requests):
            while done < until:
                done += server.load("mixed", 2).requests
            tell(f"todo_wsgi, the longest list, after {until:,} requests", server)


# Reporting


def compare(
    reading: Results, writing: Results, latency: Results, starting: Results, sizes: list[int]
) -> Iterator[tuple[str, float, str]]:
    """Yield what is compared, the ratio of the medians, and what it should be."""

    def ratio(results: Results, one: str, other: str) -> float:
        return statistics.median(results[one]) / statistics.median(results[other])

    few, many = f"{sizes[0]:,}", f"{sizes[-1]:,}"
    for one, other, aim in [
        (ONE, LIMIT, "≥ 0.90"),
        (ONE, OUR_LIMIT, ""),
        (ONE, GUNICORN, "≥ 1.7"),
        (TWO, GUNICORN, "≥ 3"),
    ]:
        yield f"GET, {one.name} / {other.name}", ratio(reading, one.name, other.name), aim
    for name, aim in [(GUNICORN.name, "≥ 5"), (BARE, "≥ 0.8")]:
        yield f"POST, todo_wsgi / {name}", ratio(writing, ONE.name, name), aim
    for work in ("GET", "POST", "GET after a POST"):
        longest, shortest = (f"{work}, todo_wsgi, {size} todos" for size in (many, few))
        value = ratio(latency, longest, shortest)
        yield f"latency, {work}, {many} / {few} todos", value, "≤ 1.2"
    empty, full = (f"todo_wsgi, {size} todos" for size in ("0", many))
    yield f"start, {many} / 0 todos", ratio(starting, full, empty), "≤ 1.2"
    flask = f"{FLASK.name}, 50 todos"
    yield f"start, todo_wsgi / {FLASK.name}", ratio(starting, empty, flask), "≤ 0.6"


def compare_with_xray(xray: Results) -> Iterator[tuple[str, float, str]]:
    """Yield what the x-ray costs while it is off, and while it is on."""
    for work in ("GET", "POST"):
        for one, other, aim in [
            (ONE.name, WITHOUT_XRAY, "0.95 to 1.05"),
            (WATCHED, ONE.name, ""),
        ]:
            rates = [statistics.median(xray[f"{work}, {name}"]) for name in (one, other)]
            yield f"{work}, {one} / {other}", rates[0] / rates[1], aim


def print_table(title: str, results: Results) -> None:
    print(f"\n| {title} | median | min | max |\n|---|---|---|---|")
    for name, values in results.items():
        numbers = (statistics.median(values), min(values), max(values))
        print(f"| {name} |", " | ".join(readable(number) for number in numbers), "|", flush=True)


def readable(number: float) -> str:
    """Return a number with three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def describe_machine(folder: Path) -> str:
    try:
        wrk = subprocess.run(["wrk", "--version"], capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused("wrk is not installed (on Debian: apt-get install wrk)") from None
    mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    file_system = next(mounts[place] for place in folder.parents if place in mounts)
    if file_system == "tmpfs":
        raise Refused(f"{folder.parent} is in memory: name a folder on a disk with --folder")
    memory = psutil.virtual_memory().total / 1e9
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    versions += [f"{name} {version(name)}" for name in PACKAGES]
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB, {file_system}, {platform.system()}; "
        f"{', '.join(versions)}, wrk {wrk.stdout.split()[1]}."
    )


def draw(reading: Results, writing: Results, path: str) -> None:
    """Draw GET and POST as bars, with the range from min to max."""
    import matplotlib.pyplot as plt

    # The same picture from the same numbers, with text as text.
    plt.rcParams.update({"svg.hashsalt": "todo_wsgi", "svg.fonttype": "none"})
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    for ax, title, results in zip(
        axes, ["GET, 50 todos", "POST, durable"], [reading, writing], strict=True
    ):
        names = list(reversed(results))
        medians = [statistics.median(results[name]) for name in names]
        spans = [
            [median - min(results[name]) for name, median in zip(names, medians, strict=True)],
            [max(results[name]) - median for name, median in zip(names, medians, strict=True)],
        ]
        colors = ["#2563eb" if name.startswith("todo_wsgi") else "#9ca3af" for name in names]
        ax.barh(names, medians, xerr=spans, color=colors, ecolor="#374151", capsize=2)
        ax.set_title(f"{title}: requests a second", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(f"There is nothing to report: {reason}")
