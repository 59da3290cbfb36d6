"""Diagonals of matrices, and matrices with a given diagonal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand
from ksym.operator.sampling import Draw, Sample

__all__ = ["matrix_diag_part", "matrix_diag", "diagonal", "diag", "trace"]


def _length(rows: int | None, columns: int | None, offset: int) -> int | None:
    """Return the number of elements of a diagonal."""

    def length(rows: int, columns: int) -> int:
        return max(0, min(rows + min(offset, 0), columns - max(offset, 0)))

    return shapes.elementwise(length, rows, columns)


def _steps(columns: int, length: int, offset: int) -> slice:
    """Return the places of a diagonal's elements, at least one, in a row-major matrix."""
    start = offset if offset >= 0 else -offset * columns
    return slice(start, start + (length - 1) * (columns + 1) + 1, columns + 1)


class _MatrixDiagPart(Operator):
    linear_in = (0,)

    def prepare(self, x: Any, offset: int = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x)], {"offset": int(offset)}

    def infer(self, x: Tensor, offset: int) -> Spec:
        if x.rank < 2:
            raise ShapeError(f"a matrix has two axes or more, not {x.rank}")
        return Spec((*x.shape[:-2], _length(x.shape[-2], x.shape[-1], offset)), x.dtype)

    def numpy(self, x: Any, offset: int) -> Any:
        return np.diagonal(x, offset, -2, -1)

    def expand(self, node: Node) -> Tensor:
        (x,), out = node.inputs, node.outputs[0]
        *batch, rows, columns = shapes.known(x.shape)
        if 0 in out.shape:
            return ops.zeros(out.shape, out.dtype)
        flat = ops.reshape(x, (*batch, rows * columns))
        length = shapes.known(out.shape)[-1]
        return flat[..., _steps(columns, length, node.attributes["offset"])]

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [matrix_diag(g, node.attributes["offset"], ops.shape_of(node.inputs[0]))]

    def sample(self, draw: Draw) -> Sample:
        x = draw.array(
            draw.shape(min_rank=2, min_side=0), dtype=draw.dtype("float", "integer", "bool")
        )
        return Sample(x, attributes={"offset": draw.integer(-2, 2)})


matrix_diag_part = _MatrixDiagPart(
    "matrix_diag_part",
    doc="""Return the diagonal of a matrix, or of each of a stack of them.

    A strided view of the elements, as MXNet's kernel has no second-order gradient.

    Args:
        x: Matrices in the last two axes.
        offset: The distance above the main diagonal; below it if negative.
    """,
)


