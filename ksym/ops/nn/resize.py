"""Changing the size of images and volumes by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand, static
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import BothFormats, check_floats, check_format, per_axis

__all__ = ["resize", "upsample"]


def interpolation_matrix(before: int, after: int, method: str, coordinates: str) -> np.ndarray:
    """Return the weights (before, after) of the elements in the elements of another size."""
    places = np.arange(after, dtype="float64")
    if coordinates == "half_pixel":
        places = (places + 0.5) * (before / after) - 0.5
    elif coordinates == "align_corners":
        places = places * ((before - 1) / max(1, after - 1))
    else:
        places = places * (before / after)
    columns = np.arange(after)
    weights = np.zeros((before, after))
    if method == "nearest":
        # TensorFlow rounds halves up, and down without either convention.
        nearest = np.floor(places if coordinates == "asymmetric" else places + 0.5)
        weights[np.clip(nearest.astype(int), 0, before - 1), columns] = 1.0
        return weights
    below = np.floor(places).astype(int)
    share = places - below
    np.add.at(weights, (np.clip(below, 0, before - 1), columns), 1.0 - share)
    np.add.at(weights, (np.clip(below + 1, 0, before - 1), columns), share)
    return weights


def _by_factors(x: Any, factors: Any, data_format: str = "channels_first") -> Any:
    first = 2 if data_format == "channels_first" else 1
    for axis, factor in enumerate(factors, start=first):
        x = np.repeat(x, factor, axis)
    return x


def _sample_upsample(draw: Draw) -> Sample:
    axes = draw.integer(1, 3)
    x = draw.array(draw.shape(2 + axes, 2 + axes), dtype=draw.dtype("float", "integer", "bool"))
    factors = tuple(draw.integer(1, 3) for _ in range(axes))
    data_format = draw.choose(("channels_first", "channels_last"))
    return Sample(x, attributes={"factors": factors, "data_format": data_format})


@composite(numpy=_by_factors, sample=_sample_upsample)
def upsample(x: Any, factors: Any, *, data_format: str = "channels_first") -> Tensor:
    """Repeat each element along the spatial axes.

    >>> ksym.evaluate(ksym.upsample([[[1, 2, 3]]], 2)).tolist()
    [[[1, 1, 2, 2, 3, 3]]]

    Args:
        x: (batch, channels, spatial axes...).
        factors: How often, an int or one for each spatial axis.
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Raises:
        ShapeError: A factor is not a positive integer, or x has no spatial axes.
    """
    x = as_tensor(x)
    check_format(data_format)
    if x.rank < 3:
        raise ShapeError(f"{x.spec} has no spatial axes", remedy="give (batch, channels, axes...)")
    factors = per_axis(factors, x.rank - 2, "factors")
    if max(factors) == 1:
        return x
    first = 2 if data_format == "channels_first" else 1
    channels = x.shape[1 if first == 2 else -1]
    if x.rank == 4 and x.dtype == "float32" and channels:
        # The transpose of the convolution that adds up each window: oneDNN does both a few times
        # faster than MXNet repeats, and between convolutions the elements stay in its layout.
        ones = ops.ones((channels, 1, *factors), x.dtype)
        sides = ops.shape_of(x)[first : first + 2] * np.array(factors)
        return ops.convolution_transpose(
            x, ones, sides, factors, groups=channels, data_format=data_format
        )
    for axis, factor in enumerate(factors, start=first):
        x = ops.repeat(x, factor, axis)
    return x


class _Resize(BothFormats):
    half = False
    linear_in = (0,)
    static_operands = (1,)

    def prepare(
        self,
        x: Any,
        sides: Any,
        method: str = "bilinear",
        coordinates: str = "half_pixel",
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        if method not in ("nearest", "bilinear"):
            raise ShapeError(f"the method {method!r} is neither 'nearest' nor 'bilinear'")
        if coordinates not in ("half_pixel", "align_corners", "asymmetric"):
            raise ShapeError(
                f"the coordinates {coordinates!r} are not known",
                remedy='use "half_pixel", "align_corners" or "asymmetric"',
            )
        if isinstance(sides, np.ndarray) and sides.ndim != 1:
            raise ShapeError(f"the sizes {sides!r} are not a vector")
        return [as_tensor(x), shape_operand(sides)], {
            "method": method,
            "coordinates": coordinates,
        }

    def infer(self, x: Tensor, sides: Tensor, method: str, coordinates: str) -> Spec:
        check_floats(x)
        target = tuple(known_dimensions(sides))
        if x.rank < 3 or len(target) != x.rank - 2:
            raise ShapeError(f"{len(target)} sizes for a tensor of rank {x.rank}")
        if any(side is not None and side < 1 for side in target):
            raise ShapeError(f"the sizes {target} are not positive")
        if 0 in x.shape[2:]:
            raise ShapeError(f"there is nothing to interpolate in the shape {x.shape}")
        return Spec((*x.shape[:2], *target), x.dtype)

    def numpy(self, x: Any, sides: Any, method: str, coordinates: str) -> Any:
        for axis, side in enumerate(sides, start=2):
            weights = interpolation_matrix(x.shape[axis], int(side), method, coordinates)
            x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights, -1, axis)
        return x

    def expand(self, node: Node) -> Tensor:
        x = node.inputs[0]
        method, coordinates = node.attributes["method"], node.attributes["coordinates"]
        before, sides = shapes.known(x.shape)[2:], [int(side) for side in static(node, 1)]
        along = [
            interpolation_matrix(side, after, method, coordinates)
            for side, after in zip(before, sides, strict=True)
        ]
        factors = [after // side for side, after in zip(before, sides, strict=True)]
        # An axis whose elements are repeated, or stay as they are.
        repeated = [
            np.array_equal(weights, np.repeat(np.eye(side), factor, axis=1))
            for side, factor, weights in zip(before, factors, along, strict=True)
        ]
        x = upsample(x, [f if same else 1 for f, same in zip(factors, repeated, strict=True)])
        for axis, (weights, same) in enumerate(zip(along, repeated, strict=True), start=2):
            if same:
                continue
            if method == "nearest":
                x = ops.take(x, weights.argmax(axis=0), axis)
                continue
            # (before axes, side, after axes): one product with the weights.
            matrix = ops.constant(weights, x.dtype)
            if axis == x.rank - 1:
                x = ops.matmul(x, matrix)
            else:
                order = [*(a for a in range(x.rank) if a != axis), axis]
                product = ops.matmul(ops.transpose(x, order), matrix)
                x = ops.transpose(product, shapes.inverse(order))
        return x

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, sides = node.inputs
        return [resize_gradient.make([g, ops.shape_of(x)[2:], sides], node.attributes), None]

    def sample(self, draw: Draw) -> Sample:
        x, sides, attributes = _sample_resize(draw)
        return Sample(x, sides, attributes=attributes)


def _sample_resize(draw: Draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    axes = draw.integer(1, 3)
    x = draw.array((*draw.shape(2, 2), *(draw.integer(1, 4) for _ in range(axes))))
    sides = np.array([draw.choose((side, 2 * side, draw.integer(1, 5))) for side in x.shape[2:]])
    method = draw.choose(("nearest", "bilinear"))
    coordinates = draw.choose(("half_pixel", "align_corners", "asymmetric"))
    return x, sides, {"method": method, "coordinates": coordinates}


resize = _Resize(
    "resize",
    doc="""Interpolate between elements to change the sizes of spatial axes.

    Args:
        x: (batch, channels, spatial axes...), floats.
        sides: The spatial sizes of the result.
        method: ``"nearest"`` or ``"bilinear"`` (linear along each axis).
        coordinates: The positions of the result's elements among those of x: ``"half_pixel"`` (as
            tf.image.resize), ``"align_corners"``, or ``"asymmetric"`` (i / factor, as
            tf.compat.v1.image.resize).
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Raises:
        DTypeError: x is not of floats.
        ShapeError: The sizes are not positive, or not one for each spatial axis.
    """,
)


class _ResizeGradient(Operator):
    internal = "a part of the gradient of `resize`"
    half = False
    linear_in = (0,)
    static_operands = (1, 2)

    def prepare(
        self, g: Any, before: Any, sides: Any, method: str, coordinates: str
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = [as_tensor(g)]
        for vector in (before, sides):
            if isinstance(vector, np.ndarray) and vector.ndim != 1:
                raise ShapeError(f"the sizes {vector!r} are not a vector")
            operands.append(shape_operand(vector))
        return operands, {"method": method, "coordinates": coordinates}

    def infer(self, g: Tensor, before: Tensor, sides: Tensor, **attributes: Any) -> Spec:
        check_floats(g)
        source, target = (tuple(known_dimensions(vector)) for vector in (before, sides))
        if any(side is not None and side < 1 for side in (*source, *target)):
            raise ShapeError(f"the sizes {source} and {target} are not positive")
        if len(source) != g.rank - 2 or not shapes.compatible(g.shape[2:], target):
            raise ShapeError(f"a gradient of shape {g.shape} for {source} resized to {target}")
        return Spec((*g.shape[:2], *source), g.dtype)

    def numpy(self, g: Any, before: Any, sides: Any, method: str, coordinates: str) -> Any:
        for axis, (side, after) in enumerate(zip(before, sides, strict=True), start=2):
            weights = interpolation_matrix(int(side), int(after), method, coordinates)
            g = np.moveaxis(np.moveaxis(g, axis, -1) @ weights.T, -1, axis)
        return g

    def expand(self, node: Node) -> Tensor:
        g = node.inputs[0]
        for axis, (side, after) in enumerate(zip(static(node, 1), static(node, 2), strict=True), 2):
            weights = interpolation_matrix(int(side), int(after), **node.attributes)
            order = [*(a for a in range(g.rank) if a != axis), axis]
            product = ops.matmul(ops.transpose(g, order), ops.constant(weights.T, g.dtype))
            g = ops.transpose(product, shapes.inverse(order))
        return g

    def gradient(self, node: Node, h: Tensor) -> list[Tensor | None]:
        return [resize.make([h, node.inputs[2]], node.attributes), None, None]

    def sample(self, draw: Draw) -> Sample:
        x, sides, attributes = _sample_resize(draw)
        g = draw.array((*x.shape[:2], *sides))
        return Sample(g, np.array(x.shape[2:]), sides, attributes=attributes)


resize_gradient = _ResizeGradient(
    "resize_gradient",
    doc="Return the gradient of `resize`: g is spread by the weights of the interpolation.",
)
