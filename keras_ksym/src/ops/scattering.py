"""Functions of Keras's module core that put elements at positions, and take ranges."""

from __future__ import annotations

from typing import Any

import ksym
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.arrays import sizes
from keras_ksym.src.tensor import Tensor, kept, made, tensor

__all__ = ["scatter", "scatter_update", "slice", "slice_update"]


@operation
def scatter(indices: Operand, values: Operand, shape: Any) -> Tensor:
    """Return zeros of a shape to which values are added at positions."""
    places = ksym.cast(indices.graph, "int64")
    return made(ksym.scatter_nd(places, values.graph, sizes(shape)), values.dtype)


@operation
def scatter_update(
    inputs: Operand, indices: Operand, updates: Operand, reduction: str | None = None
) -> Tensor:
    """Return a tensor with updates at positions: in place of its elements, or combined with them.

    Args:
        inputs: The tensor.
        indices: Positions along the leading axes, (count, axes).
        updates: (count, ...), of the dtype of the inputs.
        reduction: None, "add", "max", "min" or "mul".
    """
    places = ksym.cast(indices.graph, "int64")
    key = tuple(places[..., axis] for axis in range(places.shape[-1] or 0))
    new = updates.graph_in(inputs.dtype)
    graph = inputs.graph
    if reduction is None:
        return kept(ksym.index_update(graph, key, new), inputs)
    if reduction == "add":
        return made(ksym.index_add(graph, key, new), inputs.dtype)
    if reduction not in ("max", "min", "mul"):
        raise ValueError(f"Unsupported reduction: {reduction}")
    shape = ksym.shape_of(graph)
    depth = places.shape[-1] or 0
    flat = ksym.constant(0, "int64")
    for axis in range(depth):
        flat = flat * shape[axis] + places[..., axis]
    count = ksym.prod(shape[:depth])
    rest = [shape[axis] for axis in range(depth, graph.rank)]
    rows = ksym.reshape(graph, [count, *rest])
    flat = ksym.reshape(flat, (-1,))
    new = ksym.reshape(
        ksym.broadcast_to(
            new, [*(ksym.shape_of(places)[i] for i in range(places.rank - 1)), *rest]
        ),
        [-1, *rest],
    )
    reduce = {"max": ksym.segment_max, "min": ksym.segment_min, "mul": ksym.segment_prod}[reduction]
    reduced = reduce(
        ksym.concatenate([rows, new], 0),
        ksym.concatenate([ksym.arange(count), flat], 0),
        count,
    )
    return made(ksym.reshape(reduced, shape), inputs.dtype)


def _starts(start_indices: Any, rank: int) -> list[ksym.Tensor]:
    if isinstance(start_indices, list | tuple):
        return [ksym.cast(tensor(s).graph, "int64") for s in start_indices]
    graph = ksym.cast(tensor(start_indices).graph, "int64")
    return [graph[axis] for axis in range(rank)]


def _positions(start: ksym.Tensor, count: Any, side: Any) -> ksym.Tensor:
    """Return the positions of a range, moved inside of an axis as JAX does."""
    first = ksym.maximum(ksym.minimum(start, side - count), 0)
    return first + ksym.arange(count)


@operation
def slice(inputs: Operand, start_indices: Operand, shape: Any) -> Tensor:
    """Return the part of a tensor that begins at some positions and has a shape."""
    graph = inputs.graph
    starts, sides = _starts(start_indices, graph.rank), ksym.shape_of(graph)
    if len(shape) != graph.rank:
        raise ValueError(
            "Length of `start_indices` must match length of `shape`. "
            f"Received: start_indices={start_indices}, shape={shape}"
        )
    for axis, wanted in enumerate(sizes(shape)):
        whole = graph.shape[axis]
        start = starts[axis].value
        if wanted is whole and start is not None and not int(start):
            continue
        count = sides[axis] - starts[axis] if isinstance(wanted, int) and wanted == -1 else wanted
        graph = ksym.take(graph, _positions(starts[axis], count, sides[axis]), axis)
    return kept(graph, inputs)


@operation
def slice_update(inputs: Operand, start_indices: Operand, updates: Operand) -> Tensor:
    """Return a tensor with the part that begins at some positions replaced by updates."""
    graph, new = inputs.graph, updates.graph_in(inputs.dtype)
    starts, sides = _starts(start_indices, graph.rank), ksym.shape_of(graph)
    counts = ksym.shape_of(new)
    key = []
    for axis in range(graph.rank):
        places = _positions(starts[axis], counts[axis], sides[axis])
        after = graph.rank - 1 - axis
        key.append(ksym.reshape(places, [-1, *(1 for _ in range(after))]))
    if not key:
        return kept(new, inputs)
    return kept(ksym.index_update(graph, tuple(key), new), inputs)
