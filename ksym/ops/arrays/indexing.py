"""Taking parts of tensors: slices, ``x[...]``, and gathering by integer tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, KsymError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.layout import Layout
from ksym.operator.operands import as_tensor, cast_to, known_dimensions, shape_operand, static
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.arrays.gathering import check_indices
from ksym.ops.arrays.shape import target_shape
from ksym.shapes import UNKNOWN

Bounds = tuple[slice, ...]


def slice_bounds(node: Node, first: int = 1) -> Bounds:
    """Return the Python slices of a node, from its attributes and two operands, from first on."""
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
    """Return the attributes of MXNet's slice operators."""
    begin, end, step = [], [], []
    for bound, side in zip(bounds, shape, strict=True):
        start, stop, by = bound.indices(int(side or 0))
        begin.append(start)
        # For an end before the first element MXNet takes None, as -1 would mean the last one.
        end.append(None if stop < 0 else stop)
        step.append(by)
    return {"begin": tuple(begin), "end": tuple(end), "step": tuple(step)}


def slice_sides(
    shape: shapes.Shape, starts: Tensor, stops: Tensor, attributes: Any
) -> shapes.Shape:
    """Return the shape of slices of a tensor of a shape.

    Raises:
        ShapeError: There are not as many bounds as axes, or a step is zero.
    """
    steps = attributes["steps"]
    bounds = (known_dimensions(starts), known_dimensions(stops), steps, attributes["open"])
    if any(len(part) != len(shape) for part in bounds):
        raise ShapeError(f"there is not one slice for each of the {len(shape)} axes")
    if 0 in steps:
        raise ShapeError("the step of a slice is zero")
    sides: list[int | None] = []
    for side, start, stop, step, (open_start, open_stop) in zip(shape, *bounds, strict=True):
        if open_start and open_stop and abs(step) == 1:
            sides.append(side)
        elif side is None or (start is None and not open_start) or (stop is None and not open_stop):
            sides.append(None)
        else:
            bound = slice(None if open_start else start, None if open_stop else stop, step)
            sides.append(len(range(*bound.indices(side))))
    return tuple(sides)


def _axis_by_axis(node: Node, first: int) -> Tensor:
    """Return the result of a slice, or of its gradient, by one axis after the other."""
    x, out = node.inputs[0], node.outputs[0].shape
    starts, stops = static(node, first), static(node, first + 1)
    sides = list(x.shape)
    for axis, side in enumerate(out):
        step, unbounded = (node.attributes[name][axis] for name in ("steps", "open"))
        if step == 1 and sides[axis] == side:
            continue
        operands = [ranks.reshaped(x, ranks.around(sides, [axis]))]
        sides[axis] = side
        if first > 1:
            operands.append(shape_operand(ranks.around(sides, [axis])))
        operands += [shape_operand((0, bounds[axis], 0)) for bounds in (starts, stops)]
        whole = (True, True)
        x = node.operator.make(operands, {"steps": (1, step, 1), "open": (whole, unbounded, whole)})
    return ranks.reshaped(x, out)


def _behind_first(bounds: Tensor) -> Tensor:
    """The bounds of slices, with one that is open in front of them."""
    return ops.concatenate([[0], bounds], 0)


def _all_of_first(node: Node) -> dict[str, tuple[object, ...]]:
    """The attributes of slices, with a slice of all in front of them."""
    return {
        "steps": (1, *node.attributes["steps"]),
        "open": ((True, True), *node.attributes["open"]),
    }


class _Slice(Operator):
    linear_in = (0,)
    viewing = True
    static_operands = (1, 2)

    def prepare(self, x: Any, bounds: Sequence[slice]) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if len(bounds) > x.rank:
            raise ShapeError(f"{len(bounds)} slices for a tensor of rank {x.rank}")
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
        return Spec(slice_sides(x.shape, starts, stops, attributes), x.dtype)

    def numpy(self, x: Any, starts: Any, stops: Any, **attributes: Any) -> Any:
        return x[_as_slices(starts, stops, attributes)]

    def lower(self, emit: Emitter, node: Node, x: Any, starts: Any, stops: Any) -> Any:
        bounds = _native_bounds(slice_bounds(node), node.inputs[0].shape)
        return emit("slice", x, **bounds)

    def merge_axes(self, node: Node) -> Tensor:
        return _axis_by_axis(node, 1)

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

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        x, *bounds = (operand.tensor for operand in operands)
        made: Tensor = self.make([x, *map(_behind_first, bounds)], _all_of_first(node))
        return made

    def is_view(self, node: Node) -> bool:
        return set(node.attributes["steps"]) <= {1}

    def layout(self, node: Node, operand: Layout) -> Layout:
        result = shapes.known(node.outputs[0].shape)
        offset, strides = operand.offset, operand.strides
        for side, bound, stride in zip(operand.shape, slice_bounds(node), strides, strict=True):
            offset += bound.indices(side)[0] * stride
        strides = tuple(0 if size == 1 else s for size, s in zip(result, strides, strict=True))
        return Layout(result, offset, strides)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"bounds": _draw_bounds(draw, shape)})


def _draw_bounds(draw: Draw, shape: Sequence[int]) -> Bounds:
    return tuple(
        slice(
            draw.choose((None, draw.integer(-side - 1, side))),
            draw.choose((None, None, draw.integer(-side - 1, side))),
            draw.choose((None, 1, 2, -1, -2)),
        )
        for side in shape
    )


