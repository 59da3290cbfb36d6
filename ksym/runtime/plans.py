"""A graph compiled for known shapes: what runs at a call, and the loops that end its updates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ksym.compiler import optimize
from ksym.compiler.fusion.kernel import Kernel, can_call, can_compile
from ksym.compiler.fusion.updates import fuse_updates
from ksym.compiler.mode import Mode
from ksym.compiler.specialize import Rest, check_sizes, check_updates, specialize, split
from ksym.errors import KsymError
from ksym.graph import Tensor, collection_paused, topological_order
from ksym.ops.given import is_drawn, is_leaf
from ksym.ops.leaves import is_constant, placeholder
from ksym.recent import Recent
from ksym.runtime import jit
from ksym.runtime.arrays import DeviceArray, is_direct, storage_of
from ksym.runtime.calls import Tape, copy_call, loop_calls
from ksym.runtime.checking import Check
from ksym.runtime.fused import FusedLoop
from ksym.runtime.interpreter import unexplained
from ksym.runtime.loading import NativeError
from ksym.runtime.program import Program
from ksym.runtime.subnormal import FlushedSubnormals
from ksym.variables import Variable


class Plan:
    """A graph compiled for known shapes of what it is given.

    Where the shape of a result is known only when it has been computed (a dynamic operator), the
    plan ends; what comes after is a plan of its own, compiled for the shapes that turn up.

    Args:
        graph: The outputs, then the new values of variables.
        variables: These variables.
        given: For each placeholder what to put in its place.
        mode: How to compute.
        limit: How many plans to keep for what comes after dynamic results.
        values: For each placeholder a value to check passes with, where the mode asks for it.
        shared: A plan that never runs at the same time, to share working memory with.

    Attributes:
        tensors: What is computed: the outputs, then the new values of the variables; of a graph
            with dynamic operators what they depend on, and what can be computed without them.
        program: What computes it.
    """

    def __init__(
        self,
        graph: Sequence[Tensor],
        variables: Sequence[Variable],
        given: Mapping[Tensor, Tensor],
        mode: Mode,
        limit: int,
        values: Sequence[np.ndarray],
        shared: Plan | None = None,
    ):
        self.tensors, self._rest = split(specialize(graph, given))
        check = None
        if mode.check:
            check = Check(self.tensors, dict(zip(given.values(), values, strict=True)))
        self.tensors = optimize(self.tensors, mode.passes, None if check is None else check.after)
        check_sizes(self.tensors)
        self._variables = variables
        self._mode = mode
        self._later: Recent[Plan] = Recent(limit)
        self._last: Plan = self
        self._arrays: dict[Tensor, DeviceArray] = {}
        arrays = self._arrays
        used = {node for node in topological_order(self.tensors) if not node.inputs}
        self._feeds: list[DeviceArray | None] = []
        for stand_in in given.values():
            feed = None
            if stand_in.node in used and not is_constant(stand_in):
                feed = arrays[stand_in] = DeviceArray.empty(stand_in.spec)
            self._feeds.append(feed)
        outputs = self.tensors
        updates: dict[Variable, Tensor] = {}
        if self._rest is None:
            count = len(outputs) - len(variables)
            outputs, new = outputs[:count], outputs[count:]
            updates = dict(zip(variables, new, strict=True))
            check_updates(updates)
        loops: list[Kernel] = []
        if mode.runs(fuse_updates) and is_direct():
            can_be_step = can_compile if jit.is_available() else can_call
            loops, updates = fuse_updates(outputs, updates, can_be_step)
        read = dict.fromkeys(t for loop in loops for t in loop.operands)
        computed = [t for t in read if is_drawn(t.node) or not is_leaf(t.node)]
        memory = None if shared is None else shared.program
        self.program: Program = Program(
            [*outputs, *updates.values(), *computed], arrays, mode, memory
        )
        targets = [storage_of(variable) for variable in updates]
        # The same arrays at every call; only dynamic results, which end a plan, get new ones.
        found, first, last = self.program.outputs, len(outputs), len(outputs) + len(updates)
        self._outputs, self._new = found[:first], found[first:last]
        arrays.update(zip(computed, found[last:], strict=True))
        for tensor in read:
            if is_constant(tensor):
                arrays[tensor] = DeviceArray.of(np.asarray(tensor.value))
            elif isinstance(tensor, Variable):
                arrays[tensor] = storage_of(tensor)
        arrays.update((v, storage_of(v)) for v in variables if v not in updates)
        # Tapes flush by themselves.
        alone = self._rest is None and self.program.calls is not None
        self._subnormals = None if alone else FlushedSubnormals()
        self._commits = _commits(loops, arrays, list(zip(targets, self._new, strict=True)))
        if check is not None:
            self._verify(check, values)

    def _verify(self, check: Check, values: Sequence[np.ndarray]) -> None:
        """Compare a run with what was computed node by node; variables keep their values.

        Raises:
            ExecutionError: Something differs.
        """
        check.rewind()
        self._feed(values)
        self.program.run()
        found = [array.read() for array in self.program.outputs]
        if self._rest is None:
            targets = [storage_of(variable) for variable in self._variables]
            before = [target.read() for target in targets]
            self.commit()
            new = [target.read() for target in targets]
            for target, value in zip(targets, before, strict=True):
                target.write(value)
            found = [*found[: len(self._outputs)], *new]
        check.rewind()
        check.compare("what is run, fused or natively,", found)

    def __call__(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs computed from one value for each slot, and carry out the updates.

        Raises:
            ExecutionError: MXNet fails; no variable has changed then.
        """
        subnormals = self._subnormals
        if subnormals is not None:
            subnormals.save()
        try:
            if subnormals is not None:
                subnormals.flush()
            results = [array.read() for array in self.run(values)]
            self.commit()
            return results
        except NativeError as error:  # of an engine that goes on while Python does, so it is late
            raise self._blamed(error) from None
        finally:
            if subnormals is not None:
                subnormals.restore()

    def _blamed(self, error: NativeError) -> KsymError:
        """Return an error that names the operator behind a failure of the last run."""
        last = self
        while last._last is not last:
            last = last._last
        try:
            Program(last.tensors, last._arrays, Mode("interpret")).run()
        except KsymError as found:
            found.breaks = True
            return found
        return unexplained(error)

    def run(self, values: Sequence[np.ndarray]) -> Sequence[DeviceArray]:
        """Compute the outputs from one value for each slot; return them where they lie.

        Variables are not changed before `commit`.
        """
        self._feed(values)
        self.program.run()
        if self._rest is None:
            return self._outputs
        found = [array.read() for array in self.program.outputs]
        rest, sizes = self._rest, tuple(value.shape for value in found)
        self._last = self._later.get(sizes, lambda: self._plan_for(rest, found))
        return self._last.run(found)

    def _feed(self, values: Sequence[np.ndarray]) -> None:
        for feed, value in zip(self._feeds, values, strict=True):
            if feed is not None:
                feed.write(value)

    def commit(self) -> None:
        """Give the variables their new values; from here on nothing can fail."""
        if self._last is not self:
            self._last.commit()
            return
        for array in self._new:
            array.wait()
        for commit in self._commits:
            commit()

    def _plan_for(self, rest: Rest, found: Sequence[np.ndarray]) -> Plan:
        given = {
            slot: placeholder(value.shape, slot.dtype, name=slot.name)
            for slot, value in zip(rest.slots, found, strict=True)
        }
        limit = self._later.limit
        with collection_paused():
            return Plan(rest.outputs, self._variables, given, self._mode, limit, found)


def _commits(
    loops: Sequence[Kernel],
    arrays: Mapping[Tensor, DeviceArray],
    copies: Sequence[tuple[DeviceArray, DeviceArray]],
) -> list[Callable[[], None]]:
    """Return what gives variables their new values: loops that read the old ones, then copies."""
    if not jit.is_available():
        return [
            *(FusedLoop(loop, arrays).run for loop in loops),
            *(functools.partial(target.copy_from, array) for target, array in copies),
        ]
    calls = [call for loop in loops for call in loop_calls(loop, arrays)]
    calls += [call for target, array in copies for call in copy_call(target, array)]
    return [Tape(calls).run] if calls else []
