"""Activations of neural networks along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, cast_to, widened
from ksym.operator.sampling import Draw, Sample
from ksym.ops.reductions.reduction import sum_by_products

__all__ = ["softmax", "log_softmax", "glu"]


class _Softmax(Operator):
    """The base of `softmax` and `log_softmax`, which differ in kernel and chain rule."""

    half = False

    work = 5.0  # highest, difference, exp, sum, quotient

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        gradient: Callable[[Tensor, Tensor, int], Tensor],
        decomposed: Callable[[Tensor, int], Tensor],
        doc: str,
    ):
        self._numpy = numpy
        self._gradient = gradient
        self._decomposed = decomposed
        super().__init__(name, doc)

    def prepare(self, x: Any, axis: int = -1) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, axis: int) -> Any:
        highest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        return self._numpy(x - highest, axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        name = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[self.name]
        return emit(name, x, axis=node.attributes["axis"])

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        (source,), axis = node.inputs, node.attributes["axis"]
        y = emit(self.name, x, axis=axis)
        if source.dtype != "float32":
            return y
        # Where an element is NaN, oneDNN's kernel gives numbers for the others: the sum tells.
        shares = emit("exp", y) if self is log_softmax else y
        total = sum_by_products(emit, shares, source, (axis,))
        kept = [1 if a == axis else side for a, side in enumerate(source.shape)]
        total = emit("_np_reshape", total, newshape=kept)
        if self is log_softmax:
            # Its logarithm of the sum is 4e-6 off: the shares add up to 1 when that is taken off.
            return emit("_npi_subtract", y, emit("_npi_log", total))
        return emit("_npi_add", y, emit("_npi_multiply_scalar", total, scalar=0))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (y,) = node.outputs
        return [cast_to(self._gradient(widened(y), widened(g), node.attributes["axis"]), y.dtype)]

    def decompose(self, node: Node, operands: Sequence[Tensor]) -> Tensor | None:
        (x,), axis = operands, node.attributes["axis"]
        if 0 in x.shape:
            return None
        return self._decomposed(x - ops.max_(x, axis, keepdims=True), axis)

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        return self(operands[0], order[node.attributes["axis"]]), order

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        made: Tensor = self(operands[0].tensor, node.attributes["axis"] + 1)
        return made

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        axis = draw.integer(-len(shape), len(shape) - 1)
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"axis": axis})


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def _written_softmax(x: Tensor, axis: int) -> Tensor:
    e = ops.exp(x)
    return e / ops.sum_(e, axis, keepdims=True)


def _written_log_softmax(x: Tensor, axis: int) -> Tensor:
    logarithm: Tensor = ops.log(ops.sum_(ops.exp(x), axis, keepdims=True))
    return x - logarithm


softmax = _Softmax(
    "softmax",
    _softmax,
    lambda y, g, axis: y * (g - ops.sum_(g * y, axis, keepdims=True)),
    _written_softmax,
    "Return exponentials along an axis, scaled to a sum of one.",
)
log_softmax = _Softmax(
    "log_softmax",
    lambda x, axis: x - np.log(np.exp(x).sum(axis=axis, keepdims=True)),
    lambda y, g, axis: g - ops.exp(y) * ops.sum_(g, axis, keepdims=True),
    _written_log_softmax,
    "Return the logarithm of `softmax`, computed without overflow or underflow.",
)


class _Glu(Operator):
    def prepare(self, x: Any, axis: int = -1) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        size = x.shape[axis]
        if size is not None and size % 2:
            raise ShapeError(f"axis {axis} has the odd size {size}, which has no halves")
        half = None if size is None else size // 2
        return Spec((*x.shape[:axis], half, *x.shape[axis + 1 :]), x.dtype)

    def numpy(self, x: Any, axis: int) -> Any:
        first, second = np.split(x, 2, axis)
        return first / (1.0 + np.exp(-second))

    def expand(self, node: Node) -> Tensor:
        (x,), axis = node.inputs, node.attributes["axis"]
        half: Any = ops.shape_of(x)[axis] // 2 if x.shape[axis] is None else x.shape[axis] // 2
        before = (slice(None),) * axis
        first, second = x[(*before, slice(None, half))], x[(*before, slice(half, None))]
        return first * ops.sigmoid(second)

    def differentiable_form(self, node: Node) -> Sequence[Tensor]:
        return [self.expand(node)]

    def sample(self, draw: Draw) -> Sample:
        shape = list(draw.shape(min_rank=1, min_side=0))
        axis = draw.integer(-len(shape), len(shape) - 1)
        shape[axis] *= 2
        return Sample(draw.array(shape), attributes={"axis": axis})


glu = _Glu(
    "glu",
    doc="""Return the first half along an axis, gated by `sigmoid` of the second (arXiv:1612.08083).

    Composed: MXNet has none.

    Args:
        x: A tensor.
        axis: An axis of even size.

    Raises:
        ShapeError: The size is odd, or there is no such axis.
    """,
)
