"""Running what was planned: native graphs, and between them what runs on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ksym.compiler.flags import Mode
from ksym.compiler.fuse import fuse_loops
from ksym.compiler.loops import Loop
from ksym.compiler.lower import lower
from ksym.compiler.narrow import narrow
from ksym.compiler.plan import Part, is_leaf, partition
from ksym.graph import Tensor, topological_order
from ksym.ops.leaves import is_constant
from ksym.runtime import compiled
from ksym.runtime.arrays import DeviceArray, storage_of
from ksym.runtime.interpreter import blame, interpret
from ksym.runtime.loading import NativeError
from ksym.runtime.native import Executable
from ksym.variables import Variable


class Runnable(Protocol):
    """A part that is ready to run over fixed arrays."""

    @property
    def outputs(self) -> Sequence[DeviceArray]:
        """The arrays of what it computes, as the last run left them."""

    def run(self) -> None:
        """Compute the outputs from what the arrays of the inputs hold."""


class _Native:
    """A part as one native graph."""

    def __init__(
        self, part: Part, arrays: Mapping[Tensor, DeviceArray], shared: Executable | None = None
    ):
        self._part = part
        self._arrays = arrays
        graph = lower(part.outputs, part.inputs)
        try:
            self.executable = Executable(graph, arrays, shared)
        except NativeError as error:
            raise blame(part, arrays, error) from None
        self.outputs: Sequence[DeviceArray] = self.executable.outputs

    def run(self) -> None:
        try:
            self.executable.run()
        except NativeError as error:
            raise blame(self._part, self._arrays, error) from None


class _Interpreted:
    """A part computed node by node."""

    def __init__(self, part: Part, arrays: Mapping[Tensor, DeviceArray]):
        self._part = part
        self._arrays = arrays
        # Copies, since the result of a leaf is the leaf's own array.
        self.outputs: Sequence[DeviceArray] = [DeviceArray.empty(t.spec) for t in part.outputs]

    def run(self) -> None:
        found = interpret(self._part.outputs, self._arrays, self._part.inputs)
        for kept, array in zip(self.outputs, found, strict=True):
            kept.copy_from(array)


class _Fused:
    """A part as a loop that is compiled."""

    def __init__(self, loop: Loop, outputs: Sequence[Tensor], arrays: Mapping[Tensor, DeviceArray]):
        made = {tensor: DeviceArray.empty(tensor.spec) for tensor in outputs}
        self.outputs: Sequence[DeviceArray] = list(made.values())
        self.run = compiled.CompiledLoop(loop, {**arrays, **made}).run


class Program:
    """What computes some tensors, over arrays that are fixed from one run to the next.

    Args:
        tensors: What to compute; every shape is known, but for the results of dynamic operators.
        arrays: The array of each placeholder.
        mode: Native graphs, or node by node.
        shared: A program that never runs at the same time, to share working memory with.

    Attributes:
        parts: What runs, in order.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        arrays: Mapping[Tensor, DeviceArray],
        mode: Mode,
        shared: Program | None = None,
    ):
        # Here, because control flow runs programs of its own.
        from ksym.runtime.control import runner

        tensors = narrow(tensors)
        known = dict(arrays)
        for node in topological_order(tensors):
            leaf = node.outputs[0]
            if isinstance(leaf, Variable):
                known[leaf] = storage_of(leaf)
        self.parts: list[Runnable] = []
        self._sources: dict[Tensor, tuple[Runnable, int]] = {}
        fused = mode.runs(fuse_loops) and compiled.is_available()
        for part in partition(tensors, fuse_loops(tensors) if fused else ()):
            made: Runnable
            if part.work is not None:
                for tensor in part.inputs:
                    if is_constant(tensor) and tensor not in known:
                        assert tensor.value is not None
                        known[tensor] = DeviceArray.of(tensor.value)
            if isinstance(part.work, Loop):
                made = _Fused(part.work, part.outputs, known)
            elif part.work is not None:
                made = runner(part.work, part.outputs, known, mode)
            elif mode.kind == "native":
                made = _Native(part, known, _memory(shared, len(self.parts)))
            else:
                made = _Interpreted(part, known)
            self.parts.append(made)
            for position, (tensor, array) in enumerate(
                zip(part.outputs, made.outputs, strict=True)
            ):
                if not is_leaf(tensor.node):
                    known[tensor] = array
                self._sources[tensor] = (made, position)
        self._tensors = tuple(tensors)

    @property
    def outputs(self) -> list[DeviceArray]:
        """The arrays of the tensors, as the last run left them."""
        found = [self._sources[tensor] for tensor in self._tensors]
        return [part.outputs[position] for part, position in found]

    def run(self) -> None:
        """Compute the tensors."""
        for part in self.parts:
            part.run()


def _memory(shared: Program | None, position: int) -> Executable | None:
    """The working memory that the native graph at a position may use too."""
    if shared is None or position >= len(shared.parts):
        return None
    part = shared.parts[position]
    return part.executable if isinstance(part, _Native) else None
