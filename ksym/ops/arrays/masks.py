"""Boolean masks in keys: ``x[mask]`` by NumPy's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Tensor
from ksym.operator.operands import as_tensor
from ksym.ops.arrays.dynamic import mask_positions, unraveled
from ksym.ops.leaves import is_constant


def key_item(item: Any) -> Any:
    """Return an item of a key: slices, None and ``...`` as they are, all else as a tensor.

    Raises:
        DTypeError: It is a single truth value.
    """
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    position = as_tensor(item)
    if position.dtype != "bool" or position.rank:
        return position
    if isinstance(item, Tensor):
        raise DTypeError(
            "a single truth value is no mask",
            remedy="choose by ksym.where(condition, x, y), or by ksym.cond",
        )
    raise DTypeError(
        f"the key is Python's {bool(item)}, not a mask",
        remedy="where it was computed as x == y or x != y, write ksym.equal(x, y) or "
        "ksym.not_equal(x, y): tensors are compared by identity",
    )


def is_mask(item: Any) -> bool:
    """Return whether an item of a key is a mask."""
    return isinstance(item, Tensor) and item.dtype == "bool"


def axes_of(item: Any) -> int:
    """Return the number of axes of x that an item of a key is for."""
    if item is None or item is Ellipsis:
        return 0
    return item.rank if is_mask(item) else 1


def without_masks(x: Tensor, items: Sequence[Any]) -> tuple[Tensor, list[Any]]:
    """Replace the masks in a key by the positions at which they are true.

    Args:
        x: The tensor that the key is for.
        items: Slices, None, integer tensors and masks, for all axes of x.

    Returns:
        x, and items without masks.  A mask of several axes that picks alone picks from these axes
        in a row, so that nothing is computed from the positions.

    Raises:
        ShapeError: A mask has another shape than the axes it is for.
    """
    alone = sum(isinstance(item, Tensor) for item in items) == 1
    result: list[Any] = []
    axis = 0
    for item in items:
        if not is_mask(item):
            result.append(item)
        elif alone and item.rank > 1 and not _is_known(x, axis, item):
            sides = ops.shape_of(x)
            over = sides[axis : axis + item.rank]
            result.append(mask_positions(item, over))
            row = ops.reshape(ops.prod(over), (1,))
            flat = ops.concatenate([sides[:axis], row, sides[axis + item.rank :]])
            x = ops.reshape(x, flat)
        else:
            result += _places(x, axis, item)
        axis += axes_of(item)
    return x, result


def _is_known(x: Tensor, axis: int, mask: Tensor) -> bool:
    return is_constant(mask) and shapes.is_known(x.shape[axis : axis + mask.rank])


def _places(x: Tensor, axis: int, mask: Tensor) -> list[Tensor]:
    """Return for each axis of a mask where it is true."""
    if _is_known(x, axis, mask):
        over = x.shape[axis : axis + mask.rank]
        if mask.shape != over:
            raise ShapeError(f"a mask of shape {mask.shape} does not fit axes of shape {over}")
        return [as_tensor(places) for places in np.nonzero(np.asarray(mask.value))]
    sides = ops.shape_of(x)[axis : axis + mask.rank]
    return unraveled(mask_positions(mask, sides), sides, mask.rank)
