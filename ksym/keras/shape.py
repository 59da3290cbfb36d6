"""Changing shapes, joining, padding and slicing."""

# ruff: noqa: A001 - the names are Keras's
from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from ksym import ops, shapes
from ksym.graph import Tensor
from ksym.keras.config import data_format as normalize_format
from ksym.keras.tensors import as_tensor, as_tensors, is_sparse, mark_sparse, static_shape, whole
from ksym.operator.operands import is_settled, packed


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Tensor:
    """Join along an axis; if all tensors are sparse, the result is marked as sparse."""
    tensors = as_tensors(*map(packed, tensors))
    result = ops.concatenate(tensors, axis)
    if all(isinstance(x, Tensor) and is_sparse(x) for x in tensors):
        mark_sparse(result)
    return result


def reshape(x: Any, shape: Any) -> Tensor:
    """Reshape x; the entries of the shape may be symbolic."""
    return ops.reshape(as_tensor(x), whole(shape))


def permute_dimensions(x: Any, pattern: Sequence[int]) -> Tensor:
    """Permute the axes."""
    return ops.transpose(as_tensor(x), pattern)


def repeat_elements(x: Any, rep: Any, axis: int) -> Tensor:
    """Repeat each slice along an axis."""
    return ops.repeat(as_tensor(x), whole(rep), axis)


def repeat(x: Any, n: Any) -> Tensor:
    """Repeat a matrix n times along a new second axis."""
    x = as_tensor(x)
    if x.rank != 2:
        raise ValueError(f"K.repeat expects a tensor of rank 2, got {x.spec}")
    return ops.repeat(ops.expand_dims(x, 1), whole(n), 1)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int32") -> Tensor:
    """Return numbers in equal steps."""
    if stop is None and not isinstance(start, Tensor) and start < 0:
        start = 0
    return ops.arange(start, stop, step, dtype)


def tile(x: Any, n: Any) -> Tensor:
    """Repeat x as a whole along each axis."""
    n = whole(n)
    if isinstance(n, int):
        n = [n]
    return ops.tile(as_tensor(x), n)


def flatten(x: Any) -> Tensor:
    """Put all elements on one axis."""
    return ops.reshape(as_tensor(x), (-1,))


def batch_flatten(x: Any) -> Tensor:
    """Put all elements of a sample on one axis."""
    x = as_tensor(x)
    sides = static_shape(x)[1:]
    if None in sides:
        return ops.reshape(x, [ops.shape_of(x)[0], -1])
    return ops.reshape(x, [-1, shapes.size(sides)])


def expand_dims(x: Any, axis: int = -1) -> Tensor:
    """Insert an axis of size 1."""
    return ops.expand_dims(as_tensor(x), axis)


def squeeze(x: Any, axis: int) -> Tensor:
    """Remove an axis of size 1."""
    return ops.squeeze(as_tensor(x), axis)


def stack(x: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return ops.stack(x, axis)


def one_hot(indices: Any, num_classes: Any) -> Tensor:
    """Mark each index by a one among zeros."""
    return ops.one_hot(ops.cast(ops.as_tensor(indices), "int64"), whole(num_classes))


def reverse(x: Any, axes: Any) -> Tensor:
    """Reverse the order along axes."""
    return ops.flip(as_tensor(x), axes)


def slice(x: Any, start: Any, size: Any) -> Tensor:
    """Take size elements from start along each axis; all that are left where size is -1.

    Args:
        x: A tensor.
        start: The first element along each axis: integers, scalar tensors, or a vector.
        size: The number of elements, likewise.

    Raises:
        ValueError: start or size does not have one entry for each axis.
    """
    x = as_tensor(x)
    starts, sizes = _entries(whole(start)), _entries(whole(size))
    if not (len(starts) == len(sizes) == x.rank):
        raise ValueError(
            "The dimension and the size of indices should match. "
            f"x has rank {x.rank}, start {len(starts)} entries, size {len(sizes)}"
        )
    bounds = [
        builtins.slice(begin, None if _is_rest(count) else begin + count)
        for begin, count in zip(starts, sizes, strict=True)
    ]
    return x[tuple(bounds)]


def _entries(vector: Any) -> list[Any]:
    """Return the entries of a vector of integers, as integers where they are known."""
    if isinstance(vector, Tensor):
        vector = ops.unstack(vector)
    found = []
    for entry in vector:
        if isinstance(entry, Tensor) and is_settled(entry):
            entry = entry.value.item()  # type: ignore[union-attr]
        found.append(entry)
    return found


def _is_rest(count: Any) -> bool:
    return not isinstance(count, Tensor) and int(count) == -1


def temporal_padding(x: Any, padding: tuple[int, int] = (1, 1)) -> Tensor:
    """Put zeros before and after the second axis."""
    return ops.pad(as_tensor(x), [(0, 0), whole(tuple(padding)), (0, 0)])


def _spatial_padding(x: Any, padding: Any, data_format: str | None) -> Tensor:
    spatial = [whole(tuple(pair)) for pair in padding]
    none = (0, 0)
    if normalize_format(data_format) == "channels_first":
        return ops.pad(as_tensor(x), [none, none, *spatial])
    return ops.pad(as_tensor(x), [none, *spatial, none])


def spatial_2d_padding(
    x: Any, padding: Any = ((1, 1), (1, 1)), data_format: str | None = None
) -> Tensor:
    """Put zeros around two spatial axes."""
    return _spatial_padding(x, padding, data_format)


def spatial_3d_padding(
    x: Any, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None
) -> Tensor:
    """Put zeros around three spatial axes."""
    return _spatial_padding(x, padding, data_format)
