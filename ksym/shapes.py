"""Arithmetic on static shapes, in which a dimension may be unknown (`None`).

The functions here infer the known dimensions of a result.  They raise `ShapeError` only for a
mistake that remains one whatever the unknown dimensions turn out to be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym.errors import ShapeError, SymbolicError

Dimension = int | None
Shape = tuple[Dimension, ...]


class _Unknown:
    """An unknown integer, as an element of arrays of dimensions; it absorbs arithmetic.

    With it NumPy computes with half-known shapes: ``np.prod([UNKNOWN, 3])`` is `UNKNOWN`.  Its
    truth value raises an error, which ends a computation that depends on it.
    """

    def __repr__(self) -> str:
        return "?"

    def __bool__(self) -> bool:
        raise TypeError("an unknown dimension has no truth value")

    def __reduce__(self) -> str:
        return "UNKNOWN"

    def _absorb(self, *_: Any) -> _Unknown:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _absorb
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = _absorb


UNKNOWN = _Unknown()


def normalize(shape: Any) -> Shape:
    """Return a static shape given as an int or a sequence of ints and None."""
    if isinstance(shape, int | np.integer):
        shape = (shape,)
    try:
        dimensions = tuple(None if d is None else operator.index(d) for d in shape)
    except TypeError:
        raise ShapeError(
            f"{shape!r} is not a shape", remedy="give a sequence of integers, with None for unknown"
        ) from None
    if any(d is not None and d < 0 for d in dimensions):
        raise ShapeError(f"the shape {dimensions} has a negative dimension")
    return dimensions


def is_known(shape: Shape) -> bool:
    """Return whether every dimension is known."""
    return None not in shape


def known(shape: Shape) -> tuple[int, ...]:
    """Return the shape, if every dimension is known.

    Raises:
        ShapeError: A dimension is unknown.
    """
    if None in shape:
        raise ShapeError(f"the shape {shape} is not known completely")
    return shape  # type: ignore[return-value]


def size(shape: Shape) -> int | None:
    """Return the number of elements, None if a dimension is unknown (and none is zero)."""
    if 0 in shape:
        return 0
    total = 1
    for dimension in shape:
        if dimension is None:
            return None
        total *= dimension
    return total


def compatible(first: Shape, second: Shape) -> bool:
    """Return whether two shapes can describe the same array."""
    return len(first) == len(second) and all(
        a is None or b is None or a == b for a, b in zip(first, second, strict=True)
    )


def merge(first: Shape, second: Shape) -> Shape:
    """Return the shape of an array that both shapes describe: all that is known of it."""
    if not compatible(first, second):
        raise ShapeError(f"the shapes {first} and {second} differ")
    return tuple(b if a is None else a for a, b in zip(first, second, strict=True))


def axis(value: Any, rank: int) -> int:
    """Return the axis counted from the front.

    Raises:
        ShapeError: The axis is not an integer, or lies outside of the tensor.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ShapeError(f"the axis {value!r} is not an integer") from None
    if not -rank <= number < rank:
        raise ShapeError(
            f"axis {number} is out of range for a tensor of rank {rank}",
            remedy=f"use an axis from {-rank} to {rank - 1}" if rank else "a scalar has no axis",
        )
    return number % rank


def items(value: Any, what: str) -> list[Any]:
    """Return the items of a sequence of integers; one integer counts as a sequence of one.

    Args:
        value: The integer or sequence.
        what: The name of the items in a message, in the plural.

    Raises:
        ShapeError: The value is neither.
    """
    try:
        return [operator.index(value)]
    except TypeError:
        pass
    if isinstance(value, str | bytes | Mapping):
        raise ShapeError(f"the {what} {value!r} are no integers")
    try:
        return list(value)
    except (TypeError, SymbolicError):
        raise ShapeError(
            f"the {what} {value!r} are neither an integer nor a sequence of integers"
        ) from None


def axes(value: Any, rank: int) -> tuple[int, ...]:
    """Return sorted axes from None (all of them), an int, or a sequence of ints.

    Raises:
        ShapeError: An axis is no integer, is out of range, or is named twice.
    """
    if value is None:
        return tuple(range(rank))
    numbers = [axis(item, rank) for item in items(value, "axes")]
    if len(set(numbers)) != len(numbers):
        raise ShapeError(f"the axes {tuple(value)} name the same axis twice")
    return tuple(sorted(numbers))


