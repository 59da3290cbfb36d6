"""Values between the elements of images: scaling along an axis, and elements at coordinates."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import ksym

Graph = ksym.Tensor


def _triangle(x: Graph) -> Graph:
    return ksym.maximum(0.0, 1.0 - x)


def _cubic(x: Graph) -> Graph:
    """Return Keys' cubic with a = -0.5."""
    near = ((1.5 * x - 2.5) * x) * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ksym.where(x >= 1.0, ksym.where(x >= 2.0, 0.0, far), near)


def _lanczos(radius: float) -> Callable[[Graph], Graph]:
    def kernel(x: Graph) -> Graph:
        y = radius * ksym.sin(np.pi * x) * ksym.sin(np.pi * x / radius)
        inner = y / ksym.where(ksym.equal(x, 0.0), 1.0, np.pi**2 * ksym.square(x))
        return ksym.where(x > 1e-3, ksym.where(x > radius, 0.0, inner), 1.0)

    return kernel


KERNELS: dict[str, Callable[[Graph], Graph]] = {
    "linear": _triangle,
    "cubic": _cubic,
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}
"""The weight of an element at a distance, for each method of interpolation."""


def scaled(
    x: Graph, axis: int, side: int, factor: Any, shift: Any, method: str, antialias: bool
) -> Graph:
    """Scale an axis by a factor and move it, as a product with a matrix of weights.

    Args:
        x: A tensor of floats.
        axis: The axis, which has a known size.
        side: The size of the result.
        factor: The factor, a number or a scalar tensor.
        shift: The distance by which elements are moved, likewise.
        method: ``"nearest"``, or one of `KERNELS`.
        antialias: Whether elements count farther when the axis becomes smaller.
    """
    before = x.shape[axis]
    assert before is not None
    if method == "nearest":
        places = np.floor((np.arange(side) + 0.5) * before / side).astype("int64")
        return ksym.take(x, places, axis)
    if before == side and isinstance(factor, float) and factor == 1.0:
        return x
    wide = "float64" if x.dtype == "float64" else "float32"
    scale = 1.0 / ksym.as_tensor(factor, wide)
    offset = ksym.as_tensor(shift, wide) * scale
    at = ksym.constant(np.arange(side) + 0.5, wide) * scale - offset - 0.5
    distance = ksym.abs(ksym.expand_dims(at, 0) - ksym.constant(np.arange(before)[:, None], wide))
    weights = KERNELS[method](distance / (ksym.maximum(scale, 1.0) if antialias else 1.0))
    total = ksym.sum(weights, 0, keepdims=True)
    some = ksym.abs(total) > 1000.0 * float(np.finfo("float32").eps)
    weights = ksym.where(some, weights / ksym.where(ksym.equal(total, 0.0), 1.0, total), 0.0)
    inside = ksym.logical_and(at >= -0.5, at <= before - 0.5)
    weights = ksym.cast(ksym.where(ksym.expand_dims(inside, 0), weights, 0.0), x.dtype)
    moved = ksym.moveaxis(x, axis, -1)
    return ksym.moveaxis(ksym.matmul(moved, weights), -1, axis)


def _mirrored(index: Graph, size: int) -> Graph:
    """Return positions mirrored at the middle of the first and the last element."""
    last = size - 1
    if not last:
        return index * 0
    return ksym.abs(ksym.mod(index + last, 2 * last) - last)


def _inside(index: Graph, size: int, mode: str) -> Graph:
    """Return positions of an axis that lie in it, for those that may lie outside."""
    if mode == "wrap":
        return ksym.mod(index, size)
    if mode == "mirror":
        return _mirrored(index, size)
    if mode == "reflect":
        return ksym.floor_divide(_mirrored(2 * index + 1, 2 * size + 1) - 1, 2)
    return ksym.clip(index, 0, size - 1)


def at_coordinates(
    gather: Callable[[list[Graph]], Graph],
    coordinates: Sequence[Graph],
    sides: Sequence[int],
    order: int,
    mode: str,
    fill: Any,
    *,
    channels: bool = False,
) -> Graph:
    """Return the values at coordinates: those of the nearest elements, or between neighbours.

    Args:
        gather: Returns the elements at positions, a tensor for each axis.
        coordinates: The coordinates along each axis.
        sides: The sizes of these axes.
        order: 0 for the nearest element, 1 for linear interpolation.
        mode: What is outside: ``"constant"``, ``"nearest"``, ``"wrap"``, ``"mirror"`` or
            ``"reflect"``.
        fill: The value outside, in the mode ``"constant"``.
        channels: Whether the elements that are gathered have one axis more, at the end.
    """
    choices: list[list[tuple[Graph, Graph | None]]] = []
    for place in coordinates:
        if order == 0:
            away = ksym.floor(ksym.abs(place) + 0.5) * ksym.sign(place)
            choices.append([(ksym.cast(away, "int64"), None)])
            continue
        low = ksym.floor(place)
        share = place - low
        below = ksym.cast(low, "int64")
        choices.append([(below, 1.0 - share), (below + 1, share)])
    terms = []
    for corner in itertools.product(*choices):
        index = [_inside(i, side, mode) for (i, _), side in zip(corner, sides, strict=True)]
        value = gather(index)
        if mode == "constant":
            valid = functools.reduce(
                ksym.logical_and,
                [
                    ksym.logical_and(i >= 0, i < side)
                    for (i, _), side in zip(corner, sides, strict=True)
                ],
            )
            value = ksym.where(
                ksym.expand_dims(valid, -1) if channels else valid, value, float(fill)
            )
        for _, weight in corner:
            if weight is not None:
                weight = ksym.cast(weight, value.dtype)
                value = value * (ksym.expand_dims(weight, -1) if channels else weight)
        terms.append(value)
    return sum(terms[1:], terms[0])