slice_ = _Slice(
    "slice",
    doc="""Take a range with a step along each axis, by Python's rules for slices.

    Args:
        x: A tensor.
        bounds: A slice for each of the leading axes; its bounds may be scalar tensors.
    """,
)


class _SliceGradient(Operator):
    internal = "a part of the gradient of `slice`"
    linear_in = (0,)
    static_operands = (1, 2, 3)

    def prepare(
        self, g: Tensor, shape: Any, starts: Any, stops: Any, **attributes: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(g), *map(shape_operand, (shape, starts, stops))], attributes

    def infer(
        self, g: Tensor, shape: Tensor, starts: Tensor, stops: Tensor, **attributes: Any
    ) -> Spec:
        target = target_shape(shape)
        part = slice_sides(target, starts, stops, attributes)
        if not shapes.compatible(part, g.shape):
            raise ShapeError(f"the part has shape {part}, not {g.shape}")
        return Spec(target, g.dtype)

    def numpy(self, g: Any, shape: Any, starts: Any, stops: Any, **attributes: Any) -> Any:
        result = np.zeros(tuple(shape), g.dtype)
        result[_as_slices(starts, stops, attributes)] = g
        return result

    def lower(self, emit: Emitter, node: Node, g: Any, *_: Any) -> Any:
        out = node.outputs[0]
        nothing = emit("_zeros", shape=out.shape, dtype=out.dtype)
        if 0 in node.inputs[0].shape:
            return nothing
        bounds = _native_bounds(slice_bounds(node, 2), out.shape)
        return emit("_slice_assign", nothing, g, **bounds)

    def merge_axes(self, node: Node) -> Tensor:
        return _axis_by_axis(node, 2)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        _, _, starts, stops = node.inputs
        return [slice_.make([g, starts, stops], node.attributes), None, None, None]

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        g, shape, *bounds = (operand.tensor for operand in operands)
        shape = ops.concatenate([[length], shape], 0)
        made: Tensor = self.make([g, shape, *map(_behind_first, bounds)], _all_of_first(node))
        return made

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
    "slice_gradient", doc="Put g into zeros of a shape, where `slice` would take from."
)


_POSITIONS = "positions"
"""The mark in the key of a sample for the next of its arrays of positions."""


def _key_with(key: Sequence[Any], positions: Sequence[Any]) -> tuple[Any, ...]:
    """Return the key of a sample with arrays, or tensors, in their places."""
    given = iter(positions)
    return tuple(next(given) if item is _POSITIONS else item for item in key)


def _index_numpy(x: Any, *positions: Any, key: Sequence[Any]) -> Any:
    axes = [axis for axis, item in enumerate(key) if item is _POSITIONS]
    wrapped = [p % x.shape[axis] for p, axis in zip(positions, axes, strict=True)]
    return x[_key_with(key, wrapped)]


def _sample_index(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
    lead = draw.shape(max_rank=2)
    key: list[Any] = []
    positions: list[np.ndarray] = []
    for side, bounds in zip(shape, _draw_bounds(draw, shape), strict=True):
        kind = draw.choose(("slice", "number", "positions")) if side else "slice"
        if kind == "number":
            key.append(draw.integer(-side, side - 1))
        elif kind == "positions" and len(positions) < 2:
            key.append(_POSITIONS)
            positions.append(draw.array(lead, -side, side - 1, dtype="int64"))
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
    """Return ``x[key]``, by NumPy's rules for integers, slices, None, ``...`` and integer tensors.

    Several integer tensors are broadcast against each other and pick elements together; in the
    result their axes are at the place of the first of them, or in front if a slice or None is
    between them.  Indices that are not known while the graph is built wrap around.

    Raises:
        ShapeError: There are more indices than axes, or a static index is out of range.
        DTypeError: An index is not an integer.
    """
    x = as_tensor(x)
    try:
        return _index(x, list(key) if isinstance(key, tuple) else [key])
    except KsymError as error:
        raise error.located(operands=[x.spec]) from None


def _index(x: Tensor, items: list[Any]) -> Tensor:
    items = _without_ellipsis(x, items)
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
    if any(item != slice(None) for item in items):
        x = slice_(x, items)
    if len(gathered) == 1:
        ((axis, position),) = gathered.items()
        x = ops.take(x, position, axis)
        dropped = [a + position.rank - 1 if a > axis else a for a in dropped]
    elif gathered:
        return _gather(x, gathered, dropped)
    return ops.squeeze(x, dropped) if dropped else x


def _position(item: Any) -> Tensor:
    position = as_tensor(item)
    if dtypes.kind(position.dtype) != 1:
        raise DTypeError(
            f"an index is an integer, a slice, None or an ellipsis, not {position.spec}",
            remedy="cast it to an integer dtype",
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
    consumed = sum(item is not None and item is not Ellipsis for item in items)
    if consumed > x.rank:
        raise ShapeError(f"{consumed} indices for a tensor of rank {x.rank}")
    rest = [slice(None)] * (x.rank - consumed)
    ellipses = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ShapeError("an index can hold one ellipsis only")
    place = ellipses[0] if ellipses else len(items)
    return [*items[:place], *rest, *items[place + 1 :]]
