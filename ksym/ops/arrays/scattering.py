"""Gathering and scattering by positions in several axes, and changing parts of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import OPERATORS, Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to, promoted, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.gathering import check_indices
from ksym.ops.arrays.masks import is_mask, key_item

__all__ = ["gather_nd", "scatter_nd", "take_along_axis", "index_add", "index_update"]


def _axis_sizes(x: Tensor, axes: Sequence[int]) -> list[Any]:
    """Return the sizes of axes, as numbers where they are known."""
    whole = ops.shape_of(x)
    return [whole[a] if x.shape[a] is None else x.shape[a] for a in axes]


def _depth(indices: Tensor, rank: int) -> int:
    depth = indices.shape[-1] if indices.rank else None
    if depth is None:
        raise ShapeError(
            f"the last axis of the indices {indices.spec} names axes, its size must be known"
        )
    if depth > rank:
        raise ShapeError(f"indices into {depth} axes for a tensor of rank {rank}")
    return depth


def _gather_nd_numpy(x: Any, indices: Any) -> Any:
    if indices.shape[-1] == 0:
        return np.broadcast_to(x, indices.shape[:-1] + x.shape)
    sides = x.shape[: indices.shape[-1]]
    return x[tuple(np.moveaxis(np.mod(indices, sides) if 0 not in sides else indices, -1, 0))]


def _draw_positions(draw: Draw, shape: Sequence[int]) -> np.ndarray:
    depth = draw.integer(0, len(shape))
    lead = draw.shape(max_rank=2, min_side=0)
    columns = [draw.array(lead, 0, side - 1, dtype="int64") for side in shape[:depth]]
    return np.stack(columns, -1) if columns else np.zeros((*lead, 0), "int64")


def _sample_gather_nd(draw: Draw) -> Sample:
    shape = draw.shape()
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
    return Sample(x, _draw_positions(draw, shape))


@composite(numpy=_gather_nd_numpy, sample=_sample_gather_nd, static_operands=(1,))
def gather_nd(x: Any, indices: Any) -> Tensor:
    """Gather slices of x by positions in its leading axes, as tf.gather_nd.

    Args:
        x: A tensor.
        indices: Integers; the last axis holds a position in as many leading axes of x.

    Returns:
        A tensor of shape ``indices.shape[:-1] + x.shape[indices.shape[-1]:]``.
    """
    x, indices = as_tensor(x), as_tensor(indices)
    depth = _depth(indices, x.rank)
    if dtypes.kind(indices.dtype) != 1:
        raise DTypeError(f"indices are integers, not {indices.dtype}")
    if depth == 0:
        lead = ops.shape_of(indices)[:-1]
        return ops.broadcast_to(x, ops.concatenate([lead, ops.shape_of(x)], 0))
    return x[tuple(indices[..., i] for i in range(depth))]


def _scatter_nd_numpy(indices: Any, updates: Any, shape: Any) -> Any:
    result = np.zeros(tuple(shape), updates.dtype)
    depth = indices.shape[-1]
    if depth == 0:
        return updates.sum(tuple(range(indices.ndim - 1)), dtype=updates.dtype)
    if result.size or indices.size:
        positions = np.moveaxis(np.mod(indices, shape[:depth]), -1, 0)
        np.add.at(result, tuple(positions), updates)
    return result


def _sample_scatter_nd(draw: Draw) -> Sample:
    shape = draw.shape()
    indices = _draw_positions(draw, shape)
    parts = indices.shape[:-1] + shape[indices.shape[-1] :]
    updates = draw.array(parts, dtype=draw.dtype("float", "integer"))
    return Sample(indices, updates, np.array(shape, dtype="int64"))


@composite(numpy=_scatter_nd_numpy, sample=_sample_scatter_nd, static_operands=(0, 2))
def scatter_nd(indices: Any, updates: Any, shape: Any) -> Tensor:
    """Return zeros of a shape to which updates are added at positions, as tf.scatter_nd.

    Args:
        indices: Integers; the last axis holds a position in as many leading axes of the result.
        updates: The values to add, of shape ``indices.shape[:-1] + shape[indices.shape[-1]:]``;
            for a repeated position they add up.
        shape: The shape of the result.
    """
    indices, updates, shape = as_tensor(indices), as_tensor(updates), shape_operand(shape)
    nothing = ops.zeros(shape, updates.dtype)
    depth = _depth(indices, nothing.rank)
    if dtypes.kind(indices.dtype) != 1:
        raise DTypeError(f"indices are integers, not {indices.dtype}")
    lead = indices.rank - 1
    expected = indices.shape[:-1] + nothing.shape[depth:]
    if not shapes.compatible(updates.shape, expected):
        raise ShapeError(f"the updates have shape {updates.shape}, expected is {expected}")
    if updates.dtype == "bool":
        raise DTypeError("booleans cannot be added up", remedy="cast them to int32 or int64")
    if depth == 0:
        return cast_to(ops.sum_(updates, range(lead)), updates.dtype)
    for axis, side in enumerate(nothing.shape[:depth]):
        check_indices(indices[..., axis], side)
    flat: Any = 0
    sides = _axis_sizes(nothing, range(depth))
    for axis, side in enumerate(sides):
        flat = flat * side + ops.mod(cast_to(indices[..., axis], "int64"), side)
    rest = _axis_sizes(nothing, range(depth, nothing.rank))
    rows = ops.prod(shape[:depth])
    return ops.reshape(ops.take_gradient(updates, flat, [rows, *rest]), shape)


def _take_along_numpy(x: Any, indices: Any, axis: int) -> Any:
    side = x.size if axis is None else x.shape[axis]
    return np.take_along_axis(x, np.mod(indices, side) if side else indices, axis)


def _sample_take_along(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1)
    axis = draw.integer(-len(shape), len(shape) - 1)
    own = list(shape)
    own[axis] = draw.integer(0, 3)
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
    if draw.choose((False, False, True)):
        indices = draw.array((draw.integer(0, 3),), 0, x.size - 1, dtype="int64")
        return Sample(x, indices, attributes={"axis": None})
    indices = draw.array(own, 0, shape[axis] - 1, dtype="int64")
    return Sample(x, indices, attributes={"axis": axis})


@composite(numpy=_take_along_numpy, sample=_sample_take_along)
def take_along_axis(x: Any, indices: Any, axis: int | None) -> Tensor:
    """Gather elements of x along an axis, each by its own index, as `argsort` returns them.

    Args:
        x: A tensor.
        indices: Integers, of x's rank; broadcast against x on the other axes.
        axis: The axis the indices count along; None for a vector of indices that count the
            elements of x in row-major order.

    Raises:
        ShapeError: The ranks differ, or there is no such axis.
    """
    x, indices = as_tensor(x), as_tensor(indices)
    if axis is None:
        x, axis = ops.ravel(x), 0
    if indices.rank != x.rank:
        raise ShapeError(f"indices of rank {indices.rank} for a tensor of rank {x.rank}")
    axis = shapes.axis(axis, x.rank)
    key = []
    for a, side in enumerate(_axis_sizes(x, range(x.rank))):
        if a == axis:
            key.append(indices)
        else:
            key.append(ops.reshape(ops.arange(side), [-1, *[1] * (x.rank - a - 1)]))
    return x[tuple(key)]


def _positions(x: Tensor, key: Any) -> Tensor:
    """Return the flat position in x of each element of ``x[key]``."""
    total = shapes.size(x.shape)
    count = ops.prod(ops.shape_of(x)) if total is None else total
    return ops.index(ops.reshape(ops.arange(count), ops.shape_of(x)), key)


def _arguments(x: Any, key: Any, value: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, value = as_tensor(x), _value_for(as_tensor(x), value)
    positions = ops.reshape(at := _positions(x, key), (-1,))
    value = ops.broadcast_to(cast_to(value, x.dtype), ops.shape_of(at))
    return x, positions, ops.reshape(value, (-1,))


def _value_for(x: Tensor, value: Any) -> Tensor:
    """Return a value to be put into x as a tensor, numbers in the dtype of x if of its kind."""
    if isinstance(value, Tensor):
        return value
    return promoted(x, value)[1]


def _added(x: Tensor, positions: Tensor, value: Tensor) -> Tensor:
    """Return zeros of x's shape to which value is added at flat positions."""
    size = ops.prod(ops.shape_of(x))
    return ops.reshape(ops.take_gradient(value, positions, [size]), ops.shape_of(x))


