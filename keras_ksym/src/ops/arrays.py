"""Functions of Keras's module numpy that move, join, choose and place elements."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, Operands, named_operation, operation
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, kept, made, promoted, tensor

__all__ = [
    *("append", "array_split", "broadcast_to", "concatenate", "diag", "diagflat", "diagonal"),
    *("diff", "dsplit", "dstack", "expand_dims", "flip", "fliplr", "flipud", "get_item"),
    *("hsplit", "hstack", "isin", "meshgrid", "moveaxis", "ndim", "nonzero", "pad", "ravel"),
    *("repeat", "reshape", "roll", "rot90", "size", "split", "squeeze", "stack", "swapaxes"),
    *("take", "take_along_axis", "tile", "trace", "transpose", "trapezoid", "tril", "triu"),
    *("unique", "unravel_index", "vander", "vectorize", "vsplit", "vstack"),
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


# --- joining and cutting -------------------------------------------------------------------------


def _joined(name: str, doc: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    def body(xs: Operands) -> Tensor:
        dtype, graphs = promoted(*_several(xs))
        return Tensor(compute(graphs), dtype)

    return named_operation(name, doc, body)


def _several(xs: Any) -> list[Tensor]:
    """Return the tensors to be joined: the elements of one tensor, if it is one."""
    if isinstance(xs, Tensor):
        return [xs[i] for i in range(len(xs))]
    return builtins.list(xs)


hstack = _joined("hstack", "Join tensors along the second axis, vectors along theirs.", ksym.hstack)
vstack = _joined("vstack", "Join tensors along the first axis, vectors as rows.", ksym.vstack)
dstack = _joined("dstack", "Join tensors along the third axis.", ksym.dstack)


@operation
def concatenate(xs: Operands, axis: int | None = 0) -> Tensor:
    """Join tensors along an axis."""
    dtype, graphs = promoted(*_several(xs))
    if axis is None:
        graphs, axis = [ksym.reshape(graph, (-1,)) for graph in graphs], 0
    return Tensor(ksym.concatenate(graphs, axis), dtype)


@operation
def stack(x: Operands, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    dtype, graphs = promoted(*_several(x))
    return Tensor(ksym.stack(graphs, axis), dtype)


@operation
def append(x1: Operand, x2: Operand, axis: int | None = None) -> Tensor:
    """Join two tensors along an axis, or their elements in a row."""
    dtype, graphs = promoted(x1, x2)
    if axis is None:
        graphs = [ksym.reshape(graph, (-1,)) for graph in graphs]
    return Tensor(ksym.concatenate(graphs, axis or 0), dtype)


def _points(indices_or_sections: Any) -> Any:
    if isinstance(indices_or_sections, Tensor):
        value = indices_or_sections.graph.value
        indices_or_sections = [] if value is None else value
    if isinstance(indices_or_sections, np.ndarray) and not indices_or_sections.ndim:
        return int(indices_or_sections)
    if isinstance(indices_or_sections, int):
        return indices_or_sections
    return [int(point) for point in np.asarray(indices_or_sections)]


@operation
def split(x: Operand, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut a tensor into equal parts, or at positions."""
    parts = ksym.split(x.graph, _points(indices_or_sections), axis)
    return [kept(part, x) for part in parts]


