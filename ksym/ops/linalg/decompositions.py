"""Factorisations of matrices, but for the singular value decomposition.

Reverse rules from Giles (2008), report NA-08/01, Oxford; that of `qr` from Walter and
Lehmann (2010), arXiv:1001.1654, and Seeger et al. (2017), arXiv:1710.08717.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.operands import floating
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.linalg.solving import OfSquare, check_square, cubed, require_of_numbers, triangle

__all__ = ["cholesky", "eigh", "qr"]


class _Cholesky(OfSquare):
    def flops(self, node: Node) -> float:
        return cubed(node) / 3.0

    def numpy(self, a: Any) -> Any:
        return np.linalg.cholesky(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        factor = emit("_npi_cholesky", a)
        require_of_numbers(
            emit,
            "a matrix is not positive definite",
            lambda: emit("_npi_greater_scalar", emit("_linalg_extractdiag", factor), scalar=0),
            lambda: emit("_npi_tril", a),
        )
        return factor

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        factor = node.outputs[0]
        inner = triangle(ops.matmul(factor, g, transpose_a=True), diagonal=0.5)
        left = ops.triangular_solve(factor, inner, transpose_a=True)
        both = ops.triangular_solve(factor, ops.matrix_transpose(left), transpose_a=True)
        return [_read_lower(both)]


def _read_lower(g: Tensor) -> Tensor:
    """Return the gradient for a symmetric matrix of which only the lower triangle is read."""
    return triangle(g + ops.matrix_transpose(g), diagonal=0.5)


cholesky = _Cholesky(
    "cholesky",
    doc="""Return the lower triangular factor L of a symmetric positive definite matrix L @ L.T.

    Only the lower triangle is read, as in NumPy, so the gradient is zero above the diagonal.

    Args:
        a: Matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
        ExecutionError: At the call: one of them is not positive definite.
    """,
)


NOT_UNIQUE = {
    "mistakes": "a sample that is cast or cut has equal values, whose vectors are not unique"
}


def require_numbers(emit: Emitter, read: Callable[[], Any]) -> None:
    """Have a call fail if an element that is read is NaN."""

    def is_number() -> Any:
        x = read()
        return emit("_npi_equal", x, x)

    emit.require("an element is NaN", is_number)


def signs(vectors: Any) -> Any:
    """Return 1 or -1 for each column, so that its element of largest magnitude becomes positive."""
    extremes = vectors.max(-2, keepdims=True) + vectors.min(-2, keepdims=True)
    return np.where(extremes < 0, -1.0, 1.0)


def with_sure_signs(draw: Draw, batch: Sequence[int], n: int) -> np.ndarray:
    """Return orthogonal matrices, one element of each column clearly larger than the others.

    Where two are equally large and of opposite signs, the sign of the column jumps, and there is no
    gradient to check.  Cayley's transform of a small skew matrix, of norm below 0.35, turns no axis
    by more than 38 degrees, so the diagonal is above 0.78 and the other elements are below 0.62.
    """
    turn = draw.array((*batch, n, n), -1.0, 1.0).astype("float64")
    turn = (turn - np.swapaxes(turn, -1, -2)) * (0.17 / max(1.0, n * (n - 1) / 2) ** 0.5)
    return (np.eye(n) - turn) @ np.linalg.inv(np.eye(n) + turn)


def lower_signs(emit: Emitter, vectors: Any, values: Any, of: Spec) -> Any:
    """Emit `signs` in native operators.

    The zeros in the comparison are computed from the eigenvalues: MXNet's kernel leaves the vectors
    unset when nothing reads the eigenvalues.
    """
    extremes = emit(
        "_npi_add",
        emit("_np_max", vectors, axis=-2, keepdims=True),
        emit("_np_min", vectors, axis=-2, keepdims=True),
    )
    row = (*of.shape[:-1], 1, of.shape[-1])
    zeros = emit("_np_reshape", emit("_npi_multiply_scalar", values, scalar=0.0), newshape=row)
    negative = emit("Cast", emit("_npi_less", extremes, zeros), dtype=of.dtype)
    return emit("_npi_add_scalar", emit("_npi_multiply_scalar", negative, scalar=-2.0), scalar=1.0)


def nothing(emit: Emitter, node: Node) -> tuple[Any, ...]:
    """Emit results without elements."""
    return tuple(emit("_zeros", shape=out.shape, dtype=out.dtype) for out in node.outputs)


def inverse_differences(values: Tensor) -> Tensor:
    """Return the matrix of 1 / (v[j] - v[i]), with zeros on its diagonal."""
    differences = ops.expand_dims(values, -2) - ops.expand_dims(values, -1)
    place = ops.arange(ops.shape_of(values)[-1])
    same = ops.equal(ops.expand_dims(place, 1), ops.expand_dims(place, 0))
    apart = ops.where(same, ops.ones_like(differences), differences)
    return ops.where(same, ops.zeros_like(differences), 1.0 / apart)


class _Eigh(Operator):
    half = False
    unproven = NOT_UNIQUE

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {}

    def infer(self, a: Tensor) -> tuple[Spec, Spec]:
        check_square(a)
        return Spec(a.shape[:-1], a.dtype), a.spec

    def flops(self, node: Node) -> float:
        return 9.0 * cubed(node)

    def numpy(self, a: Any) -> Any:
        values, vectors = np.linalg.eigh(a)
        return values, vectors * signs(vectors) if vectors.size else vectors

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        if 0 in node.outputs[1].shape:
            return nothing(emit, node)
        values, vectors = emit("_npi_eigh", a, outputs=2, UPLO="L")
        require_numbers(emit, lambda: emit("_npi_tril", a))
        signs = lower_signs(emit, vectors, values, node.outputs[0].spec)
        return values, emit("_npi_multiply", vectors, signs)

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def gradient(
        self, node: Node, for_values: Tensor | None, for_vectors: Tensor | None
    ) -> list[Tensor | None]:
        values, v = node.outputs
        inner = None if for_values is None else ops.matrix_diag(for_values)
        if for_vectors is not None:
            turned = ops.matmul(v, for_vectors, transpose_a=True) * inverse_differences(values)
            inner = turned if inner is None else inner + turned
        return [_read_lower(ops.matmul(ops.matmul(v, inner), v, transpose_b=True))]

    def sample(self, draw: Draw) -> Sample:
        n = draw.integer(1, 3)
        basis = with_sure_signs(draw, draw.shape(min_side=0), n)
        values = draw.array((n,), apart=0.2)
        a = (basis * values) @ np.swapaxes(basis, -1, -2)
        return Sample(a.astype(values.dtype))


eigh = _Eigh(
    "eigh",
    doc="""Return the eigenvalues, in ascending order, and eigenvectors of a symmetric matrix.

    Only the lower triangle is read, as in NumPy, so the gradient is zero above the diagonal.  Of
    each eigenvector the element of largest magnitude is positive.  Equal eigenvalues have no unique
    vectors: the gradient of vectors is infinite or NaN there, that of the values alone is not.

    Args:
        a: Matrices in the last two axes; integers are computed in float64.

    Returns:
        The eigenvalues, and the matrices that have the eigenvectors as columns.

    Raises:
        ShapeError: The matrices are not square.
        ExecutionError: At the call: an element is NaN.
    """,
)


def matrix_sides(a: Tensor) -> tuple[int | None, int | None, int | None]:
    """Return the sides of matrices, and the shorter one.

    Raises:
        ShapeError: There is no second axis.
    """
    if a.rank < 2:
        raise ShapeError(f"a matrix has two axes or more, not {a.rank}")
    rows, columns = a.shape[-2:]
    return rows, columns, shapes.elementwise(min, rows, columns)


def swapped(emit: Emitter, value: Any, rank: int) -> Any:
    """Transpose matrices: MXNet does not factorise matrices with more rows than columns."""
    return emit("transpose", value, axes=(*range(rank - 2), rank - 1, rank - 2))


DEPENDENT = {"mistakes": "a sample that is cast or cut can have dependent columns: no unique Q"}


class _TallQR(Operator):
    internal = "a part of `qr`"
    half = False
    unproven = DEPENDENT

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {}

    def infer(self, a: Tensor) -> tuple[Spec, Spec]:
        rows, columns, shorter = matrix_sides(a)
        if shorter is not None and shorter != columns:
            raise ShapeError(f"there are fewer rows than columns, {rows} and {columns}")
        return a.spec, Spec((*a.shape[:-2], columns, columns), a.dtype)

    def flops(self, node: Node) -> float:
        return 4.0 * cubed(node)  # the reflections, and the product of them

    def numpy(self, a: Any) -> Any:
        return np.linalg.qr(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        if 0 in node.inputs[0].shape:  # MXNet's kernel fails on empty matrices
            return nothing(emit, node)
        rank = node.inputs[0].rank
        factors = emit("_linalg_gelqf", swapped(emit, a, rank), outputs=2)
        return tuple(swapped(emit, factor, rank) for factor in factors)

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def gradient(self, node: Node, for_q: Tensor | None, for_r: Tensor | None) -> list[Tensor]:
        q, r = node.outputs
        inner = ops.zeros_like(r)
        if for_r is not None:
            inner = ops.matmul(r, for_r, transpose_b=True)
        if for_q is not None:
            inner = inner - ops.matmul(for_q, q, transpose_a=True)
        half = triangle(inner, diagonal=0.5)
        right = ops.matmul(q, half + ops.matrix_transpose(half))
        right = right if for_q is None else right + for_q
        solved = ops.triangular_solve(r, ops.matrix_transpose(right), lower=False)
        return [ops.matrix_transpose(solved)]

    def sample(self, draw: Draw) -> Sample:
        columns = draw.integer(1, 3)
        return Sample(with_sure_factors(draw, columns + draw.integer(0, 2), columns))


tall_qr = _TallQR(
    "tall_qr", doc="Return the result of `qr` for matrices with at least as many rows as columns."
)


def well_conditioned(draw: Draw, rows: int, columns: int) -> np.ndarray:
    """Return matrices whose singular values differ, and are not near zero.

    The signs of their left vectors do not depend on rounding.
    """
    batch = draw.shape(min_side=0)
    short = min(rows, columns)
    left = with_sure_signs(draw, batch, rows)[..., :short]
    right = np.linalg.qr(draw.array((*batch, columns, short)).astype("float64"))[0]
    values = draw.array((short,), 0.5, 2.5, apart=0.2)
    return ((left * values) @ np.swapaxes(right, -1, -2)).astype(values.dtype)


def with_sure_factors(draw: Draw, rows: int, columns: int) -> np.ndarray:
    """Return matrices for `qr`: a Householder reflection takes its sign from one element.

    Where that element is near zero a small step turns the sign of a column of Q, and there is no
    gradient to check.  Here the elements are those of R's diagonal, at least 1, times numbers that
    the dominant diagonal of Q keeps away from zero.
    """
    batch = draw.shape(min_side=0)
    short = min(rows, columns)
    q = with_sure_signs(draw, batch, rows)[..., :short]
    above = draw.array((*batch, short, columns), -0.5, 0.5)
    diagonal = draw.array((short,), 1.0, 2.0)
    r = np.triu(above, 1) + np.eye(short, columns) * diagonal[:, None]
    return (q @ r).astype(above.dtype)


def _sample_qr(draw: Draw) -> Sample:
    return Sample(with_sure_factors(draw, draw.integer(1, 3), draw.integer(1, 3)))


@composite(numpy=np.linalg.qr, sample=_sample_qr, unproven=DEPENDENT)
def qr(a: Any) -> tuple[Tensor, Tensor]:
    """Return Q with orthonormal columns and a triangular R, of which a matrix is the product.

    The reduced factors, as in NumPy, signs included: of an m by n matrix they are m by k and k by
    n, with k the smaller of m and n.  Where the first k columns depend on each other Q is not
    unique, and its gradient infinite or NaN.

    Args:
        a: Matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: a has fewer than two axes.
    """
    a = floating(a)
    rows, columns, shorter = matrix_sides(a)
    if columns is not None and shorter == columns:
        return tall_qr(a)
    # A wide matrix is a square one, followed by columns that are turned with it.
    sides = ops.shape_of(a)
    last: Any = ops.minimum(sides[-2], sides[-1]) if shorter is None else rows
    q, r = tall_qr(a[..., :last])
    return q, ops.concatenate([r, ops.matmul(q, a[..., last:], transpose_a=True)], axis=-1)
