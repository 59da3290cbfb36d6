"""The standard recurrent cells, each defined once.

The formula of a step is used three times: in NumPy it defines the native kernels; in graph
operators it is the loop that they equal, and the pattern by which loops of users are recognised as
such a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ksym import ops
from ksym.graph import Tensor
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView, parted
from ksym.ops.leaves import placeholder

CellStep = Callable[[Any, Sequence[Any], Sequence[Any]], tuple[Any, ...]]


class Cell(NamedTuple):
    """A recurrent cell: the formula of a step, and its layout.

    Attributes:
        step: Returns the new states, of which the first is the output, from the functions of a
            namespace, the gates before their activations, and the states.
        gates: The number of gates; the kernels have this number times the units as columns.
        states: The number of states.
        apart: Whether the last gate comes in two parts, by the input and by the state, each with a
            bias; the other gates are sums of both.
        native: The ranges of gates, in MXNet's order.
    """

    step: CellStep
    gates: int
    states: int
    apart: bool
    native: tuple[tuple[int, int], ...]

    @property
    def biases(self) -> int:
        """The number of bias vectors of the cell."""
        return 2 if self.apart else 1

    def joined(self, by_input: Sequence[Any], by_state: Sequence[Any]) -> list[Any]:
        """Return the gates that `step` takes, from the projections of input and state."""
        sums = [a + b for a, b in zip(by_input, by_state, strict=True)]
        return [*sums[:-1], by_input[-1], by_state[-1]] if self.apart else sums


def _simple(activation: str) -> CellStep:
    def step(m: Any, gates: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        return (getattr(m, activation)(gates[0]),)

    return step


def _lstm(m: Any, gates: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
    i, f, g, o = gates
    _, c = states
    c = m.sigmoid(f) * c + m.sigmoid(i) * m.tanh(g)
    return m.sigmoid(o) * m.tanh(c), c


def _gru(m: Any, gates: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
    z, r, by_input, by_state = gates
    (h,) = states
    z = m.sigmoid(z)
    return (z * h + (1 - z) * m.tanh(by_input + m.sigmoid(r) * by_state),)


CELLS = {
    "rnn_tanh": Cell(_simple("tanh"), 1, 1, False, ((0, 1),)),
    "rnn_relu": Cell(_simple("relu"), 1, 1, False, ((0, 1),)),
    "lstm": Cell(_lstm, 4, 2, False, ((0, 4),)),
    "gru": Cell(_gru, 3, 1, True, ((1, 2), (0, 1), (2, 3))),
}
"""The cells by the names of MXNet's modes."""

NUMPY = SimpleNamespace(
    tanh=np.tanh,
    sigmoid=lambda x: np.exp(-np.logaddexp(0, -x)),
    relu=lambda x: np.maximum(x, 0),
)


def _projections(
    x: Any, h: Any, kernel: Any, recurrent_kernel: Any, biases: Sequence[Any]
) -> tuple[Any, Any]:
    """Return the projections of the input and of the state, of which the gates are sums."""
    a, b = x @ kernel + biases[0], h @ recurrent_kernel
    return a, (b + biases[1] if len(biases) == 2 else b)


def in_numpy(cell: Cell, x: Any, *operands: Any) -> tuple[Any, ...]:
    """Compute the outputs of all steps and the last states."""
    states, (kernel, recurrent_kernel, *biases) = parted(operands, cell.states)
    outputs = np.zeros((len(x), *states[0].shape), x.dtype)
    for step, element in enumerate(x):
        parts = _projections(element, states[0], kernel, recurrent_kernel, biases)
        gates = cell.joined(*(np.split(part, cell.gates, 1) for part in parts))
        states = cell.step(NUMPY, gates, states)
        outputs[step] = states[0]
    return outputs, *states


def as_scan(cell: Cell, operands: Sequence[Tensor]) -> list[Tensor]:
    """Build the loop, and return the outputs of all steps and the last states."""
    (x,), initial, given = parted(operands, 1, cell.states)
    element = placeholder(x.shape[1:], x.dtype)
    parameters = [placeholder(t.shape, t.dtype) for t in operands[1:]]
    states, weights = parted(parameters, cell.states)
    kernel, recurrent_kernel, *biases = weights
    units: Any = states[0].shape[1]
    units = ops.shape_of(states[0])[1] if units is None else units

    def gates(projected: Tensor) -> list[Tensor]:
        return [projected[:, units * i : units * (i + 1)] for i in range(cell.gates)]

    parts = _projections(element, states[0], kernel, recurrent_kernel, biases)
    new = cell.step(ops, cell.joined(*map(gates, parts)), states)
    loop = ScanView(
        steps=ops.shape_of(x)[0] if x.shape[0] is None else ops.constant(x.shape[0]),
        sequences=(x,),
        elements=(element,),
        initial=initial,
        before=states,
        closed=given,
        rest=weights,
        new=new,
        outputs=new[:1],
    )
    made = scan_node.made(loop)
    return [*made.stacked, *made.finals]
