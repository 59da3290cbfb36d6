"""Keras's module image: colours, resizing, transformations, filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.sampling import at_coordinates, scaled
from keras_ksym.src.tensor import Tensor, floating, made, tensor
from ksym.networks.layout import channels_first

__all__ = [
    *("affine_transform", "compute_homography_matrix", "elastic_transform", "gaussian_blur"),
    *("hsv_to_rgb", "map_coordinates", "perspective_transform", "resize", "rgb_to_grayscale"),
    *("rgb_to_hsv", "scale_and_translate", "sobel_edges"),
]

Graph = ksym.Tensor

RESIZE_INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
AFFINE_TRANSFORM_INTERPOLATIONS = {"nearest": 0, "bilinear": 1}
AFFINE_TRANSFORM_FILL_MODES = {"constant", "nearest", "wrap", "mirror", "reflect"}
MAP_COORDINATES_FILL_MODES = {"constant", "nearest", "wrap", "mirror", "reflect"}
SCALE_AND_TRANSLATE_METHODS = {
    *("linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic", "lanczos3", "lanczos5"),
}


def _check_rank(images: Tensor) -> None:
    if images.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). "
            f"Received input with shape: images.shape={images.shape}"
        )


def _check_float(images: Tensor) -> None:
    if not dtypes.is_float(images.dtype):
        raise ValueError(
            f"Invalid images dtype: expected float dtype. Received: images.dtype={images.dtype}"
        )


def _choice(name: str, value: Any, options: Any, kind: str = "one") -> None:
    if value not in options:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected of {kind} {options}. "
            f"Received: {name}={value}"
        )


def _batched(images: Tensor, compute: Callable[[Graph], Graph], dtype: str | None = None) -> Tensor:
    """Apply a function of batches to a batch, or to one image."""
    graph = images.graph if dtype is None else images.graph_in(dtype)
    if images.ndim == 3:
        return made(ksym.squeeze(compute(ksym.expand_dims(graph, 0)), 0), dtype or images.dtype)
    return made(compute(graph), dtype or images.dtype)


def _sides(x: Graph, axes: Sequence[int]) -> list[int]:
    found = [x.shape[a] for a in axes]
    if None in found:
        raise ValueError(f"the sizes of images have to be known when they are traced: {x.shape}")
    return [int(s) for s in found if s is not None]


@operation
def rgb_to_grayscale(images: Operand, data_format: str | None = None) -> Tensor:
    """Return the brightness of images in one channel."""
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    _check_rank(images)
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
    _check_rank(images)
    _check_float(images)
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
    _check_rank(images)
    _check_float(images)
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
    _choice("interpolation", interpolation, RESIZE_INTERPOLATIONS)
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
    _check_rank(images)
    wanted = [int(side) for side in size]
    first = images.ndim - 3 if layout == "channels_last" else images.ndim - 2
    axes = [first, first + 1]
    whole = not dtypes.is_float(images.dtype)
    graph = images.graph_in("float32") if whole else images.graph
    height, width = _sides(graph, axes)
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
    factors = [w / s for w, s in zip(wanted, _sides(graph, axes), strict=True)]
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
    _choice("method", method, SCALE_AND_TRANSLATE_METHODS)
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


@operation
def map_coordinates(
    inputs: Operand,
    coordinates: Operand,
    order: int,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
) -> Tensor:
    """Return the elements at coordinates (axes, ...), interpolated linearly for an order of 1."""
    if coordinates.shape[0] != inputs.ndim:
        raise ValueError(
            "First dim of `coordinates` must be the same as the rank of `inputs`. "
            f"Received inputs with shape: {inputs.shape} and coordinate "
            f"leading dim of {coordinates.shape[0]}"
        )
    if coordinates.ndim < 2:
        raise ValueError(
            "Invalid coordinates rank: expected at least rank 2. "
            f"Received input with shape: {coordinates.shape}"
        )
    if fill_mode not in MAP_COORDINATES_FILL_MODES:
        raise ValueError(
            "Invalid value for argument `fill_mode`. Expected one of "
            f"{MAP_COORDINATES_FILL_MODES}. Received: fill_mode={fill_mode}"
        )
    if order not in (0, 1):
        raise ValueError(
            f"Invalid value for argument `order`. Expected one of [0, 1]. Received: order={order}"
        )
    wide = "float64" if inputs.dtype == "float64" else "float32"
    graph = inputs.graph_in(wide)
    places = ksym.unstack(coordinates.graph_in(wide), 0)
    result = at_coordinates(
        lambda index: graph[tuple(index)],
        places,
        _sides(graph, range(graph.rank)),
        order,
        fill_mode,
        fill_value,
    )
    if not dtypes.is_float(inputs.dtype):
        result = ksym.round(result)
    return made(result, inputs.dtype)


def _moved_pixels(
    x: Graph, rows: Graph, columns: Graph, order: int, fill_mode: str, fill_value: Any
) -> Graph:
    """Return pixels of images (samples, height, width, channels) at places (samples, h, w)."""
    count = ksym.shape_of(x)[0]
    sample = ksym.reshape(ksym.arange(count), (-1, 1, 1))
    return at_coordinates(
        lambda index: x[(sample, *index)],
        [rows, columns],
        _sides(x, (1, 2)),
        order,
        fill_mode,
        fill_value,
        channels=True,
    )


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return y[None].astype("float32"), x[None].astype("float32")


def _over_pixels(images: Tensor, layout: str, compute: Callable[[Graph], Graph]) -> Tensor:
    """Apply a function of channels-last floats to images of either layout."""
    wide = "float64" if images.dtype == "float64" else "float32"

    def inside(x: Graph) -> Graph:
        x = ksym.cast(x, wide)
        if layout == "channels_first":
            return ksym.transpose(compute(ksym.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
        return compute(x)

    result = _batched(Tensor(images.graph_in(wide), wide), inside)
    graph = result.graph if dtypes.is_float(images.dtype) else ksym.round(result.graph)
    return made(graph, images.dtype)


@operation
def affine_transform(
    images: Operand,
    transform: Operand,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Move pixels by maps (a0, a1, a2, b0, b1, b2, c0, c1): a result at (x, y) is what lies there.

    The pixel comes from (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    layout = standardize_data_format(data_format)
    _choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    _choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES, "one")
    _check_rank(images)
    if transform.ndim not in (1, 2):
        raise ValueError(
            "Invalid transform rank: expected rank 1 (single transform) "
            "or rank 2 (batch of transforms). Received input with shape: "
            f"transform.shape={transform.shape}"
        )

    def compute(x: Graph) -> Graph:
        maps = ksym.cast(transform.graph, x.dtype)
        maps = (
            ksym.reshape(maps, (-1, 8, 1, 1))
            if maps.rank == 2
            else ksym.reshape(maps, (1, 8, 1, 1))
        )
        y, column = _grid(*_sides(x, (1, 2)))
        a0, a1, a2, b0, b1, b2 = (maps[:, i] for i in range(6))
        rows = b0 * column + b1 * y + b2
        columns = a0 * column + a1 * y + a2
        order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
        return _moved_pixels(x, rows, columns, order, fill_mode, fill_value)

    return _over_pixels(images, layout, compute)


def _check_points(start_points: Tensor, end_points: Tensor) -> None:
    for name, points in (("start_points", start_points), ("end_points", end_points)):
        if points.shape[-2:] != (4, 2) or points.ndim not in (2, 3):
            raise ValueError(
                f"Invalid {name} shape: expected (4,2) for a single image"
                f" or (N,4,2) for a batch. Received shape: {points.shape}"
            )
    if start_points.shape != end_points.shape:
        raise ValueError(
            "start_points and end_points must have the same shape."
            f" Received start_points.shape={start_points.shape}, "
            f"end_points.shape={end_points.shape}"
        )


def _homography(start: Graph, end: Graph) -> Graph:
    """Return the eight numbers of the projections that take end points to start points."""
    sx, sy, ex, ey = start[..., 0], start[..., 1], end[..., 0], end[..., 1]
    zero, one = ksym.zeros_like(ex), ksym.ones_like(ex)
    of_x = ksym.stack([ex, ey, one, zero, zero, zero, -sx * ex, -sx * ey], -1)
    of_y = ksym.stack([zero, zero, zero, ex, ey, one, -sy * ex, -sy * ey], -1)
    matrix = ksym.concatenate([of_x, of_y], -2)
    target = ksym.expand_dims(ksym.concatenate([sx, sy], -1), -1)
    return ksym.squeeze(ksym.solve(matrix, target), -1)


@operation
def compute_homography_matrix(start_points: Operand, end_points: Operand) -> Tensor:
    """Return the eight numbers of the projections that take end points to start points."""
    return made(
        _homography(start_points.graph_in("float32"), end_points.graph_in("float32")), "float32"
    )


@operation
def perspective_transform(
    images: Operand,
    start_points: Operand,
    end_points: Operand,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Project images so that their four start points come to the end points."""
    layout = standardize_data_format(data_format)
    _choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    _check_rank(images)
    _check_points(start_points, end_points)

    def compute(x: Graph) -> Graph:
        start, end = (
            ksym.reshape(p.graph_in("float32"), (-1, 4, 2)) for p in (start_points, end_points)
        )
        maps = ksym.cast(ksym.reshape(_homography(start, end), (-1, 8, 1, 1)), x.dtype)
        y, column = _grid(*_sides(x, (1, 2)))
        t = [maps[:, i] for i in range(8)]
        depth = t[6] * column + t[7] * y + 1.0
        columns = (t[0] * column + t[1] * y + t[2]) / depth
        rows = (t[3] * column + t[4] * y + t[5]) / depth
        order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
        return _moved_pixels(x, rows, columns, order, "constant", fill_value)

    return _over_pixels(images, layout, compute)


