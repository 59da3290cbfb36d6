"""Functions of Keras's module image that take pixels from other places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.filters import blurred
from keras_ksym.src.ops.pixels import check_choice, check_rank, over_batch, sides
from keras_ksym.src.ops.sampling import at_coordinates
from keras_ksym.src.tensor import Tensor, made

__all__ = [
    "affine_transform",
    "compute_homography_matrix",
    "elastic_transform",
    "map_coordinates",
    "perspective_transform",
]

Graph = ksym.Tensor

AFFINE_TRANSFORM_INTERPOLATIONS = {"nearest": 0, "bilinear": 1}
AFFINE_TRANSFORM_FILL_MODES = {"constant", "nearest", "wrap", "mirror", "reflect"}
MAP_COORDINATES_FILL_MODES = {"constant", "nearest", "wrap", "mirror", "reflect"}


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
        sides(graph, range(graph.rank)),
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
        sides(x, (1, 2)),
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

    result = over_batch(Tensor(images.graph_in(wide), wide), inside)
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
    check_choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    check_choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES, "one")
    check_rank(images)
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
        y, column = _grid(*sides(x, (1, 2)))
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
    check_choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    check_rank(images)
    _check_points(start_points, end_points)

    def compute(x: Graph) -> Graph:
        start, end = (
            ksym.reshape(p.graph_in("float32"), (-1, 4, 2)) for p in (start_points, end_points)
        )
        maps = ksym.cast(ksym.reshape(_homography(start, end), (-1, 8, 1, 1)), x.dtype)
        y, column = _grid(*sides(x, (1, 2)))
        t = [maps[:, i] for i in range(8)]
        depth = t[6] * column + t[7] * y + 1.0
        columns = (t[0] * column + t[1] * y + t[2]) / depth
        rows = (t[3] * column + t[4] * y + t[5]) / depth
        order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
        return _moved_pixels(x, rows, columns, order, "constant", fill_value)

    return _over_pixels(images, layout, compute)


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
    check_choice("interpolation", interpolation, set(AFFINE_TRANSFORM_INTERPOLATIONS), "one")
    check_choice("fill_mode", fill_mode, AFFINE_TRANSFORM_FILL_MODES, "one")
    check_rank(images)
    width = int(6 * sigma) | 1

    def compute(x: Graph) -> Graph:
        shape = ksym.shape_of(x)
        noise = ksym.keyed_normal(seed.graph, [shape[0], shape[1], shape[2], 1], x.dtype) * sigma
        smooth = blurred(
            noise, (width, width), ksym.constant([sigma, sigma], x.dtype), "channels_last"
        )
        move = smooth[..., 0] * alpha.graph_in(x.dtype)
        y, column = _grid(*sides(x, (1, 2)))
        order = AFFINE_TRANSFORM_INTERPOLATIONS[interpolation]
        return _moved_pixels(x, y + move, column + move, order, fill_mode, fill_value)

    return _over_pixels(images, layout, compute)
