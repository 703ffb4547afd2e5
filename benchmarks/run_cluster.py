"""Measure the list on a cluster beside the list in a file: `python benchmarks/run_cluster.py`.

The cluster is that of the tests: three real nodes of rqlite, but on the cores and the disk of one
machine. The servers take turns, and each list starts with 200 todos. Compare the ratios.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

from run import Results, describe_machine, positive, print_table, read_after_writing
from systems import HERE, ONE, OURS, Refused, System, make_database, running

sys.path.append(str(HERE.parent / "tests"))
from clusters import Cluster, running_cluster

FILE, LEADER, FOLLOWER = "a file", "a cluster, its leader asked", "a cluster, a follower asked"
RATE, LATENCY = "Requests per second, 16 connections", "Median latency for one client, milliseconds"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the list on a cluster and in a file.")
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each server (5)")
    parser.add_argument("--seconds", type=positive, default=5, help="duration of each wrk run (5)")
    parser.add_argument("--folder", help="folder for the databases, on a disk (temporary files)")
    settings = parser.parse_args()
    tables: dict[str, Results] = {title: defaultdict(list) for title in (RATE, LATENCY)}
    posted = {FILE: 200, LEADER: 200, FOLLOWER: 0}  # the cluster has one list
    with tempfile.TemporaryDirectory(dir=settings.folder) as name, ExitStack() as stack:
        folder = Path(name).resolve()
        print(describe_machine(folder), flush=True)
        make_database(folder / "200.db", ONE.schema, 200)
        cluster = stack.enter_context(running_cluster(folder))
        systems = [ONE._replace(name=FILE), *on_cluster(cluster, folder / "200.db")]
        servers = {
            system.name: stack.enter_context(running(system, folder, master=folder / "200.db"))
            for system in systems
        }
        for _ in range(settings.rounds):
            for row, server in servers.items():
                for work in ("get", "post"):
                    load, one = server.load(work, settings.seconds), server.load(work, 1, 1)
                    tables[RATE][f"{work.upper()}, {row}"].append(load.rate)
                    tables[LATENCY][f"{work.upper()}, {row}"].append(one.latency)
                    posted[row] += load.requests + one.requests if work == "post" else 0
                tables[LATENCY][f"GET after a POST, {row}"].append(read_after_writing(server))
        [[count]] = cluster.nodes[0].rows("SELECT count(*) FROM todos", "strong")
        if servers[FILE].count_todos() < posted[FILE] or count < posted[LEADER] + posted[FOLLOWER]:
            raise Refused("a confirmed todo is missing")
    for title, results in tables.items():
        print_table(title, {name: results[name] for name in sorted(results)})
    print(f"\n| ratio of medians | {LEADER} / {FILE} | {FOLLOWER} / {FILE} |\n|---|---|---|")
    for title, results in tables.items():
        for work in [name.removesuffix(FILE) for name in results if name.endswith(FILE)]:
            file, *others = (median(results[work + row]) for row in (FILE, LEADER, FOLLOWER))
            print(f"| {title}: {work[:-2]} |", *(f"{other / file:.2f} |" for other in others))


def on_cluster(cluster: Cluster, database: Path) -> Iterator[System]:
    """Load the database into the cluster; yield servers that ask its leader, and a follower."""
    leader = cluster.leader().address
    headers = {"Content-Type": "application/octet-stream"}
    urlopen(Request(f"http://{leader}/db/load", database.read_bytes(), headers)).close()
    prepare = [sys.executable, "serve.py", "--prepare", "--db", cluster.url]
    subprocess.run(prepare, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
    order = sorted(cluster.addresses, key=lambda address: address != leader)
    for name, addresses in ((LEADER, order), (FOLLOWER, order[::-1])):
        yield System(name, [*OURS, "--db", f"rqlite://{','.join(addresses)}"], ONE.schema)


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(f"There is nothing to report: {reason}")
