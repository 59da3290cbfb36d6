"""Variables, constants and placeholders, their values, and updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.function import evaluate, function
from ksym.graph import Tensor
from ksym.keras import execution
from ksym.keras.config import dtype_or_floatx
from ksym.keras.random import seed_or_numpy
from ksym.keras.tensors import as_scalar, as_tensor, counts, dense, mark_sparse, whole
from ksym.operator.operands import is_settled, packed
from ksym.variables import Update, Variable, get_values, in_dtype_of, set_values


def variable(
    value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None
) -> Variable:
    """Return a variable; a symbolic value, as initializers give, is evaluated first."""
    given = value
    value = packed(value)
    if isinstance(value, Tensor):
        # Computed once: not worth a compilation for each weight of a model.
        value = function([], value, mode="interpret")()
    result = Variable(dense(value), dtype_or_floatx(dtype), name)
    if hasattr(given, "toarray"):
        mark_sparse(result)
    result.constraint = constraint  # type: ignore[attr-defined]
    return result


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Tensor:
    """Return a constant, stretched or reshaped to shape if one is given."""
    result = ops.constant(value, dtype_or_floatx(dtype))
    if shape is None:
        return result
    symbolic = isinstance(shape, Tensor)
    if symbolic or (np.iterable(shape) and any(isinstance(side, Tensor) for side in shape)):
        return ops.reshape(result, shape) if result.rank else ops.full(shape, result)
    shape = whole(tuple(shape) if isinstance(shape, list | tuple) else (shape,))
    if result.value is not None and result.value.size == 1:
        return ops.constant(np.full(_known(shape), result.value.item(), result.dtype))
    return ops.reshape(result, shape)


def placeholder(
    shape: Any = None,
    ndim: int | None = None,
    dtype: Any = None,
    sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """Return a placeholder; a sparse one takes sparse matrices, which are stored densely."""
    if shape is None:
        shape = (None,) * (ndim or 0)
    result = ops.placeholder(whole(tuple(shape)), dtype_or_floatx(dtype), name)
    if sparse:
        mark_sparse(result)
    return result


def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Return a variable of zeros, or a tensor of them if the shape is not static."""
    return _filled(0, shape, dtype, name)


def ones(shape: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Return a variable of ones, or a tensor of them if the shape is not static."""
    return _filled(1, shape, dtype, name)


def _filled(number: float, shape: Any, dtype: Any, name: str | None) -> Tensor:
    if isinstance(shape, Tensor):
        if not is_settled(shape):
            return ops.full(shape, number, dtype_or_floatx(dtype))
        shape = shape.value
    sides = whole(tuple(shape) if np.iterable(shape) else (shape,))
    if any(isinstance(side, Tensor) or side is None for side in sides):
        return ops.full(sides, number, dtype_or_floatx(dtype))
    return variable(np.full(_known(sides), number), dtype, name)


def _known(sides: Sequence[Any]) -> list[int]:
    """Return the shape of an array that is made now."""
    return list(shapes.known(shapes.normalize(counts(list(sides), "full"))))


def eye(size: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Return a variable with ones on its diagonal, or a tensor if the size is not static."""
    size = whole(size)
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    if isinstance(rows, Tensor) or isinstance(columns, Tensor):
        return ops.eye(rows, columns, dtype=dtype_or_floatx(dtype))
    return variable(np.eye(rows, columns), dtype, name)


def zeros_like(x: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Return zeros of the shape of x, of Keras's float dtype unless one is given."""
    return ops.zeros_like(ops.cast_to(as_tensor(x), dtype_or_floatx(dtype)))


def ones_like(x: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Return ones of the shape of x, of Keras's float dtype unless one is given."""
    return ops.ones_like(ops.cast_to(as_tensor(x), dtype_or_floatx(dtype)))


def identity(x: Any, name: str | None = None) -> Tensor:
    """Return a new tensor of the same value, computed after the updates in force."""
    x = as_tensor(x)
    result = ops.copy(x)
    result._uses_learning_phase = x._uses_learning_phase
    execution.mark(result)
    return result


def cast(x: Any, dtype: Any) -> Tensor:
    """Return x, which may be a Python value, in another dtype; a tensor that has it as it is.

    Keras's metrics look for a layer's mark on what they are given, and cast it before.
    """
    dtype, x = dtypes.canonical(dtype), packed(dense(x))
    if isinstance(x, Tensor):
        return ops.cast_to(x, dtype)
    return ops.constant(x, dtype) if dtypes.is_float(dtype) else ops.cast(x, dtype)


def random_uniform_variable(
    shape: Any,
    low: float,
    high: float,
    dtype: Any = None,
    name: str | None = None,
    seed: int | None = None,
) -> Variable:
    """Return a variable of numbers from low to high."""
    rng = np.random.default_rng(seed_or_numpy(seed))
    return variable(rng.uniform(low, high, whole(shape)), dtype, name)


def random_normal_variable(
    shape: Any,
    mean: float,
    scale: float,
    dtype: Any = None,
    name: str | None = None,
    seed: int | None = None,
) -> Variable:
    """Return a variable of normal numbers."""
    rng = np.random.default_rng(seed_or_numpy(seed))
    return variable(rng.normal(mean, scale, whole(shape)), dtype, name)


def get_value(x: Any) -> Any:
    """Return the value as a NumPy array, or as NumPy's scalar if its rank is 0."""
    if not isinstance(x, Tensor):
        return as_scalar(np.asarray(x))
    return as_scalar(evaluate(x))


def batch_get_value(tensors: Iterable[Any]) -> list[Any]:
    """Return the values of several variables, as they are at one moment."""
    wanted = list(tensors)
    if all(isinstance(tensor, Variable) for tensor in wanted):
        return [as_scalar(value) for value in get_values(wanted)]
    return [get_value(tensor) for tensor in wanted]


def set_value(x: Variable, value: Any) -> None:
    """Set the value of a variable."""
    x.set_value(_stretched(x, value))


def _stretched(x: Variable, value: Any) -> np.ndarray:
    """Return a number as an array of the variable's shape, an array as it is."""
    value = dtypes.as_array(value)
    return np.broadcast_to(value, shapes.known(x.shape)) if value.ndim == 0 else value


def batch_set_value(tuples: Sequence[tuple[Variable, Any]]) -> None:
    """Set the values of several variables at one moment."""
    set_values([(x, _stretched(x, value)) for x, value in tuples])


def update(x: Variable, new_x: Any) -> Update:
    """Return an update to a new value."""
    return x.assign(new_x)


def update_add(x: Variable, increment: Any) -> Update:
    """Return an update by adding."""
    return execution.increment(x, increment)


def update_sub(x: Variable, decrement: Any) -> Update:
    """Return an update by subtracting."""
    return execution.increment(x, ops.negative(in_dtype_of(x, dense(decrement))))


def moving_average_update(x: Variable, value: Any, momentum: float) -> Update:
    """Return an update that moves x toward value."""
    value = in_dtype_of(x, dense(value))
    return execution.increment(x, (value - x) * (1.0 - momentum))
