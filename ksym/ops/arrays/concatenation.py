"""Operators that join tensors, along an axis that is there or along a new one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import KNOWN_SIZE_LIMIT, Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import promoted
from ksym.operator.sampling import Draw, Sample
from ksym.shapes import UNKNOWN

__all__ = ["concatenate", "stack"]


def _common_shape(tensors: Sequence[Tensor], axis: int) -> list[int | None]:
    """Return the sizes that tensors share on all axes but one."""
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


SHORT_RUN = 32
"""Where fewer elements than this lie behind the axis, operands are joined as rows, see below."""

FEW_JOINED = 512
"""Below so many elements in all, reshaping the operands takes longer than it saves."""


def _pays_as_rows(shape: tuple[int, ...], axis: int) -> bool:
    """Return whether oneDNN's concatenation of rows is faster than MXNet's of any axis.

    MXNet goes through the result run by run, a run being the elements behind the axis; oneDNN has a
    kernel for matrices of float32 that copies what an operand gives to a row at once.  A call that
    joins three operands and reads one element, one thread, in microseconds:

    =========================  =======  ========
    each operand               MXNet's  oneDNN's
    =========================  =======  ========
    (20, 32, 128), axis 2         5173       304
    (1000,)                         41        24
    (64, 16, 16, 8), axis 2       1207       346
    (64, 16, 16, 16), axis 2      1205       496
    (64, 16, 16, 32), axis 2      1677      1689
    (64, 16, 16, 64), axis 2      3937      4069
    (8, 16), axis 1               13.8      13.0
    (4, 8), axis 1                11.0      12.8
    =========================  =======  ========
    """
    return math.prod(shape[axis + 1 :]) < SHORT_RUN and math.prod(shape) >= FEW_JOINED


def joined(
    emit: Emitter, parts: Sequence[tuple[Any, tuple[int, ...]]], axis: int, dtype: str
) -> Any:
    """Emit the concatenation of values with their shapes, all of which have elements."""
    shape = list(parts[0][1])
    shape[axis] = sum(own[axis] for _, own in parts)
    values = [value for value, _ in parts]
    images = dtype == "float32" and axis == 1 and len(shape) in (4, 5)
    if images and any(map(emit.in_own_layout, values)):
        # Channels of convolutions: oneDNN puts their blocks side by side.
        return emit("Concat", *values, num_args=len(values), dim=1)
    if dtype != "float32" or not _pays_as_rows(tuple(shape), axis):
        return emit("_npi_concatenate", *values, num_args=len(values), axis=axis)
    rows = math.prod(shape[:axis])
    flat = [
        emit("_np_reshape", value, newshape=(rows, math.prod(own[axis:]))) for value, own in parts
    ]
    result = emit("Concat", *flat, num_args=len(flat), dim=1)
    return emit("_np_reshape", result, newshape=tuple(shape))


class _Joining(Operator):
    """Operands side by side."""

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return [operands], attributes

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(operands, **attributes)

    def track_values(self, node: Node) -> None:
        """Keep the entries that are known of a shape that data is a part of: ``[n, 3]``."""
        super().track_values(node)
        output, values = node.outputs[0], [tensor.value for tensor in node.inputs]
        elements = shapes.size(output.shape)
        if output.value is not None or dtypes.kind(output.dtype) != 1 or elements is None:
            return
        if elements > KNOWN_SIZE_LIMIT or all(value is None for value in values):
            return
        parts = (
            np.full(shapes.known(tensor.shape), UNKNOWN) if value is None else value
            for tensor, value in zip(node.inputs, values, strict=True)
        )
        value = self.numpy(*parts, **node.attributes)
        if not any(item is UNKNOWN for item in value.flat):
            value = value.astype(output.dtype)
        output.value = value


class _Concatenate(_Joining):
    def prepare(self, tensors: Any, axis: Any = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(*tensors)
        if not operands:
            raise ShapeError("there is nothing to concatenate")
        if axis is None:
            operands, axis = [ops.ravel(x) for x in operands], 0
        return operands, {"axis": shapes.axis(axis, operands[0].rank)}

    def infer(self, *tensors: Tensor, axis: int) -> Spec:
        shape = _common_shape(tensors, axis)
        shape[axis] = shapes.elementwise(
            lambda *sizes: sum(sizes), *(t.shape[axis] for t in tensors)
        )
        return Spec(tuple(shape), tensors[0].dtype)

    def numpy(self, *arrays: Any, axis: int) -> Any:
        return np.concatenate(arrays, axis=axis)

    def onnx(self, emit: OnnxEmitter, node: Node, *values: Any) -> Any:
        return emit("Concat", *values, axis=node.attributes["axis"])

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        known = [shapes.known(tensor.shape) for tensor in node.inputs]
        parts = [(v, shape) for v, shape in zip(values, known, strict=True) if 0 not in shape]
        if len(parts) == 1:
            return emit("_copy", parts[0][0])
        return joined(emit, parts, node.attributes["axis"], node.outputs[0].dtype)

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

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor | None:
        if not all(operand.varies for operand in operands):
            return None
        result: Tensor = self([o.tensor for o in operands], node.attributes["axis"] + 1)
        return result

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        axis = draw.integer(-len(shape), len(shape) - 1)
        arrays = []
        for _ in range(draw.integer(1, 3)):
            own = list(shape)
            own[axis] = draw.integer(1, 3)
            arrays.append(draw.array(own, dtype=draw.dtype("float", "integer", "bool")))
        return Sample(*arrays, attributes={"axis": axis})


concatenate = _Concatenate(
    "concatenate",
    doc="""Join tensors along an axis they have.

    Args:
        tensors: Tensors of one rank, whose sizes agree on all other axes.
        axis: The axis to join along; None for the elements of all in a row.

    Raises:
        ShapeError: The sizes on the other axes, or the ranks, differ.
    """,
)


class _Stack(_Joining):
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

    def onnx(self, emit: OnnxEmitter, node: Node, *values: Any) -> Any:
        axis = node.attributes["axis"]
        parts = [emit("Unsqueeze", value, emit.constant([axis])) for value in values]
        return emit("Concat", *parts, axis=axis)

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        return emit("_npi_stack", *values, num_args=len(values), axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        before = (slice(None),) * node.attributes["axis"]
        return [g[(*before, position)] for position in range(len(node.inputs))]

    def sample(self, draw: Draw) -> Sample:
        shape, dtype = draw.shape(min_side=0), draw.dtype("float", "integer", "bool")
        arrays = [draw.array(shape, dtype=dtype) for _ in range(draw.integer(1, 3))]
        return Sample(*arrays, attributes={"axis": draw.integer(-len(shape) - 1, len(shape))})


stack = _Stack(
    "stack",
    doc="""Join tensors of one shape along a new axis.

    Args:
        tensors: Tensors of equal shapes.
        axis: The position of the new axis.
    """,
)
