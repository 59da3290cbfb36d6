"""Sums, products and extremes of the slices that belong to the same segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import ArgumentError, DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand
from ksym.operator.sampling import Draw, Sample

__all__ = ["segment_sum", "segment_prod", "segment_max", "segment_min"]


def _operands(x: Any, segments: Any, count: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Check the operands of a reduction by segments, and return them as tensors."""
    x, segments = as_tensor(x), as_tensor(segments)
    if dtypes.kind(segments.dtype) != 1:
        raise DTypeError(f"the numbers of segments are integers, not {segments.dtype}")
    if not x.rank or segments.rank != 1:
        raise ShapeError(
            f"each slice of x along its first axis has a number: x is {x.spec}, the numbers are "
            f"{segments.spec}"
        )
    if None not in (x.shape[0], segments.shape[0]) and x.shape[0] != segments.shape[0]:
        raise ShapeError(f"there are {segments.shape[0]} numbers for {x.shape[0]} slices")
    operand = shape_operand(count)
    if operand.shape == (None,):
        operand = ops.reshape(operand, (1,))
    if operand.shape != (1,):
        raise ShapeError(f"the number of segments is one number, not {operand.spec}")
    side = known_dimensions(operand)[0]
    if side is not None and side < 0:
        raise ArgumentError(f"the number of segments is {side}")
    return x, ops.cast_to(segments, "int64"), operand


def _by_numpy(combine: Any, start: Callable[[np.dtype], Any]) -> Callable[..., Any]:
    def reduce(x: Any, segments: Any, count: Any) -> Any:
        x, segments = np.asarray(x), np.asarray(segments)
        side = int(np.reshape(count, ()))
        result = np.full((side, *x.shape[1:]), start(x.dtype), x.dtype)
        inside = (segments >= 0) & (segments < side)
        combine.at(result, segments[inside], x[inside])
        return result

    return reduce


def _sample(draw: Draw) -> Sample:
    # No segment is empty: the extremes of nothing are infinite, and have no differences.
    count, more = draw.integer(1, 3), draw.integer(0, 2)
    others = draw.array((more,), -1, count, dtype="int64")
    segments = np.concatenate([np.arange(count), others])
    x = draw.array((count + more, *draw.shape(max_rank=2)), 0.5, 2.0, apart=0.05)
    return Sample(x, segments, np.array([count], "int64"))


@composite(numpy=_by_numpy(np.add, lambda dtype: 0), sample=_sample, static_operands=(2,))
def segment_sum(x: Any, segments: Any, count: Any) -> Tensor:
    """Return the sums of the slices of x that have the same number.

    Args:
        x: A tensor of (slices, ...).
        segments: The number of the segment that each slice belongs to, (slices,); slices of
            numbers that are none of a segment do not count.
        count: The number of segments: an int or a scalar computed from shapes.

    Returns:
        (count, ...); zeros for segments without slices.

    Raises:
        ShapeError: The numbers are not one for each slice.
        DTypeError: The numbers are no integers.

    >>> import ksym
    >>> ksym.evaluate(segment_sum([1.0, 2.0, 3.0], [0, 2, 0], 3))
    array([4., 0., 2.], dtype=float32)
    """
    x, segments, count = _operands(x, segments, count)
    inside = ops.logical_and(segments >= 0, segments < count[0])
    # Those that do not count are added to one row more, which is cut off.
    rows = ops.where(inside, segments, count[0])
    sides = ops.concatenate([count + 1, ops.shape_of(x)[1:]], 0)
    return ops.scatter_nd(ops.expand_dims(rows, 1), x, sides)[:-1]


class _Segment(Operator):
    """A reduction by segments that MXNet has nothing for.

    Args:
        name: The name.
        combine: NumPy's function of two elements.
        start: The result for a segment without slices, by dtype.
        doc: The docstring.
    """

    runs = "host"
    static_operands = (2,)

    def __init__(self, name: str, combine: Any, start: Callable[[np.dtype], Any], doc: str):
        self._reduce = _by_numpy(combine, start)
        super().__init__(name, doc)

    def prepare(self, x: Any, segments: Any, count: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return _operands(x, segments, count), {}

    def infer(self, x: Tensor, segments: Tensor, count: Tensor) -> Spec:
        return Spec((known_dimensions(count)[0], *x.shape[1:]), x.dtype)

    def check(self, node: Node) -> None:
        x, segments, _ = node.inputs
        if x.shape[0] != segments.shape[0]:
            raise ShapeError(f"there are {segments.shape[0]} numbers for {x.shape[0]} slices")

    def numpy(self, x: Any, segments: Any, count: Any) -> Any:
        return self._reduce(x, segments, count)

    def sample(self, draw: Draw) -> Sample:
        return _sample(draw)


def _of_each(values: Tensor, node: Node) -> Tensor:
    """Return for each slice of the operand the row of its segment, zero for those of none."""
    _, segments, count = node.inputs
    inside = ops.logical_and(segments >= 0, segments < count[0])
    return ops.take(
        ops.concatenate([values, ops.zeros_like(values[:1])], 0),
        ops.where(inside, segments, count[0]),
        0,
    )


class _Extreme(_Segment):
    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, segments, count = node.inputs
        chosen = ops.cast_to(ops.equal(x, _of_each(node.outputs[0], node)), x.dtype)
        # Equal ones share the gradient.
        shares = segment_sum(chosen, segments, count[0])
        return [chosen * _of_each(g / ops.maximum(shares, 1.0), node), None, None]


class _Product(_Segment):
    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, segments, count = node.inputs
        # Zeros are left out of the product, and counted: where there is one, only it has a slope.
        zero = ops.equal(x, 0)
        others = segment_prod(ops.where(zero, ops.ones_like(x), x), segments, count[0])
        zeros = segment_sum(ops.cast_to(zero, x.dtype), segments, count[0])
        each, number = _of_each(others * g, node), _of_each(zeros, node)
        plain = each / ops.where(zero, ops.ones_like(x), x)
        alone = ops.logical_and(zero, ops.equal(number, 1.0))
        none = ops.equal(number, 0.0)
        return [ops.where(alone, each, ops.where(none, plain, ops.zeros_like(x))), None, None]


_DOC = """Return the {} of the slices of x that have the same number.

    Args:
        x: A tensor of (slices, ...).
        segments: The number of the segment that each slice belongs to, (slices,); slices of
            numbers that are none of a segment do not count.
        count: The number of segments: an int or a scalar computed from shapes.

    Returns:
        (count, ...); {} for segments without slices.

    Raises:
        ShapeError: The numbers are not one for each slice.
        DTypeError: The numbers are no integers.
    """


def _lowest(dtype: np.dtype) -> Any:
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


segment_prod = _Product(
    "segment_prod", np.multiply, lambda dtype: 1, _DOC.format("products", "ones")
)
segment_max = _Extreme(
    "segment_max", np.maximum, _lowest, _DOC.format("largest elements", "the smallest number")
)
segment_min = _Extreme(
    "segment_min", np.minimum, _highest, _DOC.format("smallest elements", "the largest number")
)
