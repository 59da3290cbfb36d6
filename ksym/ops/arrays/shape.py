"""The operator for shapes as values, and operators that change the shape of a tensor.

Operators whose result shape is an argument take it as a tensor, so that it may be computed from
other tensors' shapes; once the input shapes of a call are known, every such tensor is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.layout import Layout, contiguous
from ksym.operator.operands import as_tensor, known_dimensions, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.reductions.reduction import Reduction
from ksym.shapes import UNKNOWN

__all__ = ["shape_of", "reshape", "transpose", "expand_dims", "squeeze"]


class _ShapeOf(Operator):
    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x)], {}

    def infer(self, x: Tensor) -> Spec:
        return Spec((x.rank,), "int64")

    def track_values(self, node: Node) -> None:
        # The shape is known even if the operand's value is not.
        dimensions = node.inputs[0].shape
        value = np.array([UNKNOWN if d is None else d for d in dimensions], dtype=object)
        known = shapes.is_known(dimensions)
        node.outputs[0].value = value.astype("int64") if known else value

    def numpy(self, x: Any) -> Any:
        return np.array(np.shape(x), dtype="int64")

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        return emit("Shape", x)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit.constant(static_shape(node.inputs[0]))

    def sample(self, draw: Draw) -> Sample:
        return Sample(draw.array(draw.shape(min_side=0)), differentiate=())


def without_bool(emit: Emitter, x: Tensor, value: Any, kernel: Callable[[Any], Any]) -> Any:
    """Emit a kernel that MXNet lacks for booleans, with uint8 in their place."""
    if x.dtype != "bool":
        return kernel(value)
    return emit("Cast", kernel(emit("Cast", value, dtype="uint8")), dtype="bool")


def static_shape(x: Tensor) -> np.ndarray:
    """Return the shape of a tensor of known shape as an int64 vector."""
    return np.array(x.shape, dtype="int64")


shape_of = _ShapeOf("shape_of", doc="Return the shape of x as an int64 vector.")


def _without_units(shape: shapes.Shape) -> list[int | None]:
    return [size for size in shape if size != 1]


class _Reshaping(Operator):
    """Another shape for the elements in row-major order."""

    linear_in = (0,)
    viewing = True

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, *shape: Any) -> Any:
        return emit("Reshape", x, emit.constant(node.outputs[0].shape), allowzero=1)

    def lower(self, emit: Emitter, node: Node, x: Any, *shape: Any) -> Any:
        return emit("_np_reshape", x, newshape=node.outputs[0].shape)

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        return reshape(operands[0].tensor, (length, *shapes.known(node.outputs[0].shape)))

    def is_view(self, node: Node) -> bool:
        x = node.inputs[0]
        if _without_units(x.shape) == _without_units(node.outputs[0].shape):
            return True
        # Other shapes are seen in what lies row by row.
        while isinstance(x.node.operator, _Reshaping):
            x = x.node.inputs[0]
        return not x.node.operator.viewing

    def simplify(self, node: Node) -> Tensor | None:
        (x, *_), shape = node.inputs, node.outputs[0].shape
        if not isinstance(x.node.operator, _Reshaping) or shape.count(None) > 1:
            return None
        before = x.node.inputs[0]
        return before if before.shape == shape else None

    def layout(self, node: Node, operand: Layout) -> Layout:
        shape, result = operand.shape, shapes.known(node.outputs[0].shape)
        if operand.strides == contiguous(shape):
            return Layout(result, operand.offset, contiguous(result))
        moving = iter(s for size, s in zip(shape, operand.strides, strict=True) if size != 1)
        strides = tuple(0 if size == 1 else next(moving) for size in result)
        return Layout(result, operand.offset, strides)


class _Reshape(_Reshaping):
    static_operands = (1,)

    def prepare(self, x: Any, shape: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x), shape_operand(shape)], {}

    def infer(self, x: Tensor, shape: Tensor) -> Spec:
        target = known_dimensions(shape)
        if any(d is not None and d < -1 for d in target):
            raise ShapeError(
                f"the target shape {tuple(target)} has a negative size",
                remedy="only -1 has a meaning: the size is inferred",
            )
        return Spec(shapes.reshape(x.shape, target), x.dtype)

    def known(self, x: Tensor, shape: Tensor) -> np.ndarray | None:
        assert x.value is not None
        assert shape.value is not None
        return x.value.reshape([int(d) for d in shape.value])

    def numpy(self, x: Any, shape: Any) -> Any:
        return np.reshape(x, tuple(shape))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [reshape(g, shape_of(node.inputs[0])), None]

    def simplify(self, node: Node) -> Tensor | None:
        x, shape = node.inputs
        if x.shape == node.outputs[0].shape and x.shape.count(None) <= 1:
            return x
        if isinstance(x.node.operator, _Reshaping):
            return reshape(x.node.inputs[0], shape)
        if isinstance(x.node.operator, Reduction) and x.node.attributes["keepdims"]:
            reduced, axis = x.node.inputs[0], x.node.attributes["axis"]
            if node.outputs[0].shape == shapes.reduce(reduced.shape, axis, False):
                return x.node.operator(reduced, axis)
        return None

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        target = [int(np.prod(shape[:1])), -1] if shape else [1, 1]
        if 0 in shape:
            target = [0, *shape[::-1]]
        return Sample(
            draw.array(shape, dtype=draw.dtype("float", "integer", "bool")), np.array(target)
        )


reshape = _Reshape(
    "reshape",
    doc="""Give the elements of x, in row-major order, another shape.

    Args:
        x: A tensor.
        shape: Sizes, one of which may be -1 to be inferred: ints, scalar tensors, or a vector.

    Raises:
        ShapeError: The number of elements differs.
    """,
)


class _Transpose(Operator):
    linear_in = (0,)
    viewing = True

    def prepare(self, x: Any, axes: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        order = range(x.rank)[::-1] if axes is None else [shapes.axis(a, x.rank) for a in axes]
        return [x], {"axes": tuple(order)}

    def infer(self, x: Tensor, axes: tuple[int, ...]) -> Spec:
        if sorted(axes) != list(range(x.rank)):
            raise ShapeError(
                f"{axes} does not name each of the {x.rank} axes once",
                remedy=f"give a permutation of {tuple(range(x.rank))}",
            )
        return Spec(tuple(x.shape[a] for a in axes), x.dtype)

    def numpy(self, x: Any, axes: tuple[int, ...]) -> Any:
        return np.transpose(x, axes)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        return emit("Transpose", x, perm=node.attributes["axes"])

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if node.inputs[0].rank < 2:
            return emit("_copy", x)
        return without_bool(
            emit,
            node.inputs[0],
            x,
            lambda value: emit("transpose", value, axes=node.attributes["axes"]),
        )

    def merge_axes(self, node: Node) -> Tensor:
        return ranks.permuted(node.inputs[0], node.attributes["axes"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [transpose(g, shapes.inverse(node.attributes["axes"]))]

    def simplify(self, node: Node) -> Tensor | None:
        (x,) = node.inputs
        axes = node.attributes["axes"]
        if axes == tuple(range(x.rank)):
            return x
        moved = [a for a in axes if x.shape[a] != 1]
        if moved == sorted(moved) and shapes.is_known(x.shape):
            return reshape(x, node.outputs[0].shape)
        if x.node.operator is transpose:
            inner = x.node.attributes["axes"]
            return transpose(x.node.inputs[0], tuple(inner[a] for a in axes))
        return None

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        return transpose(operands[0].tensor, (0, *(a + 1 for a in node.attributes["axes"])))

    def is_view(self, node: Node) -> bool:
        # Elements that are side by side stay so.
        shape = node.inputs[0].shape
        moved = [axis for axis in node.attributes["axes"] if shape[axis] != 1]
        return not moved or moved[-1] == max(moved)

    def layout(self, node: Node, operand: Layout) -> Layout:
        strides = tuple(operand.strides[axis] for axis in node.attributes["axes"])
        return Layout(shapes.known(node.outputs[0].shape), operand.offset, strides)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        axes = list(range(len(shape)))
        for i in range(len(axes)):
            j = draw.integer(i, len(axes) - 1)
            axes[i], axes[j] = axes[j], axes[i]
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"axes": tuple(axes)})


transpose = _Transpose(
    "transpose",
    doc="""Permute the axes of x.

    Args:
        x: A tensor.
        axes: For each axis of the result which axis of x it is; by default the order is reversed.
    """,
)


class _ExpandDims(_Reshaping):
    def call(self, x: Any, axis: int | Sequence[int]) -> Any:
        if isinstance(axis, int | np.integer):
            return super().call(x, axis)
        x = as_tensor(x)
        for a in shapes.axes(axis, x.rank + len(axis)):
            x = super().call(x, a)
        return x

    def prepare(self, x: Any, axis: int) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [x], {"axis": shapes.axis(axis, x.rank + 1)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return Spec((*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)

    def numpy(self, x: Any, axis: Any) -> Any:
        return np.expand_dims(x, axis)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [squeeze(g, node.attributes["axis"])]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        axis = draw.choose(((0, -1), draw.integer(-len(shape) - 1, len(shape))))
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"axis": axis})


expand_dims = _ExpandDims(
    "expand_dims",
    doc="""Insert axes of size 1.

    Args:
        x: A tensor.
        axis: The place of the new axis in the result, or of each of several.

    Raises:
        ShapeError: The result has no such axis.
    """,
)


class _Squeeze(_Reshaping):
    def prepare(self, x: Any, axis: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if axis is None:
            axis = [i for i, d in enumerate(x.shape) if d == 1]
        return [x], {"axis": shapes.axes(axis, x.rank)}

    def infer(self, x: Tensor, axis: tuple[int, ...]) -> Spec:
        for a in axis:
            if x.shape[a] not in (1, None):
                raise ShapeError(f"axis {a} has size {x.shape[a]}, only size 1 can be removed")
        return Spec(shapes.reduce(x.shape, axis, keepdims=False), x.dtype)

    def numpy(self, x: Any, axis: tuple[int, ...]) -> Any:
        return np.squeeze(x, axis)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        for a in node.attributes["axis"]:
            g = expand_dims(g, a)
        return [g]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        axis = draw.integer(0, len(shape))
        x = draw.array(
            (*shape[:axis], 1, *shape[axis:]), dtype=draw.dtype("float", "integer", "bool")
        )
        return Sample(x, attributes={"axis": axis})


squeeze = _Squeeze(
    "squeeze",
    doc="""Remove axes of size 1.

    Args:
        x: A tensor.
        axis: An axis or several; by default all that are known to have size 1.

    Raises:
        ShapeError: An axis has another size.
    """,
)


def target_shape(shape: Tensor) -> shapes.Shape:
    """Return the known part of a shape operand, none of whose entries may be negative."""
    return shapes.normalize(known_dimensions(shape))
