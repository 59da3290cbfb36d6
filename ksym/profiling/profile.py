"""The profile of a function: what its calls took, by operator, layer, line, and part."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from typing import Any, get_args

from ksym.compiler.plan import title_of
from ksym.errors import GraphError
from ksym.graph import Tensor, topological_order
from ksym.profiling.breakdown import (
    Piece,
    byte_count,
    pieces_of_part,
    pieces_of_update,
    working_memory,
)
from ksym.profiling.limits import limits
from ksym.profiling.picture import draw_profile
from ksym.profiling.program import ProfiledProgram
from ksym.profiling.rows import By, Row, Unit, bytes_text, group_of, shortened, time_text
from ksym.profiling.trace import write_trace
from ksym.variables import Variable

LIMIT = 15
"""The number of rows of a table, unless the user gives another."""


class Profile:
    """The times of a function's calls since it is profiled; printed, a table by operator.

    `ksym.function(..., profile=True)` makes one.  Each part of a plan is timed by itself at each
    call; what is inside of parts is measured when it is asked for, on the arrays as the last call
    left them.

    Args:
        name: The name of the function.
    """

    def __init__(self, name: str):
        self.name = name
        self._programs: list[ProfiledProgram] = []
        self._units: dict[ProfiledProgram, tuple[int, list[Unit]]] = {}

    def add(self, program: Any) -> None:
        """Add a program, which a combination of shapes was compiled to."""
        if not self._programs and self in _of_process:
            # After MXNet is loaded: before it is gone at the end, the profile is shown.
            atexit.unregister(_show)
            atexit.register(_show)
        self._programs.append(program)

    @property
    def programs(self) -> list[ProfiledProgram]:
        """The programs of all combinations of shapes, and what continues them."""
        found, waiting = [], list(self._programs)
        while waiting:
            program = waiting.pop(0)
            found.append(program)
            waiting += program.continued
        return found

    @property
    def calls(self) -> int:
        """The number of calls."""
        return sum(program.calls_made for program in self._programs)

    @property
    def seconds(self) -> float:
        """The time of all calls."""
        return sum(program.whole for program in self._programs)

    def units(self, program: ProfiledProgram) -> list[Unit]:
        """Return the parts and updates of a program, broken down to nodes."""
        done, units = self._units.get(program, (-1, []))
        if done != program.calls_made:
            units = [*_units_of(program)]
            self._units[program] = program.calls_made, units
        return units

    def rows(self, by: By = "operator") -> list[Row]:
        """Return what each operator, layer, line or part took, the most time first.

        Args:
            by: ``"operator"``; ``"layer"``, the name scope, which is the layer with Keras;
                ``"line"`` of the user's code; or ``"part"`` of the plan.

        Raises:
            GraphError: There is no such grouping.
        """
        if by not in get_args(By):
            raise GraphError(f"by is {by!r}", remedy=f"give one of {', '.join(get_args(By))}")
        found: dict[str, list[float]] = {}
        least = limits().seconds
        for program in self.programs:
            for unit in self.units(program):
                for piece in unit.pieces:
                    sums = found.setdefault(group_of(unit, piece, by), [0.0] * 5)
                    work = (piece.seconds, piece.flops, piece.traffic)
                    for position, value in enumerate(work):
                        sums[position] += value * unit.runs
                    sums[3] += piece.memory
                    sums[4] += least(piece.flops, piece.traffic) * unit.runs
        outside = self.seconds - sum(sums[0] for sums in found.values())
        found["(copying in and out, and Python)"] = [max(outside, 0.0), 0.0, 0.0, 0.0, 0.0]
        whole = self.seconds or 1.0
        rows = [
            Row(name, s, s / whole, flops, traffic, memory, least / s if s else 0.0)
            for name, (s, flops, traffic, memory, least) in found.items()
        ]
        return sorted(rows, key=lambda row: -row.seconds)

    def table(self, by: By = "operator", limit: int | None = LIMIT) -> str:
        """Return `rows` as text, with the times and work of one call.

        Args:
            by: As for `rows`.
            limit: The number of rows; None for all.
        """
        rows, calls = self.rows(by), self.calls
        if not calls:
            return f"{self.name}: no calls yet"
        machine = limits()
        shown = rows if limit is None else rows[:limit]
        shown = [row._replace(name=shortened(row.name)) for row in shown]
        width = max(len(by), *(len(row.name) for row in shown))
        lines = [
            f"{self.name}: {calls} call(s), {time_text(self.seconds / calls)} each",
            f"{by:{width}}  time/call  share   GFLOP/s      GB/s  of limit     memory",
        ]
        for row in shown:
            s = row.seconds or 1.0
            lines.append(
                f"{row.name:{width}}  {time_text(row.seconds / calls):>9}  {row.share:5.1%}  "
                f"{row.flops / s * 1e-9:8.2f}  {row.traffic / s * 1e-9:8.2f}  {row.limit:8.1%}  "
                f"{bytes_text(row.memory):>9}"
            )
        if len(rows) > len(shown):
            lines.append(f"... {len(rows) - len(shown)} more; limit=None shows all")
        lines.append(
            f"the limit, measured here: {machine.flops * 1e-9:.0f} GFLOP/s, "
            f"{machine.bandwidth * 1e-9:.1f} GB/s"
        )
        native = sum(working_memory(run) for program in self.programs for run in program.parts)
        lines.append(
            f"memory: variables {bytes_text(self._variables())}, inside of native graphs "
            f"{bytes_text(native)}"
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def _variables(self) -> float:
        found: set[Tensor] = set()
        for program in self.programs:
            if program.source is not None:
                graph = program.source.graph
                found.update(graph.variables)
                leaves = (node.outputs[0] for node in topological_order(graph.tensors))
                found.update(leaf for leaf in leaves if isinstance(leaf, Variable))
        return float(sum(map(byte_count, found)))

    def save_trace(self, path: Any) -> None:
        """Write the last calls as a trace that Chrome (chrome://tracing) and Perfetto open.

        Args:
            path: The file to write, by convention ``.json``.

        Raises:
            FileError: It cannot be written.
        """
        write_trace(self, path)

    def plot(self, path: Any) -> None:
        """Draw the shares by operator, layer and part, and how far from the limit operators are.

        Args:
            path: The picture to write: ``.png``, ``.svg`` or what else matplotlib writes.

        Raises:
            MissingPackageError: matplotlib is not installed.
            GraphError: matplotlib does not write such files.
            FileError: The file cannot be written.
        """
        draw_profile(self, path)


def _units_of(program: ProfiledProgram) -> Iterator[Unit]:
    plan = program.plan
    values: dict[Any, Any] = {}
    if program.source is not None and plan.rest is None:
        variables = program.source.graph.variables
        new = plan.tensors[len(plan.tensors) - len(variables) :]
        values = dict(zip(variables, new, strict=True))
    for key, seconds in program.seconds.items():
        count = max(program.runs.get(key, 0), 1)
        each = seconds / count
        if isinstance(key, str):
            pieces = [Piece(None, each, 0.0, 0.0, 0.0)]
            yield Unit(key, key, key, pieces, seconds, count)
        elif key < len(plan.parts):
            part = plan.parts[key]
            pieces = pieces_of_part(part, program.parts[key], program._arrays, each)
            title = title_of(part.work, part.nodes)
            yield Unit(key, f"part {key + 1}", title, pieces, seconds, count)
        else:
            number = key - len(plan.parts)
            kernel = plan.kernels[number]
            pieces = pieces_of_update(kernel, values, each)
            yield Unit(key, f"update {number + 1}", title_of(kernel, ()), pieces, seconds, count)


ENVIRONMENT = "KSYM_PROFILE"

MOST = 5
"""The number of functions that are shown when the process ends, those that took the most time."""

_of_process: list[Profile] = []


def profile_of(name: str, asked: bool | None) -> Profile | None:
    """Return the profile of a new function; None if it is not profiled.

    Args:
        name: The name of the function.
        asked: Whether the user asks for it; None to let KSYM_PROFILE decide.  What that asks for is
            shown when the process ends.

    Raises:
        GraphError: KSYM_PROFILE is neither 0 nor 1.
    """
    if asked is not None:
        return Profile(name) if asked else None
    value = os.environ.get(ENVIRONMENT, "0") or "0"
    if value not in ("0", "1"):
        raise GraphError(f"{ENVIRONMENT} is {value!r}", remedy=f"set {ENVIRONMENT}=1, or 0")
    if value == "0":
        return None
    _of_process.append(Profile(name))
    return _of_process[-1]


def _show() -> None:
    """Print the profiles of the functions that took the most time."""
    called = sorted((p for p in _of_process if p.calls), key=lambda p: -p.seconds)
    for profile in called[:MOST]:
        print(f"\n{profile}", file=sys.stderr)
    if len(called) > MOST:
        print(f"\n... {len(called) - MOST} more functions were called", file=sys.stderr)
