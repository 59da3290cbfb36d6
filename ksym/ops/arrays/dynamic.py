"""Operators whose result has a size that depends on data.

They run on the host, between native graphs; the graph behind them is compiled for the sizes of
their results.  Each returns positions only; the values are gathered by `take`, through which
gradients flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, condition, known_dimensions, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.shapes import UNKNOWN

__all__ = ["flatnonzero", "argwhere", "boolean_mask", "unique"]


class _FlatNonzero(Operator):
    runs = "host"

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x)], {}

    def infer(self, x: Tensor) -> Spec:
        return Spec((None,), "int64")

    def known(self, x: Tensor) -> np.ndarray | None:
        return None

    def numpy(self, x: Any) -> Any:
        return np.flatnonzero(x)

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("bool", "integer", "float")
        return Sample(draw.array(draw.shape(min_side=0), -1, 1, dtype=dtype), differentiate=())


flatnonzero = _FlatNonzero(
    "flatnonzero",
    doc="""Return the positions in row-major order at which x is not zero, as an int64 vector.

    Args:
        x: A tensor of any shape and dtype.
    """,
)


def _argwhere_sample(draw: Draw) -> Sample:
    x = draw.array(draw.shape(min_rank=1, min_side=0), -1, 1, dtype="int32")
    return Sample(x, differentiate=())


@composite(numpy=np.argwhere, sample=_argwhere_sample)
def argwhere(x: Any) -> Tensor:
    """Return the indices at which x is not zero, (count, rank of x), as tf.where does.

    Args:
        x: A tensor of at least one axis.

    Raises:
        ShapeError: x is a scalar.
    """
    x = as_tensor(x)
    if not x.rank:
        raise ShapeError("a scalar has no axis to give indices along")
    return ops.stack(unraveled(flatnonzero(x), ops.shape_of(x), x.rank), axis=1)


def unraveled(positions: Tensor, sides: Tensor, rank: int) -> list[Tensor]:
    """Return for each of several axes the indices along it, from positions in row-major order."""
    columns = [positions]
    for axis in range(rank - 1, 0, -1):
        side = ops.maximum(sides[axis], 1)  # an empty axis has no index
        columns[:1] = [ops.floor_divide(columns[0], side), ops.mod(columns[0], side)]
    return columns


class _MaskPositions(_FlatNonzero):
    internal = "a part of `boolean_mask` and its like"
    static_operands = (1,)

    def prepare(  # type: ignore[override]
        self, mask: Any, sides: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(mask), shape_operand(sides)], {}

    def infer(self, mask: Tensor, sides: Tensor) -> Spec:  # type: ignore[override]
        over = tuple(known_dimensions(sides))
        if mask.dtype != "bool":
            raise DTypeError(
                f"a mask is of booleans, not {mask.dtype}", remedy="compare, or cast it to bool"
            )
        if not mask.rank or not shapes.compatible(mask.shape, over):
            raise ShapeError(f"a mask of shape {mask.shape} does not fit axes of shape {over}")
        return Spec((None,), "int64")

    def known(self, *operands: Tensor) -> np.ndarray | None:
        return None

    def numpy(self, mask: Any, sides: Any) -> Any:  # type: ignore[override]
        if mask.dtype != bool or mask.shape != tuple(sides):
            raise ValueError(f"a mask of shape {mask.shape} for axes of shape {tuple(sides)}")
        return np.flatnonzero(mask)

    def sample(self, draw: Draw) -> Sample:
        mask = draw.array(draw.shape(min_rank=1, min_side=0), dtype="bool")
        return Sample(mask, np.array(mask.shape, "int64"))


mask_positions = _MaskPositions(
    "mask_positions",
    doc="""Return the positions in row-major order at which a mask of given sides is true.

    Args:
        mask: Booleans.
        sides: The shape that the mask must have, that of the axes it is for.

    Raises:
        DTypeError: The mask is not of booleans.
        ShapeError: It has another shape, or is a scalar.
    """,
)


def _mask_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    axis = draw.integer(0, len(shape) - 1)
    rank = draw.integer(1, len(shape) - axis)
    mask = draw.array(shape[axis : axis + rank], dtype="bool")
    x = draw.array(shape, dtype=draw.dtype("float", "integer"))
    return Sample(x, mask, attributes={"axis": axis})


def _boolean_mask(x: Any, mask: Any, axis: int = 0) -> Any:
    if mask.dtype != bool:
        raise TypeError("a mask is of booleans")
    return x[(slice(None),) * range(x.ndim)[axis] + (mask,)]


@composite(numpy=_boolean_mask, sample=_mask_sample)
def boolean_mask(x: Any, mask: Any, axis: int = 0) -> Tensor:
    """Return the parts of x at which a mask is true, as tf.boolean_mask.

    Args:
        x: A tensor.
        mask: Booleans, in the shape of some neighbouring axes of x.
        axis: The first of these axes, from the end if negative; in the result one axis stands for
            them all.

    Raises:
        DTypeError: The mask is not of booleans.
        ShapeError: The mask has another shape than the axes, or is a scalar.
    """
    x, mask = (
        as_tensor(x),
        condition(mask) if isinstance(mask, bool | np.bool_) else as_tensor(mask),
    )
    axis = shapes.axis(axis, x.rank)
    sides = ops.shape_of(x)
    over = sides[axis : axis + mask.rank]
    positions = mask_positions(mask, over)
    count = ops.prod(over)
    flat = ops.concatenate(
        [sides[:axis], ops.reshape(count, (1,)), sides[axis + mask.rank :]], axis=0
    )
    return ops.take(ops.reshape(x, flat), positions, axis=axis)


class _RepeatPositions(Operator):
    internal = "a part of `repeat` where the counts are a tensor"
    runs = "host"
    static_operands = (1,)

    def infer(self, counts: Tensor, side: Tensor) -> Spec:
        if counts.rank != 1 or dtypes.kind(counts.dtype) != 1:
            raise ShapeError(f"repeats are a vector of integers, not {counts.spec}")
        if side.rank or dtypes.kind(side.dtype) != 1:
            raise ShapeError(f"the size of an axis is an integer, not {side.spec}")
        length = None if side.value is None or side.value.item() is UNKNOWN else side.value.item()
        if not shapes.compatible(counts.shape, (length,)):
            raise ShapeError(f"{counts.shape[0]} repeats for an axis of size {length}")
        return Spec((None,), "int64")

    def known(self, *operands: Tensor) -> np.ndarray | None:
        return None

    def numpy(self, counts: Any, side: Any) -> Any:
        if len(counts) and counts.min() < 0:
            raise ShapeError(f"nothing can be repeated {counts.min()} times")
        return np.repeat(np.arange(int(side)), counts)

    def sample(self, draw: Draw) -> Sample:
        counts = draw.array(draw.shape(min_rank=1, max_rank=1, min_side=0), 0, 3, dtype="int64")
        return Sample(counts, np.array(len(counts)), differentiate=())


repeat_positions = _RepeatPositions(
    "repeat_positions",
    doc="""Return the positions of an axis, each as often as it is repeated, as an int64 vector.

    Args:
        counts: How often each is repeated.
        side: How many there are.

    Raises:
        ShapeError: There is not one count for each, or one is negative.
    """,
)


class _UniquePositions(Operator):
    internal = "a part of `unique`"
    runs = "host"

    def infer(self, x: Tensor) -> tuple[Spec, Spec, Spec]:
        return (
            Spec((None,), "int64"),
            Spec((shapes.size(x.shape),), "int64"),
            Spec((None,), "int64"),
        )

    def numpy(self, x: Any) -> Any:
        _, index, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True
        )
        return index, inverse.reshape(-1), counts  # NumPy 2 gives it the shape of x

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("integer", "float")
        return Sample(draw.array(draw.shape(min_side=0), 0, 4, dtype=dtype), differentiate=())


unique_positions = _UniquePositions(
    "unique_positions",
    doc="""Return the positions of the distinct elements of x, in ascending order.

    Args:
        x: A tensor, read in row-major order.

    Returns:
        The position at which each distinct element comes first; for each element of x which of them
        it is; and how often each occurs.
    """,
)


_EXTRAS = ("return_index", "return_inverse", "return_counts")


def _unique_sample(draw: Draw) -> Sample:
    # Floats are drawn apart: two that change order, or become equal, change the results by a jump.
    dtype = draw.dtype("integer", "float")
    x = draw.array(draw.shape(min_side=0), 0, 4, dtype=dtype, apart=0.05)
    return Sample(x, attributes={extra: draw.choose((True, False)) for extra in _EXTRAS})


@composite(numpy=np.unique, sample=_unique_sample)
def unique(
    x: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Return the distinct elements of x in ascending order, as numpy.unique does.

    The gradient of an element is that of its first occurrence.

    Args:
        x: A tensor, read in row-major order.
        return_index: Whether to return the position at which each element comes first.
        return_inverse: Whether to return for each element of x its number among the distinct ones.
        return_counts: Whether to return how often each occurs.

    Returns:
        The elements; with what else is asked for, in this order, as a tuple.
    """
    x = as_tensor(x)
    index, inverse, counts = unique_positions(x)
    flat = ops.reshape(x, ops.reshape(ops.prod(ops.shape_of(x)), (1,)))
    elements = ops.take(flat, index)
    asked = zip(
        (return_index, return_inverse, return_counts), (index, inverse, counts), strict=True
    )
    extras = [extra for wanted, extra in asked if wanted]
    return (elements, *extras) if extras else elements
