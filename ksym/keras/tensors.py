"""Properties of tensors that Keras reads: static shape, kind, and Keras's own attributes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.graph import Tensor
from ksym.variables import NAMES, Variable

KerasShape = tuple[int | None, ...]


def _get_keras_shape(tensor: Tensor) -> KerasShape:
    return tensor.__dict__.get("_declared_shape", tensor.shape)


def _set_keras_shape(tensor: Tensor, shape: Any) -> None:
    # Keras assigns the result of a layer's compute_output_shape, which is wrong for a Lambda
    # without output_shape: so it only fills in sizes that were not inferred.
    known = tensor.shape
    declared = tuple(shape)
    if len(declared) == len(known):
        tensor.__dict__["_declared_shape"] = tuple(
            given if own is None else own for own, given in zip(known, declared, strict=True)
        )


def install() -> None:
    """Give tensors the attributes that Keras reads without asking whether they are there."""
    Tensor._keras_shape = property(_get_keras_shape, _set_keras_shape)  # type: ignore[attr-defined]
    Tensor._uses_learning_phase = False  # type: ignore[attr-defined]
    Tensor._is_sparse = False  # type: ignore[attr-defined]


def as_tensor(x: Any, dtype: Any = None) -> Tensor:
    """Return x as a tensor; numbers and arrays become constants of Keras's float dtype."""
    if isinstance(x, Tensor):
        return x
    from ksym.keras.config import dtype_or_floatx

    return ops.constant(dense(x), dtype_or_floatx(dtype))


def dense(value: Any) -> Any:
    """Return a SciPy sparse matrix as an array, anything else as it is."""
    if isinstance(
        value, np.ndarray
    ):  # nearly always, and looking up an attribute that it lacks takes long
        return value
    return value.toarray() if hasattr(value, "toarray") else value


def as_scalar(value: np.ndarray) -> Any:
    """Return a value of rank 0 as NumPy's scalar, as a session of TensorFlow does; others as is."""
    return value if value.ndim else value[()]


def is_tensor(x: Any) -> bool:
    """Return whether x belongs to a ksym graph."""
    return isinstance(x, Tensor)


def is_variable(x: Any) -> bool:
    """Return whether x is a variable; Keras calls it for every attribute set on a layer."""
    return isinstance(x, Variable)


def is_placeholder(x: Any) -> bool:
    """Return whether x is a placeholder."""
    return isinstance(x, Tensor) and x.node.operator is ops.placeholder


def is_keras_tensor(x: Any) -> bool:
    """Return whether a Keras layer or `Input` produced x.

    Raises:
        ValueError: x is no tensor at all.
    """
    if not isinstance(x, Tensor):
        raise ValueError(
            f"Unexpectedly found an instance of type `{type(x)}`. Expected a symbolic tensor "
            "instance."
        )
    return hasattr(x, "_keras_history")


def is_sparse(tensor: Tensor) -> bool:
    """Return whether a tensor was declared sparse, or joined of such; it is stored densely.

    Keras hands sparse matrices on to sparse placeholders as they are, batch by batch.
    """
    return bool(tensor._is_sparse)  # type: ignore[attr-defined]


def to_dense(tensor: Tensor) -> Tensor:
    """Return the tensor as one that is not sparse."""
    return ops.copy(tensor) if is_sparse(tensor) else tensor


def mark_sparse(tensor: Tensor) -> None:
    """Declare a tensor sparse."""
    tensor._is_sparse = True  # type: ignore[attr-defined]


def int_shape(x: Any) -> KerasShape:
    """Return the static shape, with the sizes that Keras declared where none was inferred."""
    if isinstance(x, Tensor):
        return _get_keras_shape(x)
    return np.shape(x)


def ndim(x: Any) -> int:
    """Return the number of axes."""
    return len(int_shape(x))


def dtype(x: Any) -> str:
    """Return the dtype's name."""
    return x.dtype if isinstance(x, Tensor) else np.asarray(x).dtype.name


def shape(x: Tensor) -> Tensor:
    """Return the shape as an integer tensor."""
    return ops.shape_of(x)


def size(x: Tensor, name: str | None = None) -> Tensor:
    """Return the number of elements as an integer tensor."""
    return ops.prod(ops.shape_of(x))


def count_params(x: Tensor) -> Any:
    """Return the static number of elements."""
    return np.prod(shapes.known(int_shape(x)))


_uids: defaultdict[str, int] = defaultdict(int)


def get_uid(prefix: str = "") -> int:
    """Return a number that counts up for each prefix, from 1."""
    _uids[prefix] += 1
    return _uids[prefix]


def reset_uids() -> None:
    """Let `get_uid` and the names of variables start again."""
    _uids.clear()
    NAMES.reset()
