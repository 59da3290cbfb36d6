"""Running while loops, branches, and operators that are computed on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler.plan import CondWork, HostWork, Part, WhileWork
from ksym.errors import ExecutionError, KsymError, ShapeError
from ksym.graph import Tensor
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.runnable import Bind, Runnable


def _array_for(tensor: Tensor) -> DeviceArray:
    """Return an array for a result, which is replaced where its size depends on data."""
    if shapes.is_known(tensor.shape):
        return DeviceArray.empty(tensor.spec)
    return DeviceArray.of(np.empty(0))


class HostRun:
    """A part that is computed in NumPy, on the host."""

    calls = None

    def __init__(self, part: Part, work: HostWork, arrays: Arrays):
        self._node = work.node
        self._operands = [arrays[tensor] for tensor in work.node.inputs]
        self._wanted = part.outputs
        self.outputs = [_array_for(tensor) for tensor in part.outputs]

    def run(self) -> None:
        """Compute the outputs."""
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


class CondRun:
    """A part that is a branch: two programs, each compiled when its branch is first taken."""

    calls = None

    def __init__(self, part: Part, work: CondWork, arrays: Arrays, bind: Bind):
        self._node = work.node
        self._branch = work.branch
        self._wanted = part.outputs
        self._predicate, *self._closed = (arrays[tensor] for tensor in work.node.inputs)
        self._bind = bind
        self._programs: dict[bool, Runnable] = {}
        self.outputs = [_array_for(tensor) for tensor in part.outputs]

    def run(self) -> None:
        """Compute the outputs by the branch that the condition selects."""
        taken = bool(self._predicate.read())
        program = self._programs.get(taken)
        if program is None:
            body = self._node.attributes["then" if taken else "otherwise"]
            arrays = dict(zip(body.inputs, self._closed, strict=True))
            program = self._programs[taken] = self._bind(self._branch(taken), arrays)
        program.run()
        for position, value in enumerate(program.outputs):
            expected = self._wanted[position]
            if not shapes.compatible(expected.shape, value.spec.shape):
                raise ShapeError(
                    f"the branch taken gives {value.spec}, where the other one gives "
                    f"{expected.spec}",
                    remedy="pad or broadcast what the branches give to the same shape",
                ).located("cond", [t.spec for t in self._node.inputs], self._node.origin)
            if self.outputs[position].spec != value.spec:
                self.outputs[position] = DeviceArray.empty(value.spec)
            self.outputs[position].copy_from(value)


class WhileRun:
    """A part that is a loop with a condition."""

    calls = None

    def __init__(self, part: Part, work: WhileWork, arrays: Arrays, bind: Bind):
        node = work.node
        self._node = node
        self._count = count = node.attributes["states"]
        self._wanted = part.outputs
        operands = [arrays[tensor] for tensor in node.inputs]
        self._initial = operands[:count]
        body, test = node.attributes["body"], node.attributes["test"]
        self._states = [DeviceArray.empty(t.spec) for t in body.inputs[:count]]
        inside = [*self._states, *operands[count:]]
        self._test = bind(work.test, dict(zip(test.inputs, inside, strict=True)))
        self._body: Runnable | None = None
        parameters = dict(zip(body.inputs, inside, strict=True))
        self._bind_body: Callable[[], Runnable] = lambda: bind(work.body(), parameters)
        self._steps = DeviceArray.of(np.zeros((), "int64"))
        self.outputs = [
            self._states[t.index] if t.index < count else self._steps for t in part.outputs
        ]

    def _assign(self, values: Sequence[DeviceArray], steps: int) -> None:
        """Assign the results of a step to the states."""
        for state, value in zip(self._states, values, strict=True):
            if value.spec != state.spec:
                raise ShapeError(
                    f"a state is {state.spec}, step {steps} makes {value.spec} of it",
                    remedy="a state keeps its shape; pad it to a fixed size",
                ).located(
                    self._node.operator.name,
                    [t.spec for t in self._node.inputs],
                    self._node.origin,
                )
            state.copy_from(value)

    def run(self) -> None:
        """Run the body as long as the condition holds."""
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
            if self._body is None:
                self._body = self._bind_body()
            self._body.run()
            steps += 1
            self._assign(self._body.outputs, steps)
        self._steps.write(np.asarray(steps))
        for position, tensor in enumerate(self._wanted):
            if tensor.index > self._count:
                history = before[tensor.index - self._count - 1]
                shape = (steps, *shapes.known(tensor.shape[1:]))
                stacked = np.array(history, tensor.dtype).reshape(shape)
                self.outputs[position] = DeviceArray.of(stacked)
