"""Products with sparse matrices of SciPy's, which are constants of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ArgumentError, DTypeError, ShapeError
from ksym.extras import require
from ksym.graph import FrozenArray, Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, promoted
from ksym.operator.sampling import Draw, Sample

__all__ = ["sparse_dot"]

_DTYPES = ("int32", "int64", "float32", "float64")


class SparseProduct(Operator):
    """Return a sparse matrix, or its transpose, times a matrix.

    The sparse matrix is three attributes, as SciPy keeps rows that are compressed: row i has the
    elements ``data[indptr[i]:indptr[i + 1]]`` in the columns ``indices[indptr[i]:indptr[i + 1]]``.
    """

    internal = "`sparse_dot` makes it, which takes matrices of SciPy's"
    runs = "host"
    linear_in = (0,)

    def prepare(
        self,
        x: Any,
        data: FrozenArray,
        indices: FrozenArray,
        indptr: FrozenArray,
        columns: int,
        transpose: bool = False,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        starts, places = indptr.array, indices.array
        whole = all(a.ndim == 1 and a.dtype in ("int32", "int64") for a in (starts, places))
        if (
            not whole
            or not starts.size
            or starts[0] != 0
            or starts[-1] != places.size
            or np.any(np.diff(starts) < 0)
            or np.any((places < 0) | (places >= columns))
            or data.array.shape != places.shape
        ):
            raise ArgumentError("these are no compressed rows of a matrix")
        x = as_tensor(x)
        if dtypes.is_float(x.dtype) and data.array.dtype != x.dtype and x.dtype in _DTYPES:
            data = FrozenArray(dtypes.cast(data.array, x.dtype))
        return [x], {
            "data": data,
            "indices": indices,
            "indptr": indptr,
            "columns": int(columns),
            "transpose": bool(transpose),
        }

    def infer(self, x: Tensor, data: FrozenArray, **attributes: Any) -> Spec:
        rows, columns = _sides(**attributes)
        if x.dtype not in _DTYPES or x.dtype != data.array.dtype:
            raise DTypeError(
                f"a sparse matrix of {data.array.dtype} is not multiplied by {x.dtype}",
                remedy=f"cast both to one of {', '.join(_DTYPES)}",
            )
        if x.rank != 2:
            raise ShapeError(f"a sparse matrix is multiplied by a matrix, not by rank {x.rank}")
        if not shapes.compatible(x.shape[:1], (columns,)):
            raise ShapeError(
                f"the sparse matrix has {columns} columns, the operand {x.shape[0]} rows",
                remedy="transpose one of them",
            )
        return Spec((rows, x.shape[1]), x.dtype)

    def flops(self, node: Node) -> float:
        return 2.0 * node.attributes["data"].array.size * (node.inputs[0].shape[1] or 0)

    def known(self, *operands: Tensor, **attributes: Any) -> np.ndarray | None:
        return None

    def numpy(self, x: Any, **attributes: Any) -> Any:
        return _matrix(**attributes) @ np.asarray(x)

    def gradient(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        other = {**node.attributes, "transpose": not node.attributes["transpose"]}
        return [self.make([g], other)]

    def sample(self, draw: Draw) -> Sample:
        rows, columns = draw.integer(0, 4), draw.integer(1, 4)
        dense = draw.array((rows, columns), dtype=draw.choose(_DTYPES[2:]))
        dense = np.where(np.arange(columns) % 2 == 0, dense, 0).astype(dense.dtype)
        filled = [np.flatnonzero(row) for row in dense]
        indices = np.concatenate([np.zeros(0, "int32"), *filled]).astype("int32")
        ends = np.cumsum([0, *map(len, filled)]).astype("int32")
        transpose = draw.choose((False, True))
        x = draw.array((rows if transpose else columns, draw.integer(0, 3)), dtype=dense.dtype.name)
        attributes = {
            "data": FrozenArray(dense[dense != 0]),
            "indices": FrozenArray(indices),
            "indptr": FrozenArray(ends),
            "columns": columns,
            "transpose": transpose,
        }
        return Sample(x, attributes=attributes)


def _sides(
    indices: FrozenArray, indptr: FrozenArray, columns: int, transpose: bool
) -> tuple[int, int]:
    sides = (indptr.array.size - 1, columns)
    return sides[::-1] if transpose else sides


def _matrix(
    data: FrozenArray, indices: FrozenArray, indptr: FrozenArray, columns: int, transpose: bool
) -> Any:
    sparse = require("scipy.sparse", "sparse", "a product with a sparse matrix")
    found = sparse.csr_matrix(
        (data.array, indices.array, indptr.array), (indptr.array.size - 1, columns), copy=False
    )
    return found.T if transpose else found


sparse_product = SparseProduct("sparse_product")


def is_sparse(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of SciPy's."""
    return hasattr(value, "tocsr") and hasattr(value, "nnz")


def sparse_dot(a: Any, b: Any) -> Tensor:
    """Return the product of a sparse matrix of SciPy's and a tensor, in either order.

    The sparse matrix is a constant; gradients flow to the tensor.  SciPy computes the product, on
    the host, for the elements that are there.  ``ksym.dot(a, b)`` and ``x @ a`` mean the same, but
    SciPy itself refuses ``a @ x``.

    Args:
        a: A sparse matrix or array of SciPy's in any format, or a vector or matrix.
        b: The other of the two.

    Returns:
        A tensor, which is dense.

    Raises:
        ArgumentError: Not exactly one of them is sparse, or it is no matrix.
        DTypeError: The elements are no numbers of int32, int64, float32 or float64.
        ShapeError: The columns of a are not as many as the rows of b.

    >>> import scipy.sparse, ksym
    >>> a = scipy.sparse.csr_matrix([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    >>> x = ksym.placeholder((3,))
    >>> ksym.function(x, ksym.sparse_dot(a, x))([1, 2, 3])
    array([7., 6.], dtype=float32)
    """
    if is_sparse(a) == is_sparse(b):
        raise ArgumentError(
            "sparse_dot takes one sparse matrix of SciPy's and one tensor",
            remedy="use ksym.matmul for tensors; multiply two sparse matrices by SciPy, or make "
            "one of them dense by toarray()",
        )
    with sparse_product.named():
        left = is_sparse(a)
        matrix, dense = (a, b) if left else (b, a)
        if len(matrix.shape) != 2:
            raise ArgumentError(
                f"a sparse array of shape {matrix.shape} is no matrix", remedy="reshape it"
            )
        rows = matrix.tocsr(copy=True)
        rows.sum_duplicates()
        data, x = promoted(np.asarray(rows.data), dense)
        if x.rank not in (1, 2):
            raise ShapeError(
                f"a sparse matrix is multiplied by a vector or a matrix, not by rank {x.rank}",
                remedy="reshape it to a matrix",
            )
        vector = x.rank == 1
        x = ops.expand_dims(x, 1) if vector else x if left else ops.transpose(x)
        y = sparse_product(
            x,
            data=FrozenArray(np.asarray(data.node.attributes["value"].array)),
            indices=FrozenArray(rows.indices),
            indptr=FrozenArray(rows.indptr),
            columns=rows.shape[1],
            transpose=not left,
        )
        if vector:
            return ops.squeeze(y, 1)
        return y if left else ops.transpose(y)
