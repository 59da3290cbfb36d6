"""Programs whose parts are timed one by one."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.compiler.plan import Rest
from ksym.runtime.arrays import DeviceArray, is_direct, storage_of
from ksym.runtime.calls import Call, Tape, copy_call
from ksym.runtime.checking import CheckedProgram
from ksym.runtime.guard import GuardedProgram
from ksym.runtime.native import draw
from ksym.runtime.program import Program

EVENTS = 20_000
"""The number of events of a program, the last ones, that are kept for a trace."""

DRAWS = "random numbers"
COPIES = "copies to variables"
FOLDED = "values of variables only"

Unit = int | str
"""What is timed: the number of a part; after those, of an update's kernel; or what it is."""


class Event(NamedTuple):
    """One run of a unit.

    Attributes:
        unit: The unit; None for a whole call.
        start: When it began, in nanoseconds of `time.perf_counter_ns`.
        end: When it ended.
    """

    unit: Unit | None
    start: int
    end: int


class ProfiledProgram(Program):
    """A program that runs its parts one by one, and takes the time of each.

    Attributes:
        seconds: The time of all runs of each unit.
        runs: The number of runs of each unit.
        calls_made: The number of calls.
        whole: The time of all calls.
        events: The last events.
        continued: The programs that it was continued by, for sizes that depend on data.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self.seconds: dict[Unit, float] = {}
        self.runs: dict[Unit, int] = {}
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.calls_made = 0
        self.whole = 0.0
        self.continued: list[ProfiledProgram] = []
        super().__init__(*args, **kwargs)
        self._timed = [
            self._clocked(number, _run_of(part.calls) or part.run, part)
            for number, part in enumerate(self.parts)
        ]
        if self._folded is not None:
            self._timed.insert(0, self._clocked(FOLDED, self._folded.refresh))

    def _clocked(self, unit: Unit, run: Callable[[], object], part: Any = None) -> Any:
        """Return a function that runs a unit and adds its time."""

        def timed() -> None:
            start = time.perf_counter_ns()
            run()
            if part is not None:
                for array in part.outputs:
                    array.wait()
            self._add(unit, start)

        return timed

    def _add(self, unit: Unit, start: int) -> None:
        end = time.perf_counter_ns()
        self.seconds[unit] = self.seconds.get(unit, 0.0) + (end - start) * 1e-9
        self.runs[unit] = self.runs.get(unit, 0) + 1
        self.events.append(Event(unit, start, end))

    def _committing(self) -> list[Callable[[], object]]:
        if not is_direct():
            runs = super()._committing()
            return [self._clocked(COPIES, run) for run in runs]
        runs = []
        for number, kernel in enumerate(self.plan.kernels, len(self.parts)):
            runs.append(self._clocked(number, Tape(self._update_calls(kernel)).run))
        targets = map(storage_of, self.plan.copies)
        copies = [
            call
            for target, array in zip(targets, self._new, strict=True)
            for call in copy_call(target, array)
        ]
        if copies:
            runs.append(self._clocked(COPIES, Tape(copies).run))
        return runs

    def __call__(
        self, feeds: Sequence[DeviceArray | None], values: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the outputs computed from values, and carry out the updates, as `Program`."""
        start = time.perf_counter_ns()
        results = super().__call__(feeds, values)
        end = time.perf_counter_ns()
        self.calls_made += 1
        self.whole += (end - start) * 1e-9
        self.events.append(Event(None, start, end))
        return results

    def run(self) -> None:
        """Compute the outputs from the contents of the inputs' arrays; change no variable."""
        if self._draws:
            start = time.perf_counter_ns()
            for node, array in self._draws:
                array.write(draw(node))
            self._add(DRAWS, start)
        for timed in self._timed:
            timed()
        if self.plan.rest is not None:
            self._continue(self.plan.rest)

    def _continue(self, rest: Rest) -> None:
        super()._continue(rest)
        last = self._continued_by
        if isinstance(last, ProfiledProgram) and last not in self.continued:
            self.continued.append(last)


def _run_of(calls: Sequence[Call] | None) -> Callable[[], object] | None:
    """Return the run of a compiled part; None for another one."""
    return Tape(calls).run if calls else None


@functools.cache
def kind_of(check: bool, nan: bool, profiled: bool) -> type[Program]:
    """Return the kind of program that is checked, guarded against NaN, or profiled, or several."""
    chosen = ((profiled, ProfiledProgram), (nan, GuardedProgram), (check, CheckedProgram))
    kinds: list[type[Program]] = [kind for on, kind in chosen if on]
    if len(kinds) > 1:
        return type("MixedProgram", tuple(kinds), {})
    return kinds[0] if kinds else Program
