"""The activations of Keras's module nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import ksym
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, floating, made

__all__ = [
    *("celu", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh"),
    *("leaky_relu", "log_sigmoid", "log_softmax", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid"),
    *("sparsemax", "squareplus", "tanh", "tanh_shrink", "threshold"),
]

Graph = ksym.Tensor


def _activation(name: str, doc: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    """Return an activation, computed in a float dtype."""

    def body(x: Operand) -> Tensor:
        dtype, graph = floating(x)
        return made(compute(graph), dtype)

    return named_operation(name, doc, body)


def _hard_sigmoid(x: Graph) -> Graph:
    return ksym.relu6(x + 3.0) / 6.0


relu6 = _activation("relu6", "Limit x to the range from 0 to 6.", ksym.relu6)
sigmoid = _activation("sigmoid", "Return 1 / (1 + exp(-x)).", ksym.sigmoid)
tanh = _activation("tanh", "Return the hyperbolic tangent.", ksym.tanh)
tanh_shrink = _activation("tanh_shrink", "Return x - tanh(x).", lambda x: x - ksym.tanh(x))
# Exact far below zero too, where MXNet's softplus has the error of rounding 1.
softplus = _activation("softplus", "Return log(1 + exp(x)).", lambda x: ksym.logaddexp(x, 0.0))
softsign = _activation("softsign", "Return x / (1 + |x|).", ksym.softsign)
silu = _activation("silu", "Return x * sigmoid(x).", ksym.silu)
log_sigmoid = _activation(
    "log_sigmoid", "Return the logarithm of sigmoid(x).", lambda x: -ksym.logaddexp(-x, 0.0)
)
hard_sigmoid = _activation("hard_sigmoid", "Return relu6(x + 3) / 6.", _hard_sigmoid)
hard_silu = _activation("hard_silu", "Return x * hard_sigmoid(x).", lambda x: x * _hard_sigmoid(x))
hard_tanh = _activation("hard_tanh", "Limit x to the range from -1 to 1.", ksym.hard_tanh)
selu = _activation("selu", "Return the scaled exponential unit.", ksym.selu)
sparse_plus = _activation(
    "sparse_plus",
    "Return 0 up to -1, x from 1, and (x + 1)**2 / 4 between.",
    lambda x: ksym.where(x <= -1.0, 0.0, ksym.where(x < 1.0, 0.25 * ksym.square(x + 1.0), x)),
)
sparse_sigmoid = _activation(
    "sparse_sigmoid",
    "Return (x + 1) / 2, limited to the range from 0 to 1.",
    lambda x: ksym.clip((x + 1.0) / 2.0, 0.0, 1.0),
)


@operation
def relu(x: Operand) -> Tensor:
    """Return x where it is positive, else 0; integers stay integers."""
    if x.dtype.startswith(("int", "uint")):
        return Tensor(ksym.maximum(x.graph, 0), x.dtype)
    dtype, graph = floating(x)
    return made(ksym.relu(graph), dtype)


@operation
def soft_shrink(x: Operand, threshold: float = 0.5) -> Tensor:
    """Return x moved towards zero by a threshold, zero within it."""
    dtype, graph = floating(x)
    outer = ksym.where(graph < -threshold, graph + threshold, 0.0)
    return made(ksym.where(graph > threshold, graph - threshold, outer), dtype)


@operation
def hard_shrink(x: Operand, threshold: float = 0.5) -> Tensor:
    """Return x beyond a threshold, zero within it."""
    dtype, graph = floating(x)
    return made(ksym.where(ksym.abs(graph) > threshold, graph, 0.0), dtype)


@operation
def threshold(x: Operand, threshold: float, default_value: float) -> Tensor:
    """Return x above a threshold, else a default value."""
    dtype, graph = floating(x)
    return made(ksym.where(graph > threshold, graph, default_value), dtype)


@operation
def squareplus(x: Operand, b: float = 4) -> Tensor:
    """Return (x + sqrt(x**2 + b)) / 2."""
    dtype, graph = floating(x)
    return made((graph + ksym.sqrt(ksym.square(graph) + b)) / 2.0, dtype)


@operation
def leaky_relu(x: Operand, negative_slope: float = 0.2) -> Tensor:
    """Return x where it is positive, else negative_slope * x."""
    dtype, graph = floating(x)
    return made(ksym.leaky_relu(graph, negative_slope), dtype)


@operation
def elu(x: Operand, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    dtype, graph = floating(x)
    return made(ksym.elu(graph, alpha), dtype)


@operation
def celu(x: Operand, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive, else alpha * (exp(x / alpha) - 1)."""
    dtype, graph = floating(x)
    return made(ksym.celu(graph, alpha), dtype)


@operation
def gelu(x: Operand, approximate: bool = True) -> Tensor:
    """Return x times the probability that a normal variable is below x."""
    dtype, graph = floating(x)
    return made(ksym.gelu(graph, bool(approximate)), dtype)


@operation
def glu(x: Operand, axis: int = -1) -> Tensor:
    """Return the first half along an axis, gated by the sigmoid of the second."""
    side = x.shape[axis]
    if side is not None and side % 2:
        raise ValueError(
            f"axis size must be divisible by 2. Received: x.shape={x.shape} with axis={axis}"
        )
    dtype, graph = floating(x)
    return made(ksym.glu(graph, axis), dtype)


def _over(x: Tensor, axis: Any, compute: Callable[[Graph, int], Graph]) -> Tensor:
    """Apply a function along an axis, along several as one, or along all."""
    dtype, graph = floating(x)
    if isinstance(axis, int):
        return made(compute(graph, axis), dtype)
    axes = tuple(range(graph.rank)) if axis is None else tuple(a % graph.rank for a in axis)
    rest = [a for a in range(graph.rank) if a not in axes]
    order = [*rest, *axes]
    shape = ksym.shape_of(graph)
    moved = ksym.transpose(graph, order)
    flat = ksym.reshape(moved, [*(shape[a] for a in rest), -1])
    result = ksym.reshape(compute(flat, -1), ksym.shape_of(moved))
    return made(ksym.transpose(result, np.argsort(order).tolist()), dtype)


@operation
def softmax(x: Operand, axis: Any = -1) -> Tensor:
    """Return exponentials along axes, scaled to a sum of one."""
    return _over(x, axis, ksym.softmax)


@operation
def log_softmax(x: Operand, axis: Any = -1) -> Tensor:
    """Return the logarithm of the softmax along axes."""
    return _over(x, axis, ksym.log_softmax)


@operation
def sparsemax(x: Operand, axis: int = -1) -> Tensor:
    """Return the nearest point of the simplex along an axis (arXiv:1602.02068)."""
    dtype, graph = floating(x)
    moved = ksym.moveaxis(graph, axis, -1)
    ordered = ksym.sort(moved, -1, descending=True)
    totals = ksym.cumsum(ordered, -1)
    count = ksym.cast(ksym.arange(1, ksym.shape_of(moved)[-1] + 1), moved.dtype)
    support = ordered - (totals - 1.0) / count > 0
    kept = ksym.sum(ksym.cast(support, moved.dtype), -1, keepdims=True)
    total = ksym.sum(ksym.where(support, ordered, 0.0), -1, keepdims=True)
    result = ksym.maximum(moved - (total - 1.0) / kept, 0.0)
    return made(ksym.moveaxis(result, -1, axis), dtype)
