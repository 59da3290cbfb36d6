"""The singular value decomposition, and the pseudo-inverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.operands import floating
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.linalg.decompositions import (
    NOT_UNIQUE,
    inverse_differences,
    lower_signs,
    matrix_sides,
    nothing,
    require_numbers,
    signs,
    swapped,
    well_conditioned,
)
from ksym.ops.linalg.solving import cubed

__all__ = ["svd", "pinv"]


def _by_columns(values: Tensor) -> Tensor:
    """Reshape vectors to scale the columns of matrices."""
    return ops.expand_dims(values, -2)


def _by_rows(values: Tensor) -> Tensor:
    """Reshape vectors to scale the rows of matrices."""
    return ops.expand_dims(values, -1)


def _turn(basis: Tensor, change: Tensor, gaps: Tensor) -> Tensor:
    """Return the rotation of orthonormal columns among each other, divided by the gaps."""
    turned = ops.matmul(basis, change, transpose_a=True)
    return gaps * (turned - ops.matrix_transpose(turned))


def _leaving(basis: Tensor, change: Tensor) -> Tensor:
    """Return the part of a change of orthonormal columns that leaves the space they span."""
    return change - ops.matmul(basis, ops.matmul(basis, change, transpose_a=True))


class _SVD(Operator):
    half = False
    unproven = NOT_UNIQUE

    def prepare(
        self, a: Any, full_matrices: bool = False, compute_uv: bool = True
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if full_matrices:
            raise ShapeError(
                "the vectors of singular values that are not there are not unique",
                remedy="leave full_matrices at False",
            )
        return [floating(a)], {}

    def call(self, a: Any, full_matrices: bool = False, compute_uv: bool = True) -> Any:
        u, values, vh = super().call(a, full_matrices)
        return (u, values, vh) if compute_uv else values

    def infer(self, a: Tensor) -> tuple[Spec, Spec, Spec]:
        rows, columns, shorter = matrix_sides(a)
        batch = a.shape[:-2]
        return (
            Spec((*batch, rows, shorter), a.dtype),
            Spec((*batch, shorter), a.dtype),
            Spec((*batch, shorter, columns), a.dtype),
        )

    def flops(self, node: Node) -> float:
        return 20.0 * cubed(node)

    def numpy(self, a: Any) -> Any:
        u, values, vh = np.linalg.svd(a, full_matrices=False)
        if not u.size:
            return u, values, vh
        sign = signs(u)
        return u * sign, values, np.swapaxes(sign, -1, -2) * vh

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        source, (_, values, vh) = node.inputs[0], node.outputs
        if 0 in values.shape:
            return nothing(emit, node)
        require_numbers(emit, lambda: a)
        rows, _, shorter = matrix_sides(source)
        tall = shorter != rows
        left, numbers, right = emit(
            "_npi_svd", swapped(emit, a, source.rank) if tall else a, outputs=3
        )
        if tall:
            left, right = (swapped(emit, vectors, source.rank) for vectors in (right, left))
        sign = lower_signs(emit, left, numbers, values.spec)
        across = emit("_np_reshape", sign, newshape=(*vh.shape[:-1], 1))
        return emit("_npi_multiply", left, sign), numbers, emit("_npi_multiply", right, across)

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def gradient(
        self, node: Node, for_u: Tensor | None, for_values: Tensor | None, for_vh: Tensor | None
    ) -> list[Tensor | None]:
        u, values, vh = node.outputs
        inner = ops.matrix_diag(ops.zeros_like(values) if for_values is None else for_values)
        if for_u is None and for_vh is None:
            return [ops.matmul(ops.matmul(u, inner), vh)]
        gaps = inverse_differences(ops.square(values))
        rest: list[Tensor] = []
        if for_u is not None:
            inner = inner + _turn(u, for_u, gaps) * _by_columns(values)
            rest.append(ops.matmul(_leaving(u, for_u) / _by_columns(values), vh))
        if for_vh is not None:
            v, for_v = ops.matrix_transpose(vh), ops.matrix_transpose(for_vh)
            inner = inner + _turn(v, for_v, gaps) * _by_rows(values)
            leaving = ops.matrix_transpose(_leaving(v, for_v))
            rest.append(ops.matmul(u, leaving / _by_rows(values)))
        return [sum(rest, ops.matmul(ops.matmul(u, inner), vh))]

    def sample(self, draw: Draw) -> Sample:
        a = well_conditioned(draw, draw.integer(1, 3), draw.integer(1, 3))
        return Sample(a, attributes={"compute_uv": draw.choose((True, False))})


svd = _SVD(
    "svd",
    doc="""Return the singular values, in descending order, and singular vectors of a matrix.

    The matrix is ``u @ diag(values) @ vh``.  Of each column of u the element of largest magnitude
    is positive.  Equal singular values have no unique vectors: the gradient of vectors is infinite
    or NaN there, and where a value is 0; that of the values alone is not.  The rule is that of
    Townsend (2016), "Differentiating the Singular Value Decomposition".

    Args:
        a: Matrices in the last two axes; integers are computed in float64.
        full_matrices: False: as many vectors as values, the smaller of the matrix's sides.
        compute_uv: Whether to return the vectors.

    Returns:
        The matrices that have the left singular vectors as columns, the singular values, and the
        matrices that have the right singular vectors as rows; without compute_uv only the values.

    Raises:
        ShapeError: a has fewer than two axes, or full_matrices is asked for.
        ExecutionError: At the call: no values are found, as for some matrices with NaN.
    """,
)


def _cutoff(shape: tuple[int, ...], dtype: Any) -> float:
    """Return the fraction of the largest singular value that counts as zero, as in JAX."""
    return float(10 * max(shape[-2:]) * np.finfo(dtype).eps)


class _PInv(Operator):
    half = False

    def prepare(
        self, a: Any, rcond: float | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {"rcond": None if rcond is None else float(rcond)}

    def infer(self, a: Tensor, rcond: float | None) -> Spec:
        rows, columns, _ = matrix_sides(a)
        return Spec((*a.shape[:-2], columns, rows), a.dtype)

    def numpy(self, a: Any, rcond: float | None) -> Any:
        return np.linalg.pinv(a, _cutoff(a.shape, a.dtype) if rcond is None else rcond)

    def expand(self, node: Node) -> Tensor:
        (a,), out, rcond = node.inputs, node.outputs[0], node.attributes["rcond"]
        if 0 in out.shape:
            return ops.zeros(out.shape, out.dtype)
        if rcond is None:
            rcond = _cutoff(shapes.known(a.shape), a.dtype)
        u, values, vh = svd(a)
        counts = ops.greater(values, rcond * ops.max_(values, -1, keepdims=True))
        inverse = 1.0 / ops.where(counts, values, ops.ones_like(values))
        inverse = ops.where(counts, inverse, ops.zeros_like(values))
        return ops.matmul(vh, u * _by_columns(inverse), transpose_a=True, transpose_b=True)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a,), p = node.inputs, node.outputs[0]
        across = ops.matrix_transpose(g)
        result = -ops.matmul(p, ops.matmul(g, p, transpose_b=True), transpose_a=True)
        left = ops.matmul(across, ops.matmul(p, p, transpose_b=True))
        right = ops.matmul(ops.matmul(p, p, transpose_a=True), across)
        result = result + left - ops.matmul(a, ops.matmul(p, left))
        return [result + right - ops.matmul(ops.matmul(right, p), a)]

    def sample(self, draw: Draw) -> Sample:
        return Sample(well_conditioned(draw, draw.integer(1, 3), draw.integer(1, 3)))


pinv = _PInv(
    "pinv",
    doc="""Return the pseudo-inverse of Moore and Penrose, of any matrix or each of a stack of them.

    Composed of `svd`, as MXNet's own has no gradient.  Its gradient is that of Golub and Pereyra
    (1973), for changes that keep the rank; it has no singular vectors in it, so equal singular
    values do not disturb it.

    Args:
        a: Matrices in the last two axes; integers are computed in float64.
        rcond: Singular values up to this part of the largest count as zero; by default, as in JAX,
            ten times the longer side of the matrix times the dtype's machine epsilon.

    Raises:
        ShapeError: a has fewer than two axes.
        ExecutionError: At the call: no values are found, as for some matrices with NaN.
    """,
)
