"""Slices whose bounds are data: their lengths, if these are constant, and their positions.

``x[i * b : (i + 1) * b]`` has b rows whatever i is.  To find that out, both bounds are brought into
the form of a sum of unknown integers, each with a factor, and a constant; the forms are subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw, Sample
from ksym.shapes import UNKNOWN

_DEPTH = 24
"""How far back bounds are read; what lies behind is an unknown integer."""

_Element = tuple[Tensor, int]
"""An element of a scalar (0) or of a vector."""


class _Sum(NamedTuple):
    """Unknown integers with their factors, and a constant."""

    factors: dict[_Element, int]
    constant: int

    def scaled(self, factor: int) -> _Sum:
        factors = {element: count * factor for element, count in self.factors.items()}
        return _Sum(factors, self.constant * factor)

    def plus(self, other: _Sum) -> _Sum:
        factors = dict(self.factors)
        for element, count in other.factors.items():
            factors[element] = factors.get(element, 0) + count
        left = {element: count for element, count in factors.items() if count}
        return _Sum(left, self.constant + other.constant)


def constant_difference(start: Tensor, stop: Tensor) -> int | None:
    """Return stop - start for two integer scalars, None if it is not known to be constant."""
    difference = _sum_of((stop, 0), _DEPTH).plus(_sum_of((start, 0), _DEPTH).scaled(-1))
    return None if difference.factors else difference.constant


def _sum_of(element: _Element, depth: int) -> _Sum:
    """Return an element of an integer tensor as a sum."""
    tensor, position = element
    if tensor.value is not None:
        found = tensor.value.flat[position]
        if found is not UNKNOWN:
            return _Sum({}, int(found))
    rule = _RULES.get(tensor.node.operator.name)
    if depth and rule is not None and dtypes.kind(tensor.dtype) == 1:
        made = rule(tensor.node, position, depth - 1)
        if made is not None:
            return made
    return _Sum({element: 1}, 0)


def _operand(node: Node, number: int, position: int, depth: int) -> _Sum:
    """Return what an elementwise node reads of an operand, which may be stretched."""
    operand = node.inputs[number]
    return _sum_of((operand, 0 if shapes.size(operand.shape) == 1 else position), depth)


def _added(node: Node, position: int, depth: int) -> _Sum:
    first, second = (_operand(node, number, position, depth) for number in (0, 1))
    return first.plus(second)


def _subtracted(node: Node, position: int, depth: int) -> _Sum:
    first, second = (_operand(node, number, position, depth) for number in (0, 1))
    return first.plus(second.scaled(-1))


def _multiplied(node: Node, position: int, depth: int) -> _Sum | None:
    first, second = (_operand(node, number, position, depth) for number in (0, 1))
    if not second.factors:
        return first.scaled(second.constant)
    return None if first.factors else second.scaled(first.constant)


def _negated(node: Node, position: int, depth: int) -> _Sum:
    return _operand(node, 0, position, depth).scaled(-1)


def _same(node: Node, position: int, depth: int) -> _Sum | None:
    """An integer in another dtype, or a place of another shape."""
    operand = node.inputs[0]
    if dtypes.kind(operand.dtype) != 1 or shapes.size(operand.shape) is None:
        return None
    return _sum_of((operand, position), depth)


def _stacked(node: Node, position: int, depth: int) -> _Sum | None:
    if any(tensor.rank for tensor in node.inputs):
        return None
    return _sum_of((node.inputs[position], 0), depth)


def _joined(node: Node, position: int, depth: int) -> _Sum | None:
    for tensor in node.inputs:
        side = shapes.size(tensor.shape)
        if side is None or tensor.rank != 1:
            return None
        if position < side:
            return _sum_of((tensor, position), depth)
        position -= side
    return None


def _taken(node: Node, position: int, depth: int) -> _Sum | None:
    """An element of a slice of a vector."""
    x, starts, _ = node.inputs
    side = shapes.size(x.shape)
    if x.rank != 1 or side is None or starts.value is None or starts.value[0] is UNKNOWN:
        return None
    step, (open_start, _) = node.attributes["steps"][0], node.attributes["open"][0]
    bound = slice(None if open_start else int(starts.value[0]), None, step)
    return _sum_of((x, bound.indices(side)[0] + position * step), depth)


_RULES: dict[str, Callable[[Node, int, int], _Sum | None]] = {
    "add": _added,
    "subtract": _subtracted,
    "multiply": _multiplied,
    "negative": _negated,
    "cast": _same,
    "identity": _same,
    "reshape": _same,
    "expand_dims": _same,
    "squeeze": _same,
    "stack": _stacked,
    "concatenate": _joined,
    "slice": _taken,
}


def range_of(bound: slice, side: int, length: int | None) -> range:
    """Return the positions that a slice takes of an axis.

    Args:
        bound: The slice.
        side: The size of the axis.
        length: The number of positions that the graph was built for, if that was known.

    Raises:
        ShapeError: The slice takes another number of them, because it goes beyond the axis.
    """
    taken = range(*bound.indices(side))
    if length is not None and len(taken) != length:
        raise ShapeError(
            f"the slice from {bound.start} to {bound.stop} takes {len(taken)} of an axis of "
            f"{side}, where its bounds are so far apart that it takes {length}",
            remedy="give a start from which the slice lies within the axis, or, for a shorter "
            "result at the end, stop at ksym.minimum(stop, the size of the axis)",
        )
    return taken


class _SlicePositions(Operator):
    internal = "a part of `slice` where its bounds are data"
    runs = "host"

    def infer(
        self,
        start: Tensor,
        stop: Tensor,
        side: int,
        step: int,
        open: tuple[bool, bool],  # noqa: A002 - as in the attributes of a slice
        length: int | None,
    ) -> Spec:
        for end in (start, stop):
            if end.rank or dtypes.kind(end.dtype) != 1:
                raise ShapeError(f"the bound of a slice is an integer, not {end.spec}")
        if side < 0:
            raise ShapeError(f"an axis has no {side} elements")
        if step == 0:
            raise ShapeError("the step of a slice is zero")
        return Spec((length,), "int64")

    def known(self, *operands: Tensor, **attributes: Any) -> np.ndarray | None:
        return None

    def numpy(self, start: Any, stop: Any, **attributes: Any) -> Any:
        open_start, open_stop = attributes["open"]
        bound = slice(
            None if open_start else int(start), None if open_stop else int(stop), attributes["step"]
        )
        return np.array(range_of(bound, attributes["side"], attributes["length"]), "int64")

    def sample(self, draw: Draw) -> Sample:
        start, stop = (draw.array((), -4, 4, dtype="int64") for _ in range(2))
        attributes = {
            "side": draw.integer(0, 4),
            "step": draw.choose((1, 2, -1)),
            "open": (draw.choose((True, False)), draw.choose((True, False))),
            "length": None,
        }
        return Sample(start, stop, attributes=attributes, differentiate=())


slice_positions = _SlicePositions(
    "slice_positions",
    doc="""Return the positions that a slice takes of an axis, as an int64 vector.

    Args:
        start: The start of the slice.
        stop: Its stop.
        side: The size of the axis.
        step: The step.
        open: Whether the slice has no start, and whether it has no stop.
        length: The number of positions, if the graph was built for one.

    Raises:
        ShapeError: A bound is not an integer, the step is zero, or the slice takes another number
            of positions than `length`.
    """,
)
