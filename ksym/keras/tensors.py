"""Properties of tensors that Keras reads: static shape, kind, and Keras's own attributes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import KsymError, ShapeError
from ksym.graph import Tensor
from ksym.operator import operands
from ksym.operator.operands import promoted
from ksym.origin import current_origin
from ksym.variables import NAMES, Variable

KerasShape = tuple[int | None, ...]


class Undeclared(tuple[int | None, ...]):
    """A shape that no layer declares: Keras takes that of the input where a layer says nothing.

    Parts of it, and what is put together with it, are undeclared too.
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return Undeclared(part) if isinstance(key, slice) else part

    def __add__(self, other: Any) -> Any:
        return Undeclared((*self, *other))

    def __radd__(self, other: Any) -> Any:
        return Undeclared((*other, *self))


def _get_keras_shape(tensor: Tensor) -> KerasShape:
    return tensor.__dict__.get("_declared_shape", tuple(tensor.shape))


def _set_keras_shape(tensor: Tensor, shape: Any) -> None:
    # Keras assigns the result of a layer's compute_output_shape.  Of the rank that was inferred, it
    # fills in the sizes that were not; of another rank it is what the layer promises to its
    # readers, above all to the targets of a loss, and stands, as on TensorFlow.
    if not isinstance(shape, list | tuple):
        return  # for Keras a list is one of shapes, and this an entry of a list that is none
    known, declared = tensor.shape, tuple(whole(shape))
    if any(isinstance(side, int) and side < 0 for side in declared):
        # Such as a cropping takes more than there is.
        raise ShapeError(
            f"nothing is left of the input: the layer's output would have shape {declared}",
            remedy="take off less, or give larger inputs",
        ).located(tensor.node.operator.name, origin=current_origin())
    if len(declared) == len(known):
        declared = tuple(
            given if own is None else own for own, given in zip(known, declared, strict=True)
        )
    elif isinstance(shape, Undeclared):
        return
    tensor.__dict__["_declared_shape"] = declared


def install() -> None:
    """Give tensors the attributes that Keras reads without asking whether they are there."""
    Tensor._keras_shape = property(_get_keras_shape, _set_keras_shape)  # type: ignore[attr-defined]
    Tensor._uses_learning_phase = False  # type: ignore[attr-defined]
    Tensor._is_sparse = False  # type: ignore[attr-defined]


def as_tensor(x: Any, dtype: Any = None) -> Tensor:
    """Return x as a tensor; numbers and arrays become constants of Keras's float dtype.

    Lists that hold tensors are packed, their numbers taking the tensors' dtype.
    """
    x = operands.packed(x)
    if isinstance(x, Tensor):
        return x
    from ksym.keras.config import dtype_or_floatx

    return ops.constant(dense(x), dtype_or_floatx(dtype))


def whole(sides: Any) -> Any:
    """Return sizes with whole floats as integers: users compute sizes by divisions.

    Anything else stays what it is, also in lists and tuples, and is refused where it does not fit.
    """
    if isinstance(sides, list | tuple):
        return type(sides)([whole(side) for side in sides])
    if isinstance(sides, np.ndarray) and sides.dtype.kind == "f":
        return [whole(side) for side in sides.tolist()]
    return int(sides) if isinstance(sides, float | np.floating) and sides == sides // 1 else sides


def counts(sides: Any, operator: str) -> Any:
    """Return the shape of new values, with whole floats as integers.

    Args:
        sides: The shape; sizes that are tensors stay so.
        operator: The operator that makes the values, for the error.

    Raises:
        ShapeError: A size is negative.
    """
    sides = whole(sides)
    listed = sides.tolist() if isinstance(sides, np.ndarray) else sides
    numbers = listed if isinstance(listed, list | tuple) else [listed]
    if any(isinstance(side, int | np.integer) and side < 0 for side in numbers):
        raise ShapeError(
            f"there is no tensor of shape {tuple(numbers)}",
            remedy="a layer with such weights has a window that is larger than its input: take a "
            "smaller window, or larger inputs",
        ).located(operator, origin=current_origin())
    return sides


def as_tensors(*values: Any) -> list[Tensor]:
    """Return operands as tensors; numbers and arrays give way to the tensors among them.

    Without a tensor they become constants of Keras's float dtype.

    Raises:
        DTypeError: A value is not numeric, or an integer does not fit the dtype of the tensors.
    """
    if not any(isinstance(value, Tensor) for value in values):
        return [as_tensor(value) for value in values]
    try:
        meeting = promoted(*map(dense, values))
    except KsymError as error:
        raise error.located(origin=current_origin()) from None
    return [
        value if isinstance(value, Tensor) else constant
        for value, constant in zip(values, meeting, strict=True)
    ]


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
    """Return the static shape as Keras has it: what a layer declares, else what is inferred."""
    if isinstance(x, Tensor):
        return _get_keras_shape(x)
    return np.shape(x)


def static_shape(x: Tensor) -> KerasShape:
    """Return the inferred shape, with declared sizes where none was inferred."""
    declared = _get_keras_shape(x)
    return declared if len(declared) == x.rank else x.shape


def ndim(x: Any) -> int:
    """Return the number of axes."""
    return x.rank if isinstance(x, Tensor) else np.ndim(x)


def dtype(x: Any) -> str:
    """Return the dtype's name."""
    return str(x.dtype) if isinstance(x, Tensor) else np.asarray(x).dtype.name


def shape(x: Any) -> Tensor:
    """Return the shape as an integer tensor."""
    return ops.shape_of(as_tensor(x))


def size(x: Any, name: str | None = None) -> Tensor:
    """Return the number of elements as an integer tensor."""
    return ops.prod(shape(x))


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
