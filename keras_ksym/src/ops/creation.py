"""Functions of Keras's module numpy that make tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, named, operation
from keras_ksym.src.ops.arrays import sizes
from keras_ksym.src.tensor import Tensor, floatx, has_tensors, made, tensor

__all__ = [
    *("arange", "array", "bartlett", "blackman", "empty", "empty_like", "eye", "full"),
    *("full_like", "geomspace", "hamming", "hanning", "identity", "kaiser", "linspace"),
    *("logspace", "ones", "ones_like", "tri", "zeros", "zeros_like"),
]


def _filled(shape: Any, value: Any, dtype: str) -> Any:
    """Return a tensor of one value: an array, if its shape and the value are known."""
    listed = list(shape) if isinstance(shape, tuple) else shape
    if has_tensors(listed) or has_tensors(value):
        return Tensor(ksym.full(sizes(shape), tensor(value).graph_in(dtype)), dtype)
    if isinstance(shape, np.ndarray | KerasVariable):
        shape = tuple(np.asarray(shape).reshape(-1).tolist())
    return np.full(shape, np.asarray(value), dtypes.numpy_dtype(dtypes_of(dtype)))


def dtypes_of(dtype: str) -> str:
    """Return a dtype, if ksym has it.

    Raises:
        TypeError: It has not.
    """
    dtypes.stored(dtype)
    return dtype


def zeros(shape: Any, dtype: Any = None) -> Any:
    """Return a tensor of zeros."""
    return _filled(shape, 0, dtypes.as_dtype(dtype))


def ones(shape: Any, dtype: Any = None) -> Any:
    """Return a tensor of ones."""
    return _filled(shape, 1, dtypes.as_dtype(dtype))


def empty(shape: Any, dtype: Any = None) -> Any:
    """Return a tensor of zeros: nothing is left without a value."""
    return zeros(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Return a tensor filled with a value."""
    if isinstance(fill_value, KerasVariable):
        fill_value = fill_value.value
    return _filled(shape, fill_value, dtypes.as_dtype(dtype))


@operation
def _like(x: Operand, value: Any, dtype: Any) -> Tensor:
    name = dtypes.as_dtype(dtype or x.dtype)
    return Tensor(ksym.full(ksym.shape_of(x.graph), tensor(value).graph_in(name)), name)


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Return zeros of a tensor's shape."""
    return _like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Return ones of a tensor's shape."""
    return _like(x, 1, dtype)


def empty_like(x: Any, dtype: Any = None) -> Any:
    """Return zeros of a tensor's shape."""
    return _like(x, 0, dtype)


@operation
def _full_like(x: Operand, fill_value: Operand, dtype: Any) -> Tensor:
    name = dtypes.as_dtype(dtype or x.dtype)
    filler = fill_value.graph_in(name)
    return Tensor(ksym.broadcast_to(filler, ksym.shape_of(x.graph)), name)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Return a tensor of another one's shape, filled with a value."""
    return _full_like(x, fill_value, dtype)


def array(x: Any, dtype: Any = None) -> Any:
    """Return a copy of a value as a tensor."""
    from keras_ksym.src.ops.core import convert_to_tensor

    result = convert_to_tensor(x, dtype)
    return result if isinstance(result, Tensor) else np.array(result)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """Return numbers from start to below stop in equal steps."""
    given = [value for value in (start, stop, step) if value is not None]
    if dtype is None:
        dtype = result_type(*(getattr(value, "dtype", type(value)) for value in given))
    name = dtypes.as_dtype(dtype)
    ends = (0, start) if stop is None else (start, stop)
    ends = (*ends, 1 if step is None else step)
    if has_tensors(list(ends)):
        bounds = [tensor(value).graph if has_tensors(value) else value for value in ends]
        return made(ksym.cast(ksym.arange(*bounds), dtypes.stored(name)), name)
    return np.arange(*(_plain(value) for value in ends)).astype(dtypes.numpy_dtype(name))


def _plain(value: Any) -> Any:
    return np.asarray(value).item() if not isinstance(value, int | float) else value


def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Any:
    """Return a matrix with ones on a diagonal."""
    return _by_numpy(np.eye, dtype, N, M, k=k)


def identity(n: Any, dtype: Any = None) -> Any:
    """Return the matrix with ones on its diagonal."""
    return _by_numpy(np.eye, dtype, n)


