"""Products of tensors, and gathering."""

from __future__ import annotations

import math
from typing import Any

from ksym import ops
from ksym.graph import Tensor
from ksym.keras import ranges
from ksym.keras.tensors import as_tensor, as_tensors, static_shape


def dot(x: Any, y: Any) -> Tensor:
    """Sum over the last axis of x and the second-last of y."""
    return ops.dot(*as_tensors(x, y))


def transpose(x: Any) -> Tensor:
    """Reverse the order of the axes."""
    return ops.transpose(as_tensor(x))


def gather(reference: Any, indices: Any) -> Tensor:
    """Take slices of reference along its first axis."""
    indices = ops.as_tensor(indices)
    if indices.dtype.startswith("float"):
        indices = ops.cast(indices, "int32")
    reference = as_tensor(reference)
    result = ops.take(reference, indices, axis=0)
    ranges.expect(result, indices, static_shape(reference)[0], "rows to take")
    return result


def _batch_axes(x: Any, y: Any, axes: Any) -> tuple[int, int]:
    rank_x, rank_y = len(x), len(y)
    if isinstance(axes, int):
        axes = (axes, axes)
    if axes is None:
        axes = (rank_x - 1, rank_y - 1 if rank_y == 2 else rank_y - 2)
    if any(isinstance(axis, list | tuple) for axis in axes):
        raise ValueError(
            "Multiple target dimensions are not supported. Expected: None, int, (int, int), "
            f"Provided: {axes}"
        )
    axis_x, axis_y = (a + r if a < 0 else a for a, r in zip(axes, (rank_x, rank_y), strict=True))
    if 0 in (axis_x, axis_y):
        raise ValueError(
            "Can not perform batch_dot over axis 0. If your inputs are not batched, add a dummy "
            "batch dimension to your inputs using K.expand_dims(x, 0)"
        )
    return axis_x, axis_y


def _size_of(x: Tensor, axis: int) -> Any:
    side = static_shape(x)[axis]
    return ops.shape_of(x)[axis] if side is None else side


def batch_dot(x: Any, y: Any, axes: Any = None) -> Tensor:
    """Multiply x and y for each sample, summed over one axis of each.

    Raises:
        ValueError: A rank is below 2, the batch sizes or the sizes of the axes differ, or an axis
            is the batch axis.
    """
    x, y = as_tensors(x, y)
    x_shape, y_shape = static_shape(x), static_shape(y)
    if len(x_shape) < 2 or len(y_shape) < 2:
        raise ValueError(
            "Can not do batch_dot on inputs with rank < 2. Received inputs with shapes "
            f"{x_shape} and {y_shape}."
        )
    if None not in (x_shape[0], y_shape[0]) and x_shape[0] != y_shape[0]:
        raise ValueError(
            "Can not do batch_dot on inputs with different batch sizes. Received inputs with "
            f"shapes {x_shape} and {y_shape}."
        )
    axis_x, axis_y = _batch_axes(x_shape, y_shape, axes)
    if None not in (x_shape[axis_x], y_shape[axis_y]) and x_shape[axis_x] != y_shape[axis_y]:
        raise ValueError(
            f"Can not do batch_dot on inputs with shapes {x_shape} and {y_shape} with "
            f"axes={[axis_x, axis_y]}. x.shape[{axis_x}] != y.shape[{axis_y}] "
            f"({x_shape[axis_x]} != {y_shape[axis_y]})."
        )
    rest_x = [a for a in range(1, x.rank) if a != axis_x]
    rest_y = [a for a in range(1, y.rank) if a != axis_y]
    sides_x = [_size_of(x, a) for a in rest_x]
    sides_y = [_size_of(y, a) for a in rest_y]
    batch, inner = _size_of(x, 0), _size_of(x, axis_x)
    rows = ops.reshape(ops.transpose(x, [0, *rest_x, axis_x]), [batch, math.prod(sides_x), inner])
    columns = ops.reshape(
        ops.transpose(y, [0, axis_y, *rest_y]), [_size_of(y, 0), inner, math.prod(sides_y)]
    )
    product = ops.matmul(rows, columns)
    return ops.reshape(product, [batch, *sides_x, *sides_y] if sides_x or sides_y else [batch, 1])
