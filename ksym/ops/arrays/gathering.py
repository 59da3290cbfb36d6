"""Gathering by integer tensors, and its gradient."""

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
from ksym.operator.operands import as_tensor, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.shape import target_shape
from ksym.shapes import UNKNOWN

__all__ = ["take", "one_hot"]


EXACT = {"float32": 1 << 24, "float64": 1 << 53}
"""The integers up to which each float holds all."""


def check_indices(indices: Tensor, side: int | None) -> None:
    """Raise an error for indices that an axis does not have.

    Raises:
        DTypeError: The indices are not integers.
        ShapeError: The axis is empty, or a known index lies outside of it.
    """
    if dtypes.kind(indices.dtype) != 1:
        raise DTypeError(
            f"indices are integers, not {indices.dtype}",
            remedy="cast them to int32 or int64; for a mask use ksym.boolean_mask(x, mask)",
        )
    count = shapes.size(indices.shape)
    if side is None or count == 0:
        return
    if side == 0 and count is None:
        return  # without indices an empty axis is no error, which may show only at the call
    if side == 0:
        raise ShapeError("an axis without elements cannot be indexed")
    if indices.value is not None:
        for position in indices.value.flat:
            if position is not UNKNOWN and not -side <= position < side:
                raise ShapeError(f"index {position} is out of range for an axis of size {side}")


def onnx_wrapped(emit: OnnxEmitter, tensor: Tensor, indices: Any, side: int | None) -> Any:
    """Write indices modulo a side, unless they are known to lie within the axis."""
    if tensor.value is not None and all(-(side or 0) <= i < (side or 0) for i in tensor.value.flat):
        return indices
    indices = emit("Cast", indices, to=np.dtype("int64"))
    return emit("Mod", indices, emit.constant(side))


