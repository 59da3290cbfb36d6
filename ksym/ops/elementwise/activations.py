"""Activations of neural networks on each element; `nn.py` has those along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Tensor
from ksym.operator.composite import Composite, composite
from ksym.operator.emitter import Emitter
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.rectifiers import relu6
from ksym.ops.elementwise.unary import Unary

__all__ = [
    "sigmoid",
    "softplus",
    "softsign",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "swish",
    "mish",
    "log_sigmoid",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
]


def _float(x: Any) -> Tensor:
    x = as_tensor(x)
    return cast_to(x, dtypes.floating(x.dtype))


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, 0.0)


def _sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(0.0, -np.asarray(x, "float64")))


class _Softplus(Unary):
    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        # oneDNN's softrelu is exact to the rounding of 1, so it can be negative (-1.9e-6 at -20).
        return emit("_npi_maximum_scalar", emit("Activation", x, act_type="softrelu"), scalar=0)


sigmoid = Unary(
    "sigmoid",
    _sigmoid,
    "_npx_sigmoid",
    lambda x, y, g: g * (y * (1.0 - y)),
    "Return the logistic function 1 / (1 + exp(-x)).",
    activation="sigmoid",
    formula=lambda m, x: m.sigmoid(x),
)
softplus = _Softplus(
    "softplus",
    _softplus,
    "Activation",
    lambda x, y, g: g * sigmoid(x),
    "Return log(1 + exp(x)), without overflow; the error in float32 is the rounding of 1.",
    formula=lambda m, x: m.softplus(x),
)
softsign = Unary(
    "softsign",
    lambda x: x / (1.0 + np.abs(x)),
    "softsign",
    lambda x, y, g: g / ops.square(1.0 + ops.abs_(x)),
    "Return x / (1 + abs(x)).",
    domain=(-2.0, 2.0, 0.05),
    formula=lambda m, x: m.divide(x, m.add(m.number(1.0, x.dtype), m.magnitude(x))),
)


def _sample_between(
    low: float, high: float, kinks: Sequence[float] = (), **attributes: Any
) -> Callable[[Draw], Sample]:
    def sample(draw: Draw) -> Sample:
        dtype = draw.dtype("float", "integer", "bool")
        x = draw.array(draw.shape(min_side=0), low, high, dtype=dtype, apart=0.05, kinks=kinks)
        return Sample(x, attributes=attributes)

    return sample


def _activation(
    numpy: Callable[..., Any],
    low: float = -2.0,
    high: float = 2.0,
    kinks: Sequence[float] = (),
    **attributes: Any,
) -> Callable[[Callable[..., Any]], Composite]:
    """Declare an activation that is composed of other operators, and tested on an interval."""
    return composite(_in_float64(numpy), _sample_between(low, high, kinks, **attributes))


def _in_float64(numpy: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes in float64: NumPy would compute small integers in float16."""
    return lambda x, **attributes: numpy(np.asarray(x, "float64"), **attributes)


@_activation(lambda x, slope: np.where(x > 0, x, slope * x), slope=0.3)
def leaky_relu(x: Any, slope: float = 0.2) -> Tensor:
    """Return x where positive, else slope times x; the gradient at zero is slope (TensorFlow).

    Args:
        x: A tensor.
        slope: A number.
    """
    x = _float(x)
    return ops.where(x > 0.0, x, slope * x)


def _prelu_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_side=0)
    x, slope = draw.array(shape, apart=0.05), draw.array(shape[-1:], -0.5, 0.5)
    return Sample(x, slope)


@composite(lambda x, slope: np.where(x > 0, x, slope * x), _prelu_sample)
def prelu(x: Any, slope: Any) -> Tensor:
    """Return x where positive, else slope times x; the gradient at zero is slope (TensorFlow).

    Args:
        x: A tensor.
        slope: The slopes, learned as a rule; broadcast against x.
    """
    x, slope = ops.promoted(_float(x), slope)
    return ops.where(x > 0.0, x, slope * x)


