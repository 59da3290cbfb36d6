"""Recurrent layers of standard cells, on MXNet's fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.cells import CELLS, Cell, as_scan, in_numpy
from ksym.ops.operands import promoted
from ksym.ops.registry import Emitter, Operator
from ksym.ops.sampling import Draw, Sample
from ksym.shapes import Shape

Prepared = tuple[Sequence[Tensor], dict[str, Any]]


def lacks_kernel(node: Node) -> bool:
    """Whether a loop has to do it.

    MXNet's kernels do not expect to be given nothing, and compute relu in float32 whatever the
    dtype.
    """
    in_doubles = node.outputs[0].dtype == "float64" and node.attributes["cell"] == "rnn_relu"
    return in_doubles or any(0 in t.shape for t in (*node.inputs, *node.outputs))


class Native:
    """The native form of a recurrent layer whose shapes are known."""

    def __init__(self, emit: Emitter, mode: str, operands: Sequence[Tensor], values: Sequence[Any]):
        self._emit = emit
        self._cell = cell = CELLS[mode]
        self._state = shapes.known(operands[1].shape)
        self._units = self._state[1]
        self._matrices = operands[1 + cell.states : 3 + cell.states]
        self.attributes = {"state_size": self._units, "num_layers": 1, "mode": mode}
        self.attributes |= {"state_outputs": True}
        self.x = values[0]
        self.states = [self.stacked(value) for value in values[1 : 1 + cell.states]]
        self.weights = self._packed(values[1 + cell.states :])
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
        """How many numbers all weights are."""
        rows = sum(int(tensor.shape[0] or 0) for tensor in self._matrices)
        return (rows + 2) * self._cell.gates * self._units

    def stacked(self, state: Any) -> Any:
        """Return a state as that of one layer of a stack."""
        return self._emit("_np_reshape", state, newshape=(1, *self._state))

    def single(self, state: Any) -> Any:
        """Return the state of the one layer."""
        return self._emit("_np_reshape", state, newshape=self._state)

    def _packed(self, weights: Sequence[Any]) -> Any:
        """Put all weights into one vector: matrices by rows of gates, then two biases."""
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
        # MXNet joins rows ten times faster than numbers.
        rows = emit("_npi_concatenate", *parts, num_args=len(parts), axis=0)
        return emit("_np_reshape", rows, newshape=(-1,))

    def unpacked(self, vector: Any) -> list[Any]:
        """Take the vector of all weights apart again."""
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


def _known(*sides: int | None) -> int | None:
    return next((side for side in sides if side is not None), None)


def _expected(cell: Cell, x: Tensor, *operands: Tensor) -> list[tuple[str, Shape]]:
    """Return the name of each operand, and its shape as far as all of them together tell it."""
    states = operands[: cell.states]
    kernel, recurrent_kernel, *biases = operands[cell.states :]
    batch = _known(x.shape[1], *(state.shape[0] for state in states))
    features = _known(x.shape[2], kernel.shape[0])
    columns = _known(*(t.shape[-1] for t in (kernel, recurrent_kernel, *biases)))
    units = _known(
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
        ShapeError: They do not fit each other.
        DTypeError: They are not floats of one dtype.
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


class _Recurrent(Operator):
    """Operands: the input, the states, the kernels, the biases.  Attribute: MXNet's mode."""

    half = False

    def infer(self, *operands: Tensor, cell: str) -> tuple[Spec, ...]:
        (steps, *_), state, *_ = check_operands(CELLS[cell], *operands)
        dtype = operands[0].dtype
        return Spec((steps, *state), dtype), *[Spec(state, dtype)] * CELLS[cell].states

    def numpy(self, *operands: Any, cell: str) -> Any:
        return in_numpy(CELLS[cell], *operands)

    def is_composed(self, node: Node) -> bool:
        return lacks_kernel(node)

    def expand(self, node: Node) -> Sequence[Tensor]:
        return as_scan(CELLS[node.attributes["cell"]], node.inputs)

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        native = Native(emit, node.attributes["cell"], node.inputs, values)
        outputs, *states = native.outputs
        return outputs, *map(native.single, states)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        gs = [
            ops.zeros_like(t) if g is None else g
            for g, t in zip(arriving, node.outputs, strict=True)
        ]
        return list(ops.recurrent_gradient.make([*gs, *node.inputs], node.attributes))


