"""Programs: bind a plan to arrays, and run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.compile import compile_graph
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.mode import Mode
from ksym.compiler.plan import (
    CollectiveWork,
    CondWork,
    Copies,
    FrozenGraph,
    HostWork,
    Part,
    Plan,
    Rest,
    ScanWork,
    Source,
    Target,
    WhileWork,
)
from ksym.errors import ExecutionError, KsymError
from ksym.graph import Tensor
from ksym.ops.given import is_leaf
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray, copying, feeds_for, is_direct, made_for, storage_of
from ksym.runtime.calls import Call, Tape, copy_call, kernel_calls
from ksym.runtime.collective import CollectiveRun
from ksym.runtime.control import CondRun, HostRun, WhileRun
from ksym.runtime.folded import folded_values
from ksym.runtime.interpreter import unexplained
from ksym.runtime.loading import NativeError
from ksym.runtime.native import Executable, draw, draw_ahead
from ksym.runtime.parts import CompiledRun, KnownArrays, NativeRun, StepByStepRun, joined
from ksym.runtime.runnable import Runnable
from ksym.runtime.scan import ScanRun
from ksym.runtime.specializations import SPECIALIZATIONS, Compiled, Specializations
from ksym.runtime.subnormal import FlushedSubnormals
from ksym.variables import Variable


def target(costs: Costs = DEFAULT) -> Target:
    """Return the compiler's target for the device in use.

    Args:
        costs: The costs on the device.
    """
    direct = is_direct()
    return Target(direct, costs, fusible=not direct and loading.fuses())


class Program:
    """A plan that is bound to arrays, which are the same at each run.

    If the shape of a result is known only when it is computed (a dynamic operator), the plan has a
    rest.  The rest is compiled for the shapes of a run, and bound as a program of its own, which is
    kept for later runs.

    Args:
        plan: The plan.
        arrays: The array of each placeholder that is read, and of other tensors that are given.
        shared: Another program, which never runs at the same time: both use one working memory.
        limit: The number of specialisations of the rest to keep.
        source: What the plan was compiled from, if it is not the plan of a body.

    Attributes:
        plan: The plan.
        source: What the plan was compiled from.
        parts: The bound parts, in the order in which they run.
        outputs: The arrays of the plan's outputs; with a rest, those of its last run.
        calls: The calls that the whole program consists of; None if some part is not compiled.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: Mapping[Tensor, DeviceArray | None],
        shared: Program | None = None,
        limit: int = SPECIALIZATIONS,
        source: Source | None = None,
    ):
        self.plan = plan
        self.source = source
        known = self._arrays = KnownArrays((t, a) for t, a in arrays.items() if a is not None)
        with made_for([node.outputs[0] for node in plan.drawn]):
            self._draws = [(node, DeviceArray.empty(node.outputs[0].spec)) for node in plan.drawn]
        known.update((node.outputs[0], array) for node, array in self._draws)
        self._folded = None if plan.folded is None else folded_values(plan.folded, Program)
        if plan.folded is not None and self._folded is not None:
            known.update(zip(plan.folded.leaves, self._folded.arrays, strict=True))
        self.parts: list[Runnable] = []
        self._sources: dict[Tensor, tuple[Runnable, int]] = {}
        for part in plan.parts:
            with made_for(part.outputs):
                made = _bound(part, known, plan.target.costs, _memory(shared, len(self.parts)))
            self.parts.append(made)
            pairs = list(zip(part.outputs, made.outputs, strict=True))
            known.update((t, array) for t, array in pairs if not is_leaf(t.node))
            self._sources.update((t, (made, at)) for at, (t, _) in enumerate(pairs))
        self._runs, self.calls = joined(self.parts)
        if self._folded is not None:
            self._runs.insert(0, self._folded.refresh)
        if self._draws or self._folded is not None:
            self.calls = None
        self.outputs: Sequence[DeviceArray] = self._found(plan.outputs)
        self._new = self._found(plan.copies.values())
        self._written = plan.written
        self._commits = self._committing()
        self._later: Specializations[Program] = Specializations(limit)
        # The program that continued the last run; a reference to itself would be a cycle, and keep
        # the arrays until Python's collector finds it.
        self._continued_by: Program | None = None
        self._asynchronous = not is_direct()
        self._started = 0  # the number of failures before the last call
        self._nbytes = self._own_bytes()
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
        limit: int = SPECIALIZATIONS,
    ) -> tuple[list[DeviceArray | None], Program]:
        """Compile a graph for known shapes, and bind it.

        Args:
            graph: The graph.
            given: For each placeholder one of known shape, or a constant.
            values: The value of each, for a program that is checked.
            shared: As for `Program`.
            limit: As for `Program`.

        Returns:
            The array for the value of each placeholder, None for one that is not read; and the
            program.
        """
        return cls.bound(Source(graph, given), compile_graph(graph, given), shared, limit)

    @classmethod
    def bound(
        cls, source: Source, plan: Plan, shared: Program | None = None, limit: int = SPECIALIZATIONS
    ) -> tuple[list[DeviceArray | None], Program]:
        """Bind a plan that was compiled before; the arguments and results are those of `prepare`.

        Args:
            source: What the plan was compiled from.
            plan: The plan.
            shared: As for `Program`.
            limit: As for `Program`.
        """
        feeds = feeds_for(plan, source.given.values())
        return list(feeds.values()), cls(plan, feeds, shared, limit, source)

    def _found(self, tensors: Iterable[Tensor]) -> list[DeviceArray]:
        """Return the arrays of tensors that the parts compute, as the last run left them."""
        found = [self._sources[tensor] for tensor in tensors]
        return [part.outputs[position] for part, position in found]

    def _committing(self) -> list[Callable[[], object]]:
        """Return the functions that write the new values of variables, by kernels and copies."""
        plan = self.plan
        targets = [storage_of(variable) for variable in plan.copies]
        copies = list(zip(targets, self._new, strict=True))
        if not is_direct():
            return [copying(copies)] if copies else []
        calls = [call for kernel in plan.kernels for call in self._update_calls(kernel)]
        calls += [call for target, array in copies for call in copy_call(target, array)]
        return [Tape(calls).run] if calls else []

    def _update_calls(self, kernel: Kernel) -> list[Call]:
        """Return the calls of a kernel that writes new values of variables."""
        plan, arrays = self.plan, KnownArrays(self._arrays)
        arrays.update(zip(plan.operands, self._found(plan.operands.values()), strict=True))
        return kernel_calls(kernel, arrays, plan.target.costs)

    def __call__(
        self, feeds: Sequence[DeviceArray | None], values: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the outputs computed from values, and carry out the updates.

        Args:
            feeds: The arrays that `prepare` returned.
            values: A value for each.

        Raises:
            ExecutionError: MXNet fails, or memory ends; no variable has changed then.
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
            if self._asynchronous:
                self._started = loading.failures()
            self.run()
            if self._asynchronous:
                for node, _ in self._draws:  # while the device is busy
                    draw_ahead(node)
            results = [array.read() for array in self.outputs]
            self.commit()
            return results
        except NativeError as error:  # an asynchronous engine reports it when results are read
            return self._explained(error)
        except MemoryError as error:
            raise self._exhausted(error) from None
        finally:
            if subnormals is not None:
                subnormals.restore()

    def run(self) -> None:
        """Compute the outputs from the contents of the inputs' arrays; change no variable."""
        for node, array in self._draws:
            array.write(draw(node))
        for run in self._runs:
            run()
        if self.plan.rest is not None:
            self._continue(self.plan.rest)

    def _continue(self, rest: Rest) -> None:
        """Run the rest, which is compiled for the shapes of the outputs of this run."""
        found = self._found(self.plan.outputs)
        sizes = tuple(array.spec.shape for array in found)
        values = [found[position].read() for position in rest.static]

        def made(known: Compiled | None) -> Prepared:
            limit = self._later.limit
            if known is not None:
                return self.bound(*known, limit=limit)
            return self.prepare(rest.graph, rest.given(sizes, values), found, limit=limit)

        key = (sizes, *(value.tobytes() for value in values)) if values else sizes
        feeds, later = self._later.get(key, made)
        for feed, array in zip(feeds, found, strict=True):
            if feed is not None:
                feed.copy_from(array)
        self._continued_by = later
        later.run()
        self.outputs = later.outputs

    @property
    def nbytes(self) -> int:
        """The bytes that are free again when it is dropped, about."""
        return self._nbytes + self._later.nbytes

    def _own_bytes(self) -> int:
        """Return the bytes of arrays and native graphs that no other program has."""
        kept = self.plan.folded.leaves if self.plan.folded is not None else ()
        arrays = {
            id(array): array
            for tensor, array in self._arrays.items()
            if tensor not in kept and not isinstance(tensor, Variable)
        }
        arrays.update((id(array), array) for part in self.parts for array in part.outputs)
        hidden = sum(part.hidden_bytes for part in self.parts if isinstance(part, NativeRun))
        return sum(array.nbytes for array in arrays.values()) + hidden

    def commit(self) -> None:
        """Write the new values of the variables; nothing can fail from there on.

        Raises:
            NativeError: An operator has failed; no variable has changed.
        """
        final = self if self._continued_by is None else self._final
        if self._asynchronous and final._new:
            loading.wait_for_all(self._started)
        elif self._asynchronous:
            loading.check_undisturbed(self._started)
        for variable in final._written:
            variable.version += 1
        for commit in final._commits:
            commit()

    @property
    def _final(self) -> Program:
        """The program that the last run ended with."""
        program = self
        while program._continued_by is not None:
            program = program._continued_by
        return program

    def _exhausted(self, error: MemoryError) -> KsymError:
        """Return an error that names the largest output, as memory ended while a call ran."""
        largest = max(self.plan.outputs, key=lambda t: shapes.size(t.shape) or 0, default=None)
        made = ExecutionError(
            f"memory ended: {error or 'Python could not allocate an object'}",
            remedy="use smaller batches, or drop functions and variables that are not needed",
        )
        if largest is not None:
            node = largest.node
            made.located(node.operator.name, [t.spec for t in node.inputs], node.origin)
        return made

    def _explained(self, error: NativeError) -> list[np.ndarray]:
        """Return the outputs, and carry out the updates, after another call has failed.

        An asynchronous engine may report its error to this one.  Node by node they are computed
        again, and each operator is waited for.

        Raises:
            ExecutionError: This call itself has failed: the operator is named.
        """
        if self._asynchronous:
            loading.forget_failures()
        last = self._final
        if any(isinstance(part.work, CollectiveWork) for part in last.plan.parts):
            raise unexplained(error) from None  # the other ranks would not take part
        try:
            found = interpreted(last.plan.whole, last._arrays)
        except KsymError as reason:
            reason.breaks = True
            raise reason from None
        if not self._asynchronous or last.plan.rest is not None:
            raise unexplained(error) from None
        count = len(last.plan.outputs)
        for variable in last._written:
            variable.version += 1
        new = [DeviceArray.of(value) for value in found[count : count + len(last.plan.copies)]]
        targets = [storage_of(variable) for variable in last.plan.copies]
        copying(list(zip(targets, new, strict=True)))()
        return found[:count]


Prepared = tuple[Sequence[DeviceArray | None], Program]
"""The arrays that values are put into, None for those that are not read; and what reads them."""


def interpreted(
    tensors: Sequence[Tensor], arrays: Mapping[Tensor, DeviceArray]
) -> list[np.ndarray]:
    """Return the values of tensors of known shape, computed node by node.

    Args:
        tensors: The tensors to compute.
        arrays: The array of each placeholder.
    """
    graph = FrozenGraph(tensors, (), Mode("interpret"), target())
    program = Program(compile_graph(graph, {}), arrays)
    program.run()
    return [array.read() for array in program.outputs]


def _bound(part: Part, arrays: KnownArrays, costs: Costs, shared: Executable | None) -> Runnable:
    """Bind a part to its arrays."""
    work = part.work
    if isinstance(work, NativeGraph):
        return NativeRun(part, work, arrays, shared)
    if isinstance(work, Kernel | Product | Copies):
        return CompiledRun(part, arrays, costs)
    if isinstance(work, HostWork):
        return HostRun(part, work, arrays)
    if isinstance(work, CollectiveWork):
        return CollectiveRun(part, work, arrays)
    if isinstance(work, ScanWork):
        return ScanRun(part, work, arrays, Program)
    if isinstance(work, WhileWork):
        return WhileRun(part, work, arrays, Program)
    if isinstance(work, CondWork):
        return CondRun(part, work, arrays, Program)
    return StepByStepRun(part, arrays)


def _memory(shared: Program | None, position: int) -> Executable | None:
    """Return the native graph of a program whose working memory the part at a position may use."""
    if shared is None or position >= len(shared.parts):
        return None
    part = shared.parts[position]
    return part.executable if isinstance(part, NativeRun) else None