def broadcast(*shapes: Shape) -> Shape:
    """Return the common shape of these shapes under NumPy's broadcasting.

    An unknown dimension that meets a known one larger than 1 must be that or 1, so the result is
    known; meeting 1 or another unknown one, it stays unknown.
    """
    distinct = {*shapes, ()}
    if len(distinct) <= 2:  # the common cases: equal shapes, and scalars
        return max(distinct, key=len)
    rank = max(map(len, shapes))
    result: list[Dimension] = []
    for position in range(-rank, 0):
        meeting = [shape[position] for shape in shapes if -position <= len(shape)]
        sizes = {d for d in meeting if d is not None and d != 1}
        if len(sizes) > 1:
            raise ShapeError(
                f"the shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"axis {position} has sizes {' and '.join(str(s) for s in sorted(sizes))}",
                remedy="make the sizes equal or 1, or reshape one operand",
            )
        if sizes:
            result.append(sizes.pop())
        else:
            result.append(None if None in meeting else 1)
    return tuple(result)


def reduce(shape: Shape, over: Iterable[int], keepdims: bool) -> Shape:
    """Return the shape after a reduction over axes counted from the front."""
    gone = set(over)
    if keepdims:
        return tuple(1 if i in gone else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def reshape(shape: Shape, target: Sequence[int | None]) -> Shape:
    """Return the shape after reshaping to a target, in which -1 is to be inferred.

    None in the target is a size that will only be known later.
    """
    wanted = list(target)
    if wanted.count(-1) > 1:
        raise ShapeError(f"the target shape {tuple(wanted)} leaves more than one dimension open")
    total = size(shape)
    if -1 in wanted:
        rest = size(tuple(d for d in wanted if d != -1))
        if total is None or rest is None:
            return tuple(None if d == -1 else d for d in wanted)
        if rest == 0 or total % rest:
            raise ShapeError(
                f"{total} elements of shape {shape} do not fill the shape {tuple(wanted)}"
            )
        return tuple(total // rest if d == -1 else d for d in wanted)
    result = size(tuple(wanted))
    if total is not None and result is not None and total != result:
        raise ShapeError(
            f"the shape {shape} with {total} elements cannot become {tuple(wanted)} with {result}"
        )
    if total is not None and result is None and wanted.count(None) == 1:
        rest = size(tuple(d for d in wanted if d is not None))
        if rest and total % rest == 0:
            return tuple(total // rest if d is None else d for d in wanted)
    return tuple(wanted)


def elementwise(function: Callable[..., int], *dimensions: Dimension) -> Dimension:
    """Apply integer arithmetic to dimensions; unknown if one of them is."""
    if any(d is None for d in dimensions):
        return None
    return function(*dimensions)


def window_output(
    length: Dimension, window: int, stride: int, dilation: int, padding: str | tuple[int, int]
) -> Dimension:
    """Return the number of positions of a sliding window along one axis.

    The formulas are TensorFlow's (tf.nn.convolution, "Note on padding").

    Padding is ``"valid"``, ``"same"``, ``"causal"``, or explicit (before, after).

    Returns:
        The number of positions, zero where the window is larger than the padded axis, None where
        the axis is unknown.
    """
    if length is None:
        return None
    if padding in ("same", "causal"):
        return -(-length // stride)
    before, after = (0, 0) if isinstance(padding, str) else padding
    extent = (window - 1) * dilation + 1
    return max(0, (length + before + after - extent) // stride + 1)


def window_padding(
    length: int, window: int, stride: int, dilation: int, padding: str | tuple[int, int]
) -> tuple[int, int]:
    """Return the explicit padding (before, after) of one axis.

    ``"same"`` pads more at the end, ``"causal"`` only at the start.
    """
    if not isinstance(padding, str):
        return padding
    if padding == "valid":
        return 0, 0
    extent = (window - 1) * dilation + 1
    if padding == "causal":
        return extent - 1, 0
    total = max(0, (-(-length // stride) - 1) * stride + extent - length)
    return total // 2, total - total // 2


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """Return the permutation that undoes another one."""
    return tuple(int(a) for a in np.argsort(axes))
