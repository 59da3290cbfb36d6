"""What convolutions and poolings share: windows that slide over the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ksym import shapes
from ksym.errors import ShapeError
from ksym.graph import Node
from ksym.shapes import Shape

Padding = str | tuple[tuple[int, int], ...]


def per_axis(value: Any, axes: int, what: str) -> tuple[int, ...]:
    """Return one positive int for each spatial axis, from an int or a sequence.

    Raises:
        ShapeError: There is another number of them, or one is not positive.
    """
    numbers = (value,) * axes if isinstance(value, int) else tuple(int(v) for v in value)
    if len(numbers) != axes or any(n < 1 for n in numbers):
        raise ShapeError(f"{what} {value!r} must be {axes} positive integers, or one for all axes")
    return numbers


def canonical_padding(padding: Any, axes: int) -> Padding:
    """Return ``"valid"``, ``"same"``, or a pair (before, after) for each spatial axis."""
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ShapeError(
                f"padding {padding!r} is not known", remedy='use "valid", "same", or pairs of ints'
            )
        return padding
    pairs = tuple((int(before), int(after)) for before, after in padding)
    if len(pairs) != axes or any(n < 0 for pair in pairs for n in pair):
        raise ShapeError(f"padding {padding!r} must be {axes} pairs (before, after) of counts")
    return pairs


def output_sides(
    sides: Shape,
    window: Sequence[int | None],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: Padding,
) -> Shape:
    """Return how many positions a window takes along each spatial axis."""
    return tuple(
        None
        if width is None
        else shapes.window_output(
            side, width, stride, dilate, padding if isinstance(padding, str) else padding[axis]
        )
        for axis, (side, width, stride, dilate) in enumerate(
            zip(sides, window, strides, dilation, strict=True)
        )
    )


def explicit_padding(
    sides: Shape,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: Padding,
) -> list[tuple[int, int]]:
    """Return (before, after) for each spatial axis of known size."""
    return [
        shapes.window_padding(
            int(side or 0),
            width,
            stride,
            dilate,
            padding if isinstance(padding, str) else padding[axis],
        )
        for axis, (side, width, stride, dilate) in enumerate(
            zip(sides, window, strides, dilation, strict=True)
        )
    ]


def check_fits(node: Node, sides: Shape, window: Sequence[int | None]) -> None:
    """Refuse a window that is larger than what it slides over, now that sizes are known.

    Not while the graph is built: Keras builds models with such layers and never runs them.
    """
    if 0 in node.outputs[0].shape[2:] and 0 not in sides:
        raise ShapeError(
            f"a window of {tuple(window)} does not fit into spatial axes of {sides}",
            remedy='use padding="same", a smaller window, or larger inputs',
        ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
