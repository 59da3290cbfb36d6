"""Broadcasting to a shape, and the sum that reverses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, cast_to, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.arrays.shape import target_shape
from ksym.ops.leaves import is_constant

__all__ = ["broadcast_to"]


class _BroadcastTo(Operator):
    linear_in = (0,)
    static_operands = (1,)

    def prepare(self, x: Any, shape: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x), shape_operand(shape)], {}

    def infer(self, x: Tensor, shape: Tensor) -> Spec:
        target = target_shape(shape)
        met = shapes.broadcast(x.shape, target)
        if len(met) != len(target) or not shapes.compatible(met, target):
            raise ShapeError(f"the shape {x.shape} cannot be stretched to {target}")
        return Spec(
            tuple(t if t is not None else m for t, m in zip(target, met, strict=True)), x.dtype
        )

    def numpy(self, x: Any, shape: Any) -> Any:
        return np.broadcast_to(x, tuple(shape))

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, shape: Any) -> Any:
        return emit("Expand", x, emit.constant(node.outputs[0].shape))

    def lower(self, emit: Emitter, node: Node, x: Any, shape: Any) -> Any:
        source, out = node.inputs[0], node.outputs[0]
        if is_constant(source) and source.rank == 0 and out.rank and source.dtype != "bool":
            assert source.value is not None
            number = source.value.item()
            if abs(number) < 2**53:
                return emit("_full", shape=out.shape, value=number, dtype=out.dtype)
        if source.shape == out.shape:
            return emit("_copy", x)
        return emit("_npi_broadcast_to", x, shape=out.shape)

    def merge_axes(self, node: Node) -> Tensor:
        return ranks.stretched(node.inputs[0], node.outputs[0].shape)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [sum_to(g, ops.shape_of(node.inputs[0])), None]

    def simplify(self, node: Node) -> Tensor | None:
        x, out = node.inputs[0], node.outputs[0]
        return x if x.shape == out.shape and shapes.is_known(x.shape) else None

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        x, out = operands[0].tensor, shapes.known(node.outputs[0].shape)
        sides = x.shape[1:]
        x = ops.reshape(x, (length, *(1,) * (len(out) - len(sides)), *sides))
        return broadcast_to(x, (length, *out))

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        own = [draw.choose((side, 1)) for side in shape][draw.integer(0, len(shape)) :]
        x = draw.array(own, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, np.array(shape, dtype="int64"))


broadcast_to = _BroadcastTo(
    "broadcast_to",
    doc="""Broadcast x to a shape by NumPy's rules.

    Raises:
        ShapeError: x does not broadcast to that shape.
    """,
)


class _SumTo(Operator):
    internal = "a part of gradients of what is broadcast"
    linear_in = (0,)
    static_operands = (1,)

    def prepare(self, x: Any, shape: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x), shape_operand(shape)], {}

    def infer(self, x: Tensor, shape: Tensor) -> Spec:
        target = target_shape(shape)
        stretched = shapes.broadcast(x.shape, target)
        if len(target) > x.rank or not shapes.compatible(stretched, x.shape):
            raise ShapeError(f"the shape {target} does not broadcast to {x.shape}")
        if x.dtype == "bool":
            raise DTypeError("booleans cannot be summed up", remedy="cast them to int32 or int64")
        return Spec(target, x.dtype)

    def numpy(self, x: Any, shape: Any) -> Any:
        shape = tuple(int(d) for d in shape)
        extra = x.ndim - len(shape)
        x = x.sum(axis=tuple(range(extra)), dtype=x.dtype) if extra else x
        stretched = tuple(i for i, d in enumerate(shape) if d == 1 and x.shape[i] != 1)
        return x.sum(axis=stretched, keepdims=True, dtype=x.dtype) if stretched else x

    def expand(self, node: Node) -> Tensor:
        x, target = node.inputs[0], node.outputs[0].shape
        extra = x.rank - len(target)
        over = [i for i in range(x.rank) if i < extra or (target[i - extra] == 1 != x.shape[i])]
        if not over:
            return x
        summed = ops.sum_(x, axis=over, keepdims=True)
        result: Tensor = ops.reshape(summed, target) if extra else summed
        return cast_to(result, x.dtype)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [broadcast_to(g, ops.shape_of(node.inputs[0])), None]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        own = [draw.choose((side, 1)) for side in shape][draw.integer(0, len(shape)) :]
        x = draw.array(shape, dtype=draw.dtype("float", "integer"))
        return Sample(x, np.array(own, dtype="int64"))


sum_to = _SumTo(
    "sum_to",
    doc="""Sum x over the axes along which an array of this shape would be stretched to x's.

    The reverse of `broadcast_to`: its gradient, and the gradient of every broadcasting operator.
    """,
)
