"""Rectifiers that stay in oneDNN's layout between convolutions, and their gradients.

Behind a convolution an array is in blocks.  An operator that oneDNN does not have would put it in
order, element by element, and the next convolution would put it into blocks again: 1.4 ms for a
limit at 6 of 524,288 elements, where the form here takes 0.8 and the convolution itself 0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Machine, Register
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample

__all__ = ["relu6"]

LIMIT = 6.0


def in_layout(emit: Emitter, x: Any, source: Tensor) -> bool:
    """Return whether a native value is in oneDNN's layout and of a form that its kernels take."""
    return source.dtype == "float32" and 3 <= source.rank <= 5 and emit.in_own_layout(x)


def lower_where(emit: Emitter, condition: Any, x: Any, y: Any, scalar: bool) -> Any:
    """Select elements of x where a native condition of the same shape holds, else of y."""
    if scalar:
        return emit("_npi_where", condition, x, y)
    return emit("where", emit("Cast", condition, dtype="uint8"), x, y)


def lower_positive_part(emit: Emitter, x: Any) -> Any:
    """Return the larger of zero and x, NaN where x is, in the layout of x.

    oneDNN's relu makes zeros of NaN.  Its elu keeps it, and with this slope gives zeros below zero.
    """
    return emit("LeakyReLU", x, act_type="elu", slope=-0.0)


def _distance_from_limit(emit: Emitter, x: Any, source: Tensor) -> Any:
    """Return the limit less x in the layout of x: a convolution of each channel with one number."""
    channels, ones = source.shape[1], (1,) * (source.rank - 2)
    # Made anew in each call: oneDNN would put the weights of a constant into blocks.
    weight = emit("_full", shape=(channels, 1, *ones), value=-1.0, dtype=source.dtype)
    bias = emit("_full", shape=(channels,), value=LIMIT, dtype=source.dtype)
    return emit(
        "Convolution", x, weight, bias, kernel=ones, num_filter=channels, num_group=channels
    )


class _Gradient(Operator):
    """A gradient that is g, or g times a number, as the other operand decides."""

    elementwise = True
    linear_in = (0,)
    keeps_layout = True

    def infer(self, g: Tensor, x: Tensor, **attributes: Any) -> Spec:
        if g.dtype != x.dtype or not dtypes.is_float(g.dtype):
            raise DTypeError(f"{g.dtype} and {x.dtype} are not one float dtype")
        return Spec(shapes.merge(g.shape, x.shape), g.dtype)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x = node.inputs[1]
        return [self.make([g, x], node.attributes), ops.zeros_like(x)]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        x = draw.array(shape, -3.0, 8.0, apart=0.05, kinks=(0.0, LIMIT))
        return Sample(draw.array(shape), x, attributes=self.drawn(draw))

    def drawn(self, draw: Draw) -> dict[str, Any]:
        """Return attributes for a test."""
        return {}


class _Relu6Gradient(_Gradient):
    internal = "a part of the gradient of `relu6`"

    def numpy(self, g: Any, y: Any) -> Any:
        return np.where((y > 0) & (y < LIMIT), g, np.zeros_like(g))

    def formula(self, m: Machine, g: Register, y: Register) -> Register:
        zero, limit = m.number(0.0, g.dtype), m.number(LIMIT, g.dtype)
        below = m.choose(m.compare("lt", y, limit), g, zero)
        return m.choose(m.compare("gt", y, zero), below, zero)

    def lower(self, emit: Emitter, node: Node, g: Any, y: Any) -> Any:
        source = node.inputs[1]
        if in_layout(emit, y, source):
            # Products with 0 or 1, as for `relu_gradient`.
            above = emit("_backward_Activation", g, y, act_type="relu")
            left = _distance_from_limit(emit, y, source)
            return emit("_backward_Activation", above, left, act_type="relu")
        inside = emit(
            "_npi_multiply",
            emit("_npi_greater_scalar", y, scalar=0),
            emit("_npi_less_scalar", y, scalar=LIMIT),
        )
        return lower_where(emit, inside, g, emit("zeros_like", g), not node.outputs[0].shape)


relu6_gradient = _Relu6Gradient(
    "relu6_gradient", doc="Return g where y is between 0 and 6, else zero."
)


class _Relu6(Operator):
    elementwise = True
    keeps_layout = True

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {}

    def infer(self, x: Tensor) -> Spec:
        return x.spec

    def numpy(self, x: Any) -> Any:
        return np.clip(x, np.zeros_like(x), np.full_like(x, LIMIT))

    def formula(self, m: Machine, x: Register) -> Register:
        return m.minimum(m.maximum(x, m.number(0.0, x.dtype)), m.number(LIMIT, x.dtype))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        source = node.inputs[0]
        if in_layout(emit, x, source):
            # 6 - max(6 - x, 0), off by 2.4e-7 at most, is the smaller of x and 6.
            for _ in range(2):
                x = lower_positive_part(emit, _distance_from_limit(emit, x, source))
            return x
        x = emit("_npi_maximum_scalar", x, scalar=0)
        return emit("_npi_minimum_scalar", x, scalar=LIMIT)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [relu6_gradient(g, node.outputs[0])]

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("float", "integer", "bool")
        x = draw.array(draw.shape(min_side=0), -3.0, 8.0, dtype=dtype, apart=0.05, kinks=(0.0, 6.0))
        return Sample(x)


relu6 = _Relu6(
    "relu6",
    doc="""Limit x to the range from 0 to 6; the gradient on both ends is zero, as in TensorFlow.

    Where x is NaN, so is the result, and no gradient passes.
    """,
)
