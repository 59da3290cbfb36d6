"""Operators that repeat and reverse tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand, static
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.arrays.concatenation import concatenate, stack
from ksym.ops.arrays.shape import without_bool

__all__ = ["tile", "repeat", "flip"]


class _Tile(Operator):
    linear_in = (0,)
    static_operands = (1,)

    def prepare(self, x: Any, reps: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, repeats = as_tensor(x), shape_operand(reps)
        length = repeats.shape[0]
        if length is not None and length < x.rank:
            ones = as_tensor(np.ones(x.rank - length, dtype="int64"))
            repeats = concatenate([ones, repeats], axis=0)
        return [x, repeats], {}

    def infer(self, x: Tensor, repeats: Tensor) -> Spec:
        times = known_dimensions(repeats)
        if any(t is not None and t < 0 for t in times):
            raise ShapeError(f"the repeats {tuple(times)} are negative")
        sides = (1,) * (len(times) - x.rank) + x.shape
        return Spec(
            tuple(
                shapes.elementwise(lambda a, b: a * b, s, t)
                for s, t in zip(sides, times, strict=True)
            ),
            x.dtype,
        )

    def numpy(self, x: Any, repeats: Any) -> Any:
        return np.tile(x, tuple(repeats))

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, repeats: Any) -> Any:
        source, out = node.inputs[0], node.outputs[0]
        if out.rank > source.rank:
            shape = [*[1] * (out.rank - source.rank), *source.shape]
            x = emit("Reshape", x, emit.constant(shape), allowzero=1)
        return emit("Tile", x, emit.constant(static(node, 1)))

    def lower(self, emit: Emitter, node: Node, x: Any, repeats: Any) -> Any:
        times = tuple(int(t) for t in static(node, 1))
        if len(times) <= 3:
            return emit("_npi_tile", x, reps=times)
        # The kernel fails, or does not write results of more axes: one axis at a time, as rows.
        sides: list[Any] = [1] * (len(times) - node.inputs[0].rank) + list(node.inputs[0].shape)
        for axis, count in enumerate(times):
            if count != 1:
                rows = (math.prod(sides[:axis]), math.prod(sides[axis:]))
                x = emit("_npi_tile", emit("_np_reshape", x, newshape=rows), reps=(1, count))
                sides[axis] *= count
        return emit("_np_reshape", x, newshape=tuple(sides))

    def simplify(self, node: Node) -> Tensor | None:
        (x, repeats), out = node.inputs, node.outputs[0]
        sides = (1,) * (out.rank - x.rank) + x.shape
        if not shapes.is_known(out.shape) or 0 in out.shape or repeats.value is None:
            return None
        if any(side != 1 and t != 1 for side, t in zip(sides, repeats.value, strict=True)):
            return None
        return ops.broadcast_to(x, out.shape)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, repeats = node.inputs
        # Split each axis into (times, side) and sum the times away.
        rank = node.outputs[0].rank
        sides = ops.shape_of(x)
        if rank > x.rank:
            sides = concatenate([np.ones(rank - x.rank, dtype="int64"), sides], axis=0)
        split = ops.reshape(stack([repeats, sides], axis=1), (2 * rank,))
        summed = ops.sum_(ops.reshape(g, split), axis=range(0, 2 * rank, 2))
        return [ops.reshape(summed, ops.shape_of(x)), None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(max_rank=2, min_side=0)
        times = [draw.integer(0, 3) for _ in range(draw.integer(len(shape), 2))]
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, np.array(times, dtype="int64"))


tile = _Tile(
    "tile",
    doc="""Repeat x as a whole along its axes.

    Args:
        x: A tensor.
        reps: The count along each axis; missing leading ones are 1, missing axes of x too.
    """,
)


class _Repeat(Operator):
    linear_in = (0,)

    def call(self, x: Any, repeats: Any, axis: Any = None) -> Any:
        counts = repeats if isinstance(repeats, Tensor) else None
        if isinstance(repeats, list | tuple) and any(isinstance(n, Tensor) for n in repeats):
            counts = as_tensor(repeats)
        if counts is None:
            made: Tensor = super().call(x, repeats, axis)
            return made
        with self.named():
            return _repeated_by(as_tensor(x), counts, axis)

    def prepare(
        self, x: Any, repeats: Any, axis: Any = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if axis is None:
            x, axis = ops.reshape(x, (-1,)), 0
        axis = shapes.axis(axis, x.rank)
        if isinstance(repeats, int | np.integer):
            times: int | shapes.Shape = shapes.normalize(repeats)[0] or 0
        else:
            times = shapes.known(shapes.normalize(repeats))
        return [x], {"repeats": times, "axis": axis}

    def infer(self, x: Tensor, repeats: Any, axis: int) -> Spec:
        shape = list(x.shape)
        if isinstance(repeats, int):
            shape[axis] = shapes.elementwise(lambda side: side * repeats, shape[axis])
        elif shape[axis] not in (None, len(repeats)):
            raise ShapeError(f"{len(repeats)} repeats for an axis of size {shape[axis]}")
        else:
            shape[axis] = sum(repeats)
        return Spec(tuple(shape), x.dtype)

    def numpy(self, x: Any, repeats: Any, axis: int) -> Any:
        return np.repeat(x, repeats, axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        repeats, axis = node.attributes["repeats"], node.attributes["axis"]
        if not isinstance(repeats, int):
            return emit("Gather", x, emit.constant(_repeated(repeats)), axis=axis)
        x = emit("Unsqueeze", x, emit.constant([axis + 1]))
        times = [repeats if a == axis + 1 else 1 for a in range(node.inputs[0].rank + 1)]
        x = emit("Tile", x, emit.constant(times))
        return emit("Reshape", x, emit.constant(node.outputs[0].shape), allowzero=1)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        repeats, axis = node.attributes["repeats"], node.attributes["axis"]
        if isinstance(repeats, int):
            out = node.outputs[0]
            if 0 in out.shape:
                return emit("_zeros", shape=out.shape, dtype=out.dtype)
            # MXNet's `repeat` takes four times as long as stretching an axis of one element.
            sides = shapes.known(node.inputs[0].shape)
            flat = (math.prod(sides[: axis + 1]), 1, math.prod(sides[axis + 1 :]))
            x = emit("_np_reshape", x, newshape=flat)
            stretched = without_bool(
                emit, out, x, lambda v: emit("broadcast_axis", v, axis=1, size=repeats)
            )
            return emit("_np_reshape", stretched, newshape=out.shape)
        return emit("take", x, emit.constant(_repeated(repeats)), axis=axis, mode="wrap")

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x,) = node.inputs
        axis, repeats = node.attributes["axis"], node.attributes["repeats"]
        shape = ops.shape_of(x)
        split = concatenate([shape[: axis + 1], [repeats], shape[axis + 1 :]], axis=0)
        return [ops.sum_(ops.reshape(g, split), axis=axis + 1)]

    def differentiable_form(self, node: Node) -> Sequence[Tensor] | None:
        repeats = node.attributes["repeats"]
        if isinstance(repeats, int):
            return None
        return [ops.take(node.inputs[0], _repeated(repeats), node.attributes["axis"])]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        axis = draw.choose((None, *range(-len(shape), len(shape))))
        side = int(np.prod(shape)) if axis is None else shape[axis]
        each = tuple(draw.integer(0, 2) for _ in range(side))
        return Sample(
            draw.array(shape, dtype=draw.dtype("float", "integer", "bool")),
            attributes={"repeats": draw.choose((draw.integer(0, 3), each)), "axis": axis},
        )


def _repeated(repeats: Sequence[int]) -> np.ndarray:
    """Return the place of each slice of a repetition in its operand."""
    return np.repeat(np.arange(len(repeats)), repeats)


def _repeated_by(x: Tensor, counts: Tensor, axis: Any) -> Tensor:
    """Repeat slices as often as tensors say: one scalar for all, or a vector with one for each."""
    if counts.rank > 1 or dtypes.kind(counts.dtype) != 1:
        raise DTypeError(f"repeats are an integer or a vector of them, not {counts.spec}")
    if axis is None:
        x, axis = ops.reshape(x, (-1,)), 0
    axis = shapes.axis(axis, x.rank)
    if counts.rank:
        if not shapes.compatible(counts.shape, x.shape[axis : axis + 1]):
            raise ShapeError(f"{counts.shape[0]} repeats for an axis of size {x.shape[axis]}")
        taken: Tensor = ops.take(x, ops.repeat_positions(counts, ops.shape_of(x)[axis]), axis)
        return taken
    sides = ops.shape_of(x)
    between = ops.expand_dims(x, axis + 1)
    times = ops.reshape(ops.cast(counts, "int64"), (1,))
    wide = ops.broadcast_to(
        between, concatenate([sides[: axis + 1], times, sides[axis + 1 :]], axis=0)
    )
    target = [x.shape[a] if x.shape[a] is not None else sides[a] for a in range(x.rank)]
    target[axis] = target[axis] * counts
    result: Tensor = ops.reshape(wide, target)
    return result


repeat = _Repeat(
    "repeat",
    doc="""Repeat each slice of x along an axis.

    Args:
        x: A tensor.
        repeats: The count: one number for all slices, or one for each of them; a scalar tensor or a
            vector too.
        axis: The axis; by default the elements are taken in a row.
    """,
)


class _Flip(Operator):
    linear_in = (0,)

    def prepare(self, x: Any, axis: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [x], {"axis": shapes.axes(axis, x.rank)}

    def infer(self, x: Tensor, axis: tuple[int, ...]) -> Spec:
        return x.spec

    def numpy(self, x: Any, axis: Any) -> Any:
        return np.flip(x, axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        axes = node.attributes["axis"]
        bounds = ([number] * len(axes) for number in (-1, np.iinfo("int64").min))
        starts, ends = map(emit.constant, bounds)
        return emit("Slice", x, starts, ends, emit.constant(axes), emit.constant([-1] * len(axes)))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        axis = node.attributes["axis"]
        return without_bool(emit, node.inputs[0], x, lambda v: emit("_npi_flip", v, axis=axis))

    def merge_axes(self, node: Node) -> Tensor:
        (x,), axes = node.inputs, node.attributes["axis"]
        shape = x.shape
        for run in ranks.runs([None if d == 1 else a in axes for a, d in enumerate(shape)]):
            if run[0] in axes:
                x = flip(ranks.reshaped(x, ranks.around(shape, run)), 1)
        return ranks.reshaped(x, shape)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [flip(g, node.attributes["axis"])]

    def simplify(self, node: Node) -> Tensor | None:
        return None if node.attributes["axis"] else node.inputs[0]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        some = tuple(a for a in range(len(shape)) if draw.choose((True, False)))
        axis = draw.choose((None, -1, some))
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"axis": axis})


flip = _Flip(
    "flip",
    doc="""Reverse the order of the elements of x along axes.

    Args:
        x: A tensor.
        axis: An axis or several; by default all.
    """,
)
