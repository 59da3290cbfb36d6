"""Rectifiers and their gradients, which stay in oneDNN's layout between convolutions.

Behind a convolution an array is in blocks.  An operator that oneDNN does not have would put it in
order, element by element, and the next convolution would put it into blocks again: 1.4 ms for a
limit at 6 of 524,288 elements, where the form here takes 0.8 and the convolution itself 0.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Machine, Register
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.unary import Unary

__all__ = ["relu", "relu6"]

LIMIT = 6.0


def _lower_positive_part(emit: Emitter, x: Any) -> Any:
    """Return the larger of zero and x, NaN where x is, in the layout of x.

    oneDNN's relu makes zeros of NaN.  Its elu keeps it, and with this slope gives zeros below zero.
    """
    return emit("LeakyReLU", x, act_type="elu", slope=-0.0)


def _lower_where(emit: Emitter, condition: Any, g: Any, scalar: bool) -> Any:
    """Select elements of g where a native condition of the same shape holds, else zero."""
    zero = emit("zeros_like", g)
    if scalar:
        return emit("_npi_where", condition, g, zero)
    return emit("where", emit("Cast", condition, dtype="uint8"), g, zero)


class _Gradient(Operator):
    """The gradient of a rectifier: g where the result y is inside of a range, else zero."""

    elementwise = True
    linear_in = (0,)
    keeps_layout = True

    def infer(self, g: Tensor, y: Tensor) -> Spec:
        if g.dtype != y.dtype or not dtypes.is_float(g.dtype):
            raise DTypeError(f"{g.dtype} and {y.dtype} are not one float dtype")
        return Spec(shapes.merge(g.shape, y.shape), g.dtype)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        y = node.inputs[1]
        return [self.make([g, y], {}), ops.zeros_like(y)]


# --- relu ----------------------------------------------------------------------------------------


class _Relu(Unary):
    keeps_layout = True

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        dtype = node.inputs[0].dtype
        if dtype == "bool":
            return emit("_copy", x)
        if dtype == "float32" and emit.in_own_layout(x):
            # Putting the layout in order for another kernel would take longer.
            return _lower_positive_part(emit, x)
        return emit("_npi_maximum_scalar", x, scalar=0)


def _positive_part(m: Machine, x: Register) -> Register:
    if x.dtype == "bool":
        return x
    zero = m.number(0, x.dtype)
    return m.choose(m.compare("le", x, zero), zero, x)  # NaN stays


relu = _Relu(
    "relu",
    lambda x: np.maximum(x, np.zeros_like(x)),
    "",
    lambda x, y, g: relu_gradient(g, y),
    "Return the larger of x and zero, NaN where x is; its gradient at zero and at NaN is zero.",
    floating=False,
    domain=(-2.0, 2.0, 0.05),
    kinds=("float", "integer", "bool"),
    formula=_positive_part,
)


class _ReluGradient(_Gradient):
    internal = "a part of the gradient of `relu`"

    def numpy(self, g: Any, y: Any) -> Any:
        return np.where(y > 0, g, np.zeros_like(g))

    def formula(self, m: Machine, g: Register, y: Register) -> Register:
        zero = m.number(0.0, g.dtype)
        return m.choose(m.compare("gt", y, zero), g, zero)

    def lower(self, emit: Emitter, node: Node, g: Any, y: Any) -> Any:
        if emit.in_own_layout(y):
            # A product with 0 or 1, as in TensorFlow: of infinity NaN.  Selecting would first put
            # the layout in order, and the convolution that follows adds up products anyway.
            return emit("_backward_Activation", g, y, act_type="relu")
        positive = emit("_npi_greater_scalar", y, scalar=0)
        return _lower_where(emit, positive, g, not node.outputs[0].shape)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(draw.array(shape), draw.array(shape, apart=0.05))


relu_gradient: Operator = _ReluGradient(
    "relu_gradient", doc="Return g where y is positive, else zero."
)


# --- relu6 ---------------------------------------------------------------------------------------


def _in_layout(emit: Emitter, x: Any, source: Tensor) -> bool:
    """Return whether a native value is in oneDNN's layout and of a form that its kernels take."""
    return source.dtype == "float32" and 3 <= source.rank <= 5 and emit.in_own_layout(x)


def _distance_from_limit(emit: Emitter, x: Any, source: Tensor) -> Any:
    """Return the limit less x in the layout of x: a convolution of each channel with one number."""
    channels, ones = source.shape[1], (1,) * (source.rank - 2)
    # Made anew in each call: oneDNN would put the weights of a constant into blocks.
    weight = emit("_full", shape=(channels, 1, *ones), value=-1.0, dtype=source.dtype)
    bias = emit("_full", shape=(channels,), value=LIMIT, dtype=source.dtype)
    return emit(
        "Convolution", x, weight, bias, kernel=ones, num_filter=channels, num_group=channels
    )


class _Relu6(Unary):
    keeps_layout = True

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        source = node.inputs[0]
        if _in_layout(emit, x, source):
            # 6 - max(6 - x, 0), off by 2.4e-7 at most, is the smaller of x and 6.
            for _ in range(2):
                x = _lower_positive_part(emit, _distance_from_limit(emit, x, source))
            return x
        x = emit("_npi_maximum_scalar", x, scalar=0)
        return emit("_npi_minimum_scalar", x, scalar=LIMIT)


relu6 = _Relu6(
    "relu6",
    lambda x: np.clip(x, np.zeros_like(x), np.full_like(x, LIMIT)),
    "",
    lambda x, y, g: relu6_gradient(g, y),
    """Limit x to the range from 0 to 6; the gradient on both ends is zero, as in TensorFlow.

    Where x is NaN, so is the result, and no gradient passes.
    """,
    domain=(-3.0, 8.0, 0.05),
    kinks=(0.0, LIMIT),
    formula=lambda m, x: m.minimum(m.maximum(x, m.number(0.0, x.dtype)), m.number(LIMIT, x.dtype)),
)


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
        if _in_layout(emit, y, source):
            # Products with 0 or 1, as for `relu_gradient`.
            above = emit("_backward_Activation", g, y, act_type="relu")
            left = _distance_from_limit(emit, y, source)
            return emit("_backward_Activation", above, left, act_type="relu")
        inside = emit(
            "_npi_multiply",
            emit("_npi_greater_scalar", y, scalar=0),
            emit("_npi_less_scalar", y, scalar=LIMIT),
        )
        return _lower_where(emit, inside, g, not node.outputs[0].shape)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        y = draw.array(shape, -3.0, 8.0, apart=0.05, kinks=(0.0, LIMIT))
        return Sample(draw.array(shape), y)


relu6_gradient: Operator = _Relu6Gradient(
    "relu6_gradient", doc="Return g where y is between 0 and 6, else zero."
)
