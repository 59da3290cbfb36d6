"""The bodies of loops and branches: compiled once, run as often as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ksym import shapes
from ksym.compiler import optimize
from ksym.compiler.mode import Mode
from ksym.compiler.specialize import Rest, check_sizes, specialize, split
from ksym.graph import Tensor, collection_paused
from ksym.ops.leaves import placeholder
from ksym.recent import Recent
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.program import Program

SIZES = 16
"""For how many combinations of dynamic sizes a body keeps what comes after them compiled."""


def compile_body(
    wanted: Sequence[Tensor],
    arrays: Mapping[Tensor, DeviceArray],
    mode: Mode,
    given: Mapping[Tensor, Tensor] | None = None,
) -> Program | Staged:
    """Return what computes some of a body's outputs; arrays gives those of its inputs."""
    with collection_paused():
        tensors, rest = split(specialize(wanted, given or {}))
        tensors = optimize(tensors, mode.passes)
        check_sizes(tensors)
        program = Program(tensors, arrays, mode)
        return program if rest is None else Staged(program, rest, mode)


class Staged:
    """A body with dynamic operators: what comes after them is compiled for the sizes they give."""

    calls = None

    def __init__(self, first: Program, rest: Rest, mode: Mode):
        self._first = first
        self._rest = rest
        self._mode = mode
        self._later: Recent[tuple[list[DeviceArray], Program | Staged]] = Recent(SIZES)
        self.outputs: Sequence[DeviceArray] = ()

    def run(self) -> None:
        """Compute the outputs from what the arrays of the inputs hold."""
        self._first.run()
        found = self._first.outputs
        sizes = tuple(array.spec.shape for array in found)
        feeds, later = self._later.get(sizes, lambda: self._compiled(sizes))
        for feed, array in zip(feeds, found, strict=True):
            feed.copy_from(array)
        later.run()
        self.outputs = later.outputs

    def _compiled(
        self, sizes: Sequence[shapes.Shape]
    ) -> tuple[list[DeviceArray], Program | Staged]:
        given = {
            slot: placeholder(shape, slot.dtype, name=slot.name)
            for slot, shape in zip(self._rest.slots, sizes, strict=True)
        }
        arrays = {tensor: DeviceArray.empty(tensor.spec) for tensor in given.values()}
        feeds = list(arrays.values())
        return feeds, compile_body(self._rest.outputs, arrays, self._mode, given)
