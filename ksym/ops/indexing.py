"""Taking parts of tensors: slices, ``x[...]``, and gathering by integer tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, KsymError, ShapeError
from ksym.graph import Node, Spec, Tensor, current_origin
from ksym.ops.registry import (
    UNKNOWN,
    Draw,
    Emitter,
    Operator,
    Sample,
    as_tensor,
    known_dimensions,
    shape_operand,
    static,
)

Bounds = tuple[slice, ...]


def _slices(node: Node, first: int) -> Bounds:
    """The Python slices of a node, from its static operands and attributes."""
    starts, stops = static(node, first), static(node, first + 1)
    return _as_slices(starts, stops, node.attributes)


def _as_slices(starts: Any, stops: Any, attributes: Any) -> Bounds:
    return tuple(
        slice(
            None if open_start else int(start),
            None if open_stop else int(stop),
            step,
        )
        for start, stop, step, (open_start, open_stop) in zip(
            starts, stops, attributes["steps"], attributes["open"], strict=True
        )
    )


def _native_bounds(bounds: Bounds, shape: shapes.Shape) -> dict[str, Any]:
    """The attributes of MXNet's slice operators."""
    begin, end, step = [], [], []
    for bound, side in zip(bounds, shape, strict=True):
        start, stop, by = bound.indices(int(side or 0))
        begin.append(start)
        # Below the first element MXNet wants None, as -1 would mean the last.
        end.append(None if stop < 0 else stop)
        step.append(by)
    return {"begin": tuple(begin), "end": tuple(end), "step": tuple(step)}


class _Slice(Operator):
    linear_in = (0,)
    static_operands = (1, 2)

    def prepare(self, x: Any, bounds: Sequence[slice]) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        bounds = [*bounds, *[slice(None)] * (x.rank - len(bounds))]
        starts, stops, steps, unbounded = [], [], [], []
        for bound in bounds:
            step = 1 if bound.step is None else int(bound.step)
            if step == 0:
                raise ShapeError("the step of a slice is zero")
            steps.append(step)
            unbounded.append((bound.start is None, bound.stop is None))
            starts.append(0 if bound.start is None else bound.start)
            stops.append(0 if bound.stop is None else bound.stop)
        return [x, shape_operand(starts), shape_operand(stops)], {
            "steps": tuple(steps),
            "open": tuple(unbounded),
        }

    def infer(self, x: Tensor, starts: Tensor, stops: Tensor, **attributes: Any) -> Spec:
        sides: list[int | None] = []
        entries = zip(
            x.shape,
            known_dimensions(starts),
            known_dimensions(stops),
            attributes["steps"],
            attributes["open"],
            strict=True,
        )
        for side, start, stop, step, (open_start, open_stop) in entries:
            if open_start and open_stop and abs(step) == 1:
                sides.append(side)
            elif (
                side is None
                or (start is None and not open_start)
                or (stop is None and not open_stop)
            ):
                sides.append(None)
            else:
                bound = slice(None if open_start else start, None if open_stop else stop, step)
                sides.append(len(range(*bound.indices(side))))
        return Spec(tuple(sides), x.dtype)

    def numpy(self, x: Any, starts: Any, stops: Any, **attributes: Any) -> Any:
        return x[_as_slices(starts, stops, attributes)]

    def lower(self, emit: Emitter, node: Node, x: Any, starts: Any, stops: Any) -> Any:
        return emit("slice", x, **_native_bounds(_slices(node, 1), node.inputs[0].shape))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, starts, stops = node.inputs
        return [
            slice_gradient.make([g, ops.shape_of(x), starts, stops], node.attributes),
            None,
            None,
        ]

    def simplify(self, node: Node) -> Tensor | None:
        whole = all(
            step == 1 and side == result
            for step, side, result in zip(
                node.attributes["steps"], node.inputs[0].shape, node.outputs[0].shape, strict=True
            )
        )
        return node.inputs[0] if whole and shapes.is_known(node.inputs[0].shape) else None

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        bounds = []
        for side in shape:
            start = draw.choose((None, draw.integer(-side, side - 1)))
            bounds.append(slice(start, None, draw.choose((None, 1, 2, -1, -2))))
        return Sample(draw.array(shape), attributes={"bounds": tuple(bounds)})


slice_ = _Slice(
    "slice",
    doc="""Take a range with a step along each axis, by Python's rules for slices.

    Args:
        x: A tensor.
        bounds: A slice for each of the leading axes; its bounds may be scalar tensors.
    """,
)


