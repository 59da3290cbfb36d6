"""Functions of Keras's module numpy that move, repeat and pad elements."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, kept, made

__all__ = [
    "broadcast_to",
    "diag",
    "diagflat",
    "diagonal",
    "diff",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "moveaxis",
    "ndim",
    "pad",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "rot90",
    "size",
    "squeeze",
    "swapaxes",
    "tile",
    "trace",
    "transpose",
    "trapezoid",
    "tril",
    "triu",
    "vander",
    "vectorize",
]

Graph = ksym.Tensor


def sizes(shape: Any) -> Any:
    """Return a shape of numbers and symbolic numbers as ksym takes it."""
    if isinstance(shape, Tensor):
        return shape.graph if shape.ndim else [shape.graph]
    if isinstance(shape, int | np.integer):
        return [int(shape)]
    if isinstance(shape, np.ndarray | KerasVariable):
        shape = np.asarray(shape).reshape(-1).tolist()
    return [side.graph if isinstance(side, Tensor) else int(side) for side in shape]


def _moved(name: str, doc: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    """Return a function that moves the elements of one tensor, given positional settings."""

    def body(x: Operand, *settings: Any, **named: Any) -> Tensor:
        return kept(compute(x.graph, *settings, **named), x)

    return named_operation(name, doc, body)


@operation
def reshape(x: Operand, newshape: Any) -> Tensor:
    """Return the elements in another shape, one side of which may be -1."""
    return kept(ksym.reshape(x.graph, sizes(newshape)), x)


@operation
def broadcast_to(x: Operand, shape: Any) -> Tensor:
    """Stretch a tensor to a shape."""
    return kept(ksym.broadcast_to(x.graph, sizes(shape)), x)


@operation
def transpose(x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """Permute the axes."""
    return kept(ksym.transpose(x.graph, None if axes is None else tuple(axes)), x)


@operation
def expand_dims(x: Operand, axis: Any) -> Tensor:
    """Insert axes of size 1."""
    axes = [axis] if isinstance(axis, int) else builtins.list(axis)
    rank = x.ndim + len(axes)
    graph = x.graph
    for a in sorted(int(a) % rank for a in axes):
        graph = ksym.expand_dims(graph, a)
    return kept(graph, x)


@operation
def squeeze(x: Operand, axis: Any = None) -> Tensor:
    """Remove axes of size 1."""
    if axis is not None:
        axis = tuple(axis) if isinstance(axis, list | tuple) else axis
    return kept(ksym.squeeze(x.graph, axis), x)


@operation
def ravel(x: Operand) -> Tensor:
    """Return the elements in a row."""
    return kept(ksym.reshape(x.graph, (-1,)), x)


@operation
def moveaxis(x: Operand, source: Any, destination: Any) -> Tensor:
    """Move axes to other positions."""
    ends = (tuple(e) if isinstance(e, list | tuple) else e for e in (source, destination))
    return kept(ksym.moveaxis(x.graph, *ends), x)


@operation
def swapaxes(x: Operand, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes."""
    return kept(ksym.swapaxes(x.graph, axis1, axis2), x)


@operation
def flip(x: Operand, axis: Any = None) -> Tensor:
    """Reverse the order of the elements along axes."""
    return kept(ksym.flip(x.graph, tuple(axis) if isinstance(axis, list | tuple) else axis), x)


@operation
def fliplr(x: Operand) -> Tensor:
    """Reverse the second axis."""
    return kept(ksym.fliplr(x.graph), x)


@operation
def flipud(x: Operand) -> Tensor:
    """Reverse the first axis."""
    return kept(ksym.flipud(x.graph), x)


@operation
def roll(x: Operand, shift: Any, axis: Any = None) -> Tensor:
    """Shift the elements along axes; those that leave come in at the other end."""
    shift = tuple(shift) if isinstance(shift, list | tuple) else shift
    axis = tuple(axis) if isinstance(axis, list | tuple) else axis
    return kept(ksym.roll(x.graph, shift, axis), x)


