"""Elementwise functions, comparisons and reductions."""

# ruff: noqa: A001 - the names are Keras's
from __future__ import annotations

from typing import Any

from ksym import ops
from ksym.graph import Tensor
from ksym.keras.config import floatx
from ksym.keras.tensors import as_tensor


def _floats(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype.startswith("float") else ops.cast(x, floatx())


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element."""
    return ops.max_(as_tensor(x), _axes(axis), keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element."""
    return ops.min_(as_tensor(x), _axes(axis), keepdims)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum, in the dtype of x."""
    x = as_tensor(x)
    return ops.cast_to(ops.sum_(x, _axes(axis), keepdims), x.dtype)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The product; x may be a list of scalar tensors."""
    x = ops.stack(x) if isinstance(x, list | tuple) else as_tensor(x)
    return ops.cast_to(ops.prod(x, _axes(axis), keepdims), x.dtype)


def cumsum(x: Any, axis: int = 0) -> Tensor:
    """The running sum."""
    return ops.cumsum(as_tensor(x), axis)


def cumprod(x: Any, axis: int = 0) -> Tensor:
    """The running product."""
    return ops.cumprod(as_tensor(x), axis)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The variance; of integers and booleans in Keras's float dtype."""
    return ops.var(_floats(x), _axes(axis), keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The standard deviation; of integers and booleans in Keras's float dtype."""
    return ops.std(_floats(x), _axes(axis), keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean; of integers and booleans in Keras's float dtype."""
    return ops.mean(_floats(x), _axes(axis), keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element is true."""
    return ops.any_(as_tensor(x), _axes(axis), keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true."""
    return ops.all_(as_tensor(x), _axes(axis), keepdims)


def argmax(x: Any, axis: int = -1) -> Tensor:
    """The index of the largest element."""
    return ops.argmax(as_tensor(x), axis)


def argmin(x: Any, axis: int = -1) -> Tensor:
    """The index of the smallest element."""
    return ops.argmin(as_tensor(x), axis)


def square(x: Any) -> Tensor:
    """x * x."""
    return ops.square(as_tensor(x))


def abs(x: Any) -> Tensor:
    """The absolute value."""
    return ops.abs_(as_tensor(x))


def sqrt(x: Any) -> Tensor:
    """The square root; of negative numbers zero."""
    x = _floats(x)
    return ops.sqrt(ops.maximum(x, 0.0))


def exp(x: Any) -> Tensor:
    """The exponential."""
    return ops.exp(_floats(x))


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return ops.log(_floats(x))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The logarithm of the sum of exponentials."""
    return ops.logsumexp(_floats(x), _axes(axis), keepdims)


def round(x: Any) -> Tensor:
    """The nearest whole number, halves to the even one."""
    return ops.stop_gradient(ops.round_(as_tensor(x)))


def sign(x: Any) -> Tensor:
    """-1, 0 or 1."""
    return ops.sign(as_tensor(x))


def pow(x: Any, a: Any) -> Tensor:
    """x to the power a."""
    return ops.power(x, a)


def clip(x: Any, min_value: Any, max_value: Any) -> Tensor:
    """Limit x from below, from above (None: not at all), or both; min_value wins."""
    x = as_tensor(x)
    if max_value is None:
        return x if min_value is None else ops.maximum(x, min_value)
    if min_value is None:
        return ops.minimum(x, max_value)
    if not isinstance(min_value, Tensor) and not isinstance(max_value, Tensor):
        max_value = max_value if max_value >= min_value else min_value
    return ops.clip(x, min_value, max_value)


def equal(x: Any, y: Any) -> Tensor:
    """Whether x equals y."""
    return ops.equal(x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """Whether x differs from y."""
    return ops.not_equal(x, y)


def greater(x: Any, y: Any) -> Tensor:
    """Whether x is larger."""
    return ops.greater(x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """Whether x is not smaller."""
    return ops.greater_equal(x, y)


def less(x: Any, y: Any) -> Tensor:
    """Whether x is smaller."""
    return ops.less(x, y)


def less_equal(x: Any, y: Any) -> Tensor:
    """Whether x is not larger."""
    return ops.less_equal(x, y)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of x and y."""
    return ops.maximum(x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of x and y."""
    return ops.minimum(x, y)


def sin(x: Any) -> Tensor:
    """The sine."""
    return ops.sin(_floats(x))


def cos(x: Any) -> Tensor:
    """The cosine."""
    return ops.cos(_floats(x))