class _SliceGradient(Operator):
    linear_in = (0,)
    static_operands = (1, 2, 3)

    def prepare(
        self, g: Tensor, shape: Any, starts: Any, stops: Any, **attributes: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(g), *map(shape_operand, (shape, starts, stops))], attributes

    def infer(self, g: Tensor, shape: Tensor, *_: Tensor, **attributes: Any) -> Spec:
        return Spec(tuple(known_dimensions(shape)), g.dtype)

    def numpy(self, g: Any, shape: Any, starts: Any, stops: Any, **attributes: Any) -> Any:
        result = np.zeros(tuple(shape), g.dtype)
        result[_as_slices(starts, stops, attributes)] = g
        return result

    def lower(self, emit: Emitter, node: Node, g: Any, *_: Any) -> Any:
        out = node.outputs[0]
        nothing = emit("_zeros", shape=out.shape, dtype=out.dtype)
        if 0 in node.inputs[0].shape:
            return nothing
        return emit("_slice_assign", nothing, g, **_native_bounds(_slices(node, 2), out.shape))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        _, _, starts, stops = node.inputs
        return [slice_.make([g, starts, stops], node.attributes), None, None, None]

    def sample(self, draw: Draw) -> Sample:
        side, step = draw.integer(2, 5), draw.choose((1, 2, -1))
        length = len(range(*slice(None, None, step).indices(side)))
        return Sample(
            draw.array((length,)),
            np.array([side]),
            np.array([0]),
            np.array([0]),
            attributes={"steps": (step,), "open": ((True, True),)},
        )


slice_gradient = _SliceGradient(
    "slice_gradient", doc="Zeros of a shape, with g put where `slice` would take from."
)