@operation
def rot90(array: Operand, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """Rotate by quarters in the plane of two axes."""
    if array.ndim < 2:
        raise ValueError(
            f"Input array must have at least 2 dimensions. Received: array.ndim={array.ndim}"
        )
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ValueError(f"Invalid axes: {axes}. Axes must be a tuple of two different dimensions.")
    return kept(ksym.rot90(array.graph, k, tuple(axes)), array)


@operation
def _repeat(x: Operand, repeats: Any, axis: int | None = None) -> Tensor:
    graph = ksym.reshape(x.graph, (-1,)) if axis is None else x.graph
    return kept(ksym.repeat(graph, repeats, 0 if axis is None else axis), x)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Repeat each slice along an axis, or each element."""
    if isinstance(repeats, np.ndarray | list | tuple):
        values = np.asarray(repeats).reshape(-1)
        repeats = int(values[0]) if values.size == 1 else [int(v) for v in values]
    elif isinstance(repeats, Tensor):
        repeats = repeats.graph
    return _repeat(x, repeats, axis)


@operation
def tile(x: Operand, repeats: Any) -> Tensor:
    """Repeat a tensor as a whole along its axes."""
    return kept(ksym.tile(x.graph, sizes(repeats)), x)


@operation
def tril(x: Operand, k: int = 0) -> Tensor:
    """Return matrices with zeros above a diagonal."""
    return kept(ksym.tril(x.graph, k), x)


@operation
def triu(x: Operand, k: int = 0) -> Tensor:
    """Return matrices with zeros below a diagonal."""
    return kept(ksym.triu(x.graph, k), x)


@operation
def diag(x: Operand, k: int = 0) -> Tensor:
    """Return the diagonal of a matrix, or the matrix with a vector as its diagonal."""
    return kept(ksym.diag(x.graph, k), x)


@operation
def diagflat(x: Operand, k: int = 0) -> Tensor:
    """Return the matrix with all elements on its diagonal."""
    return kept(ksym.diag(ksym.reshape(x.graph, (-1,)), k), x)


@operation
def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the diagonal over two axes, which becomes the last axis."""
    return kept(ksym.diagonal(x.graph, offset, axis1, axis2), x)


@operation
def trace(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the sum over a diagonal."""
    from keras_ksym.src.ops.reductions import sum as total

    return total(kept(ksym.diagonal(x.graph, offset, axis1, axis2), x), -1)


@operation
def diff(a: Operand, n: int = 1, axis: int = -1) -> Tensor:
    """Return the differences of neighbours along an axis, taken n times."""
    graph = a.graph
    if a.dtype == "bool":
        for _ in range(n):
            later, earlier = _neighbours(graph, axis)
            graph = ksym.logical_xor(later, earlier)
        return kept(graph, a)
    return made(ksym.diff(graph, n, axis), a.dtype)


def _neighbours(graph: Graph, axis: int) -> tuple[Graph, Graph]:
    before = (slice(None),) * (axis % graph.rank)
    return graph[(*before, slice(1, None))], graph[(*before, slice(None, -1))]


@operation
def pad(
    x: Operand, pad_width: Any, mode: str = "constant", constant_values: Operand = None
) -> Tensor:
    """Put constants or elements of a tensor around it."""
    if constant_values is not None and mode != "constant":
        raise ValueError(
            "Argument `constant_values` can only be provided when `mode == 'constant'`. "
            f"Received: mode={mode}"
        )
    widths = pad_width if isinstance(pad_width, int) else np.asarray(pad_width).tolist()
    if isinstance(widths, list) and len(widths) == 1 and x.ndim > 1:
        widths = widths * x.ndim
    if isinstance(widths, list) and len(widths) == 2 and isinstance(widths[0], int):
        widths = [widths] * x.ndim
    graph = x.graph
    if mode != "constant":
        return kept(ksym.pad(graph, widths, mode), x)
    if constant_values is None:
        return kept(ksym.pad(graph, widths), x)
    filler = constant_values.graph_in(x.dtype)
    inside = ksym.pad(ksym.cast(ksym.ones_like(graph), "bool"), widths)
    return kept(ksym.where(inside, ksym.pad(graph, widths), filler), x)


@operation
def trapezoid(y: Operand, x: Operand = None, dx: Operand = 1.0, axis: int = -1) -> Tensor:
    """Integrate by the trapezoidal rule."""
    kinds = [y.kind, float] if x is None else [y.kind, x.kind, float]
    dtype = result_type(*kinds)
    graph = y.graph_in(dtype)
    if x is not None:
        return made(ksym.trapz(graph, x.graph_in(dtype), axis=axis), dtype)
    step: Any = 1.0 if not isinstance(dx, Tensor) else dx.graph_in(dtype)
    later, earlier = _neighbours(graph, axis)
    return made(ksym.sum((later + earlier) / 2.0 * step, axis), dtype)


@operation
def vander(x: Operand, N: int | None = None, increasing: bool = False) -> Tensor:
    """Return the powers of a vector, in columns."""
    count = x.shape[0] if N is None else N
    return made(ksym.vander(x.graph, count, increasing), x.dtype)


def ndim(x: Any) -> int:
    """Return the number of axes."""
    return x.ndim if hasattr(x, "ndim") else np.ndim(x)


def size(x: Any) -> Any:
    """Return the number of elements."""
    if isinstance(x, KerasVariable):
        x = x.value
    if isinstance(x, Tensor):
        if None in x.shape:
            return made(ksym.prod(ksym.shape_of(x.graph)), "int32")
        return int(np.prod([side or 0 for side in x.shape]))
    return np.size(x)


def vectorize(pyfunc: Callable[..., Any], *, excluded: Any = None, signature: Any = None) -> Any:
    """Make a function that applies another one element by element, as numpy.vectorize."""
    from keras_ksym.src.ops.vectorized import vectorized

    return vectorized(pyfunc, excluded, signature)
