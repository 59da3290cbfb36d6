"""Every operator of Keras's layers and losses on ksym against other ways to compute it.

Each is timed by itself, forward and with its gradients, at up to three sizes and in both data
formats, on one thread.  Peers are processes of their own, which take turns; the medians of CPU time
count.  The table has the times of all, and the ratio of ksym's to the best peer's.  A peer that has
no kernel for channels first is compared by its kernel for channels last.

    python benchmarks/operators.py [--peers ksym,tensorflow] [--cases Conv2D,pool] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from contest.cases import CASES
from contest.environments import FOLDER, PEERS, build
from contest.processes import PeerError, Process
from contest.report import head, row

OURS = "ksym"
THREAD = "1 thread"
WHAT = ("forward", "gradient")
LAYOUTS = ("channels_last", "channels_first")
SLOW = 1.2
"""The ratio to the best peer from which on an operator is listed as a fault."""

Times = dict[str, dict[str, float]]
"""For each peer the milliseconds forward and with gradients; none where it fails."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="ksym,tensorflow,jax,torch", help="ksym among them")
    parser.add_argument("--cases", default="", help="parts of names, by default all")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="of each peer in each round")
    parser.add_argument("--limit", type=float, default=120, help="seconds a peer has for anything")
    parser.add_argument("--no-build", action="store_true", help="the environments are there")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the environments")
    parser.add_argument("--output", type=Path, help="folder of the results, by default in --folder")
    chosen = parser.parse_args()
    chosen.folder = chosen.folder.resolve()
    chosen.output = chosen.output or chosen.folder / "results"
    chosen.peers = chosen.peers.split(",")
    chosen.layouts = chosen.layouts.split(",")
    parts = [part for part in chosen.cases.split(",") if part]
    chosen.cases = [
        name for name in CASES if not parts or any(part.lower() in name.lower() for part in parts)
    ]
    return chosen


def worker(peer: str, chosen: argparse.Namespace) -> Process:
    """Start the process of a peer."""
    command = ("contest.operator_worker", peer)
    return Process(peer, THREAD, command, chosen.folder, chosen.limit, patient=True)


def measure(
    processes: dict[str, Process], case: str, size: int, layout: str, chosen: argparse.Namespace
) -> Times:
    """Return what the peers that can do a case take for it, by turns."""
    able = {}
    for peer, process in processes.items():
        try:
            process.do("build", case=case, size=size, layout=layout)
            able[peer] = process
        except PeerError as failure:
            if peer == OURS or layout == LAYOUTS[0]:
                print(f"  {PEERS[peer].title}: {failure}", flush=True)
    rounds: dict[tuple[str, str], list[float]] = {}
    for number in range(chosen.rounds):
        peers = list(able)
        first = number % max(1, len(peers))
        for peer in peers[first:] + peers[:first]:
            for what in WHAT:
                reply = able[peer].do("time", what=what, seconds=chosen.seconds)
                rounds.setdefault((peer, what), []).append(reply["ms"])
    return {peer: {what: statistics.median(rounds[peer, what]) for what in WHAT} for peer in able}


def best(times: Times, what: str) -> float:
    """Return the milliseconds of the best peer but ksym."""
    return min((each[what] for peer, each in times.items() if peer != OURS), default=math.nan)


def line(entry: dict[str, Any]) -> str:
    """Return the row of an operator, at one size and in one format."""
    times, cells = entry["times"], []
    for what in WHAT:
        ours = times.get(OURS, {}).get(what, math.nan)
        ratio = ours / best(times, what)
        cells += [
            f"{ours:.3f}",
            *(f"{times.get(p, {}).get(what, math.nan):.3f}" for p in entry["peers"] if p != OURS),
            f"**{ratio:.2f}**" if ratio > SLOW else f"{ratio:.2f}",
        ]
    shape = " ".join(
        "x".join(map(str, shape)) for shape in CASES[entry["case"]].sizes[entry["size"]]
    )
    return row(entry["case"], shape, entry["layout"].removeprefix("channels_"), *cells)


def header(peers: list[str]) -> list[str]:
    """Return the head of the table."""
    others = [peer for peer in peers if peer != OURS]
    columns = [f"{part} {name}" for part in WHAT for name in (OURS, *others, "ratio")]
    return head("operator", "inputs", "channels", *columns)


def main() -> None:
    """Build, measure, report."""
    chosen = options()
    if not chosen.no_build:
        for peer in chosen.peers:
            build(peer, chosen.folder)
    processes = {peer: worker(peer, chosen) for peer in chosen.peers}
    entries: list[dict[str, Any]] = []
    print("\n".join(header(chosen.peers)), flush=True)
    for name in chosen.cases:
        for size in range(len(CASES[name].sizes)):
            last: Times = {}
            for layout in chosen.layouts if CASES[name].image else LAYOUTS[:1]:
                times = measure(processes, name, size, layout, chosen)
                last = last or times
                times = {**last, **times}
                entries.append(
                    {
                        "case": name,
                        "size": size,
                        "layout": layout,
                        "times": times,
                        "peers": chosen.peers,
                    }
                )
                print(line(entries[-1]), flush=True)
    for process in processes.values():
        process.close()
    chosen.output.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*header(chosen.peers), *map(line, entries)])
    (chosen.output / "operators.md").write_text(text + "\n")
    (chosen.output / "operators.json").write_text(
        json.dumps({"started": time.strftime("%Y-%m-%d %H:%M"), "entries": entries}, indent=1)
    )


if __name__ == "__main__":
    sys.exit(main())
