"""Means, spreads, norms and counts: compositions of sums and extrema."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to, floating, widened
from ksym.operator.sampling import Draw, Sample

__all__ = ["mean", "var", "moments", "std", "logsumexp", "ptp", "count_nonzero", "norm"]


def _sample_statistic(
    *kinds: str, min_side: int = 1, low: float = -2.0, high: float = 2.0
) -> Callable[[Draw], Sample]:
    def sample(draw: Draw) -> Sample:
        shape = draw.shape(min_side=min_side)
        axis = draw.choose((None, *range(-len(shape), len(shape)), tuple(range(len(shape)))))
        x = draw.array(shape, low, high, dtype=draw.dtype(*kinds), apart=0.05)
        return Sample(x, attributes={"axis": axis, "keepdims": draw.choose((True, False))})

    return sample


_ANY = ("float", "integer", "bool")


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a NumPy function that does not warn about empty arrays."""

    def silenced(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return function(*args, **kwargs)

    return silenced


def count(x: Tensor, axes: tuple[int, ...], dtype: str) -> Tensor | float:
    """Return the number of elements that a reduction of x over axes combines."""
    static = shapes.size(tuple(x.shape[a] for a in axes))
    if static is not None:
        return float(static)
    sides = ops.shape_of(x)
    total: Tensor = cast_to(sides[axes[0]], dtype)
    for a in axes[1:]:
        total = ops.multiply(total, cast_to(sides[a], dtype))
    return total


@composite(numpy=quiet(np.mean), sample=_sample_statistic(*_ANY))
def mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the mean of elements; of integers and booleans as float64, of none NaN.

    Args:
        x: A tensor.
        axis: An axis or several; None for all, () for none.
        keepdims: Whether reduced axes stay, with size 1.
    """
    x = floating(x)
    return cast_to(_mean(widened(x), shapes.axes(axis, x.rank), keepdims), x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    result: Tensor = ops.true_divide(ops.sum_(x, axes, keepdims=keepdims), count(x, axes, x.dtype))
    return result


def _variance(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return _mean(ops.square(x - _mean(x, axes, keepdims=True)), axes, keepdims)


@composite(numpy=quiet(np.var), sample=_sample_statistic(*_ANY))
def var(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the variance of elements: the mean of the squared distances from the mean."""
    x = floating(x)
    return cast_to(_variance(widened(x), shapes.axes(axis, x.rank), keepdims), x.dtype)


@composite(
    numpy=lambda x, axis, keepdims: (
        quiet(np.mean)(x, axis=axis, keepdims=keepdims),
        quiet(np.var)(x, axis=axis, keepdims=keepdims),
    ),
    sample=_sample_statistic(*_ANY),
)
def moments(x: Any, axis: Any = None, *, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of elements, as TensorFlow's tf.nn.moments."""
    x = floating(x)
    wide, axes = widened(x), shapes.axes(axis, x.rank)
    average = _mean(wide, axes, keepdims=True)
    spread = _mean(ops.square(wide - average), axes, keepdims)
    average = average if keepdims else ops.squeeze(average, axes)
    return cast_to(average, x.dtype), cast_to(spread, x.dtype)


def _sample_spread(draw: Draw) -> Sample:
    """Draw a sample whose deviation is not zero, where the square root has a kink."""
    sides = draw.shape(max_rank=2)
    x = np.stack([draw.array(sides, -2.0, -1.0), draw.array(sides, 1.0, 2.0)])
    axis = draw.choose((None, 0, (0,), -x.ndim))
    return Sample(x, attributes={"axis": axis, "keepdims": draw.choose((True, False))})


@composite(numpy=quiet(np.std), sample=_sample_spread)
def std(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the standard deviation: the square root of the variance."""
    x = floating(x)
    spread = _variance(widened(x), shapes.axes(axis, x.rank), keepdims)
    return cast_to(ops.sqrt(spread), x.dtype)


def _logsumexp_numpy(x: Any, axis: Any, keepdims: bool) -> Any:
    powers: Any = np.exp(x.astype("float64"))
    return np.log(powers.sum(axis=axis, keepdims=keepdims))


@composite(numpy=_logsumexp_numpy, sample=_sample_statistic(*_ANY))
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials, computed without overflow."""
    given = floating(x)
    x, axes = widened(given), shapes.axes(axis, given.rank)
    highest = ops.max_(x, axes, keepdims=True)
    # An infinite maximum would give inf - inf.
    shift = ops.stop_gradient(ops.where(ops.isfinite(highest), highest, ops.zeros_like(highest)))
    total = ops.log(ops.sum_(ops.exp(x - shift), axes, keepdims=True)) + shift
    return cast_to(total if keepdims else ops.squeeze(total, axes), given.dtype)


@composite(numpy=np.ptp, sample=_sample_statistic("float", "integer"))
def ptp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the range of elements, from the smallest to the largest ("peak to peak")."""
    x = as_tensor(x)
    return ops.max_(x, axis, keepdims=keepdims) - ops.min_(x, axis, keepdims=keepdims)


@composite(numpy=np.count_nonzero, sample=_sample_statistic(*_ANY, min_side=0))
def count_nonzero(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Count the elements that are not zero, as int64."""
    x = as_tensor(x)
    return ops.sum_(ops.not_equal(x, ops.zeros_like(x)), axis, keepdims=keepdims)


def _norm_numpy(x: Any, axis: Any, keepdims: bool, **given: Any) -> Any:
    x = x.astype("float64")
    if axis is None and given["ord"] is None:
        # NumPy drops the axes it should keep where it flattens.
        squares: Any = np.square(x)
        return np.sqrt(squares.sum(axis=axis, keepdims=keepdims))
    return np.linalg.norm(x, given["ord"], axis, keepdims)


def _sample_norm(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=2)
    first = draw.integer(-len(shape), len(shape) - 1)
    second = (first + draw.integer(1, len(shape) - 1)) % len(shape)
    order, axis = draw.choose(
        (
            *((order, first) for order in (None, 1, 2, 3, -1, float("inf"), -float("inf"))),
            *((order, (first % len(shape), second)) for order in (None, "fro", 1, float("inf"))),
            (None, None),
        )
    )
    x = draw.array(shape, dtype=draw.dtype("float", "integer"), apart=0.05)
    if x.dtype.kind != "f":
        x = np.maximum(x, 1)
    return Sample(
        x, attributes={"ord": order, "axis": axis, "keepdims": draw.choose((True, False))}
    )


@composite(numpy=_norm_numpy, sample=_sample_norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:  # noqa: A002 - NumPy's name
    """Return the norm of vectors or matrices, as numpy.linalg.norm.

    Args:
        x: A tensor; integers are taken as float64.
        ord: For vectors a number p for ``sum(abs(x) ** p) ** (1 / p)``, which for infinity is the
            largest and for minus infinity the smallest magnitude, and for 0 how many are not zero;
            for matrices ``"fro"``, or 1, -1 and the infinities for the largest and smallest sum of
            magnitudes of a column or a row.  By default the root of the sum of squares.
        axis: The axis of the vectors, or two of matrices; by default all, which for a given ord
            must be one or two.
        keepdims: Whether reduced axes stay, with size 1.

    Raises:
        ShapeError: There is no such norm of that many axes.
    """
    x = floating(x)
    return cast_to(_norm(widened(x), ord, axis, keepdims), x.dtype)


def _norm(x: Tensor, ord: Any, axis: Any, keepdims: bool) -> Tensor:  # noqa: A002 - NumPy's name
    axes = shapes.axes(axis, x.rank)
    given = (
        axes if axis is None or isinstance(axis, int) else [shapes.axis(a, x.rank) for a in axis]
    )
    if ord is None and (axis is None or len(axes) in (1, 2)):
        return ops.sqrt(ops.sum_(ops.square(x), axes, keepdims=keepdims))
    if len(axes) == 1 and isinstance(ord, int | float):
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2 and ord == "fro":
        return ops.sqrt(ops.sum_(ops.square(x), axes, keepdims=keepdims))
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        over, rest = (given[0], given[1]) if abs(ord) == 1 else (given[1], given[0])
        sums = ops.sum_(ops.abs_(x), over, keepdims=True)
        result = (ops.max_ if ord > 0 else ops.min_)(sums, rest, keepdims=True)
        return result if keepdims else ops.squeeze(result, axes)
    raise ShapeError(
        f"there is no norm of order {ord!r} over {len(axes)} axes",
        remedy="give one axis for vectors, or two for matrices",
    )


def _vector_norm(x: Tensor, power: float, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if power == 2:
        return ops.sqrt(ops.sum_(ops.square(x), axes, keepdims=keepdims))
    size = ops.abs_(x)
    if abs(power) == np.inf:
        return (ops.max_ if power > 0 else ops.min_)(size, axes, keepdims=keepdims)
    if power == 0:
        return cast_to(count_nonzero(x, axes, keepdims=keepdims), x.dtype)
    if power == 1:
        return ops.sum_(size, axes, keepdims=keepdims)
    return ops.power(ops.sum_(ops.power(size, float(power)), axes, keepdims=keepdims), 1.0 / power)
