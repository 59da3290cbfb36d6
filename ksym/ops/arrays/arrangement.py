"""Operators that reorder, split and pad the elements of a tensor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.padding import padding_pairs

__all__ = [
    "swapaxes",
    "moveaxis",
    "ravel",
    "roll",
    "rot90",
    "fliplr",
    "flipud",
    "split",
    "unstack",
    "diff",
    "tril",
    "triu",
]


def _draw_array(draw: Draw, min_rank: int = 0, min_side: int = 0) -> np.ndarray:
    shape = draw.shape(min_rank=min_rank, min_side=min_side)
    return draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))


def _draw_axis(draw: Draw, x: np.ndarray) -> int:
    return draw.integer(-x.ndim, x.ndim - 1)


def _sample_axes(first: str, second: str) -> Any:
    def sample(draw: Draw) -> Sample:
        x = _draw_array(draw, min_rank=1)
        return Sample(x, attributes={first: _draw_axis(draw, x), second: _draw_axis(draw, x)})

    return sample


@composite(numpy=np.swapaxes, sample=_sample_axes("axis1", "axis2"))
def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes of x."""
    x = as_tensor(x)
    order = list(range(x.rank))
    first, second = shapes.axis(axis1, x.rank), shapes.axis(axis2, x.rank)
    order[first], order[second] = second, first
    return ops.transpose(x, order)


@composite(numpy=np.moveaxis, sample=_sample_axes("source", "destination"))
def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Move axes of x to other positions; the others keep their order.

    Args:
        x: A tensor.
        source: An axis or several.
        destination: The new position of each of them.
    """
    x = as_tensor(x)
    ends = [[a] if isinstance(a, int | np.integer) else list(a) for a in (source, destination)]
    from_, to = ([shapes.axis(a, x.rank) for a in end] for end in ends)
    if len(from_) != len(to) or len(set(from_)) != len(from_) or len(set(to)) != len(to):
        raise ShapeError(f"the axes {source} cannot move to {destination}")
    order = [a for a in range(x.rank) if a not in from_]
    for position, axis in sorted(zip(to, from_, strict=True)):
        order.insert(position, axis)
    return ops.transpose(x, order)


@composite(numpy=np.ravel, sample=lambda draw: Sample(_draw_array(draw)))
def ravel(x: Any) -> Tensor:
    """Return the elements of x in a row."""
    return ops.reshape(x, (-1,))


def _sample_roll(draw: Draw) -> Sample:
    x = _draw_array(draw, min_rank=1)
    several = tuple(_draw_axis(draw, x) for _ in range(draw.integer(1, 3)))
    axis = draw.choose((None, _draw_axis(draw, x), several))
    shifts = tuple(draw.integer(-4, 4) for _ in several)
    shift = draw.choose((shifts[0], shifts)) if axis == several else shifts[0]
    return Sample(x, attributes={"shift": shift, "axis": axis})


@composite(numpy=np.roll, sample=_sample_roll)
def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Shift the elements of x along axes; those that leave come in at the other end.

    Args:
        x: A tensor.
        shift: The distance: one number, or one for each axis.
        axis: An axis or several, of which one named twice is shifted along twice; by default the
            elements are taken in a row.

    Raises:
        ShapeError: There is no such axis, or there are not as many shifts as axes.
    """
    x = as_tensor(x)
    if axis is None:
        return ops.reshape(roll(ops.reshape(x, (-1,)), shift, 0), ops.shape_of(x))
    axes = [axis] if isinstance(axis, int | np.integer) else list(axis)
    shifts = list(shift) if isinstance(shift, list | tuple | np.ndarray) else [shift]
    if len(shifts) == 1:
        shifts *= len(axes)
    elif len(axes) == 1:
        axes *= len(shifts)
    if len(shifts) != len(axes):
        raise ShapeError(f"{len(shifts)} shifts cannot be shared out to {len(axes)} axes")
    for by, along in zip(shifts, axes, strict=True):
        x = _rolled(x, by, shapes.axis(along, x.rank))
    return x


def _rolled(x: Tensor, shift: Any, axis: int) -> Tensor:
    side = x.shape[axis]
    if side == 0:
        return x
    length = ops.shape_of(x)[axis] if side is None else side
    cut = (length - shift) % (ops.maximum(length, 1) if side is None else length)
    before = (slice(None),) * axis
    return ops.concatenate([x[(*before, slice(cut, None))], x[(*before, slice(None, cut))]], axis)


def _sample_turn(draw: Draw) -> Sample:
    x = _draw_array(draw, min_rank=2)
    first = draw.integer(0, x.ndim - 1)
    axes = (first, (first + draw.integer(1, x.ndim - 1)) % x.ndim - x.ndim)
    return Sample(x, attributes={"k": draw.integer(-2, 5), "axes": axes})