def _prepared(mode: str, operands: Sequence[Any], biases: Sequence[Any]) -> Prepared:
    """Return operands of one dtype; a bias that is not there is zero."""
    count = len(operands)
    tensors = promoted(*operands, *(bias for bias in biases if bias is not None))
    kernel, given = tensors[count - 2], iter(tensors[count:])
    every = [
        ops.zeros(ops.shape_of(kernel)[-1:], kernel.dtype) if bias is None else next(given)
        for bias in biases
    ]
    return [*tensors[:count], *every], {"cell": mode}


class _SimpleRnn(_Recurrent):
    def prepare(
        self,
        x: Any,
        h: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        activation: str = "tanh",
    ) -> Prepared:
        if activation not in ("tanh", "relu"):
            raise GraphError(f'the activation is {activation!r}, not "tanh" or "relu"')
        return _prepared(f"rnn_{activation}", [x, h, kernel, recurrent_kernel], [bias])

    def sample(self, draw: Draw) -> Sample:
        activation = draw.choose(("tanh", "relu"))
        operands = draw_operands(draw, f"rnn_{activation}")
        return Sample(*operands, attributes={"activation": activation})


simple_rnn = _SimpleRnn(
    "simple_rnn",
    doc="""Apply ``h = activation(x[t] @ kernel + h @ recurrent_kernel + bias)`` step by step.

    A loop where MXNet has no kernel: relu in float64, and empty operands.

    Args:
        x: (steps, batch, features).
        h: The initial state: (batch, units).
        kernel: (features, units).
        recurrent_kernel: (units, units).
        bias: (units,), if there is one.
        activation: ``"tanh"`` or ``"relu"``.

    Returns:
        The state after each step (steps, batch, units), and after the last.

    Raises:
        ShapeError: The shapes do not fit each other.
        GraphError: There is no such activation.
    """,
)


class _Lstm(_Recurrent):
    def prepare(
        self, x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None
    ) -> Prepared:
        return _prepared("lstm", [x, h, c, kernel, recurrent_kernel], [bias])

    def sample(self, draw: Draw) -> Sample:
        return Sample(*draw_operands(draw, "lstm"))


lstm = _Lstm(
    "lstm",
    doc="""Apply a cell of long short-term memory step by step (Hochreiter and Schmidhuber, 1997).

    With ``i, f, g, o`` the four parts of ``x[t] @ kernel + h @ recurrent_kernel + bias``:
    ``c = sigmoid(f) * c + sigmoid(i) * tanh(g)``, ``h = sigmoid(o) * tanh(c)``.  A loop where an
    operand is empty.

    Args:
        x: (steps, batch, features).
        h: The initial state: (batch, units).
        c: The initial state of the memory: (batch, units).
        kernel: (features, 4 * units).
        recurrent_kernel: (units, 4 * units).
        bias: (4 * units,), if there is one.

    Returns:
        h after each step (steps, batch, units), and h and c after the last.

    Raises:
        ShapeError: The shapes do not fit each other.
    """,
)


class _Gru(_Recurrent):
    def prepare(
        self,
        x: Any,
        h: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        recurrent_bias: Any = None,
    ) -> Prepared:
        return _prepared("gru", [x, h, kernel, recurrent_kernel], [bias, recurrent_bias])

    def sample(self, draw: Draw) -> Sample:
        return Sample(*draw_operands(draw, "gru"))


gru = _Gru(
    "gru",
    doc="""Apply a gated recurrent unit step by step: the kind that resets after the product.

    With ``z, r, n`` the three parts of ``x[t] @ kernel + bias``, and ``uz, ur, un`` those of
    ``h @ recurrent_kernel + recurrent_bias``: ``z = sigmoid(z + uz)``, ``r = sigmoid(r + ur)``,
    ``h = z * h + (1 - z) * tanh(n + r * un)`` (cuDNN's variant of arXiv:1406.1078).
    A loop where an operand is empty.

    Args:
        x: (steps, batch, features).
        h: The initial state: (batch, units).
        kernel: (features, 3 * units).
        recurrent_kernel: (units, 3 * units).
        bias: (3 * units,), if there is one.
        recurrent_bias: (3 * units,), if there is one.

    Returns:
        The state after each step (steps, batch, units), and after the last.

    Raises:
        ShapeError: The shapes do not fit each other.
    """,
)


def draw_operands(draw: Draw, mode: str) -> list[np.ndarray]:
    """Draw what a layer is applied to, for a test."""
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
