"""Measure todo_wsgi and its alternatives: `python benchmarks/run.py`.

The systems take turns in short rounds, so noise on the machine affects them all alike. Compare the
ratios of the medians within one run; the absolute numbers hold for one machine at one time. The
report is Markdown, as in `benchmarks/README.md`.
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
    GRANIAN,
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

Results = dict[str, list[float]]  # the values of all rounds, by the name of the row

WITHOUT_XRAY = "todo_wsgi without the files of the x-ray"
WATCHED = "todo_wsgi --xray"
BARE = "bare sqlite3 inserts, one thread"
SEARCHES = {"the list itself": "", "a word in each todo": "more", "a word in no todo": "nowhere"}
PACKAGES = ["waitress", "granian", "gunicorn", "Flask", "Jinja2", "bottle", "falcon"]


def main() -> None:
    settings = parse_settings()
    sizes = [size for size in (100, 10_000) if size < settings.todos] + [settings.todos]
    rounds = range(settings.rounds)
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name).resolve()
        print(describe_machine(folder), flush=True)
        reading = measure_reading(folder, rounds, settings.seconds)
        print_table("GETs per second of the homepage, 50 todos", reading)
        writing = measure_changing(folder, rounds, settings.seconds, "post")
        print_table("POSTs per second, starting at 50 todos", writing)
        mixed = measure_changing(folder, rounds, settings.seconds, "mixed")
        print_table("Mixed requests per second: in 20, one POST and one other page", mixed)
        masters = {}
        for size in [0, *sizes]:
            masters[size] = folder / f"{size}.db"
            make_database(masters[size], ONE.schema, size)
        xray = measure_xray(folder, rounds, settings.seconds)
        print_table("Requests per second, with and without the x-ray", xray)
        latency = measure_latency(folder, rounds, sizes, masters)
        print_table("Median latency for one client, milliseconds", latency)
        searching = measure_searching(folder, rounds, masters[settings.todos])
        print_table(f"Search in {settings.todos:,} todos, one client, milliseconds", searching)
        starting = measure_starting(folder, rounds, masters, settings.todos)
        print_table("From process start to first response, seconds", starting)
        measure_memory(folder, masters[settings.todos], settings.requests)
    ratios = [
        *compare(reading, writing, latency, starting, sizes),
        *compare_searches(searching),
        *compare_with_xray(xray),
    ]
    print("\n| ratio of medians | measured | aim |\n|---|---|---|")
    for name, value, aim in ratios:
        print(f"| {name} | {value:.2f} | {aim} |")
    if settings.picture:
        draw(reading, writing, settings.picture)


def parse_settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure todo_wsgi and its alternatives with wrk.")
    for flag, default, text in [
        ("--rounds", 5, "rounds of each measurement"),
        ("--seconds", 5, "duration of each wrk run"),
        ("--todos", 1_000_000, "length of the longest list, such as 10_000_000"),
        ("--requests", 100_000, "requests before the last memory reading; one more is halfway"),
    ]:
        parser.add_argument(flag, type=positive, default=default, help=f"{text} ({default})")
    parser.add_argument("--folder", help="folder for the databases, on a disk (temporary files)")
    parser.add_argument("--picture", metavar="FILE", help="SVG file for a chart of GET and POST")
    return parser.parse_args()


def positive(text: str) -> int:
    """Return `text` as a positive number; argparse turns the ValueError into a message."""
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
    """Measure POSTs, or a mix. Each round starts with a new database of 50 todos."""
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
    """Return how many durable inserts SQLite makes per second, one commit each."""
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
    """Measure todo_wsgi as it is, without the x-ray's files, and with the x-ray recording."""
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
    """Measure latency for one client, by length of the list; the tutorial only up to 10,000."""
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
    """Return the median latency of GETs after a POST each, so that every GET is a cache miss."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    times = []
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        for _ in range(20):
            connection.request("POST", "/", "text=buy+milk", headers)
            connection.getresponse().read()
            times.append(time_page(connection, "/"))
    return statistics.median(times)


def time_page(connection: HTTPConnection, path: str) -> float:
    """Return how many milliseconds the answer takes."""
    start = time.perf_counter()
    connection.request("GET", path)
    connection.getresponse().read()
    return (time.perf_counter() - start) * 1000


def measure_searching(folder: Path, rounds: Iterable[int], master: Path) -> Results:
    """Measure the page by the word that it finds; with a `q`, it does not come from the cache."""
    results: Results = defaultdict(list)
    with running(ONE, folder, master=master) as server:
        for _ in rounds:
            for name, word in SEARCHES.items():
                with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
                    times = [time_page(connection, f"/?q={word}") for _ in range(5)]
                results[name].append(statistics.median(times))
    return results


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
    """Print memory use at rest, and after many requests of the mixed kind."""
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
    """Yield a name, the ratio of two medians, and the aim for it."""

    def ratio(results: Results, one: str, other: str) -> float:
        return statistics.median(results[one]) / statistics.median(results[other])

    few, many = f"{sizes[0]:,}", f"{sizes[-1]:,}"
    for one, other, aim in [
        (ONE, LIMIT, "≥ 0.90"),
        (ONE, OUR_LIMIT, ""),
        (GRANIAN, ONE, ""),
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


def compare_searches(searching: Results) -> Iterator[tuple[str, float, str]]:
    """Yield the same for each search, compared with the page of the list itself."""
    (page, times), *searches = searching.items()
    for name, values in searches:
        yield f"search, {name} / {page}", statistics.median(values) / statistics.median(times), ""


def compare_with_xray(xray: Results) -> Iterator[tuple[str, float, str]]:
    """Yield the same for the x-ray, while it is off and while it is on."""
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
    """Format a number with three significant digits, or as a whole number if it is longer."""
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
    """Draw a bar chart of GET and POST, with error bars from min to max."""
    import matplotlib.pyplot as plt

    # The same numbers produce the same file; text stays text instead of paths.
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
        ax.set_title(f"{title}: requests per second", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(f"There is nothing to report: {reason}")
