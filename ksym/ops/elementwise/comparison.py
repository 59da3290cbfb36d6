"""Comparisons, and logic on booleans and bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError
from ksym.graph import Node, Tensor
from ksym.operator.composite import composite
from ksym.operator.emitter import Emitter
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.binary import Binary
from ksym.ops.elementwise.unary import Unary

__all__ = [
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "invert",
    "left_shift",
    "right_shift",
]

ANYTHING = ("bool", "integer", "float")


def _comparison(
    name: str, numpy: Callable[..., Any], relation: str, mirrored: str, doc: str
) -> Binary:
    return Binary(
        name,
        numpy,
        f"_npi_{name}",
        (f"_npi_{name}_scalar", f"_npi_{mirrored}_scalar"),
        None,
        f"{doc}, as booleans.",
        result="bool",
        kinds=ANYTHING,
        formula=lambda m, x, y: m.compare(relation, x, y),
        commutative=relation in ("eq", "ne"),
    )


equal = _comparison("equal", np.equal, "eq", "equal", "Return whether x equals y")
not_equal = _comparison(
    "not_equal", np.not_equal, "ne", "not_equal", "Return whether x differs from y"
)
less = _comparison("less", np.less, "lt", "greater", "Return whether x is smaller than y")
less_equal = _comparison(
    "less_equal",
    np.less_equal,
    "le",
    "greater_equal",
    "Return whether x is smaller than y or equal to it",
)
greater = _comparison("greater", np.greater, "gt", "less", "Return whether x is larger than y")
greater_equal = _comparison(
    "greater_equal",
    np.greater_equal,
    "ge",
    "less_equal",
    "Return whether x is larger than y or equal to it",
)


def _logical(
    name: str, numpy: Callable[..., Any], native: str, instruction: str, doc: str
) -> Binary:
    # MXNet's arithmetic on booleans is logic: it has no logical operators for them.
    return Binary(
        name,
        numpy,
        native,
        (None, None),
        None,
        f"{doc}; numbers are true if they are not zero.",
        dtype=lambda dtype: "bool",
        result="bool",
        kinds=ANYTHING,
        formula=lambda m, x, y: m.arithmetic(instruction, x, y),
        commutative=True,
    )


logical_and = _logical(
    "logical_and", np.logical_and, "_npi_multiply", "and", "Return whether x and y are true"
)
logical_or = _logical(
    "logical_or", np.logical_or, "_npi_add", "or", "Return whether x or y is true"
)
logical_xor = _logical(
    "logical_xor",
    np.logical_xor,
    "_npi_not_equal",
    "xor",
    "Return whether only one of x and y is true",
)


logical_not = Unary(
    "logical_not",
    np.logical_not,
    "_npi_logical_not",
    None,
    "Return whether x is false; numbers are false if they are zero.",
    dtype=lambda dtype: "bool",
    kinds=ANYTHING,
    formula=lambda m, x: m.arithmetic("xor", x, m.number(1, x.dtype)),
)


class _Bitwise(Binary):
    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(x, y)
        _refuse_floats(operands[0])
        return operands, attributes

    def _lower_arrays(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        # MXNet's bitwise operators do not broadcast booleans.
        logic = {"and": "_npi_multiply", "or": "_npi_add", "xor": "_npi_not_equal"}
        boolean = node.outputs[0].dtype == "bool"
        return emit(logic[self.name.removeprefix("bitwise_")] if boolean else self._native, x, y)


class _BitwiseNot(Unary):
    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        _refuse_floats(x)
        return [x], {}


def _refuse_floats(x: Tensor) -> None:
    if dtypes.is_float(x.dtype):
        raise DTypeError(
            f"{x.dtype} has no bits to work on", remedy="cast to an integer, or compare first"
        )


def _bitwise(name: str, numpy: Callable[..., Any], doc: str) -> Binary:
    return _Bitwise(
        name,
        numpy,
        f"_npi_{name}",
        (None, None),
        None,
        f"""{doc}; on booleans, logic.

    Raises:
        DTypeError: An operand is a float.
    """,
        domains=((-100.0, 100.0, 0.0), (-100.0, 100.0, 0.0)),
        kinds=("bool", "integer"),
        formula=lambda m, x, y: m.arithmetic(name.removeprefix("bitwise_"), x, y),
        commutative=True,
    )


bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "Return the bits that x and y both have")
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "Return the bits that x or y has")
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, "Return the bits in which x and y differ")
bitwise_not = _BitwiseNot(
    "bitwise_not",
    np.bitwise_not,
    "_npi_bitwise_not",
    None,
    """Return the bits that x does not have; on booleans, not.

    Raises:
        DTypeError: x is a float.
    """,
    domain=(-100.0, 100.0, 0.0),
    kinds=("bool", "integer"),
    formula=lambda m, x: m.arithmetic("xor", x, m.number(1 if x.dtype == "bool" else -1, x.dtype)),
)
invert = bitwise_not


def _shift_sample(draw: Draw) -> Sample:
    x, y = (draw.dtype("bool", "integer") for _ in range(2))
    shape = draw.shape(min_side=0)
    return Sample(draw.array(shape, -100, 100, dtype=x), draw.array(shape, 0, 70, dtype=y))


def _shift_operands(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    x, y = ops.promoted(x, y)
    _refuse_floats(x)
    return (cast_to(x, "int8"), cast_to(y, "int8")) if x.dtype == "bool" else (x, y)


@composite(numpy=lambda x, y: np.left_shift(*_stored(x, y)), sample=_shift_sample)
def left_shift(x: Any, y: Any) -> Tensor:
    """Shift the bits of x up by y places: multiply x by 2 to the power y, wrapped.

    Composed: MXNet has no shifts.  Nothing is left of a number moved by its width or more, or by a
    negative number.

    Args:
        x: Integers, or booleans, which count as int8 if y are booleans too.
        y: How many places.

    Raises:
        DTypeError: An operand is a float.
    """
    x, y = _shift_operands(x, y)
    return ops.multiply(x, ops.power(ops.full_like(y, 2), y))


@composite(numpy=lambda x, y: np.right_shift(*_stored(x, y)), sample=_shift_sample)
def right_shift(x: Any, y: Any) -> Tensor:
    """Shift the bits of x down by y places: divide x by 2 to the power y, rounded down.

    Composed: MXNet has no shifts.  A number moved by its width or more, or by a negative number,
    becomes 0, or -1 if it was negative.

    Args:
        x: Integers, or booleans, which count as int8 if y are booleans too.
        y: How many places.

    Raises:
        DTypeError: An operand is a float.
    """
    x, y = _shift_operands(x, y)
    width = np.dtype(x.dtype).itemsize * 8
    most = width if x.dtype == "uint8" else width - 1
    places = ops.where(ops.logical_or(y < 0, y > most), ops.full_like(y, most), y)
    # By half of the places twice, because 2 to the power of all places may not be positive.
    half = ops.floor_divide(places, 2)
    two = ops.full_like(y, 2)
    first = ops.floor_divide(x, ops.power(two, half))
    return ops.floor_divide(first, ops.power(two, places - half))


def _stored(x: Any, y: Any) -> list[np.ndarray]:
    """Return two arrays in the dtype that ksym promotes them to."""
    dtype = dtypes.promote(x.dtype.name, y.dtype.name)
    return [a.astype("int8" if dtype == "bool" else dtype) for a in (x, y)]
