"""The factors L and U of a matrix: NumPy has none, so they are computed by columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import floating
from ksym.operator.sampling import Draw, Sample
from ksym.ops.linalg.decompositions import matrix_sides

__all__ = ["lu_factor"]


def _eliminated(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors of stacked matrices in one array, and the rows that were exchanged."""
    factors = np.array(a)
    *batch, rows, columns = factors.shape
    count = min(rows, columns)
    flat = factors.reshape(-1, rows, columns)
    pivots = np.zeros((len(flat), count), "int64")
    every = np.arange(len(flat))
    for k in range(count):
        chosen = k + np.abs(flat[:, k:, k]).argmax(axis=1)
        pivots[:, k] = chosen
        flat[every, k], flat[every, chosen] = flat[every, chosen], flat[every, k].copy()
        pivot = flat[:, k, k][:, None]
        below = np.where(pivot == 0, 0, flat[:, k + 1 :, k] / np.where(pivot == 0, 1, pivot))
        flat[:, k + 1 :, k] = below
        flat[:, k + 1 :, k + 1 :] -= below[:, :, None] * flat[:, None, k, k + 1 :]
    return flat.reshape(factors.shape), pivots.reshape(*batch, count)


class _LUFactor(Operator):
    runs = "host"
    half = False
    unproven: Mapping[str, str] = {
        "gradients": "the rows that are exchanged are jumps",
        "second order": "the rows that are exchanged are jumps",
        "mistakes": "a sample that is cast or cut can have equal pivots: other rows exchanged",
    }

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        a = floating(a)
        if a.rank < 2:
            raise ShapeError(f"a matrix has two axes, unlike {a.spec}")
        return [a], {}

    def infer(self, a: Tensor) -> tuple[Spec, Spec]:
        _, _, shorter = matrix_sides(a)
        return a.spec, Spec((*a.shape[:-2], shorter), "int64")

    def numpy(self, a: Any) -> Any:
        return _eliminated(np.asarray(a))

    def flops(self, node: Node) -> float:
        return 0.0

    def sample(self, draw: Draw) -> Sample:
        shape = (*draw.shape(max_rank=2), draw.integer(1, 4), draw.integer(1, 4))
        return Sample(draw.array(shape, apart=0.05), differentiate=())


lu_factor = _LUFactor(
    "lu_factor",
    doc="""Return the factors L and U of a matrix whose rows are exchanged, in one matrix.

    L has ones on its diagonal, and is below that of U.

    Args:
        a: (..., rows, columns).

    Returns:
        The factors (..., rows, columns), and for each column the row that was exchanged with that
        of its number, (..., shorter side), as int64.

    Raises:
        ShapeError: It is no matrix.
    """,
)
