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
    """Return the largest element."""
    return ops.max_(as_tensor(x), _axes(axis), keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element."""
    return ops.min_(as_tensor(x), _axes(axis), keepdims=keepdims)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the sum, in the dtype of x."""
    x = as_tensor(x)
    return ops.cast_to(ops.sum_(x, _axes(axis), keepdims=keepdims), x.dtype)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the product; x may be a list of scalar tensors."""
    x = as_tensor(x)
    return ops.cast_to(ops.prod(x, _axes(axis), keepdims=keepdims), x.dtype)


def cumsum(x: Any, axis: int = 0) -> Tensor:
    """Return the running sum."""
    return ops.cumsum(as_tensor(x), axis)


def cumprod(x: Any, axis: int = 0) -> Tensor:
    """Return the running product."""
    return ops.cumprod(as_tensor(x), axis)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the variance; of integers and booleans in Keras's float dtype."""
    return ops.var(_floats(x), _axes(axis), keepdims=keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the standard deviation; of integers and booleans in Keras's float dtype."""
    return ops.std(_floats(x), _axes(axis), keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the mean; of integers and booleans in Keras's float dtype."""
    return ops.mean(_floats(x), _axes(axis), keepdims=keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return whether any element is true."""
    return ops.any_(as_tensor(x), _axes(axis), keepdims=keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return whether all elements are true."""
    return ops.all_(as_tensor(x), _axes(axis), keepdims=keepdims)


def argmax(x: Any, axis: int = -1) -> Tensor:
    """Return the index of the largest element."""
    return ops.argmax(as_tensor(x), axis)


def argmin(x: Any, axis: int = -1) -> Tensor:
    """Return the index of the smallest element."""
    return ops.argmin(as_tensor(x), axis)


def square(x: Any) -> Tensor:
    """Return x * x."""
    return ops.square(as_tensor(x))


def abs(x: Any) -> Tensor:
    """Return the absolute value."""
    return ops.abs_(as_tensor(x))


def sqrt(x: Any) -> Tensor:
    """Return the square root; of negative numbers zero."""
    x = _floats(x)
    return ops.sqrt(ops.maximum(x, 0.0))


def exp(x: Any) -> Tensor:
    """Return the exponential."""
    return ops.exp(_floats(x))


def log(x: Any) -> Tensor:
    """Return the natural logarithm."""
    return ops.log(_floats(x))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials."""
    return ops.logsumexp(_floats(x), _axes(axis), keepdims=keepdims)


def round(x: Any) -> Tensor:
    """Round to the nearest whole number, halves to the even one."""
    return ops.stop_gradient(ops.rint(as_tensor(x)))


def sign(x: Any) -> Tensor:
    """Return -1, 0 or 1 for the sign of x."""
    return ops.sign(as_tensor(x))


def pow(x: Any, a: Any) -> Tensor:
    """Return x to the power a."""
    return ops.power(x, a)


def clip(x: Any, min_value: Any, max_value: Any) -> Tensor:
    """Limit x from below, from above (None: no limit), or both; min_value wins."""
    x = as_tensor(x)
    if max_value is None:
        return x if min_value is None else ops.maximum(x, min_value)
    if min_value is None:
        return ops.minimum(x, max_value)
    if not isinstance(min_value, Tensor) and not isinstance(max_value, Tensor):
        max_value = max_value if max_value >= min_value else min_value
    return ops.clip(x, min_value, max_value)


def equal(x: Any, y: Any) -> Tensor:
    """Return whether x equals y."""
    return ops.equal(x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """Return whether x differs from y."""
    return ops.not_equal(x, y)


def greater(x: Any, y: Any) -> Tensor:
    """Return whether x is larger."""
    return ops.greater(x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """Return whether x is not smaller."""
    return ops.greater_equal(x, y)


def less(x: Any, y: Any) -> Tensor:
    """Return whether x is smaller."""
    return ops.less(x, y)


def less_equal(x: Any, y: Any) -> Tensor:
    """Return whether x is not larger."""
    return ops.less_equal(x, y)


def maximum(x: Any, y: Any) -> Tensor:
    """Return the larger of x and y."""
    return ops.maximum(x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """Return the smaller of x and y."""
    return ops.minimum(x, y)


def sin(x: Any) -> Tensor:
    """Return the sine."""
    return ops.sin(_floats(x))


def cos(x: Any) -> Tensor:
    """Return the cosine."""
    return ops.cos(_floats(x))