@composite(numpy=np.rot90, sample=_sample_turn)
def rot90(x: Any, k: int = 1, axes: Any = (0, 1)) -> Tensor:
    """Rotate x by quarters in the plane of two axes.

    Args:
        x: A tensor of rank 2 or more.
        k: The number of quarters, from the first axis towards the second.
        axes: The two axes.

    Raises:
        ShapeError: axes are not two axes of x.
    """
    x = as_tensor(x)
    plane = [shapes.axis(a, x.rank) for a in axes]
    if len(plane) != 2 or plane[0] == plane[1]:
        raise ShapeError(f"a plane has two axes, not {tuple(axes)}")
    if k % 4 in (1, 2):
        x = ops.flip(x, plane[1])
    if k % 2:
        x = swapaxes(x, *plane)
    return ops.flip(x, plane[0] if k % 4 == 2 else plane[1]) if k % 4 in (2, 3) else x


@composite(numpy=np.fliplr, sample=lambda draw: Sample(_draw_array(draw, min_rank=2)))
def fliplr(x: Any) -> Tensor:
    """Reverse the second axis."""
    return ops.flip(x, 1)


@composite(numpy=np.flipud, sample=lambda draw: Sample(_draw_array(draw, min_rank=1)))
def flipud(x: Any) -> Tensor:
    """Reverse the first axis."""
    return ops.flip(x, 0)


def _split_numpy(x: Any, indices_or_sections: Any, axis: int) -> Any:
    return tuple(np.split(x, indices_or_sections, axis))


def _sample_split(draw: Draw) -> Sample:
    x = _draw_array(draw, min_rank=1)
    axis = _draw_axis(draw, x)
    side = x.shape[axis]
    equal = draw.choose([n for n in range(1, side + 1) if side % n == 0] or [1])
    places = tuple(sorted(draw.integer(0, side) for _ in range(draw.integer(1, 2))))
    sections = draw.choose((equal, places))
    return Sample(x, attributes={"indices_or_sections": sections, "axis": axis})


@composite(numpy=_split_numpy, sample=_sample_split)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut x into parts along an axis.

    Args:
        x: A tensor.
        indices_or_sections: The number of equal parts, or the places to cut at.
        axis: The axis to cut.

    Raises:
        ShapeError: x cannot be cut into that many equal parts.
    """
    x = as_tensor(x)
    axis = shapes.axis(axis, x.rank)
    before = (slice(None),) * axis
    side, sections = x.shape[axis], indices_or_sections
    if isinstance(sections, int | np.integer):
        if sections < 1 or (side is not None and side % sections):
            raise ShapeError(f"an axis of size {side} cannot be cut into {sections} equal parts")
        if side is not None:
            cuts = [side // sections * i for i in range(sections + 1)]
            return tuple(x[(*before, slice(*pair))] for pair in pairwise(cuts))
        # Reshaping checks at the call the sizes that are not known yet.
        sides = [ops.shape_of(x)[a] if d is None else d for a, d in enumerate(x.shape)]
        part = sides[axis] // sections
        rows = ops.reshape(x, [*sides[:axis], int(sections), part, *sides[axis + 1 :]])
        return tuple(rows[(*before, i)] for i in range(sections))
    places = [None, *sections, None]
    return tuple(x[(*before, slice(*pair))] for pair in pairwise(places))


def _unstack_numpy(x: Any, axis: int) -> Any:
    return tuple(np.moveaxis(x, axis, 0))


def _sample_along(draw: Draw) -> Sample:
    x = _draw_array(draw, min_rank=1, min_side=1)
    return Sample(x, attributes={"axis": _draw_axis(draw, x)})


@composite(
    numpy=_unstack_numpy,
    sample=_sample_along,
    unproven={"values": "how many results there are must be known when the graph is built"},
)
def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the slices of x along an axis, without it: what `stack` joins.

    Raises:
        ShapeError: The size of the axis is not known.
    """
    x = as_tensor(x)
    axis = shapes.axis(axis, x.rank)
    side = x.shape[axis]
    if side is None:
        raise ShapeError(f"axis {axis} has no known size, so the number of results is not known")
    return tuple(x[(*[slice(None)] * axis, position)] for position in range(side))


