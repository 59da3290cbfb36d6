"""Keras's module linalg: decompositions and systems of equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import ksym
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, floating, has_tensors, made, promoted

__all__ = [
    *("cholesky", "cholesky_inverse", "det", "eig", "eigh", "inv", "jvp", "lstsq", "lu_factor"),
    *("matrix_rank", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd"),
]

Graph = ksym.Tensor


def _wide(dtype: str) -> str:
    """Return the dtype in which a decomposition is computed: MXNet's have no float16."""
    return "float64" if dtype == "float64" else "float32"


def _matrix(x: Tensor) -> tuple[str, Graph]:
    dtype, _ = floating(x)
    return dtype, x.graph_in(_wide(dtype))


@operation
def _cholesky(a: Operand, upper: bool = False) -> Tensor:
    dtype, graph = _matrix(a)
    lower = ksym.cholesky(graph)
    return made(ksym.matrix_transpose(lower) if upper else lower, dtype)


def cholesky(a: Any, upper: bool = False) -> Any:
    """Return the triangular factor of a positive definite matrix.

    Raises:
        ValueError: The matrix is a value and not positive definite.
    """
    failed = ValueError(
        "Cholesky decomposition failed. The input might not be a valid positive definite matrix."
    )
    try:
        result = _cholesky(a, upper)
    except ksym.KsymError:
        if has_tensors(a):
            raise
        raise failed from None
    if isinstance(result, np.ndarray) and np.isnan(result.astype("float64")).any():
        raise failed
    return result


@operation
def cholesky_inverse(a: Operand, upper: bool = False) -> Tensor:
    """Return the inverse of the matrix that a triangular factor belongs to."""
    dtype, graph = _matrix(a)
    side = graph.shape[-1]
    unit = ksym.broadcast_to(ksym.eye(side, dtype=graph.dtype), ksym.shape_of(graph))
    turned = ksym.triangular_solve(graph, unit, lower=not upper)
    if upper:
        return made(ksym.matmul(turned, turned, transpose_b=True), dtype)
    return made(ksym.matmul(turned, turned, transpose_a=True), dtype)


def _of_matrix(name: str, doc: str, compute: Callable[[Graph], Any]) -> Callable[..., Any]:
    def body(x: Operand) -> Any:
        dtype, graph = _matrix(x)
        found = compute(graph)
        if isinstance(found, tuple | list):
            return tuple(made(part, dtype) for part in found)
        return made(found, dtype)

    return named_operation(name, doc, body)


det = _of_matrix("det", "Return the determinants of matrices.", ksym.det)
inv = _of_matrix("inv", "Return the inverses of matrices.", ksym.inv)
eigh = _of_matrix(
    "eigh", "Return the eigenvalues and eigenvectors of symmetric matrices.", ksym.eigh
)
slogdet = _of_matrix(
    "slogdet", "Return the signs of determinants and the logarithms of their sizes.", ksym.slogdet
)


def eig(x: Any) -> Any:
    """Return the eigenvalues and eigenvectors of matrices, which are complex: of values only."""
    if has_tensors(x):
        raise TypeError(
            "eig gives complex numbers, which Keras's backend ksym has not. "
            "To do: use eigh for symmetric matrices."
        )
    values, vectors = np.linalg.eig(np.asarray(x))
    kind = "complex128" if np.asarray(x).dtype == "float64" else "complex64"
    return values.astype(kind), vectors.astype(kind)


@operation
def lu_factor(x: Operand) -> tuple[Tensor, Tensor]:
    """Return the factors L and U in one matrix, and the rows that were exchanged, as int32."""
    dtype, graph = _matrix(x)
    factors, pivots = ksym.lu_factor(graph)
    return made(factors, dtype), made(pivots, "int32")


