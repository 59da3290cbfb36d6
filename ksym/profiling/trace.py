"""Writing a profile in the trace format of Chrome and Perfetto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ksym.output import write_file
from ksym.profiling.program import Event
from ksym.profiling.rows import Report, Unit, layer_of


def write_trace(profile: Report, path: Any) -> None:
    """Write the last calls of a function: each call, in it its parts, and in these their nodes.

    The nodes of a part follow each other in the trace, each for its share of the part's time;
    within a kernel they really run together, element by element.
    """
    events = [{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "ksym"}}]
    for thread, program in enumerate(profile.programs, 1):
        units = {unit.key: unit for unit in profile.units(program)}
        named = f"{profile.name}, {len(program.plan.parts)} parts"
        events.append(
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": {"name": named}}
        )
        for event in program.events:
            if event.unit is None:
                events.append(_slice(profile.name, "call", event.start, event.end, thread, {}))
            elif event.unit in units:
                events += _unit_slices(units[event.unit], event, thread)
    text = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
    write_file(path, text.encode())


def _unit_slices(unit: Unit, event: Event, thread: int) -> Iterator[dict[str, Any]]:
    """Yield the slices of a part and of its nodes."""
    flops, traffic = (sum(getattr(p, k) for p in unit.pieces) for k in ("flops", "traffic"))
    said = {"what": unit.title, "flops": flops, "bytes": traffic}
    yield _slice(unit.name, "part", event.start, event.end, thread, said)
    whole = sum(piece.seconds for piece in unit.pieces)
    start = float(event.start)
    for piece in unit.pieces:
        if piece.node is None or not piece.seconds:
            continue
        end = start + (event.end - event.start) * piece.seconds / whole
        said = {
            "result": str(piece.node.outputs[0].spec),
            "line": f"{piece.node.origin.filename}:{piece.node.origin.line}",
            "layer": layer_of(piece.node),
            "flops": piece.flops,
            "bytes": piece.traffic,
        }
        yield _slice(piece.node.operator.name, "operator", start, end, thread, said)
        start = end


def _slice(
    name: str, kind: str, start: float, end: float, thread: int, said: dict[str, Any]
) -> dict[str, Any]:
    """Return a complete event; times are in microseconds."""
    return {
        "name": name,
        "cat": kind,
        "ph": "X",
        "ts": start * 1e-3,
        "dur": (end - start) * 1e-3,
        "pid": 1,
        "tid": thread,
        "args": said,
    }
