"""The conversion of users' arguments to tensors: their dtypes, and shapes as operands.

The conversion uses operators (`constant`, `cast`, `stack`), which are looked up by name when it
runs, since their own declarations use these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, graph
from ksym.errors import DTypeError, GraphError
from ksym.graph import Node, Tensor
from ksym.origin import current_origin
from ksym.shapes import UNKNOWN, items


def _constant(value: Any, dtype: str | None = None) -> Tensor:
    # Its errors are those of the operator that the value is an operand of.
    return graph.OPERATORS["constant"].call(value, dtype)


def as_tensor(value: Any, dtype: str | None = None) -> Tensor:
    """Convert a value to a tensor; a tensor stays itself.

    Args:
        value: A tensor, a number, an array, or nested sequences of these.
        dtype: The dtype of a value that is no tensor, to which it is converted directly.

    Raises:
        DTypeError: The value is not numeric, or does not fit the dtype.
    """
    if isinstance(value, Tensor):
        return value
    value = packed(value)
    return value if isinstance(value, Tensor) else _constant(value, dtype)


def packed(value: Any) -> Any:
    """Return a list that holds tensors, at any depth, as one tensor; anything else as it is.

    The numbers in it give way to the tensors: they take their dtype.
    """
    return graph.OPERATORS["stack"](value) if _holds_tensors(value) else value


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(
        isinstance(item, Tensor) or _holds_tensors(item) for item in value
    )


def unrounded(value: Any) -> Tensor:
    """Convert a value whose dtype is decided later; a Python float becomes one of float64."""
    if isinstance(value, Tensor) or _holds_tensors(value):
        return as_tensor(value)
    return _constant(dtypes.storable(value, "float64"))


def condition(value: Any) -> Tensor:
    """Return a condition as a tensor of booleans.

    Raises:
        DTypeError: It is Python's True or False, which a comparison by ``==`` leaves.
    """
    if isinstance(value, bool | np.bool_):
        raise DTypeError(
            f"the condition is {bool(value)}, not a tensor",
            remedy="where it was computed as x == y or x != y, write ksym.equal(x, y) or "
            "ksym.not_equal(x, y), as tensors are compared by identity; for a choice that is made "
            "already, use Python's if",
        ).located(origin=current_origin())
    return cast_to(as_tensor(value), "bool")


def promoted(*values: Any) -> list[Tensor]:
    """Convert operands to tensors of their common dtype; lists that hold tensors are packed.

    Tensors are promoted by NumPy's table.  Constants (Python numbers and NumPy arrays) give way:
    they take the tensors' dtype unless their kind is higher (bool < integer < float), because
    float64 is only NumPy's default, not a choice of the user's.

    Raises:
        DTypeError: A value is not numeric, or an integer constant does not fit the dtype.
    """
    values = tuple(as_tensor(value) if _holds_tensors(value) else value for value in values)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) == len(values):
        target = dtypes.promote(*(t.dtype for t in tensors))
        return [cast_to(t, target) for t in tensors]
    values = tuple(map(packed, values))
    tensors = [value for value in values if isinstance(value, Tensor)]
    arrays = [None if isinstance(v, Tensor) else _operand_array(v, tensors) for v in values]
    constants = [a for a in arrays if a is not None]
    if not tensors:
        target = dtypes.promote(*(dtypes.name_of(a) for a in constants))
    else:
        target = dtypes.promote(*(t.dtype for t in tensors))
        higher = [
            # A Python float counts as float64 here: int32 + 0.5 is float64, as in NumPy.
            "float64" if a.dtype.kind == "f" else dtypes.name_of(a)
            for a in constants
            if dtypes.kind(dtypes.name_of(a)) > dtypes.kind(target)
        ]
        if higher:
            target = dtypes.promote(target, *higher)
    return [
        cast_to(value, target) if isinstance(value, Tensor) else _constant(_fit(array, target))
        for value, array in zip(values, arrays, strict=True)
    ]


def _operand_array(value: Any, tensors: Sequence[Tensor]) -> np.ndarray:
    """Return a constant operand as an array, not rounded yet if it gives way to tensors."""
    if not tensors:
        return dtypes.storable(value)
    if any(dtypes.is_float(t.dtype) for t in tensors):
        return dtypes.fitting(value, "float64")
    return dtypes.storable(value, "float64")


def _fit(array: Any, dtype: str) -> np.ndarray:
    result = dtypes.cast(array, dtype)
    if dtypes.kind(dtype) == 1 and array.dtype.kind in "iu" and not np.array_equal(result, array):
        raise DTypeError(
            f"the constant {array} does not fit into {dtype}",
            remedy="cast the tensor to a wider dtype first, or give the variable one",
        )
    return result


def in_dtype(value: Any, dtype: str) -> Tensor:
    """Return a value or tensor as a tensor of a dtype; numbers are converted to it directly.

    Raises:
        DTypeError: The value is not numeric, or does not fit the dtype.
    """
    return cast_to(as_tensor(value, dtype), dtype)


def cast_to(tensor: Tensor, dtype: str) -> Tensor:
    """Return the tensor in another dtype; itself if it has it."""
    if tensor.dtype == dtype:
        return tensor
    return graph.OPERATORS["cast"](tensor, dtype)


def floating(x: Any) -> Tensor:
    """Return x as a tensor of floats."""
    x = as_tensor(x)
    return cast_to(x, dtypes.floating(x.dtype))


def widened(x: Tensor) -> Tensor:
    """Return x with float16 as float32, to add up many elements; other dtypes as they are."""
    return cast_to(x, "float32") if x.dtype == "float16" else x


def shape_operand(shape: Any) -> Tensor:
    """Return a shape (ints, scalar tensors, a mix, or a tensor of rank 1) as an int64 vector.

    Raises:
        KsymError: It is none of these.
    """
    if isinstance(shape, Tensor):
        if shape.rank == 0:
            shape = (shape,)
        else:
            if shape.rank != 1 or dtypes.kind(shape.dtype) != 1:
                raise DTypeError(f"a shape is a vector of integers, not {shape.spec}")
            return cast_to(shape, "int64")
    if not isinstance(shape, np.ndarray):
        shape = items(shape, "sizes")
        if any(isinstance(item, Tensor) for item in shape):
            return graph.OPERATORS["stack"]([cast_to(as_tensor(item), "int64") for item in shape])
    sizes = shape if isinstance(shape, np.ndarray) else dtypes.storable(shape)
    if sizes.ndim != 1 or (sizes.size and sizes.dtype.kind not in "iu"):
        raise DTypeError(f"a shape is a vector of integers, not {shape!r}")
    return as_tensor(sizes.astype("int64"))


def known_dimensions(shape: Tensor) -> list[int | None]:
    """Return the entries of a shape operand, None where an entry is not known yet.

    Raises:
        GraphError: Not even the number of entries is known.
    """
    if shape.value is not None:
        return [None if d is UNKNOWN else int(d) for d in shape.value]
    if shape.shape[0] is None:
        raise GraphError(
            f"the rank of the result is not known: the shape is computed as {shape!r}",
            remedy="compute shapes from a number of entries that is static",
        )
    return [None] * shape.shape[0]


def is_settled(tensor: Tensor) -> bool:
    """Return whether every element of a tensor is known without data."""
    value = tensor.value
    if value is None:
        return False
    return value.dtype != object or not any(item is UNKNOWN for item in np.ravel(value))


def unsettled(node: Node) -> list[Tensor]:
    """Return the static operands of a node whose values are not known."""
    if not node.operator.static_operands:
        return []
    operands = (node.inputs[i] for i in node.operator.static_operands)
    return [tensor for tensor in operands if not is_settled(tensor)]


def static(node: Node, position: int) -> np.ndarray:
    """Return the value of a static operand of a node that is about to be lowered.

    Raises:
        GraphError: It depends on data rather than on shapes.
    """
    value = node.inputs[position].value
    if value is None or not is_settled(node.inputs[position]):
        raise GraphError(
            f"operand {position} decides the shape of the result, but its value "
            f"{node.inputs[position]!r} depends on data, not only on shapes",
            remedy="compute it from shapes and constants",
        ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
    return value
