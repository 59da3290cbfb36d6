"""Factorising and inverting matrices.  Reverse rules from Giles (2008), report NA-08/01, Oxford."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import Draw, Emitter, Operator, Sample, as_tensor, cast_to, promoted


def _float(x: Any) -> Tensor:
    x = as_tensor(x)
    return cast_to(x, dtypes.floating(x.dtype))


def _square(a: Tensor) -> None:
    if a.rank < 2 or not shapes.compatible(a.shape[-1:], a.shape[-2:-1]):
        raise ShapeError(f"square matrices are needed, not {a.shape}")


def _transposed(x: Tensor) -> Tensor:
    return ops.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _dominant(draw: Draw, batch: Sequence[int]) -> np.ndarray:
    """Matrices far from singular: their diagonal outweighs the rest of each row."""
    n = draw.integer(1, 3)
    a = draw.array((*batch, n, n), -0.4, 0.4)
    return (a + np.diag(draw.array((n,), 1.5, 3.0))).astype(a.dtype)


class _Inverse(Operator):
    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_float(a)], {}

    def infer(self, a: Tensor) -> Spec:
        _square(a)
        return a.spec

    def numpy(self, a: Any) -> Any:
        return np.linalg.inv(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        return emit("_npi_inv", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        y = node.outputs[0]
        return [-ops.matmul(ops.matmul(y, g, transpose_a=True), y, transpose_b=True)]

    def sample(self, draw: Draw) -> Sample:
        return Sample(_dominant(draw, draw.shape(max_rank=2, min_side=0)))


inv = _Inverse(
    "inv",
    doc="""The inverse of a matrix, or of each of a stack of them.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
        ExecutionError: At the call: one of them is singular.
    """,
)


class _Solve(Operator):
    half = False

    def prepare(self, a: Any, b: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_float(x) for x in promoted(a, b)], {}

    def __call__(self, a: Any, b: Any) -> Any:
        a, b = promoted(a, b)
        if b.rank and b.rank == a.rank - 1:
            return ops.squeeze(super().__call__(a, ops.expand_dims(b, -1)), -1)
        return super().__call__(a, b)

    def infer(self, a: Tensor, b: Tensor) -> Spec:
        _square(a)
        if b.rank < 2 or not shapes.compatible(a.shape[-1:], b.shape[-2:-1]):
            raise ShapeError(f"right sides of shape {b.shape} do not fit matrices of {a.shape}")
        batch = shapes.broadcast(a.shape[:-2], b.shape[:-2])
        return Spec((*batch, *shapes.merge(a.shape[-1:], b.shape[-2:-1]), b.shape[-1]), a.dtype)

    def numpy(self, a: Any, b: Any) -> Any:
        return np.linalg.solve(a, b)

    def lower(self, emit: Emitter, node: Node, a: Any, b: Any) -> Any:
        batch = node.outputs[0].shape[:-2]
        values = []
        for value, tensor in zip((a, b), node.inputs, strict=True):
            if tensor.shape[:-2] != batch:
                value = emit("_npi_broadcast_to", value, shape=(*batch, *tensor.shape[-2:]))
            values.append(value)
        return emit("_npi_solve", *values)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a, b), x = node.inputs, node.outputs[0]
        for_b = solve.make([_transposed(a), g], {})
        for_a = -ops.matmul(for_b, x, transpose_b=True)
        return [ops.sum_to(for_a, ops.shape_of(a)), ops.sum_to(for_b, ops.shape_of(b))]

    def sample(self, draw: Draw) -> Sample:
        batch = draw.shape(max_rank=1, min_side=0)
        a = _dominant(draw, batch)
        return Sample(a, draw.array((*batch, a.shape[-1], draw.integer(1, 3))))


solve = _Solve(
    "solve",
    doc="""The solution x of a @ x = b.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.
        b: Matrices of right sides; vectors if there is one axis less than in a.  Stacks broadcast.

    Raises:
        ShapeError: The matrices are not square, or b does not fit.
        ExecutionError: At the call: a matrix is singular.
    """,
)


class _Det(Operator):
    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_float(a)], {}

    def infer(self, a: Tensor) -> Spec:
        _square(a)
        return Spec(a.shape[:-2], a.dtype)

    def numpy(self, a: Any) -> Any:
        return np.linalg.det(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        out = node.outputs[0]
        if 0 in node.inputs[0].shape:  # MXNet leaves the result of 0 by 0 matrices unset
            return emit("_full", shape=out.shape, value=1.0, dtype=out.dtype)
        return emit("_npi_det", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a,), y = node.inputs, node.outputs[0]
        scale = ops.expand_dims(ops.expand_dims(g * y, -1), -1)
        return [scale * _transposed(inv(a))]

    def sample(self, draw: Draw) -> Sample:
        return Sample(_dominant(draw, draw.shape(max_rank=2, min_side=0)))


det = _Det(
    "det",
    doc="""The determinant of a matrix, or of each of a stack of them.

    The gradient inverts the matrix, so there is none for a singular one.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
    """,
)


class _Slogdet(_Det):
    def infer(self, a: Tensor) -> tuple[Spec, Spec]:  # type: ignore[override]
        _square(a)
        return (Spec(a.shape[:-2], a.dtype),) * 2

    def numpy(self, a: Any) -> Any:
        return np.linalg.slogdet(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        if 0 in node.inputs[0].shape:
            one, zero = (
                emit("_full", shape=out.shape, value=value, dtype=out.dtype)
                for out, value in zip(node.outputs, (1.0, 0.0), strict=True)
            )
            return one, zero
        return emit("_npi_slogdet", a, outputs=2)

    def gradient(  # type: ignore[override]
        self, node: Node, for_sign: Tensor | None, g: Tensor | None
    ) -> list[Tensor | None]:
        (a,) = node.inputs
        if g is None:
            return [ops.zeros_like(a)]
        return [ops.expand_dims(ops.expand_dims(g, -1), -1) * _transposed(inv(a))]


slogdet = _Slogdet(
    "slogdet",
    doc="""The sign of the determinant, and the logarithm of its absolute value.

    Of a singular matrix 0 and minus infinity; there is no gradient then.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
    """,
)