class _Take(Operator):
    linear_in = (0,)

    def prepare(
        self, x: Any, indices: Any, axis: int = 0
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, indices = as_tensor(x), as_tensor(indices)
        return [x, indices], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, indices: Tensor, axis: int) -> Spec:
        if dtypes.kind(indices.dtype) != 1:
            raise DTypeError(
                f"indices are integers, not {indices.dtype}",
                remedy="cast them to int32 or int64; use boolean_mask for a mask",
            )
        return Spec((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

    def numpy(self, x: Any, indices: Any, axis: int) -> Any:
        return np.take(x, indices, axis=axis)

    def lower(self, emit: Emitter, node: Node, x: Any, indices: Any) -> Any:
        return emit("take", x, indices, axis=node.attributes["axis"], mode="wrap")

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, indices = node.inputs
        axis = node.attributes["axis"]
        # Bring the gathered axes to the front, where take_gradient adds rows up.
        moved = [*range(axis, axis + indices.rank), *range(axis)]
        moved += range(axis + indices.rank, g.rank)
        rows = ops.transpose(g, moved) if axis else g
        to_front = [axis, *(a for a in range(x.rank) if a != axis)]
        shape = ops.shape_of(x)
        if axis:
            shape = ops.concatenate([shape[a : a + 1] for a in to_front], axis=0)
        result = take_gradient(rows, indices, shape)
        return [ops.transpose(result, np.argsort(to_front).tolist()) if axis else result, None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        side = shape[axis]
        indices = draw.array(draw.shape(max_rank=2), -side, side - 1, dtype="int64")
        return Sample(draw.array(shape), indices, attributes={"axis": axis})


take = _Take(
    "take",
    doc="""Gather slices of x along an axis by integer indices.

    Args:
        x: A tensor.
        indices: Integers of any shape; negative ones count from the end.  Ones outside of the axis
            wrap around, as there is no check inside of a native graph.
        axis: The axis the indices count along; their axes replace it in the result.
    """,
)


class _TakeGradient(Operator):
    linear_in = (0,)
    static_operands = (2,)

    def prepare(self, g: Any, indices: Any, shape: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(g), as_tensor(indices), shape_operand(shape)], {}

    def infer(self, g: Tensor, indices: Tensor, shape: Tensor) -> Spec:
        return Spec(tuple(known_dimensions(shape)), g.dtype)

    def numpy(self, g: Any, indices: Any, shape: Any) -> Any:
        result = np.zeros(tuple(shape), g.dtype)
        np.add.at(result, indices, g)
        return result

    def lower(self, emit: Emitter, node: Node, g: Any, indices: Any, shape: Any) -> Any:
        out = node.outputs[0]
        if 0 in node.inputs[0].shape:
            return emit("_zeros", shape=out.shape, dtype=out.dtype)
        rows = shapes.size(node.inputs[1].shape)
        flat = emit("_np_reshape", indices, newshape=(1, rows))
        flat = emit("_npi_mod_scalar", flat, scalar=out.shape[0])
        g = emit("_np_reshape", g, newshape=(rows, *out.shape[1:]))
        return emit("_backward_gather_nd", g, flat, shape=out.shape)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [take(g, node.inputs[1], axis=0), None, None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, max_rank=2)
        indices = draw.array(draw.shape(max_rank=2), 0, shape[0] - 1, dtype="int64")
        return Sample(
            draw.array((*indices.shape, *shape[1:])), indices, np.array(shape, dtype="int64")
        )


take_gradient = _TakeGradient(
    "take_gradient", doc="Zeros of a shape, to whose rows those of g are added by their indices."
)


class _OneHot(Operator):
    def prepare(
        self, indices: Any, depth: int, dtype: Any = dtypes.DEFAULT_FLOAT
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(indices)], {"depth": int(depth), "dtype": dtypes.canonical(dtype)}

    def infer(self, indices: Tensor, depth: int, dtype: str) -> Spec:
        if dtypes.kind(indices.dtype) != 1:
            raise DTypeError(
                f"indices are integers, not {indices.dtype}", remedy="cast them to int32 or int64"
            )
        return Spec((*indices.shape, depth), dtype)

    def numpy(self, indices: Any, depth: int, dtype: str) -> Any:
        return (np.asarray(indices)[..., None] == np.arange(depth)).astype(dtype)

    def lower(self, emit: Emitter, node: Node, indices: Any) -> Any:
        return emit("one_hot", indices, **node.attributes)

    def sample(self, draw: Draw) -> Sample:
        depth = draw.integer(1, 4)
        indices = draw.array(draw.shape(), -1, depth, dtype="int64")
        return Sample(indices, attributes={"depth": depth})


one_hot = _OneHot(
    "one_hot",
    doc="""Mark each index by a one among zeros on a new last axis.

    Args:
        indices: Integers; one outside of the range from 0 to depth - 1 gives zeros only.
        depth: The size of the new axis.
        dtype: The dtype of the result.
    """,
)


def index(x: Tensor, key: Any) -> Tensor:
    """Return ``x[key]``, by NumPy's rules for integers, slices, None, ``...`` and integer tensors.

    One axis at a time may be indexed by a tensor.

    Raises:
        ShapeError: There are more indices than axes, or a static index is out of range.
        DTypeError: An index is not an integer.
    """
    try:
        return _index(x, list(key) if isinstance(key, tuple) else [key])
    except KsymError as error:
        raise error.located("index", [x.spec], current_origin()) from None


def _index(x: Tensor, items: list[Any]) -> Tensor:
    bounds: list[slice] = []
    gathered: tuple[int, Tensor] | None = None
    dropped: list[int] = []
    added: list[int] = []
    position = 0  # the axis of the result that comes next
    for item in _without_ellipsis(x, items):
        axis = len(bounds)
        if item is None:
            added.append(position)
            position += 1
            continue
        if isinstance(item, slice):
            bounds.append(item)
            position += 1
            continue
        number = as_tensor(item)
        if dtypes.kind(number.dtype) != 1:
            raise DTypeError(
                f"an index is an integer, a slice, None or an ellipsis, not {number.spec}",
                remedy="cast it to an integer dtype",
            )
        if number.rank == 0 and number.value is not None and number.value.item() is not UNKNOWN:
            bounds.append(_single(x, axis, int(number.value)))
            dropped.append(axis)
        elif gathered is None:
            gathered = (axis, number)
            bounds.append(slice(None))
            position += number.rank
        else:
            raise ShapeError(
                "only one axis can be indexed by a tensor at a time", remedy="index step by step"
            )
    result: Tensor = x if all(b == slice(None) for b in bounds) else slice_(x, bounds)
    if gathered:
        axis, number = gathered
        result = take(result, number, axis=axis)
        dropped = [a + number.rank - 1 if a > axis else a for a in dropped]
    if dropped:
        result = ops.squeeze(result, dropped)
    for axis in added:
        result = ops.expand_dims(result, axis)
    return result


def _without_ellipsis(x: Tensor, items: list[Any]) -> list[Any]:
    consumed = sum(item is not None and item is not Ellipsis for item in items)
    if consumed > x.rank:
        raise ShapeError(f"{consumed} indices for a tensor of rank {x.rank}")
    rest = [slice(None)] * (x.rank - consumed)
    ellipses = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ShapeError("an index can hold one ellipsis only")
    place = ellipses[0] if ellipses else len(items)
    return [*items[:place], *rest, *items[place + 1 :]]


def _single(x: Tensor, axis: int, position: int) -> slice:
    side = x.shape[axis]
    if side is not None and not -side <= position < side:
        raise ShapeError(f"index {position} is out of range for axis {axis} of size {side}")
    return slice(position, position + 1 if position != -1 else None)
