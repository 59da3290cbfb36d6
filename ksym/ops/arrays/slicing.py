"""Slices: ranges with a step along each axis, and their gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.layout import Layout
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand, static
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.arrays.cropping import emit_range
from ksym.ops.arrays.extent import constant_difference, range_of, slice_positions
from ksym.ops.arrays.gathering import take_gradient
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
    steps, lengths = attributes["steps"], attributes.get("lengths", (None,) * len(shape))
    bounds = (known_dimensions(starts), known_dimensions(stops), steps, attributes["open"], lengths)
    if any(len(part) != len(shape) for part in bounds):
        raise ShapeError(f"there is not one slice for each of the {len(shape)} axes")
    if 0 in steps:
        raise ShapeError("the step of a slice is zero")
    sides: list[int | None] = []
    for side, start, stop, step, (open_start, open_stop), length in zip(
        shape, *bounds, strict=True
    ):
        if open_start and open_stop and abs(step) == 1:
            sides.append(side)
        elif side is None or (start is None and not open_start) or (stop is None and not open_stop):
            if side is not None and length is not None and length > side:
                raise ShapeError(f"a range of {length} elements is longer than an axis of {side}")
            sides.append(length)
        else:
            bound = slice(None if open_start else start, None if open_stop else stop, step)
            sides.append(len(range_of(bound, side, length)))
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
    whole = {"steps": 1, "open": (True, True), "lengths": None}
    return {name: (whole[name], *each) for name, each in node.attributes.items()}


def _lengths(bounds: Sequence[slice]) -> dict[str, tuple[int | None, ...]]:
    """Return the attribute for slices whose bounds are data, but a constant apart."""
    lengths = tuple(map(_length, bounds))
    return {} if not any(lengths) else {"lengths": lengths}


def _length(bound: slice) -> int | None:
    """Return the length of a slice with bounds that are data, if it is known and not empty."""
    pair = (bound.start, bound.stop)
    if not all(isinstance(end, Tensor) and end.rank == 0 and end.value is None for end in pair):
        return None
    difference = constant_difference(*pair)
    step = 1 if bound.step is None else int(bound.step)
    return None if difference is None else len(range(0, difference, step)) or None


def _by_data(node: Node, first: int) -> list[int]:
    """Return the axes along which the bounds of a slice, or of its gradient, are data."""
    ends = [node.inputs[first].value, node.inputs[first + 1].value]
    return [
        axis
        for axis, is_open in enumerate(node.attributes["open"])
        if any(
            not open_end and (value is None or value[axis] is UNKNOWN)
            for value, open_end in zip(ends, is_open, strict=True)
        )
    ]


def _element(vector: Tensor, position: int) -> Tensor:
    if vector.node.operator is ops.stack:
        return vector.node.inputs[position]
    element: Tensor = ops.take(vector, position)
    return element


def _positions(node: Node, first: int, axis: int, side: int) -> Tensor:
    """Return the positions that a slice, or its gradient, has along an axis, as data."""
    lengths = node.attributes.get("lengths")
    made: Tensor = slice_positions.make(
        [_element(ends, axis) for ends in node.inputs[first : first + 2]],
        {
            "side": side,
            "step": node.attributes["steps"][axis],
            "open": node.attributes["open"][axis],
            "length": None if lengths is None else lengths[axis],
        },
    )
    return made


def _without(node: Node, first: int, axes: Sequence[int]) -> tuple[list[Tensor], dict[str, Any]]:
    """Return the bounds and attributes of a slice that takes all along some axes."""
    attributes = {
        name: tuple(
            whole if axis in axes else own for axis, own in enumerate(node.attributes[name])
        )
        for name, whole in (("steps", 1), ("open", (True, True)))
    }
    bounds = []
    for ends in node.inputs[first : first + 2]:
        known = known_dimensions(ends)
        bounds.append(shape_operand([0 if end is None else end for end in known]))
    return bounds, attributes


def _check_bounds(bounds: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
    """Check the bounds and attributes of slices that were saved.

    Raises:
        GraphError: No call gives them.
    """
    steps, unbounded = attributes["steps"], attributes["open"]
    lengths = attributes.get("lengths", ())
    if not (
        {"steps", "open"} <= attributes.keys() <= {"steps", "open", "lengths"}
        and all(type(step) is int for step in steps)
        and all(len(pair) == 2 and {*map(type, pair)} == {bool} for pair in unbounded)
        and all(length is None or (type(length) is int and length > 0) for length in lengths)
        and all(ends.dtype == "int64" and ends.rank == 1 for ends in bounds)
    ):
        raise GraphError("these are no bounds of slices")


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
            **_lengths(bounds),
        }

    def check_saved(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
        _check_bounds(operands[1:], attributes)

    def infer(self, x: Tensor, starts: Tensor, stops: Tensor, **attributes: Any) -> Spec:
        return Spec(slice_sides(x.shape, starts, stops, attributes), x.dtype)

    def numpy(self, x: Any, starts: Any, stops: Any, **attributes: Any) -> Any:
        return x[_as_slices(starts, stops, attributes)]

    def takes_data(self, node: Node) -> bool:
        return True

    def is_composed(self, node: Node) -> bool:
        return False

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, starts: Any, stops: Any) -> Any:
        last = np.iinfo("int64")
        kept = [
            (axis, bound.start, bound.stop, bound.step)
            for axis, bound in enumerate(slice_bounds(node))
            if (bound.start, bound.stop, bound.step) != (None, None, 1)
        ]
        if not kept:
            return emit("Identity", x)
        axes, starts, stops, steps = zip(*kept, strict=True)
        begins = [
            (0 if step > 0 else last.max) if begin is None else begin
            for begin, step in zip(starts, steps, strict=True)
        ]
        ends = [
            (last.max if step > 0 else last.min) if end is None else end
            for end, step in zip(stops, steps, strict=True)
        ]
        return emit("Slice", x, *map(emit.constant, (begins, ends, axes, steps)))

    def expand(self, node: Node) -> Tensor:
        """Take the positions that the bounds give: the shape alone decides what is compiled."""
        axes = _by_data(node, 1)
        bounds, attributes = _without(node, 1, axes)
        x: Tensor = self.make([node.inputs[0], *bounds], attributes)
        for axis in axes:
            side = shapes.known(node.inputs[0].shape)[axis]
            x = ops.take(x, _positions(node, 1, axis, side), axis)
        return x

    def lower(self, emit: Emitter, node: Node, x: Any, starts: Any, stops: Any) -> Any:
        source = node.inputs[0].spec
        bounds = _native_bounds(slice_bounds(node), source.shape)
        if set(bounds["step"]) <= {1}:
            return emit_range(emit, x, source, bounds["begin"], bounds["end"])
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
        return Sample(x, attributes={"bounds": draw_bounds(draw, shape)})


def draw_bounds(draw: Draw, shape: Sequence[int]) -> Bounds:
    """Return slices of a shape, drawn for a test."""
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
        bounds: A slice for each of the leading axes; its bounds may be scalar tensors.  Where they
            are data and known to be a constant apart, as those of ``x[i:i + 5]``, the length is
            static, and the slice has to lie within the axis.

    Raises:
        ShapeError: There are more slices than axes, a step is zero, or, at the call, a slice of
            static length does not lie within the axis.
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

    def check_saved(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
        _check_bounds(operands[2:], attributes)

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

    def takes_data(self, node: Node) -> bool:
        return shapes.is_known(node.outputs[0].shape)

    def is_composed(self, node: Node) -> bool:
        return False

    def onnx(self, emit: OnnxEmitter, node: Node, g: Any, *_: Any) -> Any:
        """Take along each axis the element of g at its place, or the zero behind the last one."""
        out = node.outputs[0]
        for axis, bound in enumerate(slice_bounds(node, 2)):
            side = int(out.shape[axis] or 0)
            if (bound.start, bound.stop, bound.step) == (None, None, 1):
                continue
            count = int(node.inputs[0].shape[axis] or 0)
            places = np.full(side, count)
            places[bound] = np.arange(count)
            pads = [0] * (2 * out.rank)
            pads[out.rank + axis] = 1
            g = emit("Pad", g, emit.constant(pads), emit.constant(0, out.dtype))
            g = emit("Gather", g, emit.constant(places), axis=axis)
        return g

    def expand(self, node: Node) -> Tensor:
        """Add the elements of g at the positions that the bounds give."""
        axes, (g, shape, *_) = _by_data(node, 2), node.inputs
        target = shapes.known(node.outputs[0].shape)
        for axis in axes:
            order = [axis, *(a for a in range(g.rank) if a != axis)]
            sides = [target[axis], *(g.shape[a] for a in order[1:])]
            rows = ops.transpose(g, order)
            rows = take_gradient(rows, _positions(node, 2, axis, target[axis]), sides)
            g = ops.transpose(rows, shapes.inverse(order))
        bounds, attributes = _without(node, 2, axes)
        made: Tensor = self.make([g, shape, *bounds], attributes)
        return made

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
