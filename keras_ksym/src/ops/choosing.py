"""Functions of Keras's module numpy that take elements out of tensors, and find them."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.arrays import reshape
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, kept, made, promoted, tensor

__all__ = ["get_item", "isin", "nonzero", "take", "take_along_axis", "unique", "unravel_index"]

Graph = ksym.Tensor


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