class _MatrixDiag(Operator):
    linear_in = (0,)
    static_operands = (1,)

    def prepare(
        self, x: Any, offset: int = 0, shape: Any = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, offset = as_tensor(x), int(offset)
        if shape is None:
            if not x.rank:
                raise ShapeError("a diagonal has an axis, a scalar has none")
            sides = ops.shape_of(x)
            shape = [*(sides[i] for i in range(x.rank - 1)), *[sides[-1] + abs(offset)] * 2]
        if isinstance(shape, np.ndarray):
            shape = as_tensor(shape)
        return [x, shape_operand(shape)], {"offset": offset}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands[:1], {"shape": operands[1], **attributes}

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(operands[0], shape=operands[1], **attributes)

    def infer(self, x: Tensor, shape: Tensor, offset: int) -> Spec:
        target = tuple(known_dimensions(shape))
        if len(target) != x.rank + 1 or x.rank < 1:
            raise ShapeError(f"a diagonal of shape {x.shape} does not lie in one of {target}")
        if any(d is not None and d < 0 for d in target):
            raise ShapeError(f"the shape {target} has a negative dimension")
        diagonal = (*target[:-2], _length(target[-2], target[-1], offset))
        if not shapes.compatible(x.shape, diagonal):
            raise ShapeError(
                f"diagonal {offset} of the shape {target} has the shape {diagonal}, not {x.shape}"
            )
        return Spec(target, x.dtype)

    def numpy(self, x: Any, shape: Any, offset: int) -> Any:
        result = np.zeros(tuple(int(d) for d in shape), x.dtype)
        along = np.arange(x.shape[-1])
        result[..., along + max(-offset, 0), along + max(offset, 0)] = x
        return result

    def expand(self, node: Node) -> Tensor:
        x, out = node.inputs[0], node.outputs[0]
        *batch, rows, columns = shapes.known(out.shape)
        if 0 in x.shape:
            return ops.zeros(out.shape, out.dtype)
        # Writing into a slice is not implemented for bool.
        length = shapes.known(x.shape)[-1]
        bound = _steps(columns, length, node.attributes["offset"])
        whole = len(batch)
        flat = ops.slice_gradient(
            ops.cast_to(x, "uint8" if x.dtype == "bool" else x.dtype),
            (*batch, rows * columns),
            (*(0,) * whole, bound.start),
            (*batch, bound.stop),
            steps=(*(1,) * whole, bound.step),
            open=((False, False),) * (whole + 1),
        )
        return ops.cast_to(ops.reshape(flat, out.shape), out.dtype)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [matrix_diag_part(g, node.attributes["offset"]), None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=2, min_side=0)
        offset = draw.integer(-2, 2)
        x = np.diagonal(draw.array(shape), offset, -2, -1)
        return Sample(x, np.array(shape, dtype="int64"), attributes={"offset": offset})


matrix_diag = _MatrixDiag(
    "matrix_diag",
    doc="""Put x on a diagonal of the last two axes, with zeros elsewhere.

    Args:
        x: A diagonal, or a stack of them in the last axis.
        offset: The distance above the main diagonal; below it if negative.
        shape: The shape of the result; by default its matrices are square and just hold x.

    Raises:
        ShapeError: The diagonal of that shape has another shape than x.
    """,
)


def _diagonal_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=2, min_side=0)
    axis1 = draw.integer(0, len(shape) - 1)
    axis2 = (axis1 + draw.integer(1, len(shape) - 1)) % len(shape)
    return Sample(
        draw.array(shape, dtype=draw.dtype("float", "integer", "bool")),
        attributes={
            "offset": draw.integer(-2, 2),
            "axis1": axis1 - len(shape) * draw.integer(0, 1),
            "axis2": axis2,
        },
    )


@composite(numpy=np.diagonal, sample=_diagonal_sample)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the diagonal over two axes, which becomes the last axis.

    Args:
        x: A tensor of rank 2 or more.
        offset: The distance above the main diagonal; below it if negative.
        axis1: The axis of the rows.
        axis2: The axis of the columns.

    Raises:
        ShapeError: The axes are the same, or out of range.
    """
    x = as_tensor(x)
    if x.rank < 2:
        raise ShapeError(f"a diagonal needs two axes, the tensor has {x.rank}")
    taken = [shapes.axis(axis1, x.rank), shapes.axis(axis2, x.rank)]
    if taken[0] == taken[1]:
        raise ShapeError(f"axis1 and axis2 are the same axis, {taken[0]}")
    rest = [a for a in range(x.rank) if a not in taken]
    return matrix_diag_part(ops.transpose(x, rest + taken), offset)


def _diag_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, max_rank=2, min_side=0)
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
    return Sample(x, attributes={"k": draw.integer(-2, 2)})


@composite(numpy=np.diag, sample=_diag_sample)
def diag(x: Any, k: int = 0) -> Tensor:
    """Return the diagonal of a matrix, or the square matrix with a vector as its diagonal.

    Args:
        x: A vector or a matrix.
        k: The number of the diagonal: above the main one if positive, below it if negative.

    Raises:
        ShapeError: The rank of x is not 1 or 2.
    """
    x = as_tensor(x)
    if x.rank not in (1, 2):
        raise ShapeError(
            f"the tensor has rank {x.rank}, not 1 or 2",
            remedy="for stacks use matrix_diag and matrix_diag_part",
        )
    return matrix_diag(x, k) if x.rank == 1 else matrix_diag_part(x, k)


@composite(numpy=np.trace, sample=_diagonal_sample)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the sum over a diagonal; of booleans and small integers as int64, as in NumPy.

    Args:
        x: A tensor of rank 2 or more.
        offset: The distance above the main diagonal; below it if negative.
        axis1: The axis of the rows.
        axis2: The axis of the columns.

    Raises:
        ShapeError: The axes are the same, or out of range.
    """
    return ops.sum_(diagonal(x, offset, axis1, axis2), axis=-1)