@operation
def qr(x: Operand, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """Return Q with orthonormal columns and a triangular R, of which a matrix is the product."""
    if mode not in ("reduced", "complete"):
        raise ValueError(
            "`mode` argument value not supported. Expected one of {'reduced', 'complete'}. "
            f"Received: mode={mode}"
        )
    dtype, graph = _matrix(x)
    rows, columns = graph.shape[-2:]
    if mode == "complete" and rows is not None and columns is not None and rows > columns:
        # The columns that complete Q: those of Q of the matrix joined with a unit matrix.
        unit = ksym.broadcast_to(
            ksym.eye(rows, dtype=graph.dtype),
            [*(ksym.shape_of(graph)[i] for i in range(graph.rank - 2)), rows, rows],
        )
        q, r = ksym.qr(ksym.concatenate([graph, unit], -1))
        return made(q, dtype), made(r[..., :columns], dtype)
    q, r = ksym.qr(graph)
    return made(q, dtype), made(r, dtype)


@operation
def solve(a: Operand, b: Operand) -> Tensor:
    """Return the solution x of a @ x = b."""
    dtype, _ = promoted(a, b, with_float=True)
    left, right = a.graph_in(_wide(dtype)), b.graph_in(_wide(dtype))
    vector = right.rank == left.rank - 1
    right = ksym.expand_dims(right, -1) if vector else right
    result = ksym.solve(left, right)
    return made(ksym.squeeze(result, -1) if vector else result, dtype)


@operation
def solve_triangular(a: Operand, b: Operand, lower: bool = False) -> Tensor:
    """Return the solution x of a @ x = b for a triangular a."""
    dtype, _ = promoted(a, b, with_float=True)
    left, right = a.graph_in(_wide(dtype)), b.graph_in(_wide(dtype))
    vector = right.rank == left.rank - 1
    right = ksym.expand_dims(right, -1) if vector else right
    result = ksym.triangular_solve(left, right, lower=lower)
    return made(ksym.squeeze(result, -1) if vector else result, dtype)


@operation
def svd(x: Operand, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Return the singular values of matrices, and their vectors."""
    dtype, graph = _matrix(x)
    if not compute_uv:
        return made(ksym.svd(graph, compute_uv=False), dtype)
    u, values, vh = ksym.svd(graph)
    rows, columns = graph.shape[-2:]
    if full_matrices and rows != columns and rows is not None and columns is not None:
        if rows > columns:
            u = _completed(u, rows)
        else:
            vh = ksym.matrix_transpose(_completed(ksym.matrix_transpose(vh), columns))
    return made(u, dtype), made(values, dtype), made(vh, dtype)


def _completed(columns: Graph, side: int) -> Graph:
    """Return orthonormal columns, and others that make them a basis."""
    batch = [ksym.shape_of(columns)[i] for i in range(columns.rank - 2)]
    unit = ksym.broadcast_to(ksym.eye(side, dtype=columns.dtype), [*batch, side, side])
    basis, _ = ksym.qr(ksym.concatenate([columns, unit], -1))
    count = columns.shape[-1]
    return ksym.concatenate([columns, basis[..., count:]], -1)


@operation
def lstsq(a: Operand, b: Operand, rcond: Any = None) -> Tensor:
    """Return the x that makes the squares of a @ x - b smallest."""
    dtype, _ = promoted(a, b, with_float=True)
    left, right = a.graph_in(_wide(dtype)), b.graph_in(_wide(dtype))
    return made(ksym.matmul(ksym.pinv(left, rcond), right), dtype)


def _check_rank(x: Tensor) -> None:
    if x.ndim < 2:
        raise ValueError(f"Expected input to have rank >= 2. Received input with shape {x.shape}.")


@operation
def matrix_rank(x: Operand, tol: Any = None) -> Tensor:
    """Return how many singular values of matrices are above a tolerance, as int32."""
    _check_rank(x)
    _, graph = _matrix(x)
    values = ksym.svd(graph, compute_uv=False)
    if tol is None:
        largest = max(side or 1 for side in graph.shape[-2:])
        tol = ksym.max(values, -1, keepdims=True) * (largest * float(np.finfo(graph.dtype).eps))
    return made(ksym.sum(ksym.cast(values > tol, "int32"), -1), "int32")


@operation
def pinv(x: Operand, rcond: Any = None) -> Tensor:
    """Return the pseudo-inverses of matrices."""
    _check_rank(x)
    dtype, graph = _matrix(x)
    return made(ksym.pinv(graph, rcond), dtype)


@operation
def norm(x: Operand, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the norms of vectors or matrices."""
    dtype, graph = floating(x)
    axis = tuple(axis) if isinstance(axis, list | tuple) else axis
    if axis is None and ord is None:
        flat = ksym.sqrt(ksym.sum(ksym.square(graph)))
        return made(ksym.reshape(flat, (1,) * graph.rank) if keepdims else flat, dtype)
    if axis is None:
        axis = tuple(range(graph.rank))
    over = axis if isinstance(axis, tuple) else (axis,)
    if not all(-graph.rank <= a < graph.rank for a in over):
        raise ValueError(f"axis {axis} is out of bounds for a tensor of shape {x.shape}")
    if len(over) == 1:
        return made(_vector_norm(graph, ord, over[0], keepdims), dtype)
    if len(over) != 2:
        raise ValueError(f"Invalid axis values: Improper number of dimensions to norm: {axis}")
    return made(_matrix_norm(graph, ord, over, keepdims), dtype)


def _vector_norm(x: Graph, order: Any, axis: int, keepdims: bool) -> Graph:
    size = ksym.abs(x)
    if order in (None, 2):
        return ksym.sqrt(ksym.sum(ksym.square(x), axis, keepdims=keepdims))
    if order == math.inf:
        return ksym.max(size, axis, keepdims=keepdims)
    if order == -math.inf:
        return ksym.min(size, axis, keepdims=keepdims)
    if order == 0:
        return ksym.sum(ksym.cast(ksym.not_equal(x, 0), x.dtype), axis, keepdims=keepdims)
    if order == 1:
        return ksym.sum(size, axis, keepdims=keepdims)
    if isinstance(order, str):
        raise ValueError(f"Invalid `ord` argument for vector norm. Received: ord={order}")
    powers = ksym.sum(ksym.power(size, float(order)), axis, keepdims=keepdims)
    return ksym.power(powers, 1.0 / order)


def _matrix_norm(x: Graph, order: Any, over: Any, keepdims: bool) -> Graph:
    rows, columns = (a % x.rank for a in over)
    size = ksym.abs(x)
    if order in (None, "fro"):
        result = ksym.sqrt(ksym.sum(ksym.square(x), (rows, columns), keepdims=True))
    elif order in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(order) == 1 else (columns, rows)
        pick = ksym.max if order > 0 else ksym.min
        result = pick(ksym.sum(size, first, keepdims=True), second, keepdims=True)
    elif order in (2, -2, "nuc"):
        moved = ksym.moveaxis(x, (rows, columns), (-2, -1))
        values = ksym.svd(ksym.cast(moved, _wide(x.dtype)), compute_uv=False)
        values = ksym.cast(values, x.dtype)
        total = {2: ksym.max, -2: ksym.min, "nuc": ksym.sum}[order](values, -1)
        result = total
        for axis in sorted((rows, columns)):
            result = ksym.expand_dims(result, axis)
    else:
        raise ValueError(f"Invalid `ord` argument for matrix norm. Received: ord={order}")
    return result if keepdims else ksym.squeeze(result, (rows, columns))


def jvp(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Return a function's results, and their changes when its arguments change by tangents."""
    from keras_ksym.src.ops.gradients import directional

    return directional(fun, primals, tangents, has_aux)
