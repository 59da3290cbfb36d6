"""Functions of Keras's module numpy that sort and count elements: quantiles and histograms too."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.reductions import Axis, axes_of
from keras_ksym.src.tensor import Tensor, floating, made, promoted, tensor

__all__ = [
    "argpartition",
    "argsort",
    "bincount",
    "digitize",
    "histogram",
    "median",
    "nanmedian",
    "nanpercentile",
    "nanquantile",
    "percentile",
    "quantile",
    "searchsorted",
    "sort",
]

Graph = ksym.Tensor


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
