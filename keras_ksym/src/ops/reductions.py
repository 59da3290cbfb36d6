"""Functions of Keras's module numpy that summarise, sort and search elements."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, floating, floatx, made, promoted, tensor

__all__ = [
    *("all", "allclose", "amax", "amin", "any", "argmax", "argmin", "argpartition", "argsort"),
    *("average", "bincount", "corrcoef", "count_nonzero", "cumprod", "cumsum", "digitize"),
    *("histogram", "max", "mean", "median", "min", "nanargmax", "nanargmin", "nancumprod"),
    *("nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod"),
    *("nanquantile", "nanstd", "nansum", "nanvar", "percentile", "prod", "ptp", "quantile"),
    *("searchsorted", "sort", "std", "sum", "var"),
]

Graph = ksym.Tensor
Axis = int | Sequence[int] | None


def axes_of(axis: Any) -> Any:
    """Return axes as ksym takes them: an int, a tuple or None."""
    return tuple(int(a) for a in axis) if isinstance(axis, list | tuple) else axis


def _summed(x: Tensor) -> tuple[str, Graph]:
    """Return the dtype of a sum over x, and x in it: small integers are added up as int32."""
    dtype = x.dtype
    if dtype in ("bool", "int8", "int16"):
        dtype = "int32"
    elif dtype in ("uint8", "uint16"):
        dtype = "uint32"
    return dtype, x.graph_in(dtype)


def _over_axes(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    """Return a sum or product over axes, in a dtype that holds it."""

    def body(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
        dtype, graph = _summed(x)
        return made(compute(graph, axes_of(axis), keepdims=keepdims), dtype)

    return named_operation(
        name, f"Return {name} over axes; small integers are added up as int32.", body
    )


sum = _over_axes("sum", ksym.sum)
nansum = _over_axes("nansum", ksym.nansum)
nanprod = _over_axes("nanprod", ksym.nanprod)


@operation
def prod(x: Operand, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Return the product over axes."""
    if dtype is None:
        name, graph = _summed(x)
    else:
        name = dtypes.as_dtype(dtype)
        graph = x.graph_in(name)
    return made(ksym.prod(graph, axes_of(axis), keepdims=keepdims), name)


