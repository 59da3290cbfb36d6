"""Quantiles, and reductions that leave NaN out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to, floating, widened
from ksym.operator.sampling import Draw, Sample
from ksym.ops.reductions.statistics import quiet

__all__ = [
    "quantile",
    "percentile",
    "median",
    "nansum",
    "nanprod",
    "nanmean",
    "nanvar",
    "nanmax",
    "nanmin",
]


def _draw_axes(draw: Draw, x: np.ndarray) -> Any:
    return draw.choose((None, *range(-x.ndim, x.ndim), tuple(range(x.ndim))))


def _sample_quantile(name: str | None, whole: float = 1.0) -> Callable[[Draw], Sample]:
    def sample(draw: Draw) -> Sample:
        x = draw.array(draw.shape(), dtype=draw.dtype("float", "integer"), apart=0.05)
        attributes = {"axis": _draw_axes(draw, x), "keepdims": draw.choose((True, False))}
        if name is not None:
            q = draw.choose((0.0, 0.3, 0.5, 1.0, (0.25, 0.75), ()))
            attributes[name] = tuple(p * whole for p in q) if isinstance(q, tuple) else q * whole
        return Sample(x, attributes=attributes)

    return sample


def _widely(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a NumPy function that converts its operand to float64 first."""
    return lambda x, **attributes: function(x.astype("float64"), **attributes)


@composite(numpy=_widely(np.quantile), sample=_sample_quantile("q"))
def quantile(x: Any, q: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return quantiles: values below which given parts of the elements lie, interpolated linearly.

    The gradient goes to the two neighbours.  If an element is NaN, so is the result.

    Args:
        x: A tensor; integers are taken as float64.
        q: A number from 0 to 1, or several, which make a new first axis.
        axis: An axis or several; None for all.
        keepdims: Whether reduced axes stay, with size 1.

    Raises:
        ShapeError: There are no elements, or a q is no number from 0 to 1.
    """
    x = floating(x)
    axes = shapes.axes(axis, x.rank)
    parts = np.asarray(q, "float64")
    if parts.ndim > 1 or not ((parts >= 0.0) & (parts <= 1.0)).all():
        raise ShapeError(f"quantiles are at numbers from 0 to 1, not at {q!r}")
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"there are no elements along axes {axes} of shape {x.shape}")
    rest = [a for a in range(x.rank) if a not in axes]
    sides = [ops.shape_of(x)[a] if d is None else d for a, d in enumerate(x.shape)]
    rows = ops.transpose(x, [*axes, *rest])
    rows = ops.sort(ops.reshape(rows, [-1 if axes else 1, *(sides[a] for a in rest)]), 0)
    last = ops.shape_of(rows)[0] - 1
    place = cast_to(last, "float64") * parts
    lower = cast_to(ops.floor(place), "int64")
    upper = ops.minimum(lower + 1, last)
    share = cast_to(place - cast_to(lower, "float64"), x.dtype)
    share = ops.reshape(share, [*parts.shape, *[1] * len(rest)])
    low, high = ops.take(rows, lower, 0), ops.take(rows, upper, 0)
    result = low + (high - low) * share
    unknown = ops.any_(ops.isnan(rows), 0)
    # Made like the last row, since `take` refuses, also at the call and for no q, if there is none.
    result = ops.where(unknown, ops.full_like(ops.take(rows, last, 0), np.nan), result)
    kept = [1 if a in axes else sides[a] for a in range(x.rank)]
    return ops.reshape(result, [*parts.shape, *kept]) if keepdims else result


@composite(numpy=_widely(np.percentile), sample=_sample_quantile("q", 100.0))
def percentile(x: Any, q: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return percentiles: `quantile` with q in hundredths."""
    return quantile(x, np.asarray(q, "float64") / 100.0, axis, keepdims=keepdims)


@composite(numpy=_widely(np.median), sample=_sample_quantile(None))
def median(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the element in the middle, or the mean of the two there: the `quantile` at 0.5."""
    return quantile(x, 0.5, axis, keepdims=keepdims)


def _sample_with_nan(draw: Draw) -> Sample:
    x = draw.array(draw.shape(min_side=1), dtype=draw.dtype("float", "integer", "bool"), apart=0.05)
    if x.dtype.kind == "f" and min(x.shape, default=0) > 1:
        x[(1,) * x.ndim] = np.nan  # one, so that an element is left along each axis
    axis = _draw_axes(draw, x)
    return Sample(x, attributes={"axis": axis, "keepdims": draw.choose((True, False))})


def _replaced(x: Any, number: float) -> Tensor:
    """Return x with a number in place of NaN."""
    x = as_tensor(x)
    if not dtypes.is_float(x.dtype):
        return x
    return ops.where(ops.isnan(x), ops.full_like(x, number), x)


@composite(numpy=np.nansum, sample=_sample_with_nan)
def nansum(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the sum of the elements that are not NaN."""
    return ops.sum_(_replaced(x, 0.0), axis, keepdims=keepdims)


@composite(numpy=np.nanprod, sample=_sample_with_nan)
def nanprod(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the product of the elements that are not NaN."""
    return ops.prod(_replaced(x, 1.0), axis, keepdims=keepdims)


@composite(numpy=quiet(np.nanmean), sample=_sample_with_nan)
def nanmean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the mean of the elements that are not NaN, and NaN of none."""
    x = floating(x)
    return cast_to(_mean_of_counted(widened(x), axis, keepdims), x.dtype)


def _mean_of_counted(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    counted = cast_to(ops.logical_not(ops.isnan(x)), x.dtype)
    result: Tensor = nansum(x, axis, keepdims=keepdims) / ops.sum_(counted, axis, keepdims=keepdims)
    return result


@composite(numpy=quiet(np.nanvar), sample=_sample_with_nan)
def nanvar(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the variance of the elements that are not NaN, and NaN of none."""
    given = floating(x)
    x = widened(given)
    counted = ops.logical_not(ops.isnan(x))
    # NaN is replaced before squaring: its gradient would be 0 * NaN.
    distance = ops.where(counted, x - _mean_of_counted(x, axis, keepdims=True), ops.zeros_like(x))
    count = ops.sum_(cast_to(counted, x.dtype), axis, keepdims=keepdims)
    return cast_to(ops.sum_(ops.square(distance), axis, keepdims=keepdims) / count, given.dtype)


def _extreme(x: Any, axis: Any, keepdims: bool, reduce: Any, worst: float) -> Tensor:
    x = as_tensor(x)
    result = reduce(_replaced(x, worst), axis, keepdims=keepdims)
    if not dtypes.is_float(x.dtype):
        return result
    nothing = ops.all_(ops.isnan(x), axis, keepdims=keepdims)
    return ops.where(nothing, ops.full_like(result, np.nan), result)


@composite(numpy=quiet(np.nanmax), sample=_sample_with_nan)
def nanmax(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the largest of the elements that are not NaN, and NaN of none."""
    return _extreme(x, axis, keepdims, ops.max_, -np.inf)


@composite(numpy=quiet(np.nanmin), sample=_sample_with_nan)
def nanmin(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the smallest of the elements that are not NaN, and NaN of none."""
    return _extreme(x, axis, keepdims, ops.min_, np.inf)
