"""Trigonometric and hyperbolic functions, their inverses, and angles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Tensor
from ksym.operator.emitter import Emitter
from ksym.ops.elementwise.binary import Binary
from ksym.ops.elementwise.unary import Unary

__all__ = [
    "sin",
    "cos",
    "tan",
    "tanh",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "degrees",
    "radians",
    "rad2deg",
    "deg2rad",
    "hypot",
    "arctan2",
]

sin = Unary(
    "sin",
    np.sin,
    "_npi_sin",
    lambda x, y, g: g * cos(x),
    "Return the sine.",
    formula=lambda m, x: m.call("sin", x),
)
cos: Unary = Unary(
    "cos",
    np.cos,
    "_npi_cos",
    lambda x, y, g: -g * sin(x),
    "Return the cosine.",
    formula=lambda m, x: m.call("cos", x),
)
tan = Unary(
    "tan",
    np.tan,
    "_npi_tan",
    lambda x, y, g: g * (1.0 + y * y),
    "Return the tangent.",
    domain=(-1.0, 1.0, 0.0),
    formula=lambda m, x: m.call("tan", x),
)
tanh = Unary(
    "tanh",
    np.tanh,
    "_npi_tanh",
    lambda x, y, g: g * (1.0 - y * y),
    "Return the hyperbolic tangent.",
    activation="tanh",
    formula=lambda m, x: m.tanh(x),
)
arcsin = Unary(
    "arcsin",
    np.arcsin,
    "_npi_arcsin",
    lambda x, y, g: g * ops.rsqrt(1.0 - x * x),
    "Return the angle from -pi/2 to pi/2 whose sine is x; NaN outside of [-1, 1].",
    domain=(-0.8, 0.8, 0.0),
    formula=lambda m, x: m.call("asin", x),
)
arccos = Unary(
    "arccos",
    np.arccos,
    "_npi_arccos",
    lambda x, y, g: -g * ops.rsqrt(1.0 - x * x),
    "Return the angle from 0 to pi whose cosine is x; NaN outside of [-1, 1].",
    domain=(-0.8, 0.8, 0.0),
    formula=lambda m, x: m.call("acos", x),
)
arctan = Unary(
    "arctan",
    np.arctan,
    "_npi_arctan",
    lambda x, y, g: g / (1.0 + x * x),
    "Return the angle from -pi/2 to pi/2 whose tangent is x.",
    formula=lambda m, x: m.call("atan", x),
)
sinh = Unary(
    "sinh",
    np.sinh,
    "_npi_sinh",
    lambda x, y, g: g * cosh(x),
    "Return the hyperbolic sine.",
    formula=lambda m, x: m.sinh(x),
)
cosh: Unary = Unary(
    "cosh",
    np.cosh,
    "_npi_cosh",
    lambda x, y, g: g * sinh(x),
    "Return the hyperbolic cosine.",
    formula=lambda m, x: m.cosh(x),
)
arcsinh = Unary(
    "arcsinh",
    np.arcsinh,
    "_npi_arcsinh",
    lambda x, y, g: g * ops.rsqrt(x * x + 1.0),
    "Return the inverse of `sinh`.",
    formula=lambda m, x: m.arcsinh(x),
)
arccosh = Unary(
    "arccosh",
    np.arccosh,
    "_npi_arccosh",
    lambda x, y, g: g * ops.rsqrt(x * x - 1.0),
    "Return the inverse of `cosh` that is not negative; NaN below 1.",
    domain=(1.3, 4.0, 0.0),
    formula=lambda m, x: m.arccosh(x),
)
arctanh = Unary(
    "arctanh",
    np.arctanh,
    "_npi_arctanh",
    lambda x, y, g: g / (1.0 - x * x),
    "Return the inverse of `tanh`; infinite at -1 and 1, NaN outside.",
    domain=(-0.8, 0.8, 0.0),
    formula=lambda m, x: m.arctanh(x),
)


class _Scaled(Unary):
    """A conversion of units by a multiplication, since MXNet's own operators compute in float32."""

    linear_in = (0,)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_npi_multiply_scalar", x, scalar=float(self._numpy(1.0)))


degrees: Unary = _Scaled(
    "degrees",
    np.degrees,
    "",
    lambda x, y, g: degrees(g),
    "Convert radians to degrees.",
    formula=lambda m, x: m.multiply(x, m.number(math.degrees(1.0), x.dtype)),
)
radians: Unary = _Scaled(
    "radians",
    np.radians,
    "",
    lambda x, y, g: radians(g),
    "Convert degrees to radians.",
    formula=lambda m, x: m.multiply(x, m.number(math.radians(1.0), x.dtype)),
)
rad2deg = degrees
deg2rad = radians


def _not_origin(z: Tensor) -> Tensor:
    return ops.where(ops.equal(z, 0.0), ops.ones_like(z), z)


hypot = Binary(
    "hypot",
    np.hypot,
    "_npi_hypot",
    (None, None),
    (lambda x, y, z, g: g * x / _not_origin(z), lambda x, y, z, g: g * y / _not_origin(z)),
    "Return sqrt(x**2 + y**2), without overflow; its gradient at the origin is zero, as in JAX.",
    domains=((0.3, 2.0, 0.0), (-2.0, 2.0, 0.0)),
    dtype=dtypes.floating,
    kinds=("float", "integer", "bool"),
    formula=lambda m, x, y: m.call("hypot", x, y),
)
arctan2 = Binary(
    "arctan2",
    np.arctan2,
    "_npi_arctan2",
    (None, None),
    (
        lambda x, y, z, g: g * y / (x * x + y * y),
        lambda x, y, z, g: -g * x / (x * x + y * y),
    ),
    """Return the angle from -pi to pi of the point with height x and width y, as in NumPy.

    Its gradient at the origin is NaN, as in JAX.
    """,
    domains=((0.3, 2.0, 0.0), (-2.0, 2.0, 0.0)),
    dtype=dtypes.floating,
    kinds=("float", "integer", "bool"),
    formula=lambda m, x, y: m.call("atan2", x, y),
)