def _bell(size: int, sigma: Graph) -> Graph:
    x = ksym.constant(np.arange(size) - (size - 1) / 2, sigma.dtype)
    weights = ksym.exp(-0.5 * ksym.square(x / sigma))
    return weights / ksym.sum(weights)


def _filtered(x: Graph, kernel: Graph, layout: str) -> Graph:
    """Convolve each channel of images with one kernel (height, width)."""

    def compute(moved: Graph) -> Graph:
        channels = moved.shape[1]
        native = ksym.tile(ksym.expand_dims(kernel, (0, 1)), (channels, 1, 1, 1))
        return ksym.depthwise_convolution(moved, native, 1, "same")

    return channels_first(x, compute, layout)


def _blurred(x: Graph, sizes: Any, sigma: Graph, layout: str) -> Graph:
    kernel = ksym.outer(_bell(int(sizes[1]), sigma[1]), _bell(int(sizes[0]), sigma[0]))
    return _filtered(x, kernel, layout)


@operation
def gaussian_blur(
    images: Operand,
    kernel_size: Any = (3, 3),
    sigma: Operand = (1.0, 1.0),
    data_format: str | None = None,
) -> Tensor:
    """Blur images by a bell of a width in each direction."""
    _check_rank(images)
    layout = standardize_data_format(data_format)
    dtype, _ = floating(images)
    widths = tensor(sigma).graph_in(dtype)
    result = _batched(images, lambda x: _blurred(x, kernel_size, widths, layout), dtype)
    return Tensor(result.graph_in(images.dtype), images.dtype)


