"""Running loops, branches, and what is computed on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler import optimize
from ksym.compiler.flags import Mode
from ksym.compiler.specialize import Rest, specialize, split
from ksym.errors import ExecutionError, KsymError, ShapeError
from ksym.graph import Node, Tensor, collection_paused, topological_order
from ksym.ops.bodies import Body, live_states
from ksym.ops.leaves import placeholder
from ksym.recent import Recent
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.program import Program, Runnable

Arrays = Mapping[Tensor, DeviceArray]


def runner(node: Node, wanted: Sequence[Tensor], arrays: Arrays, mode: Mode) -> Runnable:
    """Return what computes the wanted results of a node over its arrays."""
    return _RUNNERS[node.operator.runs](node, wanted, arrays, mode)


def _operands(node: Node, arrays: Arrays) -> list[DeviceArray]:
    return [arrays[tensor] for tensor in node.inputs]


def _array_for(tensor: Tensor) -> DeviceArray:
    """An array for a result; of a dynamic one not even the size is known before it is there."""
    if shapes.is_known(tensor.shape):
        return DeviceArray.empty(tensor.spec)
    return DeviceArray.of(np.empty(0))


class _Host:
    """A node computed by what it means in NumPy, its operands brought to the host."""

    def __init__(self, node: Node, wanted: Sequence[Tensor], arrays: Arrays, mode: Mode):
        self._node = node
        self._operands = _operands(node, arrays)
        self._wanted = wanted
        self.outputs = [_array_for(t) for t in wanted]

    def run(self) -> None:
        node = self._node
        values = [array.read() for array in self._operands]
        try:
            with np.errstate(all="ignore"):
                found = node.operator.numpy(*values, **node.attributes)
        except KsymError as error:
            raise error.located(
                node.operator.name, [t.spec for t in node.inputs], node.origin
            ) from None
        results = (found,) if len(node.outputs) == 1 else found
        for position, tensor in enumerate(self._wanted):
            value = np.asarray(results[tensor.index], tensor.dtype)
            if shapes.is_known(tensor.shape):
                self.outputs[position].write(value)
            else:
                self.outputs[position] = DeviceArray.of(value)


SIZES = 16
"""For how many combinations of dynamic sizes a body keeps what comes after them compiled."""


def _compile(
    wanted: Sequence[Tensor],
    arrays: Arrays,
    mode: Mode,
    given: Mapping[Tensor, Tensor] | None = None,
) -> Runnable:
    """Return what computes some of a body's outputs; arrays gives those of its inputs."""
    with collection_paused():
        tensors, rest = split(specialize(wanted, given or {}))
        tensors = optimize(tensors, mode.passes)
        program = Program(tensors, arrays, mode)
        return program if rest is None else _Staged(program, rest, mode)


class _Staged:
    """A body with dynamic operators: what comes after them is compiled for the sizes they give."""

    def __init__(self, first: Program, rest: Rest, mode: Mode):
        self._first = first
        self._rest = rest
        self._mode = mode
        self._later: Recent[tuple[list[DeviceArray], Runnable]] = Recent(SIZES)
        self.outputs: Sequence[DeviceArray] = ()

    def run(self) -> None:
        self._first.run()
        found = self._first.outputs
        sizes = tuple(array.spec.shape for array in found)
        feeds, later = self._later.get(sizes, lambda: self._compiled(sizes))
        for feed, array in zip(feeds, found, strict=True):
            feed.copy_from(array)
        later.run()
        self.outputs = later.outputs

    def _compiled(self, sizes: Sequence[shapes.Shape]) -> tuple[list[DeviceArray], Runnable]:
        given = {
            slot: placeholder(shape, slot.dtype, name=slot.name)
            for slot, shape in zip(self._rest.slots, sizes, strict=True)
        }
        arrays = {tensor: DeviceArray.empty(tensor.spec) for tensor in given.values()}
        feeds = list(arrays.values())
        return feeds, _compile(self._rest.outputs, arrays, self._mode, given)