def _index_add_numpy(x: Any, value: Any, key: Any) -> Any:
    result = np.array(x)
    np.add.at(result, key, value)
    return result


def _index_update_numpy(x: Any, value: Any, key: Any) -> Any:
    result = np.array(x)
    result[key] = value
    return result


def _sample_update(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, max_rank=2)
    side = shape[0]
    key = draw.choose(
        (
            draw.integer(-side, side - 1),
            slice(None, None, draw.choose((1, -1, 2))),
            np.array([draw.integer(-side, side - 1) for _ in range(3)]),
            (Ellipsis, draw.integer(-shape[-1], shape[-1] - 1)),
            draw.array(shape[: draw.integer(1, len(shape))], dtype="bool"),
        )
    )
    dtype = draw.dtype("float", "integer")
    sides = np.empty(shape)[key].shape
    value = draw.array(draw.choose((sides, sides[1:])), dtype=dtype)
    return Sample(draw.array(shape, dtype=dtype), value, attributes={"key": key})


@composite(
    numpy=_index_add_numpy,
    sample=_sample_update,
    apply=lambda x, value, key: OPERATORS["index_add"](x, key, value),
)
def index_add(x: Any, key: Any, value: Any) -> Tensor:
    """Return x with value added to ``x[key]``; where the key repeats a place, values add up.

    JAX's ``x.at[key].add(value)``.

    Args:
        x: A tensor.
        key: What could stand in ``x[key]``.
        value: A tensor that broadcasts to the shape of ``x[key]``, cast to the dtype of x.

    Raises:
        DTypeError: Floats are to be added to integers, integers that do not fit, or anything to
            booleans.
    """
    x = as_tensor(x)
    value = _value_for(x, value)
    if dtypes.kind(value.dtype) > dtypes.kind(x.dtype):
        raise DTypeError(
            f"{value.dtype} is not added to {x.dtype}", remedy="cast x, or round and cast the value"
        )
    by_mask = _by_mask(x, key, value)
    if by_mask is not None:
        condition, value = by_mask
        return ops.where(condition, x + value, x)
    x, positions, value = _arguments(x, key, value)
    return x + _added(x, positions, value)