def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Any:
    """Return a matrix with ones on and below a diagonal."""
    return _by_numpy(np.tri, dtype, N, M, k=k)


def _by_numpy(function: Callable[..., Any], dtype: Any, *sides: Any, k: int = 0) -> Any:
    """Return a matrix that NumPy makes of its sides."""
    if has_tensors(list(sides)):
        name = dtypes.as_dtype(dtype)
        rows, columns = (*sides, None)[:2]
        columns = rows if columns is None else columns
        i, j = arange(rows, dtype="int32"), arange(columns, dtype="int32")
        left, right = tensor(i).graph[:, None] + k, tensor(j).graph[None, :]
        marks = ksym.equal(left, right) if function is np.eye else left >= right
        return Tensor(ksym.cast(marks, dtypes.stored(name)), name)
    whole = [None if side is None else int(side) for side in sides]
    return function(*whole, k=int(k)).astype(dtypes.numpy_dtype(dtypes.as_dtype(dtype)))


def _window(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    def body(x: Any, *settings: Any) -> Any:
        return compute(int(np.asarray(x)), *map(float, settings)).astype(
            dtypes.numpy_dtype(floatx())
        )

    return named(name, f"Return the window of {name.capitalize()}, of x elements.", body)


bartlett = _window("bartlett", np.bartlett)
blackman = _window("blackman", np.blackman)
hamming = _window("hamming", np.hamming)
hanning = _window("hanning", np.hanning)
kaiser = _window("kaiser", np.kaiser)


def _spaced(start: Tensor, stop: Tensor, dtype: Any) -> tuple[str, str, ksym.Tensor, ksym.Tensor]:
    """Return the dtypes of the result and of the computation, and both ends."""
    common = result_type(start.kind, stop.kind, float)
    name = dtypes.as_dtype(dtype or common)
    inner = common if dtypes.is_float(common) else floatx()
    return name, inner, start.graph_in(inner), stop.graph_in(inner)


def _steps(a: ksym.Tensor, b: ksym.Tensor, num: int, endpoint: bool, axis: int) -> ksym.Tensor:
    """Return numbers in equal steps from a to b on a new axis."""
    parts = num - 1 if endpoint else num
    shares = np.arange(num, dtype="float64") / max(parts, 1)
    a, b = a + 0.0 * b, b + 0.0 * a
    weights = ksym.constant(shares, a.dtype)
    weights = ksym.reshape(weights, (num, *(1 for _ in range(a.rank))))
    a, b = ksym.expand_dims(a, 0), ksym.expand_dims(b, 0)
    result = a * (1.0 - weights) + b * weights
    return ksym.moveaxis(result, 0, axis) if axis % result.rank else result


@operation
def _linspace(
    start: Operand, stop: Operand, num: int, endpoint: bool, dtype: Any, axis: int
) -> tuple[Tensor, Tensor]:
    name, inner, a, b = _spaced(start, stop, dtype)
    result = _steps(a, b, num, endpoint, axis)
    if not dtypes.is_float(name):
        result = ksym.floor(result)
    parts = num - 1 if endpoint else num
    step = (b - a) / parts if parts > 0 else (b - a) * np.nan
    return made(ksym.cast(result, dtypes.stored(name)), name), made(step, inner)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Return numbers in equal steps from start to stop, on a new axis."""
    numbers, step = _linspace(start, stop, int(num), endpoint, dtype, axis)
    return (numbers, step) if retstep else numbers


@operation
def logspace(
    start: Operand,
    stop: Operand,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Tensor:
    """Return powers of a base, the exponents in equal steps from start to stop."""
    name, inner, a, b = _spaced(start, stop, dtype)
    powers = ksym.power(
        ksym.constant(float(base), dtypes.stored(inner)), _steps(a, b, num, endpoint, axis)
    )
    return made(ksym.cast(powers, dtypes.stored(name)), name)


@operation
def geomspace(
    start: Operand,
    stop: Operand,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
) -> Tensor:
    """Return numbers in equal ratios from start to stop."""
    name, _, a, b = _spaced(start, stop, dtype)
    sign = ksym.sign(a)
    logarithms = _steps(ksym.log(ksym.abs(a)), ksym.log(ksym.abs(b)), num, endpoint, axis)
    sign = ksym.expand_dims(sign + 0.0 * b, axis)
    return made(ksym.cast(sign * ksym.exp(logarithms), dtypes.stored(name)), name)
