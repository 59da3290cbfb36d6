"""Running `scan`: loops whose number of steps is known before they start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ksym.compiler.plan import Part, ScanWork
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.calls import Call, Slices, Tape, copy_call, redirected, repeat
from ksym.runtime.runnable import Bind


class ScanRun:
    """A `scan`: its body's plan, run once for each step.

    If a step consists of compiled code only, the whole loop is one call of compiled code.

    Attributes:
        outputs: The arrays of the results.
        calls: The calls that it consists of; None if it is not compiled.
    """

    def __init__(self, part: Part, work: ScanWork, arrays: Arrays, bind: Bind):
        view = work.view
        own = {p: DeviceArray.empty(p.spec) for p in (*view.elements, *view.before)}
        self._steps = view.length
        self._reverse = view.reverse
        self._states = [own[parameter] for parameter in view.before]
        self._initial = [arrays[tensor] for tensor in view.initial]
        self._elements = [
            (own[parameter], arrays[sequence])
            for parameter, sequence in zip(view.elements, view.sequences, strict=True)
        ]
        self._carried = work.carried
        self._stacked: list[DeviceArray] = []
        self._histories: list[tuple[DeviceArray, DeviceArray]] = []
        self.outputs: list[DeviceArray] = []
        for tensor, (kind, position) in zip(part.outputs, work.results, strict=True):
            if kind == "final":
                self.outputs.append(self._states[position])
                continue
            self.outputs.append(DeviceArray.empty(tensor.spec))
            if kind == "stacked":
                self._stacked.append(self.outputs[-1])
            else:
                self._histories.append((self.outputs[-1], self._states[position]))
        self._body = None
        self.calls: list[Call] | None = None
        if work.body is not None:
            closed = zip(view.rest, view.closed, strict=True)
            inside = {**own, **{parameter: arrays[tensor] for parameter, tensor in closed}}
            self._body = bind(work.body, inside)
            self._gives_new_arrays = work.body.rest is not None
            if self._body.calls is not None:
                self.calls = self._compiled(self._body.calls, self._body.outputs)

    def _compiled(self, body: Sequence[Call], made: Sequence[DeviceArray]) -> list[Call]:
        """Return the calls of the whole loop; its body reads and writes slices in place.

        Args:
            body: The calls of a step.
            made: The arrays of the results of a step.
        """
        first, sign = (self._steps - 1, -1) if self._reverse else (0, 1)
        last = self._steps - 1 - first
        before: list[Call] = []
        after: list[Call] = []
        afterwards: list[Call] = []
        slices = [(element, sequence) for element, sequence in self._elements]
        for stack, state in self._histories:
            slices.append((DeviceArray.empty(state.spec), stack))
            before += copy_call(slices[-1][0], state)
        values = made[: len(self._states)]
        place: dict[DeviceArray, DeviceArray] = {}
        for stack, value in zip(self._stacked, made[len(values) :], strict=True):
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
        sizes = [_size(each) for each, _ in slices]
        moves = redirected(
            step,
            [
                Slices(each, whole, first * size, sign * size)
                for (each, whole), size in zip(slices, sizes, strict=True)
            ],
        )
        return [
            *(c for s, i in zip(self._states, self._initial, strict=True) for c in copy_call(s, i)),
            repeat(step, self._steps, moves, [whole for _, whole in slices]),
            *afterwards,
        ]

    def run(self) -> None:
        """Compute the results from the contents of the operands' arrays."""
        if self.calls is not None:
            Tape(self.calls).run()
            return
        for state, initial in zip(self._states, self._initial, strict=True):
            state.copy_from(initial)
        if self._body is None:
            return
        before = [_loading(element, sequence) for element, sequence in self._elements]
        before += [_storing(stack, state) for stack, state in self._histories]
        for _, sequence in self._elements:
            sequence.settle()
        after: Sequence[_StepCopy] = ()
        order = range(self._steps)
        for step in reversed(order) if self._reverse else order:
            for copy in before:
                copy(step)
            self._body.run()
            if not after or self._gives_new_arrays:
                after = self._copies_of(self._body.outputs)
            for copy in after:
                copy(step)
        for state, value in zip(self._states, self._body.outputs, strict=False):
            state.copy_from(value)

    def _copies_of(self, computed: Sequence[DeviceArray]) -> list[_StepCopy]:
        """Return the copies of the outputs of a step to stacks and states."""
        count = len(self._states)
        stores = map(_storing, self._stacked, computed[count:])
        return [*stores, *(_copying(self._states[p], computed[p]) for p in self._carried)]


def _size(array: DeviceArray) -> int:
    """Return the number of bytes of an array's elements."""
    return 0 if array.view is None else array.view.nbytes


_StepCopy = Callable[[int], None]
"""A copy between fixed arrays, called with the number of the step."""


def _loading(element: DeviceArray, sequence: DeviceArray) -> _StepCopy:
    """Return the copy of an element of a sequence, in row-major order, to the body's array."""
    to, source = element.view, sequence.view
    if to is None or source is None:
        return lambda step: element.load(sequence, step)
    return lambda step: np.copyto(to, source[step])


def _storing(stack: DeviceArray, value: DeviceArray) -> _StepCopy:
    """Return the copy of a value to its place in a stack."""
    to, source = stack.view, value.view
    if to is None or source is None:
        return lambda step: stack.store(step, value)

    def store(step: int) -> None:
        value.settle()
        to[step] = source

    return store


def _copying(state: DeviceArray, value: DeviceArray) -> _StepCopy:
    """Return the copy of a state's new value to the body's array."""
    to, source = state.view, value.view
    if to is None or source is None:
        return lambda step: state.copy_from(value)

    def copy(step: int) -> None:
        value.settle()
        np.copyto(to, source)

    return copy