class _Scan:
    """A loop over a number of steps that is known before it starts.

    Only what is wanted is computed: a state whose value nobody asks for, and an output nobody
    reads, are left out of the loop.
    """

    def __init__(self, node: Node, wanted: Sequence[Tensor], arrays: Arrays, mode: Mode):
        body: Body = node.attributes["body"]
        first, carried = node.attributes["sequences"], node.attributes["states"]
        for tensor in body.outputs:
            if not shapes.is_known(tensor.shape):
                raise ShapeError(
                    f"the size of what a step gives, {tensor.spec}, depends on data",
                    remedy="pad it to a fixed size: what steps give is stacked",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
        outputs = len(body.outputs) - carried
        self._steps = int(node.inputs[0].value)  # type: ignore[arg-type]
        self._reverse: bool = node.attributes["reverse"]
        finals = [t.index for t in wanted if t.index < carried]
        stacked = [t for t in wanted if carried <= t.index < carried + outputs]
        histories = [t for t in wanted if t.index >= carried + outputs]
        roots = [body.outputs[t.index] for t in stacked]
        asked = [*finals, *(t.index - carried - outputs for t in histories)]
        before, new = body.inputs[first : first + carried], body.outputs[:carried]
        live = live_states(before, new, [*roots, *(body.outputs[i] for i in asked)])
        live = sorted({*live, *asked})
        inner = dict(zip(body.inputs, _operands(node, arrays)[1:], strict=True))
        operands = list(inner.values())
        for parameter in body.inputs[: first + carried]:
            inner[parameter] = DeviceArray.empty(parameter.spec)
        self._body = _compile([*(body.outputs[i] for i in live), *roots], inner, mode)
        states = {i: inner[body.inputs[first + i]] for i in live}
        self._states = list(states.values())
        self._initial = [operands[first + i] for i in live]
        roots = [*(body.outputs[i] for i in live), *roots]
        read = {n.outputs[0] for n in topological_order(roots)}
        made = {t: DeviceArray.empty(t.spec) for t in [*stacked, *histories]}
        elements = [i for i, parameter in enumerate(body.inputs[:first]) if parameter in read]
        self._sequences = [operands[i] for i in elements]
        self._before = [_loading(inner[body.inputs[i]], operands[i]) for i in elements]
        self._before += [_storing(made[t], states[t.index - carried - outputs]) for t in histories]
        self._stacked = [made[t] for t in stacked]
        kept = {t.index - carried - outputs for t in histories}
        # What no step reads need not be put in place before the last one has run.
        self._carried = [
            p for p, i in enumerate(live) if i in kept or body.inputs[first + i] in read
        ]
        self.outputs: Sequence[DeviceArray] = [
            states[t.index] if t.index < carried else made[t] for t in wanted
        ]

    def run(self) -> None:
        for state, initial in zip(self._states, self._initial, strict=True):
            state.copy_from(initial)
        for sequence in self._sequences:
            sequence.settle()
        after: Sequence[_Move] = ()
        order = range(self._steps)
        for step in reversed(order) if self._reverse else order:
            for move in self._before:
                move(step)
            self._body.run()
            if not after or isinstance(self._body, _Staged):  # which gives new arrays at each run
                after = self._moves_of(self._body.outputs)
            for move in after:
                move(step)
        if self._steps:
            for state, value in zip(self._states, self._body.outputs, strict=False):
                state.copy_from(value)

    def _moves_of(self, computed: Sequence[DeviceArray]) -> list[_Move]:
        """What to do with the outputs of a step."""
        count = len(self._states)
        stores = map(_storing, self._stacked, computed[count:])
        return [*stores, *(_copying(self._states[p], computed[p]) for p in self._carried)]


_Move = Callable[[int], None]
"""A copy between arrays that are fixed, at a step."""


def _loading(element: DeviceArray, sequence: DeviceArray) -> _Move:
    """Copy an element of a sequence, which is settled, to where the body reads it."""
    to, source = element.view, sequence.view
    if to is None or source is None:
        return lambda step: element.load(sequence, step)
    return lambda step: np.copyto(to, source[step])


def _storing(stack: DeviceArray, value: DeviceArray) -> _Move:
    """Copy a value to its place in a stack."""
    to, source = stack.view, value.view
    if to is None or source is None:
        return lambda step: stack.store(step, value)

    def store(step: int) -> None:
        value.settle()
        to[step] = source

    return store


def _copying(state: DeviceArray, value: DeviceArray) -> _Move:
    """Copy what a state becomes to where the body reads it."""
    to, source = state.view, value.view
    if to is None or source is None:
        return lambda step: state.copy_from(value)

    def copy(step: int) -> None:
        value.settle()
        np.copyto(to, source)

    return copy


class _Cond:
    """Two programs, each compiled when its branch is first taken."""

    def __init__(self, node: Node, wanted: Sequence[Tensor], arrays: Arrays, mode: Mode):
        self._node = node
        self._wanted = [t.index for t in wanted]
        self._predicate, *self._closed = _operands(node, arrays)
        self._mode = mode
        self._programs: dict[bool, Runnable] = {}
        self.outputs = [_array_for(t) for t in wanted]

    def run(self) -> None:
        taken = bool(self._predicate.read())
        program = self._programs.get(taken)
        if program is None:
            body: Body = self._node.attributes["then" if taken else "otherwise"]
            arrays = dict(zip(body.inputs, self._closed, strict=True))
            wanted = [body.outputs[i] for i in self._wanted]
            program = self._programs[taken] = _compile(wanted, arrays, self._mode)
        program.run()
        for position, value in enumerate(program.outputs):
            if self.outputs[position].spec != value.spec:
                self.outputs[position] = DeviceArray.empty(value.spec)
            self.outputs[position].copy_from(value)


class _While:
    """A loop that goes on as long as its condition holds."""

    def __init__(self, node: Node, wanted: Sequence[Tensor], arrays: Arrays, mode: Mode):
        body, test = node.attributes["body"], node.attributes["test"]
        count = node.attributes["states"]
        self._node = node
        self._count = count
        self._wanted = wanted
        operands = _operands(node, arrays)
        self._initial = operands[:count]
        self._states = [DeviceArray.empty(t.spec) for t in body.inputs[:count]]
        inside = [*self._states, *operands[count:]]
        self._test = _compile(test.outputs, dict(zip(test.inputs, inside, strict=True)), mode)
        self._body = _compile(body.outputs, dict(zip(body.inputs, inside, strict=True)), mode)
        nothing = DeviceArray.of(np.zeros((), "int64"))
        self.outputs: list[DeviceArray] = [
            self._states[t.index] if t.index < count else nothing for t in wanted
        ]
        self._steps = nothing

    def run(self) -> None:
        for state, initial in zip(self._states, self._initial, strict=True):
            state.copy_from(initial)
        limit = self._node.attributes["limit"]
        kept = {t.index - self._count - 1 for t in self._wanted if t.index > self._count}
        before: dict[int, list[np.ndarray]] = {i: [] for i in kept}
        steps = 0
        while True:
            self._test.run()
            if not self._test.outputs[0].read():
                break
            if limit is not None and steps >= limit:
                raise ExecutionError(
                    f"the loop has not ended after {limit} steps",
                    remedy="raise max_steps, or check the condition",
                ).located(
                    self._node.operator.name,
                    [t.spec for t in self._node.inputs],
                    self._node.origin,
                )
            for i in kept:
                before[i].append(self._states[i].read())
            self._body.run()
            steps += 1
            for state, value in zip(self._states, self._body.outputs, strict=True):
                state.copy_from(value)
        self._steps.write(np.asarray(steps))
        for position, tensor in enumerate(self._wanted):
            if tensor.index > self._count:
                history = before[tensor.index - self._count - 1]
                shape = (steps, *shapes.known(tensor.shape[1:]))
                stacked = np.array(history, tensor.dtype).reshape(shape)
                self.outputs[position] = DeviceArray.of(stacked)


_RUNNERS: dict[str, Callable[[Node, Sequence[Tensor], Arrays, Mode], Runnable]] = {
    "host": _Host,
    "scan": _Scan,
    "cond": _Cond,
    "while": _While,
}