@operation
def array_split(x: Operand, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut a tensor into parts whose sizes differ by one at most."""
    parts = ksym.array_split(x.graph, _points(indices_or_sections), axis)
    return [kept(part, x) for part in parts]


def hsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the second axis, a vector along its only one."""
    return split(
        x,
        indices_or_sections,
        0 if len(np.shape(x) if not isinstance(x, Tensor) else x.shape) == 1 else 1,
    )


def vsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the first axis."""
    return split(x, indices_or_sections, 0)


def dsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the third axis."""
    return split(x, indices_or_sections, 2)


@operation
def meshgrid(*x: Operand, indexing: str = "xy") -> list[Tensor]:
    """Return the coordinates of a grid: each vector along an axis of its own."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Valid values for `indexing` are 'xy' and 'ij', not {indexing!r}")
    flat = [ksym.reshape(vector.graph, (-1,)) for vector in x]
    grids = ksym.meshgrid(*flat, indexing=indexing)
    return [kept(grid, vector) for grid, vector in zip(grids, x, strict=True)]


# --- taking elements -----------------------------------------------------------------------------


@operation
def take(x: Operand, indices: Operand, axis: int | None = None) -> Tensor:
    """Gather slices along an axis, or elements, by indices."""
    places = ksym.cast(indices.graph, "int64")
    return kept(ksym.take(x.graph, places, axis), x)


@operation
def take_along_axis(x: Operand, indices: Operand, axis: int | None = None) -> Tensor:
    """Gather elements along an axis, each by its own index."""
    graph, places = x.graph, ksym.cast(indices.graph, "int64")
    if axis is None:
        graph, places, axis = ksym.reshape(graph, (-1,)), ksym.reshape(places, (-1,)), 0
    axis = axis % graph.rank
    a, b = ksym.shape_of(graph), ksym.shape_of(places)
    common = [ksym.maximum(a[i], b[i]) for i in range(graph.rank)]
    whole = [common[i] if i != axis else a[i] for i in range(graph.rank)]
    wanted = [common[i] if i != axis else b[i] for i in range(graph.rank)]
    if builtins.any(
        p != q for i, (p, q) in enumerate(zip(graph.shape, places.shape, strict=True)) if i != axis
    ):
        graph, places = ksym.broadcast_to(graph, whole), ksym.broadcast_to(places, wanted)
    return kept(ksym.take_along_axis(graph, places, axis), x)


def _key(item: Any) -> Any:
    """Return a part of a key of `get_item` as ksym takes it."""
    if isinstance(item, Tensor):
        return item.graph
    if isinstance(item, KerasVariable):
        return _key(item.value)
    if isinstance(item, slice):
        return slice(_key(item.start), _key(item.stop), _key(item.step))
    if isinstance(item, list):
        return tensor(item).graph if has_tensors(item) else as_array(item)
    return item


def get_item(x: Any, key: Any) -> Any:
    """Return ``x[key]`` by NumPy's rules."""
    if not isinstance(x, Tensor) and not has_tensors(
        builtins.list(key) if isinstance(key, tuple) else key
    ):
        return np.asarray(x)[key]
    x = tensor(x)
    made_key = tuple(map(_key, key)) if isinstance(key, tuple) else _key(key)
    return kept(x.graph[made_key], x)


@operation
def nonzero(x: Operand) -> tuple[Tensor, ...]:
    """Return the positions at which elements are not zero, a vector for each axis, as int32."""
    places = ksym.argwhere(x.graph_in("bool"))
    return tuple(made(places[:, axis], "int32") for axis in range(x.ndim))


@operation
def isin(x1: Operand, x2: Operand, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Return which elements of x1 are among those of x2."""
    _, (a, b) = promoted(x1, x2)
    found = ksym.any(ksym.equal(ksym.expand_dims(a, -1), ksym.reshape(b, (-1,))), -1)
    return Tensor(ksym.logical_not(found) if invert else found, "bool")


@operation
def unravel_index(indices: Operand, shape: Any) -> tuple[Tensor, ...]:
    """Return the positions along the axes of a shape of positions in row-major order."""
    dtype = indices.dtype
    parts = ksym.unravel_index(ksym.cast(indices.graph, "int64"), tuple(int(s) for s in shape))
    return tuple(made(part, dtype) for part in parts)


@operation
def _unique(x: Operand, index: bool, inverse: bool, counts: bool) -> Any:
    found = ksym.unique(
        ksym.reshape(x.graph_in("int32") if x.dtype == "bool" else x.graph, (-1,)),
        return_index=index,
        return_inverse=inverse,
        return_counts=counts,
    )
    values, *rest = found if isinstance(found, tuple | list) else (found,)
    values = Tensor(ksym.cast(values, dtypes.stored(x.dtype)), x.dtype)
    return [values, *(made(item, "int32") for item in rest)]


def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Return the distinct elements in ascending order, or the distinct slices along an axis.

    Slices, and a fixed number of results, are computed of values only.
    """
    if has_tensors(x) and axis is None and size is None:
        found = _unique(x, return_index, return_inverse, return_counts)
        if return_inverse:
            place = 1 + return_index
            found[place] = reshape(found[place], x.shape)
        return tuple(found) if len(found) > 1 else found[0]
    flags: Any = {
        "return_index": return_index,
        "return_inverse": return_inverse,
        "return_counts": return_counts,
    }
    result: Any = np.unique(np.asarray(x), axis=axis, equal_nan=False, **flags)
    results = builtins.list(result) if isinstance(result, tuple) else [result]
    if size is not None:
        results = _of_size(results, size, fill_value, axis or 0, flags)
    whole = [results[0], *(item.astype("int32") for item in results[1:])]
    return tuple(whole) if len(whole) > 1 else whole[0]


def _of_size(
    results: list[np.ndarray], size: int, fill: Any, axis: int, flags: dict[str, bool]
) -> list[np.ndarray]:
    """Cut or fill the results of `unique` to a number of distinct elements."""
    values = results[0]
    lacking = size - values.shape[axis]
    names = [name for name, wanted in flags.items() if wanted]
    resized = []
    for name, item in zip(["values", *names], results, strict=True):
        if name == "return_inverse":
            resized.append(item)
            continue
        along = axis if name == "values" else 0
        if lacking <= 0:
            resized.append(np.take(item, np.arange(size), along))
            continue
        if name == "values":
            first = np.take(item, [0], along)
            filler = first if fill is None else np.full_like(first, fill)
        elif name == "return_index":
            filler = item[:1]
        else:
            filler = np.zeros_like(item[:1])
        resized.append(np.concatenate([item, np.repeat(filler, lacking, along)], along))
    return resized


# --- others --------------------------------------------------------------------------------------


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