def _exponential_part(x: Tensor, rate: float = 1.0) -> Tensor:
    """Return exp(x / rate) - 1 below zero; without overflow above, where its value is not used."""
    below = ops.where(x < 0.0, x, ops.zeros_like(x))
    return ops.expm1(below * (1.0 / rate))


@_activation(lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), alpha=0.7)
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Return x, or alpha * (exp(x) - 1) where negative; the gradient at zero is 1 (TensorFlow).

    Args:
        x: A tensor.
        alpha: A number.
    """
    x = _float(x)
    return ops.where(x < 0.0, alpha * _exponential_part(x), x)


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@_activation(lambda x: _SELU_SCALE * np.where(x < 0, _SELU_ALPHA * np.expm1(np.minimum(x, 0)), x))
def selu(x: Any) -> Tensor:
    """Apply the scaled exponential unit, which keeps mean and variance (arXiv:1706.02515).

    The gradient at zero is the scale, as in TensorFlow.
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@_activation(
    lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x), alpha=1.7
)
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """Return x, or alpha * (exp(x / alpha) - 1) where negative: smooth at zero for every alpha.

    Args:
        x: A tensor.
        alpha: A positive number.
    """
    x = _float(x)
    return ops.where(x < 0.0, alpha * _exponential_part(x, alpha), x)


_ERF = np.vectorize(math.erf, otypes=["float64"])


def _gelu(x: Any, approximate: bool) -> Any:
    if approximate:
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + _ERF(x / math.sqrt(2.0)))


def _gelu_sample(draw: Draw) -> Sample:
    attributes = {"approximate": draw.choose((False, True))}
    return _sample_between(-2.0, 2.0, **attributes)(draw)


@composite(_in_float64(_gelu), _gelu_sample)
def gelu(x: Any, approximate: bool = False) -> Tensor:
    """Return x times the probability that a normal variable is below x (arXiv:1606.08415).

    Args:
        x: A tensor.
        approximate: Use the authors' formula with tanh; exact by default, as in TensorFlow.
    """
    x = _float(x)
    if approximate:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * ops.square(x)))
        return 0.5 * x * (1.0 + ops.tanh(inner))
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


@_activation(lambda x: x * _sigmoid(x))
def silu(x: Any) -> Tensor:
    """Return x * sigmoid(x), also known as swish."""
    x = _float(x)
    return x * sigmoid(x)


swish = silu


@_activation(lambda x: x * np.tanh(_softplus(x)))
def mish(x: Any) -> Tensor:
    """Return x * tanh(softplus(x)) (arXiv:1908.08681)."""
    x = _float(x)
    return x * ops.tanh(softplus(x))


@_activation(lambda x: -_softplus(-np.asarray(x, "float64")))
def log_sigmoid(x: Any) -> Tensor:
    """Return the logarithm of `sigmoid`, computed without underflow."""
    return -softplus(-_float(x))


@_activation(lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0), -4.0, 4.0, (-2.5, 2.5))
def hard_sigmoid(x: Any) -> Tensor:
    """Return 0.2 * x + 0.5 limited to [0, 1], as in Keras 2; the gradient on the ends is 0.2.

    JAX and Keras 3 have relu6(x + 3) / 6 by this name.
    """
    return ops.clip(0.2 * _float(x) + 0.5, 0.0, 1.0)


@_activation(lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0, -4.0, 4.0, (-3.0, 3.0))
def hard_swish(x: Any) -> Tensor:
    """Return x * relu6(x + 3) / 6 (arXiv:1905.02244); gradients on the ends as of `relu6`."""
    x = _float(x)
    return x * relu6(x + 3.0) * (1.0 / 6.0)


@_activation(lambda x: np.clip(x, -1.0, 1.0), -2.0, 2.0, (-1.0, 1.0))
def hard_tanh(x: Any) -> Tensor:
    """Limit x to [-1, 1]; the gradient on the ends is 1, as in JAX."""
    return ops.clip(_float(x), -1.0, 1.0)
