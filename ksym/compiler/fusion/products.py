"""Matrix products among kernels: calls of compiled code or BLAS instead of native operators.

A native graph costs some microseconds to enter, and divides the kernels around it.  So a product
whose neighbours are kernels is a call of its own.  It reads parts of arrays in place: neither a
slice of a weight nor a reshaped batch is copied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ksym import ops
from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import is_view, look_through
from ksym.graph import Node, Tensor


class Matrix(NamedTuple):
    """A matrix in an array, row by row; the elements of a row are contiguous.

    Attributes:
        tensor: The tensor whose array it is in.
        offset: The place of its first element.
        stride: The distance between rows, in elements.
        rows: The number of rows.
        columns: The number of columns.
    """

    tensor: Tensor
    offset: int
    stride: int
    rows: int
    columns: int


class Product(NamedTuple):
    """A product of two matrices.

    Attributes:
        a: The left matrix.
        b: The right matrix.
        transpose_a: Whether the left matrix is transposed.
        transpose_b: Whether the right matrix is transposed.
        result: The tensor that is written, row by row.
    """

    a: Matrix
    b: Matrix
    transpose_a: bool
    transpose_b: bool
    result: Tensor

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that are read, without repetition."""
        return list(dict.fromkeys((self.a.tensor, self.b.tensor)))


def is_product(node: Node) -> bool:
    """Return whether one call of BLAS can compute a node."""
    if node.operator is not ops.matmul:
        return False
    left, right = node.inputs
    return (
        left.dtype in formulas.COMPILED_FLOATS
        and right.rank == 2
        and (left.rank == 2 or not node.attributes["transpose_a"])
        and 0 not in (*left.shape, *right.shape)
    )


def product_of(node: Node, views: Collection[Node] = ()) -> Product:
    """Return the description of a product.

    Args:
        node: A node for which `is_product` holds.
        views: The nodes to look through, where `is_seen` holds.
    """
    a, b = (_matrix(tensor, views) for tensor in node.inputs)
    assert a is not None
    assert b is not None
    flags = node.attributes
    return Product(a, b, flags["transpose_a"], flags["transpose_b"], node.outputs[0])


def is_seen(tensor: Tensor) -> bool:
    """Return whether a product can read an operand in place, through all views before it."""
    views = set()
    source = tensor
    while is_view(source.node):
        views.add(source.node)
        source = source.node.inputs[0]
    return _matrix(tensor, views) is not None


def _matrix(tensor: Tensor, views: Collection[Node]) -> Matrix | None:
    """Return an operand as a matrix, the last axis as columns; None if it is none in memory."""
    view, shape = look_through(tensor, views)
    *leading, columns = shape
    *strides, within = view.strides
    if columns > 1 and within != 1:
        return None
    rows, stride = 1, 0
    for size, each in zip(reversed(leading), reversed(strides), strict=True):
        if size == 1:
            continue
        if rows > 1 and each != stride * rows:
            return None
        if rows == 1:
            stride = each
        rows *= size
    if rows > 1 and stride < columns:
        return None
    return Matrix(view.tensor, view.offset, max(stride, columns), rows, columns)
