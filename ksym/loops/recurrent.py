"""Recurrent layers of standard cells, on MXNet's fused kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import GraphError
from ksym.graph import Node, Spec, Tensor
from ksym.loops.cells import CELLS, as_scan, in_numpy
from ksym.loops.recurrent_gradient import recurrent_gradient
from ksym.loops.recurrent_kernel import (
    NativeLayer,
    check_operands,
    draw_operands,
    lacks_kernel,
    layer_flops,
)
from ksym.loops.view import parted
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import promoted
from ksym.operator.sampling import Draw, Sample

Prepared = tuple[Sequence[Tensor], dict[str, Any]]


class _Recurrent(Operator):
    """A recurrent layer.  Operands: the input, states, kernels, biases; attribute: MXNet's mode."""

    half = False

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {}

    def infer(self, *operands: Tensor, cell: str) -> tuple[Spec, ...]:
        (steps, *_), state, *_ = check_operands(CELLS[cell], *operands)
        dtype = operands[0].dtype
        return Spec((steps, *state), dtype), *[Spec(state, dtype)] * CELLS[cell].states

    def flops(self, node: Node) -> float:
        return layer_flops(CELLS[node.attributes["cell"]], node.inputs)

    def numpy(self, *operands: Any, cell: str) -> Any:
        return in_numpy(CELLS[cell], *operands)

    def is_composed(self, node: Node) -> bool:
        return lacks_kernel(node)

    def onnx(self, emit: OnnxEmitter, node: Node, *values: Any) -> Any:
        """Write one of ONNX's recurrent layers: its gates have another order, its axes one more."""
        name = node.attributes["cell"]
        cell, units = CELLS[name], int(node.outputs[0].shape[2] or 0)
        (x,), states, (kernel, recurrent_kernel, *biases) = parted(values, 1, cell.states)
        order = {"lstm": (0, 3, 1, 2)}.get(name, tuple(range(cell.gates)))

        def ordered(value: Any, axis: int) -> Any:
            places = [units * gate + i for gate in order for i in range(units)]
            return emit("Gather", value, emit.constant(places), axis=axis)

        def lifted(value: Any) -> Any:
            return emit("Unsqueeze", value, emit.constant([0]))

        matrices = [
            lifted(emit("Transpose", ordered(value, 1), perm=(1, 0)))
            for value in (kernel, recurrent_kernel)
        ]
        given = [ordered(value, 0) for value in biases]
        if len(given) == 1:
            given.append(emit.constant(np.zeros(cell.gates * units), node.inputs[0].dtype))
        bias = lifted(emit("Concat", *given, axis=0))
        options = {"lstm": {}, "gru": {"linear_before_reset": 1}}.get(
            name, {"activations": [name.removeprefix("rnn_").capitalize()]}
        )
        kind = {"lstm": "LSTM", "gru": "GRU"}.get(name, "RNN")
        first = [lifted(state) for state in states]
        made = emit(
            kind,
            x,
            *matrices,
            bias,
            None,
            *first,
            outputs=1 + cell.states,
            hidden_size=units,
            **options,
        )
        outputs, *finals = made
        outputs = emit("Squeeze", outputs, emit.constant([1]))
        return outputs, *(emit("Squeeze", final, emit.constant([0])) for final in finals)

    def expand(self, node: Node) -> Sequence[Tensor]:
        return as_scan(CELLS[node.attributes["cell"]], node.inputs)

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        native = NativeLayer(emit, node.attributes["cell"], node.inputs, values)
        outputs, *states = native.outputs
        return outputs, *map(native.single, states)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        gs = [
            ops.zeros_like(t) if g is None else g
            for g, t in zip(arriving, node.outputs, strict=True)
        ]
        return list(recurrent_gradient.make([*gs, *node.inputs], node.attributes))


def _prepared(mode: str, operands: Sequence[Any], biases: Sequence[Any]) -> Prepared:
    """Return operands of one dtype, with zeros for a bias that is None."""
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

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {"activation": attributes["cell"].removeprefix("rnn_")}

    def sample(self, draw: Draw) -> Sample:
        activation = draw.choose(("tanh", "relu"))
        operands = draw_operands(draw, f"rnn_{activation}")
        return Sample(*operands, attributes={"activation": activation})


simple_rnn = _SimpleRnn(
    "simple_rnn",
    doc="""Apply ``h = activation(x[t] @ kernel + h @ recurrent_kernel + bias)`` step by step.

    Computed by a loop if MXNet has no kernel: for relu, whose kernel makes zeros of NaN, and for
    empty operands.

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
    ``c = sigmoid(f) * c + sigmoid(i) * tanh(g)``, ``h = sigmoid(o) * tanh(c)``.
    Computed by a loop if an operand is empty.

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
    Computed by a loop if an operand is empty.

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
