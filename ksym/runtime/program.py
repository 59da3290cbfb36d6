"""Binding a plan to arrays, and running it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.compile import compile_graph
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.mode import Mode
from ksym.compiler.plan import (
    CondWork,
    Copies,
    FrozenGraph,
    HostWork,
    Part,
    Plan,
    Rest,
    ScanWork,
    Target,
    WhileWork,
)
from ksym.errors import KsymError
from ksym.graph import Tensor, topological_order
from ksym.ops.given import is_leaf
from ksym.ops.leaves import is_constant
from ksym.recent import Recent
from ksym.runtime.arrays import DeviceArray, is_direct, storage_of
from ksym.runtime.calls import Call, Tape, copy_call, kernel_calls, product_call
from ksym.runtime.control import CondRun, HostRun, WhileRun
from ksym.runtime.interpreter import blame, interpret, unexplained
from ksym.runtime.loading import NativeError
from ksym.runtime.native import Executable, draw
from ksym.runtime.runnable import Runnable
from ksym.runtime.scan import ScanRun
from ksym.runtime.subnormal import FlushedSubnormals
from ksym.variables import Variable

SIZES = 16
"""For how many combinations of dynamic sizes the rest of a plan is kept compiled."""


def target(costs: Costs = DEFAULT) -> Target:
    """Return what the compiler has to know of the device in use.

    Args:
        costs: What things are taken to cost there.
    """
    return Target(is_direct(), costs)


class _Known(dict[Tensor, DeviceArray]):
    """The arrays of tensors; those of variables and constants are found when they are needed."""

    def __missing__(self, tensor: Tensor) -> DeviceArray:
        if isinstance(tensor, Variable):
            array = storage_of(tensor)
        elif is_constant(tensor):
            array = DeviceArray.of(np.asarray(tensor.value))
        else:
            raise KeyError(tensor)
        self[tensor] = array
        return array


class NativeRun:
    """A part that is a native graph of MXNet."""

    calls = None

    def __init__(self, part: Part, graph: NativeGraph, arrays: _Known, shared: Executable | None):
        self._part = part
        self._arrays = arrays
        try:
            self.executable = Executable(graph, arrays, shared)
        except NativeError as error:
            raise blame(part, arrays, error) from None
        self.outputs: Sequence[DeviceArray] = self.executable.outputs

    def run(self) -> None:
        """Compute the outputs."""
        try:
            self.executable.run()
        except NativeError as error:
            raise blame(self._part, self._arrays, error) from None


class StepByStepRun:
    """A part that is interpreted node by node."""

    calls = None

    def __init__(self, part: Part, arrays: _Known):
        self._part = part
        self._arrays = arrays
        # Copies, since the result of a leaf is the leaf's own array.
        self.outputs: Sequence[DeviceArray] = [DeviceArray.empty(t.spec) for t in part.outputs]

    def run(self) -> None:
        """Compute the outputs."""
        found = interpret(self._part.outputs, self._arrays, self._part.inputs)
        for kept, array in zip(self.outputs, found, strict=True):
            kept.copy_from(array)


class CompiledRun:
    """A part that is calls of compiled code, which are made together with those of neighbours."""

    def __init__(self, part: Part, arrays: _Known, costs: Costs):
        made = {tensor: DeviceArray.empty(tensor.spec) for tensor in part.outputs}
        self.outputs: Sequence[DeviceArray] = list(made.values())
        self.calls: list[Call] = []
        if isinstance(part.work, Copies):
            for tensor, array in made.items():
                self.calls += copy_call(array, arrays[tensor])
            return
        arrays.update(made)
        if isinstance(part.work, Kernel):
            self.calls = kernel_calls(part.work, arrays, costs)
        else:
            assert isinstance(part.work, Product)
            self.calls = [product_call(part.work, arrays, costs)]

    def run(self) -> None:
        """Compute the outputs."""
        Tape(self.calls).run()


class Program:
    """A plan over arrays that are fixed from one run to the next.

    Where the shape of a result is known only when it has been computed (a dynamic operator), the
    plan has a rest.  That is compiled for the shapes that turn up, and bound as a program of its
    own, which is kept for the next time.

    Args:
        plan: What to run.
        arrays: The array of each placeholder, and of whatever else is given.
        shared: A program that never runs at the same time, to share working memory with.
        limit: How many programs to keep for the rest.

    Attributes:
        plan: What it runs.
        parts: The parts, bound, in the order in which they run.
        outputs: The arrays of the plan's outputs; with a rest, those of its last run.
        calls: All that it does, where it consists of compiled code; else None.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: Mapping[Tensor, DeviceArray],
        shared: Program | None = None,
        limit: int = SIZES,
    ):
        self.plan = plan
        known = self._arrays = _Known(arrays)
        self._draws = [(node, DeviceArray.empty(node.outputs[0].spec)) for node in plan.drawn]
        known.update((node.outputs[0], array) for node, array in self._draws)
        self.parts: list[Runnable] = []
        self._sources: dict[Tensor, tuple[Runnable, int]] = {}
        for part in plan.parts:
            made = _bound(part, known, plan.target.costs, _memory(shared, len(self.parts)))
            self.parts.append(made)
            pairs = list(zip(part.outputs, made.outputs, strict=True))
            known.update((t, array) for t, array in pairs if not is_leaf(t.node))
            self._sources.update((t, (made, at)) for at, (t, _) in enumerate(pairs))
        self._runs, self.calls = _joined(self.parts)
        if self._draws:
            self.calls = None
        self.outputs: Sequence[DeviceArray] = self._found(plan.outputs)
        self._new = self._found(plan.copies.values())
        self._commits = self._committing()
        self._later: Recent[tuple[list[DeviceArray | None], Program]] = Recent(limit)
        self._last: Program = self
        # Tapes flush by themselves.
        alone = plan.rest is None and self.calls is not None
        self._subnormals = None if alone else FlushedSubnormals()

    @classmethod
    def prepare(
        cls,
        graph: FrozenGraph,
        given: Mapping[Tensor, Tensor],
        values: Sequence[np.ndarray | DeviceArray],
        shared: Program | None = None,
        limit: int = SIZES,
    ) -> tuple[list[DeviceArray | None], Program]:
        """Compile a graph for known shapes, and bind it.

        Args:
            graph: The graph.
            given: For each placeholder one of known shape, or a constant.
            values: The value of each, for a program that is checked.
            shared: As for `Program`.
            limit: As for `Program`.

        Returns:
            For each placeholder the array to put its value into, None where it is not read; and the
            program.
        """
        plan = compile_graph(graph, given)
        feeds = feeds_for(plan, given.values())
        return list(feeds.values()), cls(plan, read_only(feeds), shared, limit)

    def _found(self, tensors: Iterable[Tensor]) -> list[DeviceArray]:
        """Return the arrays of tensors that the parts compute, as the last run left them."""
        found = [self._sources[tensor] for tensor in tensors]
        return [part.outputs[position] for part, position in found]

    def _committing(self) -> list[Callable[[], object]]:
        """Return what gives variables their new values: kernels that read the old ones, copies."""
        plan = self.plan
        targets = [storage_of(variable) for variable in plan.copies]
        copies = list(zip(targets, self._new, strict=True))
        if not is_direct():
            return [functools.partial(target.copy_from, array) for target, array in copies]
        arrays = _Known(self._arrays)
        arrays.update(zip(plan.operands, self._found(plan.operands.values()), strict=True))
        costs = plan.target.costs
        calls = [call for kernel in plan.kernels for call in kernel_calls(kernel, arrays, costs)]
        calls += [call for target, array in copies for call in copy_call(target, array)]
        return [Tape(calls).run] if calls else []

    def __call__(
        self, feeds: Sequence[DeviceArray | None], values: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the outputs computed from values, and carry out the updates.

        Args:
            feeds: The arrays that `prepare` returned.
            values: A value for each.

        Raises:
            ExecutionError: MXNet fails; no variable has changed then.
        """
        subnormals = self._subnormals
        if subnormals is not None:
            subnormals.save()
        try:
            if subnormals is not None:
                subnormals.flush()
            for feed, value in zip(feeds, values, strict=True):
                if feed is not None:
                    feed.write(value)
            self.run()
            results = [array.read() for array in self.outputs]
            self.commit()
            return results
        except NativeError as error:  # of an engine that goes on while Python does, so it is late
            raise self._blamed(error) from None
        finally:
            if subnormals is not None:
                subnormals.restore()

    def run(self) -> None:
        """Compute the outputs from what the arrays of the inputs hold; change no variable."""
        for node, array in self._draws:
            array.write(draw(node))
        for run in self._runs:
            run()
        if self.plan.rest is not None:
            self._continue(self.plan.rest)

    def _continue(self, rest: Rest) -> None:
        """Run the rest, compiled for the shapes that the outputs have now."""
        found = self._found(self.plan.outputs)
        sizes = tuple(array.spec.shape for array in found)
        feeds, later = self._later.get(
            sizes,
            lambda: self.prepare(rest.graph, rest.given(sizes), found, limit=self._later.limit),
        )
        for feed, array in zip(feeds, found, strict=True):
            if feed is not None:
                feed.copy_from(array)
        self._last = later
        later.run()
        self.outputs = later.outputs

    def commit(self) -> None:
        """Give the variables their new values; from here on nothing can fail."""
        if self._last is not self:
            self._last.commit()
            return
        for array in self._new:
            array.wait()
        for commit in self._commits:
            commit()

    def _blamed(self, error: NativeError) -> KsymError:
        """Return an error that names the operator behind a failure of the last run."""
        last = self
        while last._last is not last:
            last = last._last
        try:
            interpreted(last.plan.tensors, last._arrays)
        except KsymError as found:
            found.breaks = True
            return found
        return unexplained(error)


def interpreted(
    tensors: Sequence[Tensor], arrays: Mapping[Tensor, DeviceArray]
) -> list[np.ndarray]:
    """Return the values of tensors of known shape, computed node by node.

    Args:
        tensors: What to compute.
        arrays: The array of each placeholder.
    """
    graph = FrozenGraph(tensors, (), Mode("interpret"), target())
    program = Program(compile_graph(graph, {}), arrays)
    program.run()
    return [array.read() for array in program.outputs]


def feeds_for(plan: Plan, placeholders: Iterable[Tensor]) -> dict[Tensor, DeviceArray | None]:
    """Return an array for each placeholder that a plan reads, None for the others."""
    read = {node for node in topological_order(plan.tensors) if not node.inputs}
    return {
        tensor: DeviceArray.empty(tensor.spec)
        if tensor.node in read and not is_constant(tensor)
        else None
        for tensor in placeholders
    }


def read_only(feeds: Mapping[Tensor, DeviceArray | None]) -> dict[Tensor, DeviceArray]:
    """Return the feeds that there are."""
    return {tensor: array for tensor, array in feeds.items() if array is not None}


def _bound(part: Part, arrays: _Known, costs: Costs, shared: Executable | None) -> Runnable:
    """Return a part that is ready to run."""
    work = part.work
    if isinstance(work, NativeGraph):
        return NativeRun(part, work, arrays, shared)
    if isinstance(work, Kernel | Product | Copies):
        return CompiledRun(part, arrays, costs)
    if isinstance(work, HostWork):
        return HostRun(part, work, arrays)
    if isinstance(work, ScanWork):
        return ScanRun(part, work, arrays, Program)
    if isinstance(work, WhileWork):
        return WhileRun(part, work, arrays, Program)
    if isinstance(work, CondWork):
        return CondRun(part, work, arrays, Program)
    return StepByStepRun(part, arrays)


def _joined(parts: Sequence[Runnable]) -> tuple[list[Callable[[], None]], list[Call] | None]:
    """Return what to run for parts, neighbours that are compiled at once, and all as calls."""
    runs: list[Callable[[], None]] = []
    together: list[Call] = []
    everything: list[Call] | None = []
    for part in parts:
        if part.calls is not None:
            together += part.calls
            if everything is not None:
                everything += part.calls
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
    """Return the native graph whose working memory the one at a position may use too."""
    if shared is None or position >= len(shared.parts):
        return None
    part = shared.parts[position]
    return part.executable if isinstance(part, NativeRun) else None
