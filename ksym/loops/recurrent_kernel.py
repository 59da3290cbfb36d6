"""MXNet's fused kernel for recurrent layers, and the form of its operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Tensor
from ksym.loops.cells import CELLS, Cell
from ksym.loops.view import parted
from ksym.operator.emitter import Emitter
from ksym.operator.sampling import Draw
from ksym.shapes import Shape


def lacks_kernel(node: Node) -> bool:
    """Return whether a layer must be computed by a loop.

    MXNet's kernels fail for operands without elements.  The one for relu makes zeros of NaN, and
    computes in float32 for all dtypes.
    """
    if node.attributes["cell"] == "rnn_relu":
        return True
    return any(0 in t.shape for t in (*node.inputs, *node.outputs))


def layer_flops(cell: Cell, operands: Sequence[Tensor]) -> float:
    """Return the floating-point operations of the products of a layer, for all steps."""
    (x,), _, kernels, _ = parted(operands, 1, cell.states, 2)
    steps, batch, _ = shapes.known(x.shape)
    return 2.0 * steps * batch * sum(shapes.size(w.shape) or 0 for w in kernels)


class NativeLayer:
    """The native form of a recurrent layer whose shapes are known."""

    def __init__(self, emit: Emitter, mode: str, operands: Sequence[Tensor], values: Sequence[Any]):
        self._emit = emit
        self._cell = cell = CELLS[mode]
        _, (state, *_), self._matrices, _ = parted(operands, 1, cell.states, 2)
        self._state = shapes.known(state.shape)
        self._units = self._state[1]
        self.attributes = {"state_size": self._units, "num_layers": 1, "mode": mode}
        self.attributes |= {"state_outputs": True}
        (self.x,), states, weights = parted(values, 1, cell.states)
        self.states = [self.stacked(value) for value in states]
        self.weights = self._packed(weights)
        self.outputs: Sequence[Any] = emit(
            "RNN",
            self.x,
            self.weights,
            *self.states,
            outputs=1 + cell.states,
            **self.attributes,
        )

    @property
    def size(self) -> int:
        """The number of elements of all weights."""
        rows = sum(int(tensor.shape[0] or 0) for tensor in self._matrices)
        return (rows + 2) * self._cell.gates * self._units

    def stacked(self, state: Any) -> Any:
        """Return a state with the axis of layers that MXNet wants, of size one."""
        return self._emit("_np_reshape", state, newshape=(1, *self._state))

    def single(self, state: Any) -> Any:
        """Return a state without the axis of layers."""
        return self._emit("_np_reshape", state, newshape=self._state)

    def _packed(self, weights: Sequence[Any]) -> Any:
        """Concatenate all weights to one vector: matrices by rows of gates, then two biases."""
        emit, units = self._emit, self._units
        *matrices, bias = weights if self._cell.biases == 1 else weights[:-1]
        bias_of_state = (
            weights[-1]
            if self._cell.biases == 2
            else emit.constant(np.zeros(self._cell.gates * units, self._matrices[0].dtype))
        )
        parts = []
        for value in (*(emit("transpose", m, axes=(1, 0)) for m in matrices), bias, bias_of_state):
            for start, stop in self._cell.native:
                part = value
                if len(self._cell.native) > 1:
                    part = emit("slice_axis", value, axis=0, begin=start * units, end=stop * units)
                parts.append(emit("_np_reshape", part, newshape=(-1, units)))
        # MXNet concatenates rows ten times faster than single elements.
        rows = emit("_npi_concatenate", *parts, num_args=len(parts), axis=0)
        return emit("_np_reshape", rows, newshape=(-1,))

    def unpacked(self, vector: Any) -> list[Any]:
        """Split the vector of all weights into matrices and biases."""
        emit, units = self._emit, self._units
        columns = self._cell.gates * units
        shaped = [(columns, int(tensor.shape[0] or 0)) for tensor in self._matrices]
        weights, position = [], 0
        for shape in (*shaped, *[(columns,)] * self._cell.biases):
            parts = {}
            for start, stop in self._cell.native:
                rows = ((stop - start) * units, *shape[1:])
                end = position + int(np.prod(rows))
                part = emit("slice_axis", vector, axis=0, begin=position, end=end)
                parts[start] = emit("_np_reshape", part, newshape=rows)
                position = end
            whole = [parts[start] for start in sorted(parts)]
            value = whole[0]
            if len(whole) > 1:
                value = emit("_npi_concatenate", *whole, num_args=len(whole), axis=0)
            weights.append(emit("transpose", value, axes=(1, 0)) if len(shape) == 2 else value)
        return weights


def _first_known(*sides: int | None) -> int | None:
    return next((side for side in sides if side is not None), None)


def _expected(cell: Cell, x: Tensor, *operands: Tensor) -> list[tuple[str, Shape]]:
    """Return the name of each operand, and its shape as far as those of all operands tell it."""
    states, (kernel, recurrent_kernel, *biases) = parted(operands, cell.states)
    batch = _first_known(x.shape[1], *(state.shape[0] for state in states))
    features = _first_known(x.shape[2], kernel.shape[0])
    columns = _first_known(*(t.shape[-1] for t in (kernel, recurrent_kernel, *biases)))
    units = _first_known(
        *(state.shape[1] for state in states),
        recurrent_kernel.shape[0],
        None if columns is None else columns // cell.gates,
    )
    columns = None if units is None else units * cell.gates
    return [
        ("x", (x.shape[0], batch, features)),
        *[("a state", (batch, units))] * cell.states,
        ("the kernel", (features, columns)),
        ("the recurrent kernel", (units, columns)),
        *[("a bias", (columns,))] * cell.biases,
    ]


def check_operands(cell: Cell, *operands: Tensor) -> list[Shape]:
    """Return the shapes of operands as far as they are known.

    Raises:
        ShapeError: The shapes do not fit each other.
        DTypeError: The operands are not floats of one dtype.
    """
    ranks = [3, *[2] * (cell.states + 2), *[1] * cell.biases]
    if [t.rank for t in operands] != ranks:
        raise ShapeError(f"the operands have ranks {[t.rank for t in operands]}, not {ranks}")
    if len({t.dtype for t in operands}) > 1 or not dtypes.is_float(operands[0].dtype):
        raise DTypeError("the operands are not floats of one dtype", remedy="cast them to one")
    expected = _expected(cell, *operands)
    for tensor, (name, shape) in zip(operands, expected, strict=True):
        if not shapes.compatible(tensor.shape, shape):
            raise ShapeError(f"{name} has shape {tensor.shape}, not {shape}")
    return [shape for _, shape in expected]


def draw_operands(draw: Draw, mode: str) -> list[np.ndarray]:
    """Draw the operands of a layer for a test."""
    cell = CELLS[mode]
    steps, batch, features, units = draw.shape(min_rank=4, max_rank=4, min_side=0)
    columns = cell.gates * units
    sizes = [(steps, batch, features), *[(batch, units)] * cell.states]
    weights = [(features, columns), (units, columns), *[(columns,)] * cell.biases]
    if mode != "rnn_relu":
        return [draw.array(shape, -1.0, 1.0) for shape in (*sizes, *weights)]
    # With columns of one sign, and nothing else negative, no sum is near relu's kink.
    signs = np.array([draw.choose((-1, 1)) for _ in range(columns)])
    positive = [draw.array(shape, 0.1, 1.0) for shape in (*sizes, *weights)]
    first = len(sizes)
    return [*positive[:first], *((a * signs).astype(a.dtype) for a in positive[first:])]
