"""Functions of Keras's module numpy that summarise elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, floating, floatx, made, promoted, tensor

__all__ = [
    "all",
    "allclose",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "average",
    "corrcoef",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "max",
    "mean",
    "min",
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
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
