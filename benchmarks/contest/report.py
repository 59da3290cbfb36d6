"""Tables and a picture of what was measured."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from contest.environments import PEERS
from contest.workloads import WORKLOADS

Cell = dict[str, Any]
OURS, FLOOR = "ksym", "floor"


def _median(cell: Cell, what: str) -> float:
    """Return the median of a cell's rounds, NaN if there are none."""
    return statistics.median(cell[what]) if cell.get(what) else math.nan


def _number(value: float, digits: int = 3) -> str:
    """Print with some significant digits, and nothing for NaN."""
    if math.isnan(value):
        return ""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def _times(value: float, base: float) -> str:
    """Print a ratio."""
    ratio = value / base if base else math.nan
    return "" if math.isnan(ratio) else f"{ratio:.2f}"


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def head(*names: str) -> list[str]:
    """Return the lines above a table's rows; all columns but the first hold numbers."""
    return [row(*names), row(*["---", *["---:"] * (len(names) - 1)])]


def table(workload: str, cells: dict[str, Cell]) -> list[str]:
    """Return the lines of a workload's table; ratios are to ksym's."""
    lines = [f"### {WORKLOADS[workload].title}", ""]
    lines += head(
        *("peer", "training ms", "of ksym's", "its CPU ms", "prediction ms", "of ksym's"),
        *("first step s", "peak MiB", "of it import", "loss at step 10", "setting", "load"),
    )
    ours = cells.get(OURS, {})
    for peer, cell in cells.items():
        if "failure" in cell:
            lines.append(row(PEERS[peer].title, cell["failure"].replace("|", "/"), *[""] * 10))
            continue
        train, predict = _median(cell, "train"), _median(cell, "predict")
        loss = cell["loss"]
        lines.append(
            row(
                PEERS[peer].title,
                _number(train),
                _times(train, _median(ours, "train")),
                _number(_median(cell, "train cpu")),
                _number(predict),
                _times(predict, _median(ours, "predict")),
                "" if peer == FLOOR else f"{cell['first']:.2f}",
                f"{cell['peak']:.0f}",
                f"{cell['baseline']:.0f}",
                "" if math.isnan(loss) else f"{loss:.4f}",
                cell["setting"],
                f"{cell['load']:.1f}",
            )
        )
    return [*lines, ""]


def _best(cells: dict[str, Cell], what: str) -> tuple[str, float]:
    """Return the peer, other than ksym, with the smallest value, and that; NaN without any."""
    values = {
        peer: value
        for peer, cell in cells.items()
        if peer not in (OURS, FLOOR) and "failure" not in cell
        if not math.isnan(value := _value(cell, what))
    }
    best = min(values, key=values.__getitem__, default="")
    return best, values.get(best, math.nan)


def _value(cell: Cell, what: str) -> float:
    value = cell.get(what, math.nan)
    return _median(cell, what) if isinstance(value, list) else value


def summary(results: dict[str, Any]) -> list[str]:
    """Return the lines of the table of ksym against the best peer of each workload."""
    lines = [
        f"{results['machine']}; {results['started']}; {results['rounds']} interleaved rounds; "
        f"load {results['load']:.1f} at the start",
        "",
    ]
    names = ["workload"]
    for what in ("training ms", "prediction ms", "first step s", "peak MiB"):
        names += [what, "best peer", "ratio"]
    names[4:4] = ["of the floor"]
    lines += head(*names)
    for workload, cells in results["workloads"].items():
        ours, floor = cells.get(OURS, {}), cells.get(FLOOR, {})
        line = [workload]
        for what in ("train", "predict", "first", "peak"):
            value, (peer, best) = _value(ours, what), _best(cells, what)
            line += [_number(value), f"{peer} {_number(best)}", _times(value, best)]
            if what == "train":
                line.append(_times(value, _value(floor, "train")))
        lines.append(row(*line))
    return [*lines, ""]


def write(results: dict[str, Any], folder: Path) -> None:
    """Write peers.json, peers.md and peers.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(results, indent=1))
    lines = ["# Keras on ksym and its peers", "", *summary(results)]
    for workload, cells in results["workloads"].items():
        lines += table(workload, cells)
    (folder / "peers.md").write_text("\n".join(lines))
    _picture(results, folder / "peers.png")


def _picture(results: dict[str, Any], file: Path) -> None:
    """Draw a panel of bars for each workload, and the floor as a line."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    workloads = results["workloads"]
    columns = min(3, len(workloads))
    rows = math.ceil(len(workloads) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(5.5 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.flat[len(workloads) :]:
        panel.axis("off")
    for panel, (workload, cells) in zip(axes.flat, workloads.items(), strict=False):
        values = {
            peer: value
            for peer, cell in cells.items()
            if not math.isnan(value := _median(cell, "train"))
        }
        floor = values.pop(FLOOR, math.nan)
        names = list(values)[::-1]
        colours = ["tab:blue" if name == OURS else "tab:gray" for name in names]
        # The numbers are in the labels, since bars of the slowest are cut off.
        labels = [f"{name}  {_number(values[name])}" for name in names]
        panel.barh(labels, [values[name] for name in names], color=colours)
        if not math.isnan(floor):
            panel.axvline(floor, color="tab:red", linewidth=1, label=f"floor {_number(floor)}")
            panel.legend(loc="lower right", fontsize=7)
        if names:
            panel.set_xlim(0, 1.2 * min(max(values.values()), 8 * min(values.values())))
        panel.set_title(WORKLOADS[workload].title, fontsize=8)
        panel.set_xlabel("ms a training step", fontsize=8)
        panel.tick_params(labelsize=8)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
