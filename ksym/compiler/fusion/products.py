"""Products of matrices among loops: calls of compiled code or BLAS instead of native operators.

A native graph costs some ten microseconds to enter, and what a loop reads or writes has to be in
memory in between.  Where everything around a product is in loops, it is a call of its own, on
parts of arrays as well, so that neither a slice of a weight nor a reshaped batch is ever copied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ksym import ops
from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import is_view, look_through
from ksym.graph import Node, Tensor


class Matrix(NamedTuple):
    """A matrix in an array: its rows lie one behind the other, the elements of a row side by side.

    Attributes:
        tensor: Whose array it is in.
        offset: Where its first element lies.
        stride: How far apart rows are.
        rows: How many there are.
        columns: How many elements each has.
    """

    tensor: Tensor
    offset: int
    stride: int
    rows: int
    columns: int


class Product(NamedTuple):
    """A product of two matrices.

    Attributes:
        a: The left one.
        b: The right one.
        transpose_a: Whether the left one is transposed first.
        transpose_b: Whether the right one is.
        result: What is computed, row by row.
    """

    a: Matrix
    b: Matrix
    transpose_a: bool
    transpose_b: bool
    result: Tensor

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that are read, each once."""
        return list(dict.fromkeys((self.a.tensor, self.b.tensor)))


def is_product(node: Node) -> bool:
    """Whether BLAS computes a node by one call."""
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
    """Return what BLAS is to do for a node.

    Args:
        node: A product of which `is_product` holds.
        views: Nodes to look through, where `is_seen` holds.
    """
    a, b = (_matrix(tensor, views) for tensor in node.inputs)
    assert a is not None
    assert b is not None
    flags = node.attributes
    return Product(a, b, flags["transpose_a"], flags["transpose_b"], node.outputs[0])


def is_seen(tensor: Tensor) -> bool:
    """Whether BLAS can read an operand where its elements lie, through all views before it."""
    views = set()
    source = tensor
    while is_view(source.node):
        views.add(source.node)
        source = source.node.inputs[0]
    return _matrix(tensor, views) is not None


def _matrix(tensor: Tensor, views: Collection[Node]) -> Matrix | None:
    """The matrix of an operand, with the last axis as its columns; None if it lies otherwise."""
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