@operation
def sobel_edges(images: Operand, data_format: str | None = None) -> Tensor:
    """Return the changes of brightness down and across, on a new last axis."""
    layout = standardize_data_format(data_format)
    dtype, graph = floating(images)
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    edges = [
        _filtered(graph, ksym.constant(kernel, graph.dtype), layout)
        for kernel in (across.T, across)
    ]
    return made(ksym.stack(edges, -1), dtype)


def elastic_transform(
    images: Any,
    alpha: Any = 20.0,
    sigma: Any = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Any:
    """Move pixels by a random, smooth field: a blurred noise of width sigma, times alpha."""
    from keras_ksym.src.random import seed_of

    return _elastic(
        images,
        alpha,
        float(np.asarray(sigma)),
        interpolation,
        fill_mode,
        fill_value,
        seed_of(seed),
        data_format,
    )


@operation
def _elastic(
    images: Operand,
    alpha: Operand,
    sigma: float,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
    seed: Operand,
    data_format: str | None,
) -> Tensor:
    layout = standardize_data_format(data_format)
    _choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    _choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES, "one")
    _check_rank(images)
    width = int(6 * sigma) | 1

    def compute(x: Graph) -> Graph:
        shape = ksym.shape_of(x)
        noise = ksym.keyed_normal(seed.graph, [shape[0], shape[1], shape[2], 1], x.dtype) * sigma
        smooth = _blurred(
            noise, (width, width), ksym.constant([sigma, sigma], x.dtype), "channels_last"
        )
        move = smooth[..., 0] * alpha.graph_in(x.dtype)
        y, column = _grid(*_sides(x, (1, 2)))
        order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
        return _moved_pixels(x, y + move, column + move, order, fill_mode, fill_value)

    return _over_pixels(images, layout, compute)
