"""Exponentials, logarithms, and functions composed of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Tensor
from ksym.operator.composite import composite
from ksym.operator.emitter import Emitter
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.binary import Binary
from ksym.ops.elementwise.unary import Unary

__all__ = [
    "exp",
    "expm1",
    "log",
    "log1p",
    "exp2",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "xlogy",
]

_LOG_2 = math.log(2.0)


exp: Unary = Unary(
    "exp",
    np.exp,
    "_npi_exp",
    lambda x, y, g: g * y,
    "Return e to the power x.",
    formula=lambda m, x: m.exp(x),
)
expm1 = Unary(
    "expm1",
    np.expm1,
    "_npi_expm1",
    lambda x, y, g: g * (y + 1.0),
    "Return exp(x) - 1, exact near zero.",
    formula=lambda m, x: m.expm1(x),
)
log = Unary(
    "log",
    np.log,
    "_npi_log",
    lambda x, y, g: g / x,
    "Return the natural logarithm.",
    domain=(0.2, 4.0, 0.0),
    formula=lambda m, x: m.log(x),
)
log1p = Unary(
    "log1p",
    np.log1p,
    "_npi_log1p",
    lambda x, y, g: g / (x + 1.0),
    "Return log(1 + x), exact near zero.",
    domain=(-0.7, 3.0, 0.0),
    formula=lambda m, x: m.log1p(x),
)


class _Exp2(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit(self._native, x, scalar=2.0)


exp2 = _Exp2(
    "exp2",
    np.exp2,
    "_npi_rpower_scalar",
    lambda x, y, g: g * (_LOG_2 * y),
    "Return 2 to the power x.",
    formula=lambda m, x: m.exp2(x),
)
log2 = Unary(
    "log2",
    np.log2,
    "_npi_log2",
    lambda x, y, g: g / (_LOG_2 * x),
    "Return the logarithm to base 2.",
    domain=(0.2, 4.0, 0.0),
    formula=lambda m, x: m.log_to_base(x, 2.0),
)
log10 = Unary(
    "log10",
    np.log10,
    "_npi_log10",
    lambda x, y, g: g / (math.log(10.0) * x),
    "Return the logarithm to base 10.",
    domain=(0.2, 4.0, 0.0),
    formula=lambda m, x: m.log_to_base(x, 10.0),
)


def _log_sum(x: Tensor, y: Tensor, of_power: Any, scale: float) -> Tensor:
    """Return the larger one plus the term that the smaller one adds; equal infinities are added."""
    difference = x - y
    more = ops.log1p(of_power(-ops.abs_(difference))) * scale
    return ops.where(ops.isnan(difference), x + y, ops.maximum(x, y) + more)


class _LogAddExp(Binary):
    def expand(self, node: Node) -> Tensor:
        x, y = node.inputs
        return _log_sum(x, y, ops.exp, 1.0)


class _LogAddExp2(Binary):
    def expand(self, node: Node) -> Tensor:
        x, y = node.inputs
        return _log_sum(x, y, exp2, 1.0 / _LOG_2)


logaddexp = _LogAddExp(
    "logaddexp",
    np.logaddexp,
    "",
    (None, None),
    (lambda x, y, z, g: g * ops.exp(x - z), lambda x, y, z, g: g * ops.exp(y - z)),
    "Return log(exp(x) + exp(y)), without overflow; composed, as MXNet has none.",
    dtype=dtypes.floating,
    kinds=("float", "integer", "bool"),
)
logaddexp2 = _LogAddExp2(
    "logaddexp2",
    np.logaddexp2,
    "",
    (None, None),
    (lambda x, y, z, g: g * exp2(x - z), lambda x, y, z, g: g * exp2(y - z)),
    "Return log2(2**x + 2**y), without overflow; composed, as MXNet has none.",
    dtype=dtypes.floating,
    kinds=("float", "integer", "bool"),
)


def _xlogy(x: Any, y: Any) -> Any:
    return np.where(x == 0, 0.0, x * np.log(np.where(x == 0, 1.0, y)))


def _xlogy_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_side=0)
    return Sample(draw.array(shape, -2.0, 2.0, apart=0.05), draw.array(shape, 0.3, 3.0))


@composite(numpy=_xlogy, sample=_xlogy_sample)
def xlogy(x: Any, y: Any) -> Tensor:
    """Return x * log(y), and 0 where x is 0 for every y; likewise gradients (as in TensorFlow)."""
    x, y = ops.promoted(x, y)
    x, y = (ops.cast_to(t, dtypes.floating(t.dtype)) for t in (x, y))
    nothing = ops.equal(x, 0.0)
    product = x * ops.log(ops.where(nothing, ops.ones_like(y), y))
    return ops.where(nothing, ops.zeros_like(x), product)
