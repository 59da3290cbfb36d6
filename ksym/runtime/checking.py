"""Checking what the compiler does: each pass's result against the graph as it was before any.

Both are computed node by node, with the values of a call, and then what is really run is compared
with them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ksym import dtypes
from ksym.compiler import Pass
from ksym.compiler.mode import Mode
from ksym.errors import ExecutionError
from ksym.graph import Tensor, topological_order
from ksym.loops.body import Body
from ksym.ops.random.streams import RandomStream, random_streams
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.program import Program

TOLERANCES = {"float16": 2e-2, "float32": 2e-4, "float64": 1e-9}
"""How far results may be apart, relative to the largest number of a tensor; others are equal."""


class Check:
    """The graph as it was, and what it computes from the values of a call.

    Args:
        tensors: What is computed.
        values: The value of each placeholder.
    """

    def __init__(self, tensors: Sequence[Tensor], values: Mapping[Tensor, np.ndarray]):
        self._tensors = tuple(tensors)
        self._arrays = {
            tensor: DeviceArray.of(np.asarray(value, tensor.dtype))
            for tensor, value in values.items()
        }
        self._streams = [(stream, stream.get_state()) for stream in _streams(tensors)]
        self.expected = self._values(tensors)
        self.rewind()

    def rewind(self) -> None:
        """Have random numbers drawn again."""
        for stream, state in self._streams:
            stream.set_state(state)

    def _values(self, tensors: Sequence[Tensor]) -> list[np.ndarray]:
        self.rewind()
        program = Program(tensors, self._arrays, Mode("interpret"))
        program.run()
        return [array.read() for array in program.outputs]

    def after(self, pass_: Pass, result: Sequence[Tensor]) -> None:
        """Check what a pass has made of the graph.

        Raises:
            ExecutionError: A tensor differs; the message names it and the pass.
        """
        self.compare(f"the pass {pass_.__name__}", self._values(result))
        self.rewind()

    def compare(self, what: str, found: Sequence[np.ndarray]) -> None:
        """Check values.

        Args:
            what: Where they come from.
            found: One for each tensor.

        Raises:
            ExecutionError: One differs.
        """
        for tensor, expected, value in zip(self._tensors, self.expected, found, strict=True):
            problem = _difference(expected, value)
            if problem:
                raise ExecutionError(
                    f"{what} changes {tensor.name}: {problem}",
                    remedy="turn the pass off with KSYM_FLAGS, and report it",
                ).located(tensor.node.operator.name, [tensor.spec], tensor.node.origin)


def _streams(tensors: Sequence[Tensor]) -> list[RandomStream]:
    """The streams that a graph draws from, in the bodies of its loops too."""
    found: dict[RandomStream, None] = {}
    waiting = [list(tensors)]
    while waiting:
        graph = waiting.pop()
        found.update(dict.fromkeys(random_streams(graph)))
        for node in topological_order(graph):
            bodies = [value for value in node.attributes.values() if isinstance(value, Body)]
            waiting.extend(list(body.outputs) for body in bodies)
    return list(found)


def _difference(expected: np.ndarray, found: np.ndarray) -> str | None:
    """What is wrong with an array, None if nothing is."""
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