def _by_mask(x: Tensor, key: Any, value: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return a condition for each element of x and a value that broadcasts to x.

    None if the key is not a mask alone, or if the value differs between the places it picks.
    """
    if isinstance(key, tuple):
        if len(key) != 1:
            return None
        (key,) = key
    mask = key_item(key)
    if not is_mask(mask) or mask.rank > x.rank:
        return None
    if not shapes.compatible(mask.shape, x.shape[: mask.rank]):
        raise ShapeError(f"a mask of shape {mask.shape} does not fit a tensor of shape {x.shape}")
    rest = x.rank - mask.rank
    if value.rank == rest + 1 and value.shape[0] == 1:
        value = ops.squeeze(value, 0)
    if value.rank > rest:
        return None
    sides = _axis_sizes(x, range(mask.rank))
    return ops.reshape(mask, [*sides, *[1] * rest]), cast_to(value, x.dtype)


@composite(
    numpy=_index_update_numpy,
    sample=_sample_update,
    apply=lambda x, value, key: OPERATORS["index_update"](x, key, value),
)
def index_update(x: Any, key: Any, value: Any) -> Tensor:
    """Return x with ``x[key]`` replaced by value; where the key repeats a place, the last wins.

    JAX's ``x.at[key].set(value)``.

    Args:
        x: A tensor.
        key: What could stand in ``x[key]``.
        value: A tensor that broadcasts to the shape of ``x[key]``, cast to the dtype of x.
    """
    x = as_tensor(x)
    value = _value_for(x, value)
    by_mask = _by_mask(x, key, value)
    if by_mask is not None:
        condition, value = by_mask
        return ops.where(condition, value, x)
    x, positions, value = _arguments(x, key, value)
    # Sorted by place, the last value of each run is the one that is kept.
    order = ops.argsort(positions)
    places = ops.take(positions, order, 0)
    following = ops.concatenate([places[1:], ops.constant([-1])], 0)[: ops.shape_of(places)[0]]
    last = ops.not_equal(places, following)
    chosen = ops.where(last, ops.take(value, order, 0), ops.zeros_like(value))
    hits = _added(x, places, ops.cast(last, "int32"))
    return ops.where(ops.greater(hits, 0), _added(x, places, chosen), x)
