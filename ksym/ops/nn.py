"""Activations of neural networks that are more than elementwise arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.graph import Node, Spec, Tensor
from ksym.ops.elementwise import Unary
from ksym.ops.registry import Draw, Emitter, Operator, Sample, as_tensor, cast_to


class _Relu(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if dtypes.is_float(node.inputs[0].dtype):
            return emit("Activation", x, act_type="relu")
        return emit("_npi_maximum_scalar", x, scalar=0)


relu = _Relu(
    "relu",
    lambda x: np.maximum(x, 0),
    "",
    lambda x, y, g: relu_gradient(g, y),
    "The larger of x and zero; its gradient at zero is zero.",
    floating=False,
    domain=(-2.0, 2.0, 0.05),
)


class _ReluGradient(Operator):
    elementwise = True
    linear_in = (0,)

    def infer(self, g: Tensor, y: Tensor) -> Spec:
        return Spec(shapes.merge(g.shape, y.shape), g.dtype)

    def numpy(self, g: Any, y: Any) -> Any:
        return g * (y > 0)

    def lower(self, emit: Emitter, node: Node, g: Any, y: Any) -> Any:
        return emit("_backward_Activation", g, y, act_type="relu")

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [relu_gradient(g, node.inputs[1]), ops.zeros_like(node.inputs[1])]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape()
        return Sample(draw.array(shape), draw.array(shape, apart=0.05))


relu_gradient: Operator = _ReluGradient("relu_gradient", doc="g where y is positive, else zero.")


class _Softmax(Operator):
    """`softmax` and `log_softmax`: they differ in kernel and chain rule."""

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        gradient: Callable[[Tensor, Tensor, int], Tensor],
        doc: str,
    ):
        self._numpy = numpy
        self._gradient = gradient
        super().__init__(name, doc)

    def prepare(self, x: Any, axis: int = -1) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, axis: int) -> Any:
        return self._numpy(x - np.max(x, axis=axis, keepdims=True), axis)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit(self.name, x, axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [self._gradient(node.outputs[0], g, node.attributes["axis"])]

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        return self(operands[0], order[node.attributes["axis"]]), order

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(draw.array(shape), attributes={"axis": axis})


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


softmax = _Softmax(
    "softmax",
    _softmax,
    lambda y, g, axis: y * (g - ops.sum_(g * y, axis, keepdims=True)),
    "Exponentials along an axis, scaled to a sum of one.",
)
log_softmax = _Softmax(
    "log_softmax",
    lambda x, axis: x - np.log(np.exp(x).sum(axis=axis, keepdims=True)),
    lambda y, g, axis: g - ops.exp(y) * ops.sum_(g, axis, keepdims=True),
    "The logarithm of `softmax`, computed without overflow or underflow.",
)
