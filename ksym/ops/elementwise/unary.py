"""Elementwise operators: one line of meaning, native kernel and chain rule each.

Kernel choices were measured on CPU (see docs/mxnet.md): the oneDNN kernels behind `Activation` and
`elemwise_add` are several times faster than MXNet's own loops, so they are used where they apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Formula, Machine, Register
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import is_constant

__all__ = [
    "zeros_like",
    "ones_like",
    "full_like",
    "negative",
    "positive",
    "sign",
    "square",
    "reciprocal",
    "sqrt",
    "rsqrt",
    "cbrt",
    "isnan",
    "isinf",
    "isfinite",
    "copy",
    "stop_gradient",
]

UnaryRule = Callable[[Tensor, Tensor, Tensor], Tensor]


def is_zero(x: Tensor) -> bool:
    """Return whether a tensor is zeros by construction: a constant, or one broadcast to a shape."""
    if x.node.operator is ops.broadcast_to:
        x = x.node.inputs[0]
    return is_constant(x) and x.value is not None and not x.value.any()


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Return zeros of the shape of x, and of its dtype by default."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Return ones of the shape of x, and of its dtype by default."""
    return full_like(x, 1, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """Return a tensor of the shape of x, and of its dtype by default, filled with one number."""
    x = as_tensor(x)
    dtype = x.dtype if dtype is None else dtypes.canonical(dtype)
    return ops.broadcast_to(cast_to(as_tensor(fill_value, dtype), dtype), ops.shape_of(x))


class Unary(Operator):
    """An operator on each element of one tensor.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator.
        gradient: ``(x, y, g) -> gradient``; None where the function is constant almost everywhere.
        domain: The interval that tests draw from, and the least distance of elements.
        kinks: The arguments without a gradient, which tests avoid.
        floating: Whether integers are converted to floats first.
        dtype: The dtype to convert the operand to, if floating does not say it.
        kinds: The kinds of dtypes tests draw from; by default all, or numbers if not floating.
        activation: The `act_type` of an equal oneDNN kernel, for float32.
        result: The dtype of the result where it is not that of the operand.
        half: As for `Operator`.
        formula: As for `Operator`.
        no_formula: As for `Operator`.
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
        kinks: Sequence[float] = (),
        floating: bool = True,
        activation: str | None = None,
        result: str | None = None,
        dtype: Callable[[str], str] | None = None,
        kinds: Sequence[str] | None = None,
        half: bool = True,
        formula: Formula | None = None,
        no_formula: str = "",
    ):
        self.half = half
        self.formula = formula
        self.no_formula = no_formula
        self._dtype = dtype or (dtypes.floating if floating else lambda dtype: dtype)
        self._kinds = kinds or (("float", "integer", "bool") if floating else ("float", "integer"))
        self._numpy = numpy
        self._native = native
        self._gradient = gradient
        self._domain = domain
        self._kinks_at = kinks
        self._activation = activation
        self._result = result
        super().__init__(name, doc)

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, self._dtype(x.dtype))], {}

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
        dtype = draw.dtype(*self._kinds)
        shape = draw.shape(min_side=0)
        return Sample(draw.array(shape, low, high, dtype=dtype, apart=apart, kinks=self._kinks_at))


class _Identity(Unary):
    """`copy` and `stop_gradient`: a new tensor with the same value."""

    linear_in = (0,)

    def simplify(self, node: Node) -> Tensor | None:
        return node.inputs[0]

    def known(self, x: Tensor) -> np.ndarray | None:
        return x.value


class _StopGradient(_Identity):
    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [None]

    def sample(self, draw: Draw) -> Sample:
        x = draw.array(draw.shape(min_side=0), dtype=draw.dtype(*self._kinds))
        return Sample(x, differentiate=())


class _Signed(Unary):
    """An operator that NumPy does not have for booleans."""

    def infer(self, x: Tensor) -> Spec:
        if x.dtype == "bool":
            raise DTypeError("booleans have no sign", remedy="use logical_not, or cast to int32")
        return super().infer(x)


class _Linear(_Signed):
    linear_in = (0,)


class _Sign(_Signed):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        # MXNet's sign of NaN is zero.
        sign = emit(self._native, x)
        if not dtypes.is_float(node.inputs[0].dtype):
            return sign
        is_number = emit("_npi_equal", x, x)
        if not node.inputs[0].rank:
            return emit("_npi_where", is_number, sign, x)
        return emit("where", emit("Cast", is_number, dtype="uint8"), sign, x)


class _Absolute(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        dtype = node.inputs[0].dtype
        if dtypes.is_float(dtype):
            return emit(self._native, x)
        if dtype in ("bool", "uint8"):
            return emit("_copy", x)
        return emit("_npi_maximum", x, emit("_npi_negative", x))  # MXNet's own goes through floats


class _Square(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if dtypes.is_float(node.inputs[0].dtype):
            return emit(self._native, x)
        return emit("_npi_multiply", x, x)  # MXNet's own goes through floats


def _magnitude(m: Machine, x: Register) -> Register:
    if x.dtype == "bool":
        return x
    if dtypes.is_float(x.dtype):
        return m.magnitude(x)
    return m.choose(m.compare("lt", x, m.number(0, x.dtype)), m.negative(x), x)


def _signum(m: Machine, x: Register) -> Register:
    zero, one = m.number(0, x.dtype), m.number(1, x.dtype)
    if dtypes.is_float(x.dtype):
        unsigned = m.compare("eq", x, zero)
        unsigned = m.arithmetic("or", unsigned, m.compare("ne", x, x))
        return m.choose(unsigned, x, m.with_sign(one, x))
    below = m.choose(m.compare("lt", x, zero), m.number(-1, x.dtype), zero)
    return m.choose(m.compare("gt", x, zero), one, below)


def _cube_root(m: Machine, x: Register) -> Register:
    size, third = m.magnitude(x), m.number(1.0 / 3.0, x.dtype)
    # The power is not exact for large logarithms; a step of Newton's method corrects it.
    near = m.exp(m.multiply(m.log(size), third))
    excess = m.subtract(near, m.divide(size, m.multiply(near, near)))
    root = m.subtract(near, m.multiply(excess, third))
    ends = m.arithmetic(
        "or",
        m.compare("eq", size, m.number(0.0, x.dtype)),
        m.compare("eq", size, m.number(math.inf, x.dtype)),
    )
    return m.choose(ends, x, m.with_sign(root, x))


_NO_BOOLEANS = """

    Raises:
        DTypeError: x are booleans, as in NumPy.
    """

negative = _Linear(
    "negative",
    np.negative,
    "_npi_negative",
    lambda x, y, g: -g,
    f"Return -x.{_NO_BOOLEANS}",
    floating=False,
    formula=lambda m, x: m.negative(x),
)
positive = _Linear(
    "positive",
    np.positive,
    "_copy",
    lambda x, y, g: g,
    f"Return +x, which equals x.{_NO_BOOLEANS}",
    floating=False,
    formula=lambda m, x: x,
)
abs_ = _Absolute(
    "abs",
    np.abs,
    "_npi_absolute",
    lambda x, y, g: g * sign(x),
    "Return the absolute value; its gradient at zero is zero.",
    floating=False,
    kinds=("float", "integer", "bool"),
    domain=(-2.0, 2.0, 0.05),
    formula=_magnitude,
)
sign: Unary = _Sign(
    "sign",
    np.sign,
    "_npi_sign",
    None,
    f"Return -1, 0 or 1 by the sign of x; NaN for NaN.{_NO_BOOLEANS}",
    floating=False,
    domain=(-2.0, 2.0, 0.05),
    formula=_signum,
)
square = _Square(
    "square",
    np.square,
    "_npi_square",
    lambda x, y, g: g * (2.0 * x),
    "Return x * x; booleans count as int8.",
    dtype=lambda dtype: "int8" if dtype == "bool" else dtype,
    formula=lambda m, x: m.multiply(x, x),
)
reciprocal = Unary(
    "reciprocal",
    np.reciprocal,
    "_npi_reciprocal",
    lambda x, y, g: -g * square(y),
    "Return 1 / x; integers are converted to float64, unlike in NumPy, which drops fractions.",
    domain=(0.4, 3.0, 0.0),
    formula=lambda m, x: m.divide(m.number(1.0, x.dtype), x),
)
sqrt = Unary(
    "sqrt",
    np.sqrt,
    "_npi_sqrt",
    lambda x, y, g: g * (0.5 / y),
    "Return the square root; NaN below zero, and an infinite gradient at zero.",
    domain=(0.2, 4.0, 0.0),
    formula=lambda m, x: m.root(x),
)
rsqrt = Unary(
    "rsqrt",
    lambda x: 1.0 / np.sqrt(x),
    "rsqrt",
    lambda x, y, g: g * (-0.5 * (y * square(y))),
    "Return 1 / sqrt(x), as in TensorFlow and JAX; NaN below zero.",
    domain=(0.4, 4.0, 0.0),
    formula=lambda m, x: m.divide(m.number(1.0, x.dtype), m.root(x)),
)
cbrt = Unary(
    "cbrt",
    np.cbrt,
    "_npi_cbrt",
    lambda x, y, g: g / (3.0 * square(y)),
    "Return the cube root, negative below zero; its gradient at zero is infinite.",
    domain=(0.2, 4.0, 0.0),
    formula=_cube_root,
)
isnan = Unary(
    "isnan",
    np.isnan,
    "_npi_isnan",
    None,
    "Return whether x is NaN.",
    result="bool",
    formula=lambda m, x: m.compare("ne", x, x),
)
isinf = Unary(
    "isinf",
    np.isinf,
    "_npi_isinf",
    None,
    "Return whether x is infinite.",
    result="bool",
    formula=lambda m, x: m.compare("eq", m.magnitude(x), m.number(math.inf, x.dtype)),
)
isfinite = Unary(
    "isfinite",
    np.isfinite,
    "_npi_isfinite",
    None,
    "Return whether x is neither infinite nor NaN.",
    result="bool",
    formula=lambda m, x: m.compare("lt", m.magnitude(x), m.number(math.inf, x.dtype)),
)
copy = _Identity(
    "copy",
    lambda x: x,
    "_copy",
    lambda x, y, g: g,
    "Return x as a new tensor.",
    floating=False,
    formula=lambda m, x: x,
    kinds=("float", "integer", "bool"),
)
stop_gradient = _StopGradient(
    "stop_gradient",
    lambda x: x,
    "_copy",
    None,
    "Return x, through which no gradient flows.",
    floating=False,
    formula=lambda m, x: x,
    kinds=("float", "integer", "bool"),
)
