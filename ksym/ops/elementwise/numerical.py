"""Functions of NumPy that are composed of a few other operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to, floating, promoted
from ksym.operator.sampling import KINDS, Draw, Sample
from ksym.ops.elementwise.binary import broadcast_sample

__all__ = [
    "sinc",
    "logit",
    "isposinf",
    "isneginf",
    "allclose",
    "trapz",
    "vander",
    "tri",
    "unravel_index",
]


def _sample_wave(draw: Draw) -> Sample:
    x = draw.array(draw.shape(min_side=0), dtype=draw.dtype(*KINDS))
    if x.size and x.dtype.kind == "f" and draw.choose((True, False)):
        x.flat[0] = 0.0
    return Sample(x)


@composite(numpy=np.sinc, sample=_sample_wave)
def sinc(x: Any) -> Tensor:
    """Return sin(pi x) / (pi x), and 1 where x is 0; integers are taken as float64.

    Near 0 it is its Taylor series, which has all the derivatives that the quotient lacks there.
    """
    angle = floating(x) * math.pi
    near = ops.abs_(angle) < 1.0
    # Each branch computes with harmless numbers where the other one is taken.
    square = ops.square(ops.where(near, angle, ops.zeros_like(angle)))
    series = ops.zeros_like(angle)
    for term in reversed(range(11)):
        series = series * square + (-1) ** term / math.factorial(2 * term + 1)
    far = ops.where(near, ops.ones_like(angle), angle)
    return ops.where(near, series, ops.sin(far) / far)


@composite(
    numpy=lambda x: np.log(x / (1 - x)),
    sample=lambda draw: Sample(draw.array(draw.shape(min_side=0), 0.1, 0.9)),
)
def logit(x: Any) -> Tensor:
    """Return log(x / (1 - x)), the inverse of `sigmoid`; NaN outside of [0, 1]."""
    x = floating(x)
    return ops.log(x) - ops.log1p(-x)


def _sample_infinite(draw: Draw) -> Sample:
    x = draw.array(draw.shape(min_side=0), dtype=draw.dtype(*KINDS))
    if x.size and x.dtype.kind == "f":
        x.flat[0] = draw.choose((np.inf, -np.inf, np.nan))
    return Sample(x, differentiate=())


@composite(numpy=lambda x: x == np.inf, sample=_sample_infinite)
def isposinf(x: Any) -> Tensor:
    """Return whether elements are infinity."""
    return ops.equal(floating(x), np.inf)


@composite(numpy=lambda x: x == -np.inf, sample=_sample_infinite)
def isneginf(x: Any) -> Tensor:
    """Return whether elements are minus infinity."""
    return ops.equal(floating(x), -np.inf)


@composite(
    numpy=lambda x, y, rtol: np.allclose(x, y, rtol=rtol),
    sample=lambda draw: Sample(
        *broadcast_sample(draw, *[(1.0, 2.0, 0.0)] * 2),
        attributes={"rtol": draw.choose((0.3, 1.0))},
    ),
)
def allclose(
    x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return whether all elements are close to each other, as by `isclose`."""
    return ops.all_(ops.isclose(x, y, rtol, atol, equal_nan))


def _sample_trapz(draw: Draw) -> Sample:
    shape, dtype = draw.shape(min_rank=1, min_side=0), draw.dtype("float", "integer")
    axis = draw.integer(-len(shape), len(shape) - 1)
    y = draw.array(shape, dtype=dtype)
    along = draw.choose((None, shape, (shape[axis],)))
    if along is None:
        return Sample(y, attributes={"dx": 0.5, "axis": axis})
    return Sample(y, draw.array(along, dtype=dtype), attributes={"axis": axis})


_TRAPEZOID = getattr(np, "trapezoid", None) or np.trapz  # type: ignore[attr-defined,unused-ignore]


def _trapz_numpy(*arrays: Any, **attributes: Any) -> Any:
    return _TRAPEZOID(*(array.astype("float64") for array in arrays), **attributes)


