"""Conversion from one dtype to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.machine import Machine, Register
from ksym.operator.operands import as_tensor, cast_to, unrounded
from ksym.operator.sampling import Draw, Sample

__all__ = ["cast"]


class _Cast(Operator):
    elementwise = True
    linear_in = (0,)

    def prepare(self, x: Any, dtype: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = dtypes.canonical(dtype)
        x = as_tensor(x, dtype) if dtypes.is_float(dtype) else unrounded(x)
        return [x], {"dtype": dtype}

    def infer(self, x: Tensor, dtype: str) -> Spec:
        return Spec(x.shape, dtype)

    def known(self, x: Tensor, dtype: str) -> np.ndarray | None:
        assert x.value is not None
        if x.value.dtype == object:
            return x.value if dtype in dtypes.INTEGERS else None
        return x.value.astype(dtype)

    def numpy(self, x: np.ndarray, dtype: str) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return x.astype(dtype)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        return emit("Cast", x, to=np.dtype(node.attributes["dtype"]))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("Cast", x, dtype=node.attributes["dtype"])

    def formula(self, m: Machine, x: Register, dtype: str) -> Register:
        return m.cast(x, dtype)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x = node.inputs[0]
        return [cast_to(g, x.dtype) if dtypes.is_float(x.dtype) else None]

    def simplify(self, node: Node) -> Tensor | None:
        (x,) = node.inputs
        target = node.attributes["dtype"]
        if x.dtype == target:
            return x
        if x.node.operator is cast:
            (source,) = x.node.inputs
            # A cast to a dtype that holds every value of the source, and back, changes nothing.
            if source.dtype == target and np.can_cast(source.dtype, x.dtype, "safe"):
                return source
        return None

    def sample(self, draw: Draw) -> Sample:
        source, target = (draw.choose(dtypes.SUPPORTED) for _ in range(2))
        unsigned = "uint8" in (source, target)
        x = draw.array(draw.shape(min_side=0), 0 if unsigned else -100, 100, dtype=source)
        # The gradients of casts between floats are checked only if nothing is rounded.
        exact = (source, target) == ("float64", "float64")
        return Sample(x, attributes={"dtype": target}, differentiate=None if exact else ())


cast = _Cast(
    "cast",
    doc="""Convert each element of x to another dtype.

    Floats are truncated toward zero on their way to integers, integers wrap; anything but zero is
    True.

    Raises:
        DTypeError: ksym does not store that dtype.
    """,
)
