"""Factors of matrices.  Reverse rules from Giles (2008), report NA-08/01, Oxford."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import Draw, Emitter, Operator, Sample
from ksym.ops.solving import dominant, floating, square, triangle


class _Cholesky(Operator):
    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {}

    def infer(self, a: Tensor) -> Spec:
        square(a)
        return a.spec

    def numpy(self, a: Any) -> Any:
        return np.linalg.cholesky(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        return emit("_npi_cholesky", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        factor = node.outputs[0]
        inner = triangle(ops.matmul(factor, g, transpose_a=True), diagonal=0.5)
        left = ops.triangular_solve(factor, inner, transpose_a=True)
        both = ops.triangular_solve(factor, ops.matrix_transpose(left), transpose_a=True)
        return [_read_lower(both)]

    def sample(self, draw: Draw) -> Sample:
        return Sample(dominant(draw, draw.shape(max_rank=2, min_side=0)))


def _read_lower(g: Tensor) -> Tensor:
    """The gradient where only the lower triangle of a symmetric matrix is read: it takes both."""
    return triangle(g + ops.matrix_transpose(g), diagonal=0.5)


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
