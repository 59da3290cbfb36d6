"""Drawing a profile with matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ksym.errors import GraphError
from ksym.extras import require
from ksym.output import path_text, write_file
from ksym.profiling.limits import limits
from ksym.profiling.rows import Report, Row, shortened

_ROWS = 12
_LONGEST = 44
_LEAST = 0.003


def draw_profile(profile: Report, path: Any) -> None:
    """Write a picture: bars by operator, layer and part, and a roofline of the operators."""
    figure_module = require("matplotlib.figure", "draw", "the picture of a profile")
    figure = figure_module.Figure(figsize=(15, 10), layout="constrained")
    (first, second), (third, roof) = figure.subplots(2, 2)
    calls = max(profile.calls, 1)
    figure.suptitle(
        f"{profile.name}: {profile.calls} calls, {profile.seconds / calls * 1e3:.3g} ms each"
    )
    for axes, by in ((first, "operator"), (second, "layer"), (third, "part")):
        _bars(axes, profile.rows(by), by, calls)  # type: ignore[arg-type]
    _roofline(roof, profile.rows("operator"))
    target = Path(path_text(path))
    kind = target.suffix[1:].lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise GraphError(
            f"{target.name!r} is no kind of picture that matplotlib writes",
            remedy="end its name in .png, .svg or .pdf",
        )
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=110)
    write_file(path, content.getvalue())


def _bars(axes: Any, rows: list[Row], by: str, calls: int) -> None:
    shown = [row for row in rows if row.seconds][:_ROWS]
    names = [shortened(row.name, _LONGEST) for row in shown]
    positions = range(len(shown))
    bars = axes.barh(positions, [row.seconds / calls * 1e3 for row in shown], color="#4878a8")
    axes.bar_label(bars, [f" {row.share:.1%}" for row in shown], fontsize=8)
    axes.set_yticks(positions, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(f"by {by}")
    axes.set_xlabel("milliseconds a call")
    axes.margins(x=0.15)


def _roofline(axes: Any, rows: list[Row]) -> None:
    """Draw for each operator its speed over its work for each byte, below the machine's limit."""
    machine = limits()
    points = [row for row in rows if row.flops and row.traffic and row.share > _LEAST]
    edges = [2.0**e for e in range(-6, 12)]
    roof = [min(machine.flops, machine.bandwidth * e) * 1e-9 for e in edges]
    axes.loglog(edges, roof, color="#b04040", label="limit, measured here")
    for row in points:
        x, y = row.flops / row.traffic, row.flops / row.seconds * 1e-9
        axes.scatter([x], [y], s=30 + 600 * row.share, color="#4878a8", alpha=0.6)
        axes.annotate(row.name, (x, y), fontsize=8)
    axes.set_xlabel("floating-point operations for each byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("operators and the machine's limit")
    axes.legend(loc="lower right")
