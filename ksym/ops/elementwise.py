"""Elementwise operators: one line of meaning, native kernel and chain rule each.

Kernel choices were measured on CPU (see docs/mxnet.md): the oneDNN kernels behind `Activation` and
`elemwise_add` are several times faster than MXNet's own loops, so they are used where they apply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import (
    Draw,
    Emitter,
    Operator,
    Sample,
    as_tensor,
    cast_to,
    constant,
    is_constant,
)

UnaryRule = Callable[[Tensor, Tensor, Tensor], Tensor]


def is_zero(x: Tensor) -> bool:
    """Whether a tensor is zeros by construction: a constant, or one stretched to a shape."""
    if x.node.operator is ops.broadcast_to:
        x = x.node.inputs[0]
    return is_constant(x) and x.value is not None and not x.value.any()


def zeros_like(x: Tensor) -> Tensor:
    """Return zeros of the shape and dtype of x."""
    return full_like(x, 0)


def ones_like(x: Tensor) -> Tensor:
    """Return ones of the shape and dtype of x."""
    return full_like(x, 1)


def full_like(x: Tensor, number: float) -> Tensor:
    """Return a tensor of the shape and dtype of x, filled with one number."""
    return ops.broadcast_to(constant(number, x.dtype), ops.shape_of(x))


class Unary(Operator):
    """An operator on each element of one tensor.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator.
        gradient: ``(x, y, g) -> gradient``; None where the function is constant almost everywhere.
        domain: The interval tests draw from, and how far apart elements must be.
        floating: Whether integers are converted to floats first.
        activation: The `act_type` of an equal oneDNN kernel, for float32.
        result: The dtype of the result where it is not that of the operand.
    """

    elementwise = True

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        native: str,
        gradient: UnaryRule | None,
        doc: str,
        *,
        domain: tuple[float, float, float] = (-2.0, 2.0, 0.0),
        floating: bool = True,
        activation: str | None = None,
        result: str | None = None,
    ):
        self._numpy = numpy
        self._native = native
        self._gradient = gradient
        self._domain = domain
        self._floating = floating
        self._activation = activation
        self._result = result
        super().__init__(name, doc)

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype)) if self._floating else x], {}

    def infer(self, x: Tensor) -> Spec:
        return Spec(x.shape, self._result or x.dtype)

    def numpy(self, x: Any) -> Any:
        return self._numpy(x)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if self._activation and node.inputs[0].spec.dtype == "float32" and node.inputs[0].rank:
            return emit("Activation", x, act_type=self._activation)
        return emit(self._native, x)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, y = node.inputs[0], node.outputs[0]
        if not dtypes.is_float(y.dtype):
            return [None]
        return [self._gradient(x, y, g) if self._gradient else zeros_like(x)]

    def sample(self, draw: Draw) -> Sample:
        low, high, apart = self._domain
        return Sample(draw.array(draw.shape(), low, high, apart=apart))


class _Identity(Unary):
    """`identity` and `stop_gradient`: a new tensor with the same value."""

    linear_in = (0,)

    def simplify(self, node: Node) -> Tensor | None:
        return node.inputs[0]

    def known(self, x: Tensor) -> np.ndarray | None:
        return x.value


class _StopGradient(_Identity):
    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [None]

    def sample(self, draw: Draw) -> Sample:
        return Sample(draw.array(draw.shape()), differentiate=())


class _Negative(Unary):
    linear_in = (0,)


class _Rounding(Unary):
    """Rounding to whole numbers, which leaves integers as they are."""

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit(self._native if dtypes.is_float(node.inputs[0].dtype) else "_copy", x)

    def simplify(self, node: Node) -> Tensor | None:
        return None if dtypes.is_float(node.inputs[0].dtype) else node.inputs[0]


class _Softplus(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("Activation", x, act_type="softrelu")


class _Cast(Operator):
    elementwise = True
    linear_in = (0,)

    def prepare(self, x: Any, dtype: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x)], {"dtype": dtypes.canonical(dtype)}

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

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("Cast", x, dtype=node.attributes["dtype"])

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
            # Through a type that holds every value of the source, the middle step does nothing.
            if source.dtype == target and np.can_cast(source.dtype, x.dtype, "safe"):
                return source
        return None

    def sample(self, draw: Draw) -> Sample:
        source, target = (draw.choose(dtypes.SUPPORTED) for _ in range(2))
        unsigned = "uint8" in (source, target)
        x = draw.array(draw.shape(), 0 if unsigned else -100, 100, dtype=source)
        # Float casts are differentiated only where nothing is rounded away.
        exact = (source, target) == ("float64", "float64")
        return Sample(x, attributes={"dtype": target}, differentiate=None if exact else ())


cast = _Cast(
    "cast",
    doc="""Convert each element of x to another dtype.

    Floats are truncated toward zero on their way to integers; anything but zero is True.

    Raises:
        DTypeError: ksym does not store that dtype.
    """,
)

negative = _Negative(
    "negative", np.negative, "_npi_negative", lambda x, y, g: -g, "-x.", floating=False
)
abs_ = Unary(
    "abs",
    np.abs,
    "_npi_absolute",
    lambda x, y, g: g * sign(x),
    "The absolute value; its gradient at zero is zero.",
    floating=False,
    domain=(-2.0, 2.0, 0.05),
)
sign: Unary = Unary(
    "sign",
    np.sign,
    "_npi_sign",
    None,
    "-1, 0 or 1 by the sign of x.",
    floating=False,
    domain=(-2.0, 2.0, 0.05),
)
square = Unary(
    "square", np.square, "_npi_square", lambda x, y, g: g * (2.0 * x), "x * x.", floating=False
)
sqrt = Unary(
    "sqrt",
    np.sqrt,
    "_npi_sqrt",
    lambda x, y, g: g * (0.5 / y),
    "The square root; NaN below zero, and an infinite gradient at zero.",
    domain=(0.2, 4.0, 0.0),
)
exp = Unary("exp", np.exp, "_npi_exp", lambda x, y, g: g * y, "e to the power x.")
expm1 = Unary(
    "expm1", np.expm1, "_npi_expm1", lambda x, y, g: g * (y + 1.0), "exp(x) - 1, exact near zero."
)
log = Unary(
    "log",
    np.log,
    "_npi_log",
    lambda x, y, g: g / x,
    "The natural logarithm.",
    domain=(0.2, 4.0, 0.0),
)
log1p = Unary(
    "log1p",
    np.log1p,
    "_npi_log1p",
    lambda x, y, g: g / (x + 1.0),
    "log(1 + x), exact near zero.",
    domain=(-0.7, 3.0, 0.0),
)
sin = Unary("sin", np.sin, "_npi_sin", lambda x, y, g: g * cos(x), "The sine.")
cos: Unary = Unary("cos", np.cos, "_npi_cos", lambda x, y, g: -g * sin(x), "The cosine.")
tan = Unary(
    "tan",
    np.tan,
    "_npi_tan",
    lambda x, y, g: g * (1.0 + y * y),
    "The tangent.",
    domain=(-1.0, 1.0, 0.0),
)
tanh = Unary(
    "tanh",
    np.tanh,
    "_npi_tanh",
    lambda x, y, g: g * (1.0 - y * y),
    "The hyperbolic tangent.",
    activation="tanh",
)


def _sigmoid(x: Any) -> Any:
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


sigmoid = Unary(
    "sigmoid",
    _sigmoid,
    "_npx_sigmoid",
    lambda x, y, g: g * (y * (1.0 - y)),
    "The logistic function 1 / (1 + exp(-x)).",
    activation="sigmoid",
)
softplus = _Softplus(
    "softplus",
    lambda x: np.logaddexp(x, 0.0),
    "Activation",
    lambda x, y, g: g * sigmoid(x),
    "log(1 + exp(x)), computed without overflow.",
)
floor = _Rounding(
    "floor",
    np.floor,
    "_npi_floor",
    None,
    "The largest whole number not above x; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
)
ceil = _Rounding(
    "ceil",
    np.ceil,
    "_npi_ceil",
    None,
    "The smallest whole number not below x; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
)
round_ = _Rounding(
    "round",
    np.rint,
    "_npi_rint",
    None,
    "The nearest whole number, halves to the even one; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
)
isnan = Unary("isnan", np.isnan, "_npi_isnan", None, "Whether x is NaN.", result="bool")
isinf = Unary("isinf", np.isinf, "_npi_isinf", None, "Whether x is infinite.", result="bool")
isfinite = Unary(
    "isfinite",
    np.isfinite,
    "_npi_isfinite",
    None,
    "Whether x is neither infinite nor NaN.",
    result="bool",
)
identity = _Identity(
    "identity", lambda x: x, "_copy", lambda x, y, g: g, "x, as a new tensor.", floating=False
)
stop_gradient = _StopGradient(
    "stop_gradient",
    lambda x: x,
    "_copy",
    None,
    "x, through which no gradient flows.",
    floating=False,
)