@composite(numpy=_trapz_numpy, sample=_sample_trapz)
def trapz(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """Return the integral of y along an axis by the trapezoidal rule.

    Args:
        y: Values of a function; integers are computed in float64.
        x: The points of these values: a vector along the axis, or a tensor that broadcasts against
            y; by default points at distances of dx.
        dx: The distance of points, if there is no x.
        axis: The axis to integrate along.

    Raises:
        DTypeError: y or x are booleans.
        ShapeError: y and x do not broadcast, or axis is out of range.
    """
    operands = [value for value in (y, x) if value is not None]
    if any(as_tensor(operand).dtype == "bool" for operand in operands):
        raise DTypeError("numbers are integrated, not booleans", remedy="cast them to int32")
    y, *rest = map(floating, promoted(*operands))
    place = shapes.axis(axis, y.rank)
    before = (slice(None),) * place
    width: Any = dx
    for x in rest:
        width = ops.diff(x, axis=axis if x.rank != 1 else 0)
        if x.rank == 1:
            width = ops.reshape(width, (-1, *[1] * (y.rank - place - 1)))
    pairs = y[(*before, slice(1, None))] + y[(*before, slice(None, -1))]
    return ops.sum_(pairs * width * 0.5, axis)


def _sample_vander(draw: Draw) -> Sample:
    x = draw.array((draw.integer(1, 4),), dtype=draw.dtype("float", "integer"))
    increasing = draw.choose((True, False))
    return Sample(x, attributes={"n": draw.choose((None, 0, 3)), "increasing": increasing})


@composite(
    numpy=lambda x, n, increasing: np.vander(x, n, increasing=increasing), sample=_sample_vander
)
def vander(x: Any, n: int | None = None, increasing: bool = False) -> Tensor:
    """Return Vandermonde's matrix, whose columns are powers of a vector.

    Args:
        x: A vector; small integers and booleans are taken as int64, as in NumPy.
        n: The number of columns; by default that of rows.
        increasing: Whether the first column is the power 0, and not the last one.

    Raises:
        ShapeError: x is not a vector, or n is negative.
    """
    x = as_tensor(x)
    if x.rank != 1 or (n is not None and n < 0):
        raise ShapeError(f"powers of a vector are taken, not {n} of shape {x.shape}")
    x = x if dtypes.is_float(x.dtype) else cast_to(x, "int64")
    side = ops.shape_of(x)[0]
    rows = ops.broadcast_to(ops.expand_dims(x, -1), [side, side if n is None else n])
    powers = ops.exclusive_cumprod(rows, 1)
    return powers if increasing else ops.flip(powers, 1)


def _sample_tri(draw: Draw) -> Sample:
    sides = {"n": draw.integer(0, 3), "m": draw.choose((None, 0, 2))}
    return Sample(attributes={**sides, "k": draw.integer(-2, 2)})


@composite(numpy=lambda n, m, k: np.tri(n, m, k), sample=_sample_tri)
def tri(n: int, m: int | None = None, k: int = 0, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a matrix with ones on and below a diagonal, zeros above it.

    Args:
        n: The number of rows.
        m: The number of columns; by default that of rows.
        k: The number of the diagonal: above the main one if positive, below it if negative.
        dtype: The dtype of the result.
    """
    return ops.tril(ops.ones((n, n if m is None else m), dtype), k)


def _unravel(indices: Any, shape: Any) -> Any:
    return np.unravel_index(np.mod(indices.astype("int64"), np.prod(shape)), shape)


def _sample_unravel(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1)
    size = int(np.prod(shape))
    indices = draw.array(draw.shape(min_side=0), -size, size - 1, dtype=draw.dtype("integer"))
    return Sample(indices, attributes={"shape": shape})


@composite(numpy=_unravel, sample=_sample_unravel)
def unravel_index(indices: Any, shape: Any) -> tuple[Tensor, ...]:
    """Convert indices into the flat array to indices along each axis, as int64.

    Args:
        indices: Integers; negative ones count from the end, ones out of range wrap around.
        shape: The shape, as integers.

    Raises:
        DTypeError: The indices are not integers.
        ShapeError: The shape has no axes, or no elements.
    """
    indices = as_tensor(indices)
    sides = shapes.known(shapes.normalize(shape))
    if dtypes.kind(indices.dtype) != 1:
        raise DTypeError(f"indices are integers, not {indices.dtype}", remedy="cast them to int64")
    if not sides or 0 in sides:
        raise ShapeError(f"there are no axes or no elements in the shape {sides}")
    rest, places = cast_to(indices, "int64"), []
    for side in reversed(sides):
        places.append(ops.mod(rest, side))
        rest = ops.floor_divide(rest, side)
    return tuple(reversed(places))
