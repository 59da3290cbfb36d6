"""Checking the compiler: compare the result of each pass with the graph before all passes.

Both are computed node by node, with the values of a call.  The program that really runs is compared
with them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.compiler import Pass
from ksym.compiler.compile import compile_graph
from ksym.compiler.plan import FrozenGraph, Source
from ksym.errors import ExecutionError
from ksym.graph import Tensor, topological_order
from ksym.loops.body import Body
from ksym.ops.random.streams import RandomStream, random_streams
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray, feeds_for, storage_of
from ksym.runtime.native import draw
from ksym.runtime.program import Program, interpreted
from ksym.runtime.specializations import SPECIALIZATIONS
from ksym.variables import Variable

TOLERANCES = {"float16": 2e-2, "float32": 2e-4, "float64": 1e-9}
"""The largest difference of floats, relative to the largest element; other dtypes are equal."""


class CheckedProgram(Program):
    """A program that is checked when it is compiled, with the values of its first call."""

    @classmethod
    def prepare(
        cls,
        graph: FrozenGraph,
        given: Mapping[Tensor, Tensor],
        values: Sequence[np.ndarray | DeviceArray],
        shared: Program | None = None,
        limit: int = SPECIALIZATIONS,
    ) -> tuple[list[DeviceArray | None], Program]:
        """Compile a graph for known shapes, bind it, and check each pass and the bound program.

        Raises:
            ExecutionError: A tensor differs; the message names it and the pass.
        """
        found = [v.read() if isinstance(v, DeviceArray) else v for v in values]
        check = Check(dict(zip(given.values(), found, strict=True)))
        plan = compile_graph(graph, given, check)
        feeds = feeds_for(plan, given.values())
        program = cls(plan, feeds, shared, limit, Source(graph, given))
        for feed, value in zip(feeds.values(), found, strict=True):
            if feed is not None:
                feed.write(value)
        program._verify(check, graph.variables)
        return list(feeds.values()), program

    def _verify(self, check: Check, variables: Sequence[Variable]) -> None:
        """Compare a run with the values computed node by node; variables keep their values.

        Raises:
            ExecutionError: A tensor differs.
        """
        check.rewind()
        self._started = loading.failures()
        for node, array in self._draws:
            array.write(draw(node))
        for run in self._runs:
            run()
        found = [array.read() for array in self._found(self.plan.outputs)]
        if self.plan.rest is None:
            targets = [storage_of(variable) for variable in variables]
            before = [target.read() for target in targets]
            self.commit()
            found += [target.read() for target in targets]
            for target, value in zip(targets, before, strict=True):
                target.write(value)
        # A communication that is kept for the other ranks is no output of the plan.
        found += check.expected[len(found) :]
        check.rewind()
        check.compare("what is run, fused or natively,", found)


class Check:
    """The graph before all passes, and its values for those of a call.

    Args:
        values: The value of each placeholder.
    """

    def __init__(self, values: Mapping[Tensor, np.ndarray]):
        self._arrays = {
            tensor: DeviceArray.of(np.asarray(value, tensor.dtype))
            for tensor, value in values.items()
        }
        self._tensors: Sequence[Tensor] = ()
        self._streams: list[tuple[RandomStream, dict[str, Any]]] = []
        self.expected: list[np.ndarray] = []

    def __call__(self, done: Pass | None, result: Sequence[Tensor]) -> None:
        """Store the graph before all passes, or check the result of a pass.

        Raises:
            ExecutionError: A tensor differs; the message names it and the pass.
        """
        if done is None:
            self._tensors = tuple(result)
            self._streams = [(stream, stream.get_state()) for stream in streams_in(result)]
            self.expected = self._values(result)
        else:
            self.compare(f"the pass {done.name}", self._values(result))
        self.rewind()

    def rewind(self) -> None:
        """Reset the random streams, so that the same numbers are drawn again."""
        for stream, state in self._streams:
            stream.set_state(state)

    def _values(self, tensors: Sequence[Tensor]) -> list[np.ndarray]:
        self.rewind()
        return interpreted(tensors, self._arrays)

    def compare(self, what: str, found: Sequence[np.ndarray]) -> None:
        """Compare values with the expected ones.

        Args:
            what: The origin of the values, for the message.
            found: A value for each tensor.

        Raises:
            ExecutionError: A value differs.
        """
        for tensor, expected, value in zip(self._tensors, self.expected, found, strict=True):
            problem = _difference(expected, value)
            if problem:
                raise ExecutionError(
                    f"{what} changes {tensor.name}: {problem}",
                    remedy="turn the pass off with KSYM_FLAGS, and report it",
                ).located(tensor.node.operator.name, [tensor.spec], tensor.node.origin)


def streams_in(tensors: Sequence[Tensor]) -> list[RandomStream]:
    """Return the streams that a graph draws from, also in the bodies of its loops."""
    found: dict[RandomStream, None] = {}
    waiting = [list(tensors)]
    while waiting:
        graph = waiting.pop()
        found.update(dict.fromkeys(random_streams(graph)))
        for node in topological_order(graph):
            bodies = [value for value in node.attributes.values() if isinstance(value, Body)]
            waiting.extend(list(body.outputs) for body in bodies)
    return list(found)


@contextmanager
def streams_kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let the streams that a graph draws from go on afterwards from where they were before."""
    states = [(stream, stream.get_state()) for stream in streams_in(tensors)]
    try:
        yield
    finally:
        for stream, state in states:
            stream.set_state(state)


def _difference(expected: np.ndarray, found: np.ndarray) -> str | None:
    """Return the difference between two arrays in words, None if there is none."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
    tolerance = TOLERANCES.get(dtypes.name_of(expected), 0.0)
    finite = np.abs(expected[np.isfinite(expected)])
    bound = tolerance * float(finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        same = np.isclose(found, expected, rtol=tolerance, atol=bound, equal_nan=True)
    if same.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{found[place]} instead of {expected[place]} at {place}, {(~same).sum()} in all"
