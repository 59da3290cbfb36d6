"""Keras on ksym against other ways to run Keras: the same models, data and batches.

Each peer lives in an environment of its own, which is built first, and runs each workload in a
process of its own.  The processes take turns, round after round; medians count.  A peer runs with
the threads that are best for it on that workload, which is tried first and then remembered in
threads.json.  Tables and a picture are written at the end.

    python benchmarks/peers.py [--peers ksym,jax] [--workloads mlp,cnn] [--rounds 20]
    python benchmarks/peers.py --build     # only the environments

Workloads are the names of `contest.workloads`, or "six" (the default), "recurrent", "breadth" and
"all".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contest import report
from contest.environments import CORES, FOLDER, PEERS, build
from contest.networks import BREADTH
from contest.processes import PeerError, Process, started
from contest.workloads import RECURRENT, SIX, WORKLOADS

Cell = dict[str, Any]
TRIAL_ROUNDS = 5
CACHE_LIMITS = 10
"""How many times the limit a peer has to fill its cache of compiled code."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="some of " + ", ".join(PEERS))
    parser.add_argument("--workloads", default="six")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each peer in each round")
    parser.add_argument("--limit", type=float, default=60, help="seconds a peer has for anything")
    parser.add_argument("--setting", help="part of the name of the one setting to use")
    parser.add_argument("--build", action="store_true", help="build the environments, run nothing")
    parser.add_argument("--no-build", action="store_true", help="the environments are there")
    parser.add_argument("--try-threads", action="store_true", help="forget which were best")
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help="of the environments and results; by default $KSYM_BENCH or .bench",
    )
    parser.add_argument("--output", type=Path, help="folder of the results, by default in --folder")
    return parser


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and look up the names in it."""
    chosen = parser.parse_args()
    groups = {
        "six": list(SIX),
        "recurrent": list(RECURRENT),
        "breadth": list(BREADTH),
        "all": list(WORKLOADS),
    }
    names = [groups.get(name, [name]) for name in chosen.workloads.split(",")]
    chosen.workloads = [name for group in names for name in group]
    chosen.peers = chosen.peers.split(",")
    for name in chosen.workloads:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}")
    for name in chosen.peers:
        if name not in PEERS:
            parser.error(f"there is no peer {name!r}")
    chosen.folder = chosen.folder.resolve()
    chosen.output = chosen.output or chosen.folder / "results"
    return chosen


def turns(processes: list[Process], command: str, rounds: int, chosen: argparse.Namespace) -> dict:
    """Give each process its turn in each round; return the times of each, or its failure.

    A process whose turns have taken `--limit` seconds together gets no more.
    """
    times: dict[Process, list[dict]] = {process: [] for process in processes}
    failures: dict[Process, str] = {}
    spent = dict.fromkeys(processes, 0.0)
    for number in range(rounds):
        first = number % max(1, len(processes))
        for process in processes[first:] + processes[:first]:
            if process in failures or spent[process] > chosen.limit:
                continue
            start = time.perf_counter()
            try:
                times[process].append(process.do(command, seconds=chosen.seconds))
            except PeerError as failure:
                failures[process] = str(failure)
            spent[process] += time.perf_counter() - start
    return {process: failures.get(process, times[process]) for process in processes}


def contestants(
    peer: str, workload: str, known: dict[str, str], chosen: argparse.Namespace
) -> tuple[Process, Cell]:
    """Start a peer with its best setting for a workload, trying all if it is not known yet.

    Raises:
        PeerError: The peer cannot do it, whatever the setting.
    """
    settings = list(PEERS[peer].settings)
    key = f"{peer}, {workload}"
    if chosen.setting:
        settings = [name for name in settings if chosen.setting in name] or settings[:1]
    elif known.get(key) in settings:
        settings = [known[key]]
    if PEERS[peer].caches:
        patient = CACHE_LIMITS * chosen.limit
        started(peer, settings[0], workload, chosen.folder, patient)[0].close()
    alive: dict[Process, Cell] = {}
    failure: PeerError | None = None
    for setting in settings:
        try:
            process, measured = started(peer, setting, workload, chosen.folder, chosen.limit)
            alive[process] = {"setting": setting, **measured}
        except PeerError as error:
            failure = error
    if len(alive) > 1:
        trial = turns(list(alive), "train", TRIAL_ROUNDS, chosen)
        fine = {
            process: statistics.median(time["ms"] for time in times)
            for process, times in trial.items()
            if isinstance(times, list)
        }
        best = min(fine or alive, key=lambda process: fine.get(process, 0.0))
        for process in alive:
            if process is not best:
                process.close()
        alive = {best: alive[best]}
        known[key] = best.setting
    if not alive:
        assert failure is not None
        raise failure
    return next(iter(alive.items()))


def measure(
    workload: str, known: dict[str, str], chosen: argparse.Namespace, commands: Sequence[str]
) -> dict[str, Cell]:
    """Return what each peer does on a workload, told these commands by turns."""
    cells: dict[str, Cell] = {}
    running: dict[Process, Cell] = {}
    for peer in chosen.peers:
        print(f"  {PEERS[peer].title}", end=": ", flush=True)
        try:
            process, cells[peer] = contestants(peer, workload, known, chosen)
            running[process] = cells[peer]
            print(f"{process.setting}, first step after {cells[peer]['first']:.2f} s", flush=True)
        except PeerError as failure:
            cells[peer] = {"failure": str(failure)}
            print(failure, flush=True)
    for command in commands:
        load = os.getloadavg()[0]
        for process, result in turns(list(running), command, chosen.rounds, chosen).items():
            if isinstance(result, str):
                running.pop(process)["failure"] = f"{command}: {result}"
                continue
            running[process] |= {
                command: [times["ms"] for times in result],
                f"{command} cpu": [times["cpu"] for times in result],
                "load": max(load, os.getloadavg()[0]),
            }
            if command == "train":
                running[process] |= process.do("memory")
    for process in running:
        process.close()
    return cells


def run(
    chosen: argparse.Namespace,
    write: Callable[[dict[str, Any]], None],
    commands: Sequence[str] = ("train", "predict"),
) -> dict[str, Any]:
    """Build the environments, measure the workloads, and return the results.

    Args:
        chosen: The options.
        write: Called with the results so far after each workload.
        commands: The commands that are timed.
    """
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if not chosen.no_build:
        for peer in chosen.peers:
            build(peer, chosen.folder)
    memory = chosen.folder / "threads.json"
    known = json.loads(memory.read_text()) if memory.exists() and not chosen.try_threads else {}
    results: dict[str, Any] = {
        "machine": f"{CORES} processors, {platform.machine()}, Python {platform.python_version()}",
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "rounds": chosen.rounds,
        "load": os.getloadavg()[0],
        "limit": chosen.limit,
        "workloads": {},
    }
    for workload in () if chosen.build else chosen.workloads:
        print(WORKLOADS[workload].title, flush=True)
        results["workloads"][workload] = cells = measure(workload, known, chosen, commands)
        memory.write_text(json.dumps(known, indent=1))
        print("\n".join(report.table(workload, cells)), flush=True)
        write(results)
    return results


def main() -> None:
    """Build, measure, report."""
    chosen = options(parser(__doc__))
    results = run(chosen, lambda results: report.write(results, chosen.output))
    if chosen.build:
        return
    print("\n".join(report.summary(results)))
    print(f"written to {chosen.output}")


if __name__ == "__main__":
    sys.exit(main())
