"""Functions of Keras's module image that change the size of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.pixels import check_choice, check_rank, sides
from keras_ksym.src.ops.sampling import scaled
from keras_ksym.src.tensor import Tensor, floating, made

__all__ = ["resize", "scale_and_translate"]

RESIZE_INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
SCALE_AND_TRANSLATE_METHODS = {
    *("linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic", "lanczos3", "lanczos5"),
}


@operation
def resize(
    images: Operand,
    size: Any,
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Interpolate images to a size (height, width), cropped or padded to its ratio if wanted."""
    layout = standardize_data_format(data_format)
    check_choice("interpolation", interpolation, RESIZE_INTERPOLATIONS)
    if fill_mode != "constant":
        raise ValueError(
            "Invalid value for argument `fill_mode`. Only `'constant'` is supported. "
            f"Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError(
            "Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`."
        )
    if len(size) != 2:
        raise ValueError(
            "Argument `size` must be a tuple of two elements (height, width). "
            f"Received: size={size}"
        )
    check_rank(images)
    wanted = [int(side) for side in size]
    first = images.ndim - 3 if layout == "channels_last" else images.ndim - 2
    axes = [first, first + 1]
    whole = not dtypes.is_float(images.dtype)
    graph = images.graph_in("float32") if whole else images.graph
    height, width = sides(graph, axes)
    if crop_to_aspect_ratio:
        rows = max(min(height, int(float(width * wanted[0]) / wanted[1])), 1)
        columns = max(min(width, int(float(height * wanted[1]) / wanted[0])), 1)
        top, left = int(float(height - rows) / 2), int(float(width - columns) / 2)
        graph = graph[
            (slice(None),) * first + (slice(top, top + rows), slice(left, left + columns))
        ]
    elif pad_to_aspect_ratio:
        rows = max(height, int(float(width * wanted[0]) / wanted[1]))
        columns = max(width, int(float(height * wanted[1]) / wanted[0]))
        top, left = int(float(rows - height) / 2), int(float(columns - width) / 2)
        around = [[0, 0] for _ in range(graph.rank)]
        if top > 0:
            around[first] = [top, top]
        elif left > 0:
            around[first + 1] = [left, left]
        graph = ksym.pad(graph, around, constant_values=float(fill_value))
    factors = [w / s for w, s in zip(wanted, sides(graph, axes), strict=True)]
    method = {"bilinear": "linear", "bicubic": "cubic"}.get(interpolation, interpolation)
    for axis, side, factor in zip(axes, wanted, factors, strict=True):
        graph = scaled(graph, axis, side, factor, 0.0, method, antialias)
    if whole:
        info = np.iinfo(images.dtype if images.dtype != "bool" else "uint8")
        graph = ksym.clip(ksym.round(graph), float(info.min), float(info.max))
    return made(graph, images.dtype)


@operation
def scale_and_translate(
    images: Operand,
    output_shape: Any,
    scale: Operand,
    translation: Operand,
    spatial_dims: Any,
    method: str,
    antialias: bool = True,
) -> Tensor:
    """Scale and move images along axes, into a shape."""
    check_choice("method", method, SCALE_AND_TRANSLATE_METHODS)
    dtype, graph = floating(images)
    kind = method.removeprefix("bi").removeprefix("tri")
    for place, axis in enumerate(spatial_dims):
        graph = scaled(
            graph,
            int(axis) % graph.rank,
            int(output_shape[axis]),
            scale.graph_in("float32")[place],
            translation.graph_in("float32")[place],
            kind,
            antialias,
        )
    return made(graph, dtype)