def _sample_diff(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    x = draw.array(shape, dtype=draw.dtype("float", "integer"))
    return Sample(x, attributes={"n": draw.integer(0, 3), "axis": _draw_axis(draw, x)})


_MOST_DIFFERENCES = 1024


@composite(numpy=np.diff, sample=_sample_diff)
def diff(x: Any, n: int = 1, axis: int = -1) -> Tensor:
    """Return the differences of neighbours along an axis, taken n times."""
    x = as_tensor(x)
    before = (slice(None),) * shapes.axis(axis, x.rank)
    if n < 0:
        raise ShapeError(f"differences cannot be taken {n} times")
    side = x.shape[len(before)]
    if side is not None:
        n = min(n, side)  # there are none left then
    elif n > _MOST_DIFFERENCES:
        raise ShapeError(
            f"differences are taken {n} times along an axis of unknown length",
            remedy=f"take them at most {_MOST_DIFFERENCES} times: each is an operator in the graph",
        )
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = later - earlier if x.dtype != "bool" else ops.logical_xor(later, earlier)
    return x


def _sample_triangle(draw: Draw) -> Sample:
    return Sample(_draw_array(draw, min_rank=2), attributes={"k": draw.integer(-3, 3)})


def _triangle(x: Any, k: int, comparison: Any) -> Tensor:
    x = as_tensor(x)
    shapes.axis(-2, x.rank)
    sides = ops.shape_of(x)
    rows = ops.expand_dims(ops.arange(sides[x.rank - 2]), -1)
    inside = comparison(ops.arange(sides[x.rank - 1]) - k, rows)
    if x.dtype == "bool":
        return ops.logical_and(inside, x)
    return ops.where(inside, x, ops.zeros_like(x))


@composite(numpy=np.tril, sample=_sample_triangle)
def tril(x: Any, k: int = 0) -> Tensor:
    """Return matrices with zeros above a diagonal: the main one, or the k-th above it."""
    return _triangle(x, k, ops.less_equal)


@composite(numpy=np.triu, sample=_sample_triangle)
def triu(x: Any, k: int = 0) -> Tensor:
    """Return matrices with zeros below a diagonal: the main one, or the k-th above it."""
    return _triangle(x, k, ops.greater_equal)


def _sample_reflected(draw: Draw) -> Sample:
    x = _draw_array(draw, min_rank=1, min_side=1)
    padding = tuple((draw.integer(0, 4), draw.integer(0, 4)) for _ in x.shape)
    mode = draw.choose(("reflect", "symmetric", "edge", "wrap"))
    return Sample(x, attributes={"padding": padding, "mode": mode})


def _source_places(places: Tensor, side: Any, mode: str) -> Tensor:
    """Return for each place along a padded axis the place of its element in the axis."""
    if mode == "edge":
        return ops.clip(places, 0, side - 1)
    if mode == "wrap":
        return ops.mod(places, side)
    if mode == "symmetric":
        place = ops.mod(places, 2 * side)
        return ops.minimum(place, 2 * side - 1 - place)
    last = side - 1
    return last - abs(ops.mod(places, ops.maximum(2 * last, 1)) - last)


def _pad_numpy(x: Any, padding: Any, mode: str) -> Any:
    # Written out: NumPy before 1.25 is wrong where the padding is larger than the axis.
    for axis, (before, after) in enumerate(np.broadcast_to(padding, (x.ndim, 2)).tolist()):
        side = x.shape[axis]
        turns = {
            "reflect": [*range(side), *range(side - 2, 0, -1)],
            "symmetric": [*range(side), *range(side - 1, -1, -1)],
            "wrap": [*range(side)],
            "edge": [0] * before + [*range(side)] + [side - 1] * after,
        }[mode]
        start = 0 if mode == "edge" else -before
        places = [turns[p % len(turns)] for p in range(start, start + before + side + after)]
        x = np.take(x, places, axis)
    return x


@composite(numpy=_pad_numpy, sample=_sample_reflected, internal="a part of `pad`")
def pad_from_inside(x: Any, padding: Any, mode: str = "reflect") -> Tensor:
    """Pad x with its own elements: `pad` in all modes but ``"constant"``.

    Args:
        x: A tensor.
        padding: For each axis the numbers of elements (before, after).
        mode: ``"reflect"`` at the last element, ``"symmetric"`` behind it, ``"edge"`` to repeat it,
            or ``"wrap"`` to continue at the other end.

    Raises:
        ShapeError: The padding does not fit, or there is no such mode.
    """
    x = as_tensor(x)
    pairs = padding_pairs(padding, x.rank)
    if mode not in ("reflect", "symmetric", "edge", "wrap"):
        raise ShapeError(
            f"there is no padding mode {mode!r}",
            remedy='use "constant", "reflect", "symmetric", "edge" or "wrap"',
        )
    for axis, (before, after) in enumerate(pairs):
        if not before and not after:
            continue
        side: Any = x.shape[axis]
        if side is None:
            side = ops.shape_of(x)[axis]
        elif side == 0:
            raise ShapeError(f"axis {axis} has no elements to pad with")
        x = ops.take(x, _source_places(ops.arange(-before, side + after), side, mode), axis)
    return x
