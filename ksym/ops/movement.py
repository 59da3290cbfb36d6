"""Joining, repeating, padding and reversing tensors, and making filled ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import (
    UNKNOWN,
    Draw,
    Emitter,
    Operator,
    Sample,
    as_tensor,
    cast_to,
    constant,
    known_dimensions,
    promoted,
    shape_operand,
    static,
)


def _common_shape(tensors: Sequence[Tensor], axis: int) -> list[int | None]:
    """The sizes that tensors share on all axes but one."""
    first = tensors[0]
    for tensor in tensors:
        if tensor.rank != first.rank:
            raise ShapeError(f"tensors of ranks {first.rank} and {tensor.rank} cannot be joined")
    rest: tuple[int | None, ...] = tuple(
        None if i == axis else d for i, d in enumerate(first.shape)
    )
    for tensor in tensors[1:]:
        rest = shapes.merge(
            rest, tuple(None if i == axis else d for i, d in enumerate(tensor.shape))
        )
    return list(rest)


class _Concatenate(Operator):
    def prepare(self, tensors: Any, axis: int = -1) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(*tensors)
        if not operands:
            raise ShapeError("there is nothing to concatenate")
        return operands, {"axis": shapes.axis(axis, operands[0].rank)}

    def infer(self, *tensors: Tensor, axis: int) -> Spec:
        shape = _common_shape(tensors, axis)
        shape[axis] = shapes.elementwise(
            lambda *sizes: sum(sizes), *(t.shape[axis] for t in tensors)
        )
        return Spec(tuple(shape), tensors[0].dtype)

    def numpy(self, *arrays: Any, axis: int) -> Any:
        return np.concatenate(arrays, axis=axis)

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        full = [v for v, t in zip(values, node.inputs, strict=True) if 0 not in t.shape]
        if len(full) == 1:
            return emit("_copy", full[0])
        return emit("_npi_concatenate", *full, num_args=len(full), axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        axis = node.attributes["axis"]
        parts: list[Tensor | None] = []
        start: Any = 0
        for tensor in node.inputs:
            size = tensor.shape[axis]
            stop = start + (ops.shape_of(tensor)[axis] if size is None else size)
            bounds = [slice(None)] * axis + [slice(start, stop)]
            parts.append(g[tuple(bounds)])
            start = stop
        return parts

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        return self(operands, order[node.attributes["axis"]]), order

    def simplify(self, node: Node) -> Tensor | None:
        return node.inputs[0] if len(node.inputs) == 1 else None

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(operands, **attributes)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        arrays = []
        for _ in range(draw.integer(1, 3)):
            own = list(shape)
            own[axis] = draw.integer(1, 3)
            arrays.append(draw.array(own))
        return Sample(*arrays, attributes={"axis": axis})


concatenate = _Concatenate(
    "concatenate",
    doc="""Join tensors along an axis they have.

    Args:
        tensors: Tensors of one rank, whose sizes agree on all other axes.
        axis: Where to join.

    Raises:
        ShapeError: The sizes on the other axes, or the ranks, differ.
    """,
)


class _Stack(Operator):
    def prepare(self, tensors: Any, axis: int = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(*tensors)
        if not operands:
            raise ShapeError("there is nothing to stack")
        return operands, {"axis": shapes.axis(axis, operands[0].rank + 1)}

    def infer(self, *tensors: Tensor, axis: int) -> Spec:
        shape = tensors[0].shape
        for tensor in tensors[1:]:
            shape = shapes.merge(shape, tensor.shape)
        return Spec((*shape[:axis], len(tensors), *shape[axis:]), tensors[0].dtype)

    def numpy(self, *arrays: Any, axis: int) -> Any:
        return np.stack(arrays, axis=axis)

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        return emit("_npi_stack", *values, num_args=len(values), axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        before = (slice(None),) * node.attributes["axis"]
        return [g[(*before, position)] for position in range(len(node.inputs))]

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(operands, **attributes)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape()
        arrays = [draw.array(shape) for _ in range(draw.integer(1, 3))]
        return Sample(*arrays, attributes={"axis": draw.integer(-len(shape) - 1, len(shape))})


stack = _Stack(
    "stack",
    doc="""Join tensors of one shape along a new axis.

    Args:
        tensors: Tensors of equal shapes.
        axis: The position of the new axis.
    """,
)


class _Tile(Operator):
    linear_in = (0,)
    static_operands = (1,)

    def prepare(self, x: Any, repeats: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, repeats = as_tensor(x), shape_operand(repeats)
        length = repeats.shape[0]
        if length is not None and length < x.rank:
            ones = as_tensor(np.ones(x.rank - length, dtype="int64"))
            repeats = concatenate([ones, repeats], axis=0)
        return [x, repeats], {}

    def infer(self, x: Tensor, repeats: Tensor) -> Spec:
        times = known_dimensions(repeats)
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

    def lower(self, emit: Emitter, node: Node, x: Any, repeats: Any) -> Any:
        return emit("_npi_tile", x, reps=tuple(int(t) for t in static(node, 1)))

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
        shape = draw.shape(max_rank=2)
        times = [draw.integer(1, 3) for _ in range(draw.integer(len(shape), 2))]
        return Sample(draw.array(shape), np.array(times, dtype="int64"))


tile = _Tile(
    "tile",
    doc="""Repeat x as a whole along its axes.

    Args:
        x: A tensor.
        repeats: How often along each axis; missing leading ones are 1, missing axes of x too.
    """,
)


class _Repeat(Operator):
    linear_in = (0,)

    def prepare(self, x: Any, repeats: int, axis: int) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if int(repeats) < 0:
            raise ShapeError(f"repeats is {repeats}, it cannot be negative")
        return [x], {"repeats": int(repeats), "axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, repeats: int, axis: int) -> Spec:
        shape = list(x.shape)
        shape[axis] = shapes.elementwise(lambda side: side * repeats, shape[axis])
        return Spec(tuple(shape), x.dtype)

    def numpy(self, x: Any, repeats: int, axis: int) -> Any:
        return np.repeat(x, repeats, axis)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_np_repeat", x, **node.attributes)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x,) = node.inputs
        axis, repeats = node.attributes["axis"], node.attributes["repeats"]
        shape = ops.shape_of(x)
        split = concatenate([shape[: axis + 1], [repeats], shape[axis + 1 :]], axis=0)
        return [ops.sum_(ops.reshape(g, split), axis=axis + 1)]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(draw.array(shape), attributes={"repeats": draw.integer(1, 3), "axis": axis})


repeat = _Repeat("repeat", doc="Repeat each slice of x along an axis a number of times.")


class _Pad(Operator):
    def prepare(
        self, x: Any, padding: Any, value: float = 0.0
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        pairs = tuple((int(before), int(after)) for before, after in padding)
        if len(pairs) != x.rank:
            raise ShapeError(f"{len(pairs)} pairs of padding for a tensor of rank {x.rank}")
        if any(amount < 0 for pair in pairs for amount in pair):
            raise ShapeError(f"the padding {pairs} is negative", remedy="slice to make smaller")
        return [x], {"padding": pairs, "value": float(value)}

    def infer(self, x: Tensor, padding: tuple[tuple[int, int], ...], value: float) -> Spec:
        return Spec(
            tuple(
                shapes.elementwise(lambda side, both=b + a: side + both, d)
                for d, (b, a) in zip(x.shape, padding, strict=True)
            ),
            x.dtype,
        )

    def numpy(self, x: Any, padding: Any, value: float) -> Any:
        return np.pad(x, padding, constant_values=value)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        padding, value = node.attributes["padding"], node.attributes["value"]
        if node.inputs[0].rank > 1:
            return pad_value(emit, x, padding, value)
        # MXNet misreads the padding of a vector.
        row = emit("_np_reshape", x, newshape=(1, -1))
        row = pad_value(emit, row, ((0, 0), *padding), value)
        return emit("_np_reshape", row, newshape=(-1,))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        cut = tuple(slice(b, -a if a else None) for b, a in node.attributes["padding"])
        return [g[cut]]

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        padding = [(0, 0)] * len(order)
        for pair, axis in zip(node.attributes["padding"], order, strict=True):
            padding[axis] = pair
        return self(operands[0], padding, node.attributes["value"]), order

    def simplify(self, node: Node) -> Tensor | None:
        return None if any(map(any, node.attributes["padding"])) else node.inputs[0]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        padding = tuple((draw.integer(0, 2), draw.integer(0, 2)) for _ in shape)
        value = draw.choose((0.0, 1.5))
        return Sample(draw.array(shape), attributes={"padding": padding, "value": value})


def pad_value(emit: Emitter, x: Any, padding: Any, value: float = 0.0) -> Any:
    """Emit padding of a tensor of two or more axes with a constant."""
    return emit("_npi_pad", x, pad_width=padding, mode="constant", constant_value=value)


pad = _Pad(
    "pad",
    doc="""Put a constant around x.

    Args:
        x: A tensor.
        padding: For each axis how many to put (before, after).
        value: What to put there.
    """,
)


class _Flip(Operator):
    linear_in = (0,)

    def prepare(self, x: Any, axes: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [x], {"axes": shapes.axes(axes, x.rank)}

    def infer(self, x: Tensor, axes: tuple[int, ...]) -> Spec:
        return x.spec

    def numpy(self, x: Any, axes: tuple[int, ...]) -> Any:
        return np.flip(x, axes)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_npi_flip", x, axis=node.attributes["axes"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [flip(g, node.attributes["axes"])]

    def simplify(self, node: Node) -> Tensor | None:
        return None if node.attributes["axes"] else node.inputs[0]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axes = [a for a in range(len(shape)) if draw.choose((True, False))] or [0]
        return Sample(draw.array(shape), attributes={"axes": axes})


flip = _Flip("flip", doc="Reverse the order of the elements of x along axes.")


class _Arange(Operator):
    static_operands = (0, 1, 2)

    def prepare(
        self, start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int64"
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if stop is None:
            start, stop = 0, start
        dtype = dtypes.canonical(dtype)
        for bound in (start, stop, step):
            if isinstance(bound, Tensor) and bound.rank:
                raise ShapeError(f"a bound is a number, not {bound.spec}")
        return [as_tensor(bound) for bound in (start, stop, step)], {"dtype": dtype}

    def infer(self, start: Tensor, stop: Tensor, step: Tensor, dtype: str) -> Spec:
        bounds = [t.value for t in (start, stop, step)]
        if any(b is None or b.item() is UNKNOWN for b in bounds):
            return Spec((None,), dtype)
        first, last, by = (b.item() for b in bounds if b is not None)
        if by == 0:
            raise ShapeError("the step is zero")
        return Spec((max(0, int(np.ceil((last - first) / by))),), dtype)

    def numpy(self, start: Any, stop: Any, step: Any, dtype: str) -> Any:
        return np.arange(start, stop, step).astype(dtype)

    def lower(self, emit: Emitter, node: Node, *bounds: Any) -> Any:
        first, last, by = (static(node, i).item() for i in range(3))
        return emit.constant(self.numpy(first, last, by, node.attributes["dtype"]))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [None, None, None]

    def sample(self, draw: Draw) -> Sample:
        start, step = draw.integer(-3, 3), draw.choose((-2, -1, 1, 2, 3))
        stop = start + step * draw.integer(1, 4)
        return Sample(np.array(start), np.array(stop), np.array(step))


arange = _Arange(
    "arange",
    doc="""Numbers from start to below stop in equal steps.

    Args:
        start: The first number; the end if stop is not given, and the start is then 0.
        stop: The end, not included.
        step: The difference between neighbours.
        dtype: The dtype of the result.

    The bounds may be scalar tensors computed from shapes.
    """,
)


def zeros(shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a tensor of zeros; the shape may be computed from other shapes."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a tensor of ones; the shape may be computed from other shapes."""
    return full(shape, 1, dtype)


def full(shape: Any, value: Any, dtype: Any = None) -> Tensor:
    """Return a tensor filled with one value, a number or a scalar tensor."""
    if not isinstance(value, Tensor):
        value = constant(value, dtype)
    elif dtype is not None:
        value = cast_to(value, dtypes.canonical(dtype))
    if value.rank:
        raise DTypeError(f"the filling value is a number, not {value.spec}")
    return ops.broadcast_to(value, shape)