@operation
def mean(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean over axes; integers become floats."""
    wide = result_type(x.dtype, "float32")
    dtype = x.dtype if dtypes.is_float(x.dtype) else wide
    return made(ksym.mean(x.graph_in(wide), axes_of(axis), keepdims=keepdims), dtype)


def _deviation(name: str, compute: Callable[..., Graph], ignoring: bool) -> Callable[..., Any]:
    def body(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
        wide = result_type(x.dtype, "float32")
        dtype = result_type(x.dtype, float) if x.dtype != "int64" else floatx()
        return made(compute(x.graph_in(wide), axes_of(axis), keepdims=keepdims), dtype)

    return named_operation(
        name, f"Return {name} over axes" + (", ignoring NaN." if ignoring else "."), body
    )


var = _deviation("var", ksym.var, ignoring=False)
std = _deviation("std", ksym.std, ignoring=False)
nanvar = _deviation("nanvar", ksym.nanvar, ignoring=True)
nanstd = _deviation(
    "nanstd",
    lambda x, axis, keepdims: ksym.sqrt(ksym.nanvar(x, axis, keepdims=keepdims)),
    ignoring=True,
)
nanmean = _deviation("nanmean", ksym.nanmean, ignoring=True)


def _largest(x: Tensor, axis: Any, keepdims: bool, compute: Callable[..., Graph]) -> Tensor:
    """Return the extreme elements over axes, in the dtype of x."""
    graph = x.graph_in("int32") if x.dtype == "bool" else x.graph
    result = compute(graph, axes_of(axis), keepdims=keepdims)
    return Tensor(ksym.cast(result, dtypes.stored(x.dtype)), x.dtype)


def _extreme(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    """Return a function of the largest or smallest element over axes."""

    def body(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return _largest(x, axis, keepdims, compute)

    return named_operation(name, f"Return {name} over axes.", body)


def _extreme_with_initial(
    name: str, compute: Callable[..., Graph], pair: Callable[..., Graph]
) -> Callable[..., Any]:
    """Return such a function that takes a number into account besides."""

    def body(x: Operand, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
        if initial is None:
            return _largest(x, axis, keepdims, compute)
        number = tensor(initial).graph_in(x.dtype)
        if 0 in x.shape:
            # A sum of nothing has the shape, and is zero.
            nothing = ksym.sum(x.graph, axes_of(axis), keepdims=keepdims)
            return made(ksym.zeros_like(nothing) + number, x.dtype)
        found = _largest(x, axis, keepdims, compute)
        return Tensor(pair(found.graph, number), x.dtype)

    return named_operation(
        name, f"Return the {name} element over axes, and of an initial number if given.", body
    )


max = _extreme_with_initial("max", ksym.max, ksym.maximum)
min = _extreme_with_initial("min", ksym.min, ksym.minimum)
amax = _extreme("amax", ksym.max)
amin = _extreme("amin", ksym.min)
nanmax = _extreme("nanmax", ksym.nanmax)
nanmin = _extreme("nanmin", ksym.nanmin)


@operation
def ptp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the difference of the largest and the smallest element over axes."""
    if x.dtype == "bool":
        raise TypeError("ptp of booleans: they are not subtracted. To do: cast them to int32.")
    graph = x.graph
    axis = axes_of(axis)
    return made(
        ksym.max(graph, axis, keepdims=keepdims) - ksym.min(graph, axis, keepdims=keepdims), x.dtype
    )


@operation
def all(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether all elements over axes are true."""
    return Tensor(ksym.all(x.graph_in("bool"), axes_of(axis), keepdims=keepdims), "bool")


@operation
def any(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether any element over axes is true."""
    return Tensor(ksym.any(x.graph_in("bool"), axes_of(axis), keepdims=keepdims), "bool")


@operation
def count_nonzero(x: Operand, axis: Axis = None) -> Tensor:
    """Return the number of elements that are not zero."""
    return made(ksym.sum(ksym.cast(x.graph_in("bool"), "int32"), axes_of(axis)), "int32")


@operation
def allclose(
    x1: Operand, x2: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return whether two tensors are equal within tolerances."""
    _, (a, b) = promoted(x1, x2, with_float=True)
    return Tensor(ksym.allclose(a, b, rtol, atol, equal_nan), "bool")


def _position(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    def body(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
        graph = x.graph_in("int32") if x.dtype == "bool" else x.graph
        if x.ndim == 0:
            return Tensor(ksym.zeros((), "int32"), "int32")
        if dtypes.is_float(x.dtype):
            # Of zeros the negative one is the smaller, as in Keras.
            below = ksym.logical_and(ksym.equal(graph, 0.0), ksym.signbit(graph))
            tiny = np.finfo(dtypes.stored(x.dtype)).tiny
            graph = ksym.where(below, -tiny, graph)
        return made(compute(graph, axis, keepdims=keepdims), "int32")

    return named_operation(
        name, f"Return the position of the {name[3:]}imal element along an axis, as int32.", body
    )


argmax = _position("argmax", ksym.argmax)
argmin = _position("argmin", ksym.argmin)


def _position_among_numbers(
    name: str, compute: Callable[..., Graph], worst: float
) -> Callable[..., Any]:
    def body(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
        if not dtypes.is_float(x.dtype):
            return made(compute(x.graph_in("int64"), axis, keepdims=keepdims), "int32")
        missing = ksym.isnan(x.graph)
        found = compute(ksym.where(missing, worst, x.graph), axis, keepdims=keepdims)
        nothing = ksym.all(missing, axis, keepdims=keepdims)
        return made(ksym.where(nothing, -1, found), "int32")

    return named_operation(
        name, f"Return the position of the {name[6:]}imal number along an axis, ignoring NaN.", body
    )


nanargmax = _position_among_numbers("nanargmax", ksym.argmax, -np.inf)
nanargmin = _position_among_numbers("nanargmin", ksym.argmin, np.inf)


def _running(name: str, compute: Callable[..., Graph], missing: Any = None) -> Callable[..., Any]:
    def body(x: Operand, axis: int | None = None, dtype: Any = None) -> Tensor:
        target = dtypes.as_dtype(dtype or x.dtype)
        if target == "bool":
            target = "int32"
        graph = x.graph_in(target)
        if missing is not None and dtypes.is_float(target):
            graph = ksym.where(ksym.isnan(graph), missing, graph)
        return made(compute(graph, axis), target)

    return named_operation(
        name, f"Return the running total of {name} along an axis, or of all elements.", body
    )


cumsum = _running("cumsum", ksym.cumsum)
cumprod = _running("cumprod", ksym.cumprod)
nancumsum = _running("nancumsum", ksym.cumsum, 0.0)
nancumprod = _running("nancumprod", ksym.cumprod, 1.0)


@operation
def average(x: Operand, axis: Axis = None, weights: Operand = None) -> Tensor:
    """Return the mean over axes, weighted."""
    if weights is None:
        dtype, (graph,) = promoted(x, with_float=True)
        return made(ksym.mean(graph, axes_of(axis)), dtype)
    dtype, (graph, scale) = promoted(x, weights, with_float=True)
    if scale.rank != graph.rank:
        if not isinstance(axis, int):
            raise TypeError("Axis must be specified when shapes of x and weights differ.")
        sides = [1] * graph.rank
        sides[axis] = -1
        scale = ksym.reshape(scale, sides)
    scale = ksym.broadcast_to(scale, ksym.shape_of(graph))
    total = ksym.sum(graph * scale, axes_of(axis))
    return made(total / ksym.sum(scale, axes_of(axis)), dtype)


@operation
def sort(x: Operand, axis: int = -1) -> Tensor:
    """Return the elements in ascending order along an axis."""
    graph = x.graph_in("int32") if x.dtype == "bool" else x.graph
    return Tensor(ksym.cast(ksym.sort(graph, axis), dtypes.stored(x.dtype)), x.dtype)


@operation
def argsort(x: Operand, axis: int = -1) -> Tensor:
    """Return the positions that sort the elements along an axis, equal ones in their order."""
    graph = x.graph_in("int32") if x.dtype == "bool" else x.graph
    if axis is None or x.ndim == 0:
        graph, axis = ksym.reshape(graph, (-1,)), 0
    return made(ksym.argsort(graph, axis), "int32")


@operation
def argpartition(x: Operand, kth: Any, axis: int | None = -1) -> Tensor:
    """Return positions of which those before the k-th have no larger elements: a sort."""
    graph = x.graph_in("int32") if x.dtype == "bool" else x.graph
    if axis is None:
        graph, axis = ksym.reshape(graph, (-1,)), 0
    return made(ksym.argsort(graph, axis), "int32")


@operation
def searchsorted(sorted_sequence: Operand, values: Operand, side: str = "left") -> Tensor:
    """Return the positions at which values would be put into a sorted vector, as int32."""
    if sorted_sequence.ndim != 1:
        raise ValueError(
            "`searchsorted` only supports 1-D sorted sequences. "
            "You can use `keras.ops.vectorized_map` to extend it to N-D sequences. "
            f"Received: sorted_sequence.shape={sorted_sequence.shape}"
        )
    _, (a, v) = promoted(sorted_sequence, values)
    return made(ksym.searchsorted(a, v, side), "int32")


@operation
def digitize(x: Operand, bins: Operand) -> Tensor:
    """Return the numbers of the bins that elements fall into, as int32."""
    dtype = result_type(x.kind, bins.kind)
    edges = bins.graph_in(dtype)
    return made(ksym.searchsorted(edges, x.graph_in(dtype), "right"), "int32")


def _order(method: str) -> None:
    if method not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(f"method {method!r} is none of linear, lower, higher, midpoint, nearest")


def _quantile(
    x: Tensor, q: Tensor, axis: Any, method: str, keepdims: bool, ignoring: bool
) -> Tensor:
    """Return quantiles over axes, by Keras's methods, the axes of q first."""
    _order(method)
    dtype, graph = floating(x)
    axis = axes_of(axis)
    rank = graph.rank
    over = tuple(range(rank)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    over = tuple(a % rank for a in over) if rank else ()
    rest = [a for a in range(rank) if a not in over]
    shape = ksym.shape_of(graph)
    moved = ksym.transpose(graph, [*rest, *over]) if rank else graph
    flat = ksym.reshape(moved, [*(shape[a] for a in rest), -1])
    missing = ksym.isnan(flat)
    if ignoring:
        count = ksym.sum(ksym.cast(ksym.logical_not(missing), "int64"), -1, keepdims=True)
    else:
        count = ksym.shape_of(flat)[-1]
    ordered = ksym.sort(ksym.where(missing, np.inf, flat), -1)
    parts = q.graph_in("float64" if dtype == "float64" else "float32")
    many = parts.rank
    at = ksym.reshape(parts, (-1,)) * ksym.cast(count - 1, parts.dtype)
    below, above = ksym.floor(at), ksym.ceil(at)
    share = ksym.cast(at - below, dtypes.stored(dtype))
    at_least = [ksym.maximum(ksym.cast(p, "int64"), 0) for p in (below, above)]
    if ignoring:
        low, high = (ksym.take_along_axis(ordered, p, -1) for p in at_least)
    else:
        low, high = (ksym.take(ordered, p, -1) for p in at_least)
    if method == "linear":
        result = ksym.where(ksym.equal(low, high), low, low * (1.0 - share) + high * share)
    elif method == "midpoint":
        result = (low + high) / 2.0
    elif method == "nearest":
        near = ksym.cast(ksym.round(at), "int64")
        result = ksym.where(ksym.equal(near, ksym.cast(below, "int64")), low, high)
    else:
        result = low if method == "lower" else high
    if ignoring:
        result = ksym.where(ksym.equal(count, 0), np.nan, result)
    else:
        result = ksym.where(ksym.any(missing, -1, keepdims=True), np.nan, result)
    result = ksym.moveaxis(result, -1, 0)
    if keepdims:
        for a in sorted(over):
            result = ksym.expand_dims(result, a + 1)
    if not many:
        result = ksym.squeeze(result, 0)
    elif many > 1:
        result = ksym.reshape(
            result,
            [
                *(ksym.shape_of(parts)[i] for i in range(many)),
                *(ksym.shape_of(result)[i] for i in range(1, result.rank)),
            ],
        )
    return made(result, dtype)


@operation
def quantile(
    x: Operand, q: Operand, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Return values below which given parts of the elements lie."""
    return _quantile(x, q, axis, method, keepdims, ignoring=False)


@operation
def nanquantile(
    x: Operand, q: Operand, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Return values below which given parts of the numbers lie, ignoring NaN."""
    return _quantile(x, q, axis, method, keepdims, ignoring=True)


def _hundredths(q: Tensor) -> Tensor:
    dtype = "float64" if q.dtype == "float64" and q.weak is None else "float32"
    return Tensor(q.graph_in(dtype) / 100.0, dtype)


@operation
def percentile(
    x: Operand, q: Operand, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Return quantiles, with q in hundredths."""
    return _quantile(x, _hundredths(q), axis, method, keepdims, ignoring=False)


@operation
def nanpercentile(
    x: Operand, q: Operand, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Return quantiles ignoring NaN, with q in hundredths."""
    return _quantile(x, _hundredths(q), axis, method, keepdims, ignoring=True)


@operation
def median(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the element in the middle, or the mean of the two there."""
    return _quantile(x, tensor(np.float32(0.5)), axis, "linear", keepdims, ignoring=False)


@operation
def nanmedian(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the number in the middle, or the mean of the two there, ignoring NaN."""
    return _quantile(x, tensor(np.float32(0.5)), axis, "linear", keepdims, ignoring=True)


@operation
def _bincount(x: Operand, weights: Operand, length: int) -> Tensor:
    dtype = "int32" if weights is None else result_type(x.kind, weights.kind)
    places = ksym.cast(x.graph, "int64")
    amounts = (
        ksym.ones_like(places)
        if weights is None
        else ksym.cast(weights.graph, dtypes.stored(dtype))
    )
    marks = ksym.equal(ksym.expand_dims(places, -1), np.arange(length))
    marked = ksym.where(marks, ksym.expand_dims(ksym.cast(amounts, dtypes.stored(dtype)), -1), 0)
    return made(ksym.sum(marked, -2), dtype)


def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """Return how often each number from zero comes, or the sums of its weights."""
    if sparse:
        raise ValueError("`sparse=True` is not supported with the ksym backend")
    if tensor(x).graph.value is None and isinstance(x, Tensor):
        length = int(minlength)
        if not length:
            raise ValueError(
                "bincount of a symbolic tensor needs minlength: the largest number is not known"
            )
    else:
        values = np.asarray(x)
        length = builtins.max(int(minlength), int(values.max()) + 1 if values.size else 0)
    return _bincount(x, weights, length)


@operation
def corrcoef(x: Operand) -> Tensor:
    """Return the coefficients of correlation between the rows of a matrix."""
    dtype, graph = floating(x)
    if graph.rank < 2:
        graph = ksym.reshape(graph, (1, -1))
    centred = graph - ksym.mean(graph, -1, keepdims=True)
    products = ksym.matmul(centred, ksym.transpose(centred))
    length = ksym.sqrt(ksym.diagonal(products))
    result = products / ksym.expand_dims(length, 0) / ksym.expand_dims(length, 1)
    result = ksym.clip(result, -1.0, 1.0)
    return made(ksym.reshape(result, ()) if x.ndim < 2 else result, dtype)


@operation
def histogram(x: Operand, bins: Any = 10, range: Any = None) -> Any:
    """Return how many elements fall into each of equal bins, and the edges of the bins."""
    dtype, graph = floating(x)
    flat = ksym.reshape(graph, (-1,))
    if isinstance(bins, int):
        if range is not None:
            low, high = (ksym.constant(float(end), dtypes.stored(dtype)) for end in range)
        elif 0 in x.shape:
            low, high = (ksym.constant(end, dtypes.stored(dtype)) for end in (0.0, 1.0))
        else:
            low, high = ksym.min(flat), ksym.max(flat)
        same = ksym.equal(low, high)
        low, high = ksym.where(same, low - 0.5, low), ksym.where(same, high + 0.5, high)
        edges = ksym.linspace(low, high, bins + 1)
    else:
        edges = tensor(bins).graph_in(dtype)
    count = edges.shape[0]
    assert count is not None
    places = ksym.searchsorted(edges, flat, "right") - 1
    places = ksym.where(ksym.equal(flat, edges[-1]), count - 2, places)
    marks = ksym.equal(ksym.expand_dims(places, -1), np.arange(count - 1))
    return made(ksym.sum(ksym.cast(marks, "int32"), 0), "int32"), made(edges, dtype)
