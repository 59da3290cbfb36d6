"""Running loops, branches, and what is computed on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler.mode import Mode
from ksym.errors import ExecutionError, KsymError, ShapeError
from ksym.graph import Node, Tensor
from ksym.loops.body import Body
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.bodies import compile_body
from ksym.runtime.program import Runnable
from ksym.runtime.scan import Scan


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
            program = self._programs[taken] = compile_body(wanted, arrays, self._mode)
        program.run()
        for position, value in enumerate(program.outputs):
            expected = self._node.outputs[self._wanted[position]]
            if not shapes.compatible(expected.shape, value.spec.shape):
                raise ShapeError(
                    f"the branch taken gives {value.spec}, where the other one gives "
                    f"{expected.spec}",
                    remedy="pad or broadcast what the branches give to the same shape",
                ).located("cond", [t.spec for t in self._node.inputs], self._node.origin)
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
        self._test = compile_body(test.outputs, dict(zip(test.inputs, inside, strict=True)), mode)
        self._body = compile_body(body.outputs, dict(zip(body.inputs, inside, strict=True)), mode)
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
    "scan": Scan,
    "cond": _Cond,
    "while": _While,
}