class _Take(Operator):
    linear_in = (0,)

    def prepare(
        self, x: Any, indices: Any, axis: int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, indices = as_tensor(x), as_tensor(indices)
        if axis is None:
            x, axis = x if x.rank == 1 else ops.ravel(x), 0
        return [x, indices], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, indices: Tensor, axis: int) -> Spec:
        check_indices(indices, x.shape[axis])
        return Spec((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

    def numpy(self, x: Any, indices: Any, axis: int | None) -> Any:
        side = x.size if axis is None else x.shape[axis]
        # mode="wrap" subtracts the side over and over: 2**62 takes years.
        return np.take(x, np.mod(indices, side) if side else indices, axis=axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, indices: Any) -> Any:
        axis = node.attributes["axis"]
        indices = onnx_wrapped(emit, node.inputs[1], indices, node.inputs[0].shape[axis])
        return emit("Gather", x, indices, axis=axis)

    def lower(self, emit: Emitter, node: Node, x: Any, indices: Any) -> Any:
        return emit("take", x, indices, axis=node.attributes["axis"], mode="wrap")

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, indices = node.inputs
        axis = node.attributes["axis"]
        # Move the gathered axes to the front, where take_gradient adds rows.
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
        axis = draw.choose((None, *range(-len(shape), len(shape))))
        side = math.prod(shape) if axis is None else shape[axis]
        indices = draw.array(
            draw.shape(max_rank=2, min_side=0), -side, side - 1, dtype=draw.dtype("integer")
        )
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, indices, attributes={"axis": axis})


take = _Take(
    "take",
    doc="""Gather slices of x along an axis, or elements, by integer indices.

    Args:
        x: A tensor.
        indices: Integers of any shape; negative ones count from the end.  Ones outside of the axis
            wrap around, as there is no check inside of a native graph.
        axis: The axis the indices count along; their axes replace it in the result.  By default
            they count the elements of x in row-major order.
    """,
)


def _wrapped(emit: Emitter, indices: Any, dtype: str, side: int) -> Any:
    """Emit indices modulo a side."""
    if dtype in ("int8", "uint8"):
        indices = emit("Cast", indices, dtype="int64")
    if dtype != "int64":
        return emit("_npi_mod_scalar", indices, scalar=side)
    # MXNet's modulo goes through doubles, which hold integers up to 2**53 only.
    whole, nothing = (emit.constant(np.array(n, dtype)) for n in (side, 0))
    times = emit("broadcast_div", indices, whole)  # towards zero
    rest = emit("_npi_subtract", indices, emit("_npi_multiply", times, whole))
    below = emit("Cast", emit("_npi_less", rest, nothing), dtype=dtype)
    return emit("_npi_add", rest, emit("_npi_multiply", below, whole))


class _TakeGradient(Operator):
    internal = "a part of the gradient of `take`"
    linear_in = (0,)
    static_operands = (2,)

    def prepare(self, g: Any, indices: Any, shape: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(g), as_tensor(indices), shape_operand(shape)], {}

    def infer(self, g: Tensor, indices: Tensor, shape: Tensor) -> Spec:
        target = target_shape(shape)
        if not target:
            raise ShapeError("a scalar has no rows to add to")
        check_indices(indices, target[0])
        if not shapes.compatible(g.shape, indices.shape + target[1:]):
            raise ShapeError(
                f"the rows have shape {g.shape}, expected is {indices.shape + target[1:]}"
            )
        if g.dtype == "bool":
            raise DTypeError("booleans cannot be added up", remedy="cast them to int32 or int64")
        return Spec(target, g.dtype)

    def numpy(self, g: Any, indices: Any, shape: Any) -> Any:
        result = np.zeros(tuple(shape), g.dtype)
        if result.shape[0]:
            np.add.at(result, np.mod(indices, result.shape[0]), g)
        return result

    def onnx(self, emit: OnnxEmitter, node: Node, g: Any, indices: Any, shape: Any) -> Any:
        out, rows = node.outputs[0], node.inputs[1]
        indices = onnx_wrapped(emit, rows, indices, out.shape[0])
        indices = emit("Unsqueeze", indices, emit.constant([rows.rank]))
        nothing = emit("Expand", emit.constant(0, out.dtype), emit.constant(out.shape))
        return emit("ScatterND", nothing, indices, g, reduction="add")

    def lower(self, emit: Emitter, node: Node, g: Any, indices: Any, shape: Any) -> Any:
        out = node.outputs[0]
        if 0 in node.inputs[0].shape:
            return emit("_zeros", shape=out.shape, dtype=out.dtype)
        rows = shapes.size(node.inputs[1].shape)
        flat = _wrapped(emit, indices, node.inputs[1].dtype, int(out.shape[0] or 0))
        if out.dtype in ("float32", "float64") and int(out.shape[0] or 0) <= EXACT[out.dtype]:
            return self._lower_floats(emit, node, g, flat)
        flat = emit("_np_reshape", flat, newshape=(1, rows))
        g = emit("_np_reshape", g, newshape=(rows, *out.shape[1:]))
        if out.dtype not in ("int8", "uint8"):
            return emit("_backward_gather_nd", g, flat, shape=out.shape)
        # MXNet does not have it for small integers.
        g = emit("Cast", g, dtype="int32")
        total = emit("_backward_gather_nd", g, flat, shape=out.shape)
        return emit("Cast", total, dtype=out.dtype)

    def _lower_floats(self, emit: Emitter, node: Node, g: Any, indices: Any) -> Any:
        """Emit the gradient kernel of MXNet's `take`, which is three times as fast.

        It has a gradient by the indices too, of the dtype of the rows, so that must be theirs.
        """
        out, rows = node.outputs[0], shapes.size(node.inputs[1].shape) or 0
        sides = shapes.known(out.shape)
        table = Spec((sides[0], math.prod(sides[1:])), out.dtype)
        by_indices = Spec((rows,), out.dtype)  # nothing reads it
        flat = emit("_np_reshape", indices, newshape=by_indices.shape)
        flat = emit("Cast", flat, dtype=out.dtype)
        # The shapes are inferred from a forward node; the kernel reads no table.
        anything = emit("_zeros", shape=table.shape, dtype=table.dtype)
        options: dict[str, Any] = {"axis": 0, "mode": "wrap"}
        total, _ = emit.backward(
            "_backward_take",
            emit("_np_reshape", g, newshape=(rows, table.shape[1])),
            flat,
            of=emit("take", anything, flat, **options),
            results=[table, by_indices],
            **options,
        )
        return emit("_np_reshape", total, newshape=sides)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [take(g, node.inputs[1], axis=0), None, None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, max_rank=2)
        indices = draw.array(draw.shape(max_rank=2), 0, shape[0] - 1, dtype=draw.dtype("integer"))
        g = draw.array((*indices.shape, *shape[1:]), dtype=draw.dtype("float", "integer"))
        return Sample(g, indices, np.array(shape, dtype="int64"))


take_gradient = _TakeGradient(
    "take_gradient", doc="Add the rows of g by their indices to zeros of a shape."
)


class _OneHot(Operator):
    def call(self, indices: Any, depth: Any, dtype: Any = dtypes.DEFAULT_FLOAT) -> Any:
        if not isinstance(depth, Tensor):
            made: Tensor = super().call(indices, depth, dtype)
            return made
        with self.named():
            indices = as_tensor(indices)
            check_indices(indices, None)
            if depth.rank or dtypes.kind(depth.dtype) != 1:
                raise DTypeError(f"the depth is an integer, not {depth.spec}")
            here = ops.equal(ops.expand_dims(indices, indices.rank), ops.arange(depth))
            return ops.cast(here, dtype)

    def prepare(
        self, indices: Any, depth: int, dtype: Any = dtypes.DEFAULT_FLOAT
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        (depth,) = shapes.known(shapes.normalize(depth))
        return [as_tensor(indices)], {"depth": depth, "dtype": dtypes.canonical(dtype)}

    def infer(self, indices: Tensor, depth: int, dtype: str) -> Spec:
        check_indices(indices, None)
        return Spec((*indices.shape, depth), dtype)

    def numpy(self, indices: Any, depth: int, dtype: str) -> Any:
        return (np.asarray(indices)[..., None] == np.arange(depth)).astype(dtype)

    def onnx(self, emit: OnnxEmitter, node: Node, indices: Any) -> Any:
        source, depth = node.inputs[0], node.attributes["depth"]
        indices = emit("Cast", indices, to=np.dtype("int64"))
        indices = emit("Unsqueeze", indices, emit.constant([source.rank]))
        here = emit("Equal", indices, emit.constant(np.arange(depth)))
        return emit("Cast", here, to=np.dtype(node.attributes["dtype"]))

    def lower(self, emit: Emitter, node: Node, indices: Any) -> Any:
        depth, dtype = node.attributes["depth"], node.attributes["dtype"]
        if node.inputs[0].dtype == "int64":
            # MXNet reads an index as 32 bits, by which 2**32 would be 0.
            indices = emit("_npi_maximum", indices, emit.constant(np.array(-1)))
            indices = emit("_npi_minimum", indices, emit.constant(np.array(depth)))
        marks = "uint8" if dtype == "bool" else dtype
        result = emit("one_hot", indices, depth=depth, dtype=marks)
        return emit("Cast", result, dtype="bool") if dtype == "bool" else result

    def sample(self, draw: Draw) -> Sample:
        depth = draw.integer(1, 4)
        indices = draw.array(draw.shape(min_side=0), -1, depth, dtype=draw.dtype("integer"))
        dtype = draw.choose(("float32", "int64", "bool"))
        return Sample(indices, attributes={"depth": depth, "dtype": dtype})


one_hot = _OneHot(
    "one_hot",
    doc="""Mark each index by a one among zeros on a new last axis.

    Args:
        indices: Integers; one outside of the range from 0 to depth - 1 gives zeros only.
        depth: The size of the new axis: an int, or a scalar tensor.
        dtype: The dtype of the result.
    """,
)
