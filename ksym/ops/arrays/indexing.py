"""``x[...]``: slices, numbers and integer tensors as indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError, KsymError, ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.gathering import check_indices
from ksym.ops.arrays.masks import axes_of, is_mask, key_item, without_masks
from ksym.ops.arrays.slicing import draw_bounds, slice_
from ksym.shapes import UNKNOWN

_POSITIONS = "positions"
"""The mark in the key of a sample for the next of its arrays of positions."""


def _key_with(key: Sequence[Any], positions: Sequence[Any]) -> tuple[Any, ...]:
    """Return the key of a sample with arrays, or tensors, in their places."""
    given = iter(positions)
    return tuple(next(given) if item is _POSITIONS else item for item in key)


def _index_numpy(x: Any, *positions: Any, key: Sequence[Any]) -> Any:
    axes = [axis for axis, item in enumerate(key) if item is _POSITIONS]
    wrapped = [
        p if p.dtype == bool else p % x.shape[axis] for p, axis in zip(positions, axes, strict=True)
    ]
    return x[_key_with(key, wrapped)]


def _sample_index(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
    lead = draw.shape(max_rank=2)
    key: list[Any] = []
    positions: list[np.ndarray] = []
    for side, bounds in zip(shape, draw_bounds(draw, shape), strict=True):
        kind = draw.choose(("slice", "number", "positions", "mask")) if side else "slice"
        if kind == "number":
            key.append(draw.integer(-side, side - 1))
        elif kind == "positions" and len(positions) < 2:
            key.append(_POSITIONS)
            positions.append(draw.array(lead, -side, side - 1, dtype="int64"))
        elif kind == "mask" and not positions:
            key.append(_POSITIONS)
            positions.append(draw.array((side,), dtype="bool"))
            lead = draw.choose(((), (1,)))  # what is broadcast against however many it picks
        else:
            key.append(bounds)
    # After all others, so that the place of each index in the key is that of its axis.
    key += draw.choose(((), (None,), (Ellipsis,)))
    return Sample(x, *positions, attributes={"key": tuple(key)})


def _apply_index(x: Tensor, *positions: Any, key: Sequence[Any]) -> Tensor:
    return x[_key_with(key, positions)]


@composite(
    numpy=_index_numpy, sample=_sample_index, apply=_apply_index, internal="users write x[key]"
)
def index(x: Any, key: Any) -> Tensor:
    """Return ``x[key]`` by NumPy's rules.

    A key holds integers, slices, None, ``...``, integer tensors and masks of booleans.

    A mask stands for the positions at which it is true.  Several integer tensors are broadcast
    against each other and pick elements together; in the result their axes are at the place of the
    first of them, or in front if a slice or None is between them.  Indices that are not known while
    the graph is built wrap around.

    Raises:
        ShapeError: There are more indices than axes, or a static index is out of range.
        DTypeError: An index is neither an integer nor a mask.
    """
    x = as_tensor(x)
    try:
        return _index(x, list(key) if isinstance(key, tuple) else [key])
    except KsymError as error:
        raise error.located(operands=[x.spec]) from None


def _index(x: Tensor, items: list[Any]) -> Tensor:
    items = _without_ellipsis(x, [key_item(item) for item in items])
    if any(map(is_mask, items)):
        x, items = without_masks(x, items)
    for axis, item in enumerate(items):
        if item is None:
            x = ops.expand_dims(x, axis)
    items = [slice(None) if item is None else item for item in items]
    positions = {a: _position(item) for a, item in enumerate(items) if not isinstance(item, slice)}
    plain = not any(position.rank for position in positions.values())
    dropped = []
    for axis, position in positions.items():
        check_indices(position, x.shape[axis])
        items[axis] = slice(None)
        if plain and _is_known(position):
            number = int(position.value)  # type: ignore[arg-type]
            items[axis] = slice(number, number + 1 if number != -1 else None)
            dropped.append(axis)
    gathered = {a: position for a, position in positions.items() if a not in dropped}
    if not all(map(_is_whole, items)):
        x = slice_(x, items)
    if len(gathered) == 1:
        ((axis, position),) = gathered.items()
        x = ops.take(x, position, axis)
        dropped = [a + position.rank - 1 if a > axis else a for a in dropped]
    elif gathered:
        return _gather(x, gathered, dropped)
    return ops.squeeze(x, dropped) if dropped else x


def _is_whole(bound: slice) -> bool:
    return bound.start is None and bound.stop is None and bound.step is None


def _position(position: Tensor) -> Tensor:
    if dtypes.kind(position.dtype) != 1:
        raise DTypeError(
            f"an index is an integer, a slice, None, an ellipsis or a mask, not {position.spec}",
            remedy="cast it to an integer dtype, or compare it for a mask of booleans",
        )
    return cast_to(position, "int64")


def _is_known(position: Tensor) -> bool:
    return position.value is not None and position.value.item() is not UNKNOWN


def _gather(x: Tensor, gathered: dict[int, Tensor], dropped: list[int]) -> Tensor:
    """Pick elements of several axes together: flatten the axes into one, and take from that."""
    axes = list(gathered)
    rest = [a for a in range(x.rank) if a not in gathered]
    sides = ops.shape_of(x)
    flat: Any = 0
    count: Any = 1
    for axis, position in gathered.items():
        side = sides[axis] if x.shape[axis] is None else x.shape[axis]
        flat, count = flat * side + ops.mod(position, side), count * side
    rows = ops.transpose(x, [*axes, *rest])
    kept = [sides[a] if x.shape[a] is None else x.shape[a] for a in rest]
    result = ops.take(ops.reshape(rows, [count, *kept]), flat, axis=0)
    if dropped:
        result = ops.squeeze(result, [flat.rank + rest.index(a) for a in dropped])
        rest = [a for a in rest if a not in dropped]
    if axes != list(range(axes[0], axes[-1] + 1)):
        return result
    # The axes of neighbouring tensors stay where they were.
    before = sum(a < axes[0] for a in rest)
    order = [*range(flat.rank, flat.rank + before), *range(flat.rank)]
    return ops.transpose(result, [*order, *range(flat.rank + before, result.rank)])


def _without_ellipsis(x: Tensor, items: list[Any]) -> list[Any]:
    consumed = sum(map(axes_of, items))
    if consumed > x.rank:
        raise ShapeError(f"{consumed} indices for a tensor of rank {x.rank}")
    rest = [slice(None)] * (x.rank - consumed)
    ellipses = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ShapeError("an index can hold one ellipsis only")
    place = ellipses[0] if ellipses else len(items)
    return [*items[:place], *rest, *items[place + 1 :]]
