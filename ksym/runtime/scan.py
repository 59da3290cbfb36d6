"""Running loops over a number of steps that is known before they start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler.mode import Mode
from ksym.errors import ShapeError
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.body import Body, live_states
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.bodies import Staged, compile_body
from ksym.runtime.calls import Call, Move, Tape, copy_call, redirected, repeat


class Scan:
    """A `scan` node.

    Only what is wanted is computed: a state whose value nobody asks for, and an output nobody
    reads, are left out of the loop.  Where a step is compiled code and nothing else, so is the
    whole loop.

    Attributes:
        outputs: The arrays of what is wanted.
        calls: All that it does, where it is compiled; else None.
    """

    def __init__(
        self, node: Node, wanted: Sequence[Tensor], arrays: Mapping[Tensor, DeviceArray], mode: Mode
    ):
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
        operands = [arrays[tensor] for tensor in node.inputs[1:]]
        inner = dict(zip(body.inputs, operands, strict=True))
        for parameter in body.inputs[: first + carried]:
            inner[parameter] = DeviceArray.empty(parameter.spec)
        roots = [*(body.outputs[i] for i in live), *roots]
        self._body = compile_body(roots, inner, mode)
        states = {i: inner[body.inputs[first + i]] for i in live}
        self._states = list(states.values())
        self._initial = [operands[first + i] for i in live]
        read = {n.outputs[0] for n in topological_order(roots)}
        made = {t: DeviceArray.empty(t.spec) for t in [*stacked, *histories]}
        self._elements = [
            (inner[parameter], operands[i])
            for i, parameter in enumerate(body.inputs[:first])
            if parameter in read
        ]
        self._histories = [(made[t], states[t.index - carried - outputs]) for t in histories]
        self._stacked = [made[t] for t in stacked]
        kept = {t.index - carried - outputs for t in histories}
        # What no step reads need not be put in place before the last one has run.
        self._carried = [
            p for p, i in enumerate(live) if i in kept or body.inputs[first + i] in read
        ]
        self.outputs: Sequence[DeviceArray] = [
            states[t.index] if t.index < carried else made[t] for t in wanted
        ]
        self.calls = None
        if self._body.calls is not None and self._steps:
            self.calls = self._compiled(self._body.calls)

    def _compiled(self, body: Sequence[Call]) -> list[Call]:
        """Return the calls of the whole loop, whose body reads and writes slices in place."""
        first, sign = (self._steps - 1, -1) if self._reverse else (0, 1)
        last = self._steps - 1 - first
        before: list[Call] = []
        after: list[Call] = []
        afterwards: list[Call] = []
        slices = [(element, sequence) for element, sequence in self._elements]
        for stack, state in self._histories:
            slices.append((DeviceArray.empty(state.spec), stack))
            before += copy_call(slices[-1][0], state)
        values = self._body.outputs[: len(self._states)]
        place: dict[DeviceArray, DeviceArray] = {}
        for stack, value in zip(self._stacked, self._body.outputs[len(values) :], strict=True):
            if value in place:
                slices.append((DeviceArray.empty(value.spec), stack))
                after += copy_call(slices[-1][0], value)
            else:
                place[value] = stack
                slices.append((value, stack))
        for position, (state, value) in enumerate(zip(self._states, values, strict=True)):
            if position in self._carried:
                after += copy_call(state, value)
            elif value in place:
                afterwards += copy_call(state, place[value], last * _size(value))
            else:
                afterwards += copy_call(state, value)
        step = [*before, *body, *after]
        moves: list[Move] = []
        for each, whole in slices:
            size = _size(each)
            moves += redirected(step, each, whole, first * size, sign * size)
        return [
            *(c for s, i in zip(self._states, self._initial, strict=True) for c in copy_call(s, i)),
            repeat(step, self._steps, moves, [whole for _, whole in slices]),
            *afterwards,
        ]

    def run(self) -> None:
        """Compute the results from what the arrays of the operands hold."""
        if self.calls is not None:
            Tape(self.calls).run()
            return
        for state, initial in zip(self._states, self._initial, strict=True):
            state.copy_from(initial)
        before = [_loading(element, sequence) for element, sequence in self._elements]
        before += [_storing(stack, state) for stack, state in self._histories]
        for _, sequence in self._elements:
            sequence.settle()
        after: Sequence[_Step] = ()
        order = range(self._steps)
        for step in reversed(order) if self._reverse else order:
            for move in before:
                move(step)
            self._body.run()
            if not after or isinstance(self._body, Staged):  # which gives new arrays at each run
                after = self._moves_of(self._body.outputs)
            for move in after:
                move(step)
        if self._steps:
            for state, value in zip(self._states, self._body.outputs, strict=False):
                state.copy_from(value)

    def _moves_of(self, computed: Sequence[DeviceArray]) -> list[_Step]:
        """What to do with the outputs of a step."""
        count = len(self._states)
        stores = map(_storing, self._stacked, computed[count:])
        return [*stores, *(_copying(self._states[p], computed[p]) for p in self._carried)]


def _size(array: DeviceArray) -> int:
    """How many bytes an array's elements take."""
    return 0 if array.view is None else array.view.nbytes


_Step = Callable[[int], None]
"""A copy between arrays that are fixed, at a step."""


def _loading(element: DeviceArray, sequence: DeviceArray) -> _Step:
    """Copy an element of a sequence, which is settled, to where the body reads it."""
    to, source = element.view, sequence.view
    if to is None or source is None:
        return lambda step: element.load(sequence, step)
    return lambda step: np.copyto(to, source[step])


def _storing(stack: DeviceArray, value: DeviceArray) -> _Step:
    """Copy a value to its place in a stack."""
    to, source = stack.view, value.view
    if to is None or source is None:
        return lambda step: stack.store(step, value)

    def store(step: int) -> None:
        value.settle()
        to[step] = source

    return store


def _copying(state: DeviceArray, value: DeviceArray) -> _Step:
    """Copy what a state becomes to where the body reads it."""
    to, source = state.view, value.view
    if to is None or source is None:
        return lambda step: state.copy_from(value)

    def copy(step: int) -> None:
        value.settle()
        np.copyto(to, source)

    return copy
