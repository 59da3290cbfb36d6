"""Merging axes: the same results by nodes of fewer axes, because MXNet's kernels take few.

Neighbouring axes that an operator treats alike are merged into one, and axes of size 1 are dropped.
An operator that has too many left is applied to one run of axes after the other.  Each operator
declares its way in `Operator.merge_axes`, with the functions here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ksym import ops, shapes
from ksym.graph import Node, Tensor

MOST = 5
"""The number of axes that all kernels take: broadcasts, reductions and slices know no more."""

MOST_PERMUTED = 6
"""The number of axes that MXNet permutes."""


def reshaped(x: Tensor, shape: Sequence[int | None]) -> Tensor:
    """Reshape x, skipping reshapes that it is the result of."""
    while x.node.operator is ops.reshape:
        x = x.node.inputs[0]
    return x if x.shape == tuple(shape) else ops.reshape(x, shapes.known(tuple(shape)))


def runs(labels: Sequence[Any]) -> list[list[int]]:
    """Return the runs of neighbouring axes of equal labels; axes labelled None belong to no run."""
    found: list[list[int]] = []
    last: Any = None
    for axis, label in enumerate(labels):
        if label is None:
            continue
        if not found or label != last:
            found.append([])
        found[-1].append(axis)
        last = label
    return found


def merged(shape: Sequence[int | None], groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the sizes of groups of axes."""
    return tuple(math.prod(int(shape[axis] or 0) for axis in group) for group in groups)


def around(shape: Sequence[int | None], group: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the axes before a run of axes, of the run, and of those behind it."""
    first, last = group[0], group[-1] + 1
    return merged(shape, (range(first), range(first, last), range(last, len(shape))))


def _leading_ones(shape: shapes.Shape, rank: int) -> shapes.Shape:
    return (1,) * (rank - len(shape)) + shape


def stretched(x: Tensor, shape: shapes.Shape) -> Tensor:
    """Return x broadcast to a shape of any rank."""
    own = list(_leading_ones(x.shape, len(shape)))
    if own == list(shape):
        return reshaped(x, shape)
    groups = runs([None if b == 1 else a == b for a, b in zip(own, shape, strict=True)])
    if len(groups) <= MOST:
        x = reshaped(x, merged(own, groups)) if x.rank else x
        return reshaped(ops.broadcast_to(x, merged(shape, groups)), shape)
    for group in groups:
        if own[group[0]] == shape[group[0]]:
            continue
        before, _, after = around(own, group)
        for axis in group:
            own[axis] = shape[axis]
        x = ops.broadcast_to(reshaped(x, (before, 1, after)), around(own, group))
    return reshaped(x, shape)


def elementwise(node: Node) -> Tensor:
    """Return an elementwise node's result on merged axes, broadcast first if too many are left."""
    shape = node.outputs[0].shape
    own = [_leading_ones(tensor.shape, len(shape)) for tensor in node.inputs]
    groups: Sequence[Sequence[int]] = runs(
        [None if side == 1 else [a[i] == 1 for a in own] for i, side in enumerate(shape)]
    )
    operands = list(node.inputs)
    if len(groups) > MOST:
        operands = [stretched(tensor, shape) if tensor.rank else tensor for tensor in operands]
        groups, own = [range(len(shape))], [shape] * len(own)
    operands = [
        reshaped(tensor, merged(sides, groups) or (1,)) if tensor.rank else tensor
        for tensor, sides in zip(operands, own, strict=True)
    ]
    return reshaped(node.operator.make(operands, node.attributes), shape)


def permuted(x: Tensor, order: Sequence[int]) -> Tensor:
    """Return x with its axes in another order, moving a few groups of them at a time."""
    result = [x.shape[axis] for axis in order]
    sides, order = _groups_moved(x.shape, order)
    while len(order) > MOST_PERMUTED:
        # The next two groups to their places: six groups at most are moved.
        fixed = int(order[0] == 0)
        first = [*range(fixed), *order[fixed : fixed + 2]]
        first += [axis for axis in range(len(order)) if axis not in first]
        x = _permuted_at_once(x, sides, first)
        sides = [sides[axis] for axis in first]
        sides, order = _groups_moved(sides, [first.index(axis) for axis in order])
    return reshaped(_permuted_at_once(x, sides, order), result)


def _permuted_at_once(x: Tensor, sides: Sequence[int | None], order: Sequence[int]) -> Tensor:
    sides, order = _groups_moved(sides, order)
    return x if len(order) < 2 else ops.transpose(reshaped(x, sides), order)


def _groups_moved(
    sides: Sequence[int | None], order: Sequence[int]
) -> tuple[list[int | None], list[int]]:
    """Return a permutation of groups of axes that stay together, as their sizes and an order."""
    kept = [axis for axis in range(len(sides)) if sides[axis] != 1]
    places = [kept.index(axis) for axis in order if sides[axis] != 1]
    groups = _neighbours(places)
    by_place = sorted(groups)
    sizes = merged([sides[axis] for axis in kept], by_place)
    return list(sizes), [by_place.index(group) for group in groups]


def _neighbours(places: Sequence[int]) -> list[list[int]]:
    """Split numbers where one is not the successor of the one before it."""
    found: list[list[int]] = []
    for place in places:
        if found and place == found[-1][-1] + 1:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def along(node: Node) -> Tensor:
    """Return the result of a node of one operand that works along one axis, by three axes."""
    (x,), axis = node.inputs, node.attributes["axis"]
    result = node.operator.make(
        [reshaped(x, around(x.shape, [axis]))], {**node.attributes, "axis": 1}
    )
    return reshaped(result, node.outputs[0].shape)


def stacks(node: Node) -> list[Tensor]:
    """Return the results of a node that works on stacks of matrices, by stacks along one axis."""
    batch = shapes.broadcast(*(tensor.shape[:-2] for tensor in node.inputs))
    operands = []
    for tensor in node.inputs:
        matrix = tensor.shape[-2:]
        if tensor.rank > 2:  # all kernels broadcast a single matrix
            whole = stretched(tensor, (*batch, *matrix))
            tensor = reshaped(whole, (*merged(batch, [range(len(batch))]), *matrix))
        operands.append(tensor)
    made = node.operator.make(operands, node.attributes)
    results = [made] if isinstance(made, Tensor) else made
    return [reshaped(new, old.shape) for new, old in zip(results, node.outputs, strict=True)]
