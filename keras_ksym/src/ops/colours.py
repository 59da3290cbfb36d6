"""Functions of Keras's module image that change the representation of colours."""

from __future__ import annotations

import numpy as np
from keras.src.backend.common.dtypes import result_type
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.pixels import check_float, check_rank
from keras_ksym.src.tensor import Tensor, made

__all__ = ["hsv_to_rgb", "rgb_to_grayscale", "rgb_to_hsv"]

Graph = ksym.Tensor


@operation
def rgb_to_grayscale(images: Operand, data_format: str | None = None) -> Tensor:
    """Return the brightness of images in one channel."""
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    check_rank(images)
    if images.shape[axis] not in (1, 3):
        raise ValueError(
            "Invalid channel size: expected 3 (RGB) or 1 (Grayscale). "
            f"Received input with shape: images.shape={images.shape}"
        )
    if images.shape[axis] == 1:
        return images
    dtype = result_type(images.dtype, float)
    weights = np.array([0.2989, 0.5870, 0.1140], dtypes.stored(dtype))
    mixed = ksym.tensordot(images.graph_in(dtype), weights, ((axis,), (-1,)))
    return made(ksym.expand_dims(mixed, axis), images.dtype)


def _channels(images: Tensor, axis: int) -> list[Graph]:
    return [ksym.squeeze(part, axis) for part in ksym.split(images.graph, 3, axis)]


@operation
def rgb_to_hsv(images: Operand, data_format: str | None = None) -> Tensor:
    """Return hue, saturation and value of images in red, green and blue."""
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    check_rank(images)
    check_float(images)
    small = float(np.finfo(dtypes.stored(images.dtype)).eps)
    r, g, b = (ksym.where(ksym.abs(c) < small, 0.0, c) for c in _channels(images, axis))
    value = ksym.maximum(ksym.maximum(r, g), b)
    spread = value - ksym.minimum(ksym.minimum(r, g), b)
    some = spread > 0
    saturation = ksym.where(value > 0, spread / ksym.where(value > 0, value, 1.0), 0.0)
    unit = 1.0 / (6.0 * ksym.where(some, spread, 1.0))
    of_blue = unit * (r - g) + 4.0 / 6.0
    hue = ksym.where(ksym.equal(value, g), unit * (b - r) + 2.0 / 6.0, of_blue)
    hue = ksym.where(ksym.equal(value, r), unit * (g - b), hue)
    hue = ksym.where(some, hue, 0.0) + ksym.cast(hue < 0.0, hue.dtype)
    return made(ksym.stack([hue, saturation, value], axis), images.dtype)


@operation
def hsv_to_rgb(images: Operand, data_format: str | None = None) -> Tensor:
    """Return red, green and blue of images in hue, saturation and value."""
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    check_rank(images)
    check_float(images)
    hue, saturation, value = _channels(images, axis)
    turn = ksym.mod(hue, 1.0) * 6.0
    parts = (
        ksym.abs(turn - 3.0) - 1.0,
        2.0 - ksym.abs(turn - 2.0),
        2.0 - ksym.abs(turn - 4.0),
    )
    rest = 1.0 - saturation
    colours = [value * (rest + saturation * ksym.clip(part, 0.0, 1.0)) for part in parts]
    return made(ksym.stack(colours, axis), images.dtype)
