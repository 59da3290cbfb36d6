"""The positions of extrema along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample

__all__ = ["argmax", "argmin"]


def _holds_positions(dtype: str, side: int) -> str:
    """Return a dtype for values of a dtype that also holds all positions along an axis."""
    if not dtypes.is_float(dtype):
        return dtype if dtype == "int64" else "int32"
    for wide in (dtype, "float32", "float64"):
        if side <= 2 ** (np.finfo(wide).nmant + 1) and np.can_cast(dtype, wide):
            return wide
    return "float64"


class _ArgExtremum(Operator):
    work = 1.0

    def __init__(self, name: str, numpy: Callable[..., Any], doc: str):
        self._numpy = numpy
        super().__init__(name, doc)

    def prepare(
        self, x: Any, axis: Any = None, *, keepdims: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        axis = None if axis is None else shapes.axis(axis, x.rank)
        return [x], {"axis": axis, "keepdims": bool(keepdims)}

    def infer(self, x: Tensor, axis: int | None, keepdims: bool) -> Spec:
        over = range(x.rank) if axis is None else (axis,)
        if any(x.shape[a] == 0 for a in over):
            raise ShapeError(
                f"there is nothing to choose from along axis {axis} of shape {x.shape}",
                remedy="give at least one element",
            )
        return Spec(shapes.reduce(x.shape, over, keepdims), "int64")

    def numpy(self, x: Any, axis: int | None, keepdims: bool) -> Any:
        return self._numpy(x, axis=axis, keepdims=keepdims)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:
        axis = node.attributes["axis"]
        if axis is None:
            x, axis = emit("Reshape", x, emit.constant([-1])), 0
        if node.inputs[0].dtype == "bool":
            x = emit("Cast", x, to=np.dtype("int32"))
        name = {"argmax": "ArgMax", "argmin": "ArgMin"}[self.name]
        index = emit(name, x, axis=axis, keepdims=0)
        return emit("Reshape", index, emit.constant(node.outputs[0].shape))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        (source,), axis = node.inputs, node.attributes["axis"]
        side = shapes.size(source.shape) if axis is None else source.shape[axis]
        wide = _holds_positions(source.dtype, side or 0)
        if wide != source.dtype:
            x = emit("Cast", x, dtype=wide)
        if axis is None:
            x, axis = emit("_np_reshape", x, newshape=(-1,)), 0
        # MXNet gives the index in the operand's dtype or in int64, by operator and version.
        index = emit("Cast", emit(f"_npi_{self.name}", x, axis=axis), dtype="int64")
        return emit("_np_reshape", index, newshape=node.outputs[0].shape)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape()
        axis = draw.choose((None, *range(-len(shape), len(shape))))
        return Sample(
            draw.array(shape, dtype=draw.dtype("float", "integer", "bool"), apart=0.05),
            attributes={"axis": axis, "keepdims": draw.choose((True, False))},
        )


_ARG_DOC = """Return the index of the {} element along an axis, as int64; of equals the first.

    Args:
        x: A tensor.
        axis: The axis to look along; by default the index is that into all elements in a row.
        keepdims: Whether the reduced axes stay, with size 1.
    """
argmax = _ArgExtremum("argmax", np.argmax, _ARG_DOC.format("largest"))
argmin = _ArgExtremum("argmin", np.argmin, _ARG_DOC.format("smallest"))
