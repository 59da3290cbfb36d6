"""Factors of matrices.  Reverse rules from Giles (2008), report NA-08/01, Oxford."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import Draw, Emitter, Operator, Sample, as_tensor, cast_to


class _Cholesky(Operator):
    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        a = as_tensor(a)
        return [cast_to(a, dtypes.floating(a.dtype))], {}

    def infer(self, a: Tensor) -> Spec:
        if a.rank < 2 or not shapes.compatible(a.shape[-1:], a.shape[-2:-1]):
            raise ShapeError(f"square matrices are needed, not {a.shape}")
        return a.spec

    def numpy(self, a: Any) -> Any:
        return np.linalg.cholesky(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        return emit("_npi_cholesky", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        factor = node.outputs[0]
        inverse = ops.inv(factor)
        inner = _half_lower(ops.matmul(factor, g, transpose_a=True))
        both = ops.matmul(ops.matmul(inverse, inner, transpose_a=True), inverse)
        # Only the lower triangle is read: it takes the gradient of both.
        swapped = ops.transpose(both, (*range(both.rank - 2), both.rank - 1, both.rank - 2))
        return [_half_lower(both + swapped)]

    def sample(self, draw: Draw) -> Sample:
        n = draw.integer(1, 3)
        a = draw.array((*draw.shape(max_rank=2, min_side=0), n, n), -0.4, 0.4)
        return Sample((a + np.diag(draw.array((n,), 1.5, 3.0))).astype(a.dtype))


def _half_lower(x: Tensor) -> Tensor:
    """The lower triangle with half of the diagonal."""
    place = ops.arange(ops.shape_of(x)[-1])
    row, column = ops.expand_dims(place, 1), ops.expand_dims(place, 0)
    halved = ops.where(ops.equal(row, column), x * 0.5, x)
    return ops.where(ops.greater_equal(row, column), halved, ops.zeros_like(x))


cholesky = _Cholesky(
    "cholesky",
    doc="""The lower triangular factor L of a symmetric positive definite matrix L @ L.T.

    Only the lower triangle is read, as in NumPy, so the gradient is zero above the diagonal.

    Args:
        a: Matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
        ExecutionError: At the call: one of them is not positive definite.
    """,
)
