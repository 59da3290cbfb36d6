"""Resizing images and volumes by whole factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.keras.tensors import as_tensor, static_shape, whole


def _image_axes(data_format: str, count: int) -> range:
    if data_format == "channels_first":
        return range(2, 2 + count)
    if data_format == "channels_last":
        return range(1, 1 + count)
    raise ValueError(f"Invalid data_format: {data_format}")


def resize_images(
    x: Any,
    height_factor: int,
    width_factor: int,
    data_format: str,
    interpolation: str = "nearest",
) -> Tensor:
    """Enlarge images, repeating pixels or interpolating between them.

    Raises:
        ValueError: The data format or the interpolation is not known.
    """
    x = as_tensor(x)
    axes = _image_axes(data_format, 2)
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError('interpolation should be one of "nearest" or "bilinear".')
    factors = whole((height_factor, width_factor))
    if interpolation == "nearest":
        return ops.upsample(x, factors, data_format=data_format)
    for axis, factor in zip(axes, factors, strict=True):
        x = _interpolate(x, factor, axis)
    return x


def resize_volumes(
    x: Any, depth_factor: int, height_factor: int, width_factor: int, data_format: str
) -> Tensor:
    """Enlarge volumes by repeating voxels.

    Raises:
        ValueError: The data format is not known.
    """
    _image_axes(data_format, 3)
    factors = whole((depth_factor, height_factor, width_factor))
    return ops.upsample(as_tensor(x), factors, data_format=data_format)


def _interpolate(x: Tensor, factor: int, axis: int) -> Tensor:
    """Interpolate linearly along one axis, as a product with a matrix of weights.

    The positions are those of TensorFlow's resize_bilinear without aligned corners: the element i
    of the result lies at i / factor, and beyond the last element there is nothing new.
    """
    side = static_shape(x)[axis]
    if side is None:
        raise ShapeError(
            f"bilinear resizing needs a static size on axis {axis}",
            remedy="give the model a static input shape",
        )
    positions = np.arange(side * factor) / factor
    below = np.floor(positions).astype(int)
    above = np.minimum(below + 1, side - 1)
    weights = np.zeros((side, side * factor))
    columns = np.arange(side * factor)
    np.add.at(weights, (below, columns), 1.0 - (positions - below))
    np.add.at(weights, (above, columns), positions - below)
    moved = [a for a in range(x.rank) if a != axis] + [axis]
    result = ops.matmul(ops.transpose(x, moved), ops.constant(weights, x.dtype))
    return ops.transpose(result, np.argsort(moved).tolist())
