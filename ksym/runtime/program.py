"""Running what was planned: native graphs, and between them what runs on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ksym.compiler.codegen.nnvm import lower
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.decompose import decompose, fused_graph
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.mode import Mode
from ksym.compiler.partition import Part, partition
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.given import is_drawn, is_leaf
from ksym.ops.leaves import is_constant
from ksym.runtime import jit
from ksym.runtime.arrays import DeviceArray, storage_of
from ksym.runtime.calls import Call, Tape, copy_call, loop_calls, product_call
from ksym.runtime.interpreter import blame, interpret
from ksym.runtime.loading import NativeError
from ksym.runtime.native import Executable, draw
from ksym.variables import Variable


class Runnable(Protocol):
    """A part that is ready to run over fixed arrays.

    One that consists of compiled code has the attribute `calls`, a list or None.
    """

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


class _Compiled:
    """A part as calls of compiled code, which may be made together with those of its neighbours."""

    def __init__(self, outputs: Sequence[Tensor]):
        self._made = {tensor: DeviceArray.empty(tensor.spec) for tensor in outputs}
        self.outputs: Sequence[DeviceArray] = list(self._made.values())
        self.calls: list[Call] = []

    @classmethod
    def of(cls, part: Part, arrays: Mapping[Tensor, DeviceArray]) -> _Compiled:
        """Return what does a loop or a product."""
        made = cls(part.outputs)
        known = {**arrays, **made._made}
        if isinstance(part.work, Kernel):
            made.calls = loop_calls(part.work, known)
        else:
            assert isinstance(part.work, Product)
            made.calls = [product_call(part.work, known)]
        return made

    @classmethod
    def copies(cls, leaves: Sequence[Tensor], arrays: Mapping[Tensor, DeviceArray]) -> _Compiled:
        """Return what copies leaves: their own memory changes with the next call."""
        made = cls(leaves)
        for tensor, array in made._made.items():
            made.calls += copy_call(array, arrays[tensor])
        return made

    def run(self) -> None:
        Tape(self.calls).run()


class Program:
    """What computes some tensors, over arrays that are fixed from one run to the next.

    Args:
        tensors: What to compute; every shape is known, but for the results of dynamic operators.
        arrays: The array of each placeholder.
        mode: Native graphs, or node by node.
        shared: A program that never runs at the same time, to share working memory with.

    Attributes:
        parts: What runs, in order.
        calls: All that it does, where it consists of compiled code; else None.
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

        tensors = merge_axes(tensors)
        known = dict(arrays)
        self._draws: list[tuple[Node, DeviceArray]] = []
        for node in topological_order(tensors):
            leaf = node.outputs[0]
            if isinstance(leaf, Variable):
                known[leaf] = storage_of(leaf)
            elif is_drawn(node):
                known[leaf] = DeviceArray.empty(leaf.spec)
                self._draws.append((node, known[leaf]))
        self.parts: list[Runnable] = []
        self._sources: dict[Tensor, tuple[Runnable, int]] = {}
        fused = mode.runs(fuse_loops) and jit.is_available()
        leaves: list[Tensor] = []
        if fused:
            tensors, regions = fused_graph(tensors, mode.runs(decompose))
            leaves = [t for t in dict.fromkeys(tensors) if is_leaf(t.node)]
            parts = partition([t for t in tensors if not is_leaf(t.node)], regions)
        else:
            parts = partition(tensors)
        for part in parts:
            made: Runnable
            if part.work is not None:
                _hold_constants(part.inputs, known)
            if isinstance(part.work, Kernel | Product):
                made = _Compiled.of(part, known)
            elif part.work is not None:
                made = runner(part.work, part.outputs, known, mode)
            elif mode.kind == "native":
                made = _Native(part, known, _memory(shared, len(self.parts)))
            else:
                made = _Interpreted(part, known)
            self._add(made, part.outputs)
            pairs = zip(part.outputs, made.outputs, strict=True)
            known.update((t, array) for t, array in pairs if not is_leaf(t.node))
        if leaves:
            _hold_constants(leaves, known)
            self._add(_Compiled.copies(leaves, known), leaves)
        self._tensors = tuple(tensors)
        self._runs, self.calls = _joined(self.parts)
        if self._draws:
            self.calls = None

    def _add(self, made: Runnable, outputs: Sequence[Tensor]) -> None:
        self.parts.append(made)
        self._sources.update((tensor, (made, at)) for at, tensor in enumerate(outputs))

    @property
    def outputs(self) -> list[DeviceArray]:
        """The arrays of the tensors, as the last run left them."""
        found = [self._sources[tensor] for tensor in self._tensors]
        return [part.outputs[position] for part, position in found]

    def run(self) -> None:
        """Compute the tensors."""
        for node, array in self._draws:
            array.write(draw(node))
        for run in self._runs:
            run()


def _hold_constants(tensors: Sequence[Tensor], known: dict[Tensor, DeviceArray]) -> None:
    """Give constants arrays, for what does not have them as a part of itself."""
    for tensor in tensors:
        if is_constant(tensor) and tensor not in known:
            assert tensor.value is not None
            known[tensor] = DeviceArray.of(tensor.value)


def _joined(parts: Sequence[Runnable]) -> tuple[list[Callable[[], None]], list[Call] | None]:
    """Return what to run for parts, neighbours that are compiled at once, and all as calls."""
    runs: list[Callable[[], None]] = []
    together: list[Call] = []
    everything: list[Call] | None = []
    for part in parts:
        calls: list[Call] | None = getattr(part, "calls", None)
        if calls is not None:
            together += calls
            if everything is not None:
                everything += calls
            continue
        everything = None
        if together:
            runs.append(Tape(together).run)
            together = []
        runs.append(part.run)
    if together:
        runs.append(Tape(together).run)
    return runs, everything


def _memory(shared: Program | None, position: int) -> Executable | None:
    """The working memory that the native graph at a position may use too."""
    if shared is None or position >= len(shared.parts):
        return None
    part = shared.parts[position]
    return part.executable if isinstance(part, _Native) else None
