"""Keras on ksym against other ways to run Keras, on networks of many kinds.

Training, prediction, one sample, memory and the first step of each network in `contest.networks`.
Environments, processes and turns are those of `peers.py`.  Here all run on one thread, and the time
of the processor counts, so the machine may be in use.

    python benchmarks/breadth.py [--peers ksym,tensorflow] [--workloads unet,gru] [--rounds 7]
    python benchmarks/breadth.py --before ../other     # beside the ksym of another checkout
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
from contest.environments import PEERS
from contest.report import head, row

Cell = dict[str, Any]
OURS, BEFORE = "ksym", "before"
COMMANDS = ("train", "predict", "one")


@dataclass(frozen=True)
class Measure:
    """A number that each peer has for each workload.

    Attributes:
        title: Its name and unit.
        key: Where the rounds, or the one value, are in a cell.
        minus: The key of what is subtracted.
        target: The largest ratio to the best peer that ksym should have.
    """

    title: str
    key: str
    minus: str | None = None
    target: float = math.inf

    def of(self, cell: Cell) -> float:
        """Return its value in a cell, NaN where it was not measured."""
        found = cell.get(self.key) or math.nan
        value = statistics.median(found) if isinstance(found, list) else found
        return value - cell.get(self.minus, math.nan) if self.minus else value


MEASURES = (
    Measure("training ms", "train cpu", target=0.9),
    Measure("prediction ms", "predict cpu", target=0.9),
    Measure("one sample ms", "one cpu", target=1.0),
    Measure("MiB beyond imports", "peak", minus="baseline", target=1.0),
    Measure("first step s", "first cpu"),
)


def _number(value: float) -> str:
    """Print three significant digits."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def best(cells: dict[str, Cell], measure: Measure) -> tuple[str, float]:
    """Return the best peer but ksym with its value; NaN without any."""
    values = {
        peer: value
        for peer, cell in cells.items()
        if peer not in (OURS, BEFORE) and "failure" not in cell
        if not math.isnan(value := measure.of(cell))
    }
    name = min(values, key=values.__getitem__, default="")
    return name, values.get(name, math.nan)


def ratio(cells: dict[str, Cell], measure: Measure, whose: str = OURS) -> float:
    """Return the ratio of ksym's value to the best peer's."""
    cell = cells.get(whose, {})
    return measure.of(cell) / best(cells, measure)[1]


def table(workloads: dict[str, dict[str, Cell]], measure: Measure) -> list[str]:
    """Return the lines of the table of a measure; ratios above its target are bold."""
    old = any(BEFORE in cells for cells in workloads.values())
    lines = head("workload", *(["before"] if old else []), "ksym", "best peer", "", "ratio")

    def bold(value: float) -> str:
        return f"**{value:.2f}**" if value > measure.target else f"{value:.2f}"

    for workload, cells in workloads.items():
        name, value = best(cells, measure)
        ours = [cells.get(who, {}) for who in ([BEFORE] if old else []) + [OURS]]
        failed = [cell["failure"] for cell in ours if "failure" in cell]
        lines.append(
            row(
                workload,
                *(_number(measure.of(cell)) for cell in ours),
                _number(value),
                name,
                failed[0] if failed else bold(ratio(cells, measure)),
            )
        )
    return [f"### {measure.title}", "", *lines, "", _summary(workloads, measure, old), ""]


def _summary(workloads: dict[str, dict[str, Cell]], measure: Measure, old: bool) -> str:
    """Return a sentence on all ratios of a measure."""

    def words(whose: str) -> str:
        found = [ratio(cells, measure, whose) for cells in workloads.values()]
        found = [value for value in found if not math.isnan(value)]
        if not found:
            return "none"
        above = sum(value > measure.target for value in found)
        text = f"median {statistics.median(found):.2f}, worst {max(found):.2f}"
        if measure.target < math.inf:
            text += f", {above} of {len(found)} above {measure.target}"
        return text

    now = f"Ratios to the best peer: {words(OURS)}"
    return f"{now}; before: {words(BEFORE)}." if old else f"{now}."


def report(results: dict[str, Any]) -> list[str]:
    """Return the lines of all tables."""
    lines = [
        f"{results['machine']}, one thread; {results['started']}; {results['rounds']} rounds; "
        f"load {results['load']:.1f} at the start",
        "",
    ]
    for measure in MEASURES:
        lines += table(results["workloads"], measure)
    return lines


def write(results: dict[str, Any], folder: Path) -> None:
    """Write breadth.md and breadth.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "breadth.md").write_text("\n".join(report(results)))
    (folder / "breadth.json").write_text(json.dumps(results, indent=1))


def main() -> None:
    """Build, measure, report."""
    parser = peers.parser(__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, to be measured as well")
    parser.set_defaults(
        peers="ksym,tensorflow,jax", workloads="breadth", rounds=7, setting="1 thread", limit=180
    )
    chosen = peers.options(parser)
    if chosen.before:
        PEERS[BEFORE] = dataclasses.replace(
            PEERS[OURS], title="ksym before", checkout=chosen.before.resolve()
        )
        chosen.peers.insert(0, BEFORE)
    results = peers.run(chosen, lambda results: write(results, chosen.output), COMMANDS)
    if not chosen.build:
        print("\n".join(report(results)))
        print(f"written to {chosen.output}")


if __name__ == "__main__":
    sys.exit(main())
