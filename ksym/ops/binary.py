"""Elementwise operators on two tensors, with NumPy's broadcasting and promotion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import (
    Draw,
    Emitter,
    Operator,
    Sample,
    as_tensor,
    cast_to,
    is_constant,
    promoted,
)

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def scalar_of(tensor: Tensor) -> Any:
    """Return the Python number a constant scalar holds, None for any other tensor."""
    if is_constant(tensor) and tensor.rank == 0 and tensor.value is not None:
        return tensor.value.item()
    return None


def is_filled_with(tensor: Tensor, number: float) -> bool:
    """Whether the tensor is a constant whose elements all equal number."""
    if not is_constant(tensor) or tensor.value is None:
        return False
    if tensor.rank == 0:  # most are, and a Python number compares faster than an array
        return bool(tensor.value.item() == number)
    return bool(np.all(tensor.value == number))


def unbroadcast(g: Tensor, operand: Tensor, *others: Tensor) -> Tensor:
    """Return the gradient g of a broadcast result, summed back to the shape of one operand.

    Args:
        g: The gradient, in the shape of the result.
        operand: The operand it is for.
        others: The operands it was broadcast with; where their sizes are known to be 1, an unknown
            size of operand is known to be that of the result.
    """
    if g.rank == operand.rank:
        unstretched = all(
            size == result
            if size is not None and result is not None
            else size != 1 and all(_side(other, axis - g.rank) == 1 for other in others)
            for axis, (size, result) in enumerate(zip(operand.shape, g.shape, strict=True))
        )
        if unstretched:
            return g
    return ops.sum_to(g, ops.shape_of(operand))


def _side(tensor: Tensor, axis: int) -> int | None:
    return tensor.shape[axis] if -axis <= tensor.rank else 1


def broadcast_sample(draw: Draw, *ranges: tuple[float, float, float]) -> list[np.ndarray]:
    """Draw one array for each (low, high, apart), of shapes that broadcast."""
    shape = draw.shape()
    arrays = []
    for low, high, apart in ranges:
        own = [draw.choose((side, side, 1)) for side in shape][draw.integer(0, len(shape)) :]
        arrays.append(draw.array(own, low, high, apart=apart))
    return arrays


class Binary(Operator):
    """An operator on each pair of elements.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator on two arrays.
        scalar: The MXNet operators on an array and a number, and on a number and an array.
        gradients: For each operand ``(x, y, z, g) -> gradient``, before undoing the broadcast.
        domains: For each operand what tests draw from: low, high, and how far apart.
        dtype: What the operands are converted to, given the dtype in which they meet.
        result: The dtype of the result where it is not that of the operands.
    """

    elementwise = True

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        native: str,
        scalar: tuple[str | None, str | None],
        gradients: tuple[Rule, Rule] | None,
        doc: str,
        *,
        domains: Sequence[tuple[float, float, float]] = ((-2.0, 2.0, 0.0), (-2.0, 2.0, 0.0)),
        dtype: Callable[[str], str] = lambda dtype: dtype,
        result: str | None = None,
    ):
        self._numpy = numpy
        self._native = native
        self._scalar = scalar
        self._gradients = gradients
        self._domains = domains
        self._dtype = dtype
        self._result = result
        super().__init__(name, doc)

    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, y = promoted(x, y)
        target = self._dtype(x.dtype)
        return [cast_to(x, target), cast_to(y, target)], {}

    def infer(self, x: Tensor, y: Tensor) -> Spec:
        if x.dtype != y.dtype:
            raise DTypeError(f"the dtypes {x.dtype} and {y.dtype} differ")
        return Spec(shapes.broadcast(x.shape, y.shape), self._result or x.dtype)

    def numpy(self, x: Any, y: Any) -> Any:
        return self._numpy(x, y)

    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        left, right = node.inputs
        for native, operand, other in ((self._scalar[0], x, right), (self._scalar[1], y, left)):
            number = scalar_of(other)
            # Beyond 2**53 the double in which MXNet holds the number is not exact.
            if native and number is not None and node.outputs[0].shape and abs(number) < 2**53:
                return emit(native, operand, scalar=number)
        return self._lower_arrays(emit, node, x, y)

    def _lower_arrays(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        return emit(self._native, x, y)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x, y), z = node.inputs, node.outputs[0]
        if self._gradients is None or not dtypes.is_float(z.dtype):
            return [None, None]
        for_x, for_y = self._gradients
        return [
            None if is_constant(x) else unbroadcast(for_x(x, y, z, g), x, y),
            None if is_constant(y) else unbroadcast(for_y(x, y, z, g), y, x),
        ]

    def simplify(self, node: Node) -> Tensor | None:
        return None

    def _kept(self, node: Node, kept: int) -> Tensor | None:
        """One operand as the result, if broadcasting leaves its shape."""
        operand = node.inputs[kept]
        if operand.shape == node.outputs[0].shape and shapes.is_known(operand.shape):
            return operand
        return None

    def sample(self, draw: Draw) -> Sample:
        return Sample(*broadcast_sample(draw, *self._domains))


class _Add(Binary):
    def _lower_arrays(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        same = node.inputs[0].shape == node.inputs[1].shape
        by_kernel = same and node.outputs[0].dtype != "bool"
        return emit("elemwise_add" if by_kernel else self._native, x, y)

    def simplify(self, node: Node) -> Tensor | None:
        for position in (0, 1):
            if ops.is_zero(node.inputs[position]):
                return self._kept(node, 1 - position)
        return None


class _Subtract(Binary):
    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(x, y)
        if operands[0].dtype == "bool":
            raise DTypeError(
                "booleans cannot be subtracted", remedy="use logical_xor, or cast to int32"
            )
        return operands, attributes

    def simplify(self, node: Node) -> Tensor | None:
        x, y = node.inputs
        if ops.is_zero(y):
            return self._kept(node, 0)
        if y.node.operator is multiply and y.rank:
            # x - s * y is x + (-s) * y to the last bit, and MXNet adds twice as fast.
            for scalar, other in (y.node.inputs, y.node.inputs[::-1]):
                if scalar.rank == 0 and not is_constant(scalar):
                    return add(x, multiply(-scalar, other))
        return None


class _Multiply(Binary):
    linear_in = (0, 1)

    def simplify(self, node: Node) -> Tensor | None:
        for position in (0, 1):
            if is_filled_with(node.inputs[position], 1):
                return self._kept(node, 1 - position)
        return None


class _Divide(Binary):
    linear_in = (0,)

    def simplify(self, node: Node) -> Tensor | None:
        return self._kept(node, 0) if is_filled_with(node.inputs[1], 1) else None


class _Power(Binary):
    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(x, y)
        if operands[0].dtype == "bool":
            operands = [cast_to(operand, "int8") for operand in operands]
        return operands, attributes

    def simplify(self, node: Node) -> Tensor | None:
        base, exponent = node.inputs
        if not dtypes.is_float(base.dtype) or not is_constant(exponent) or exponent.rank:
            return None
        for number, same in ((1.0, ops.identity), (2.0, ops.square), (0.5, ops.sqrt)):
            if is_filled_with(exponent, number):
                return same(base)
        return None


class _FloorDivide(Binary):
    """Composed: MXNet 1.9.1 has no floor division."""

    def _lower_arrays(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        dtype = node.outputs[0].dtype
        if dtypes.is_float(dtype):
            return emit("_npi_floor", emit("_npi_true_divide", x, y))
        wide = [emit("Cast", value, dtype="float64") for value in (x, y)]
        quotient = emit("_npi_floor", emit("_npi_true_divide", *wide))
        return emit("Cast", quotient, dtype=dtype)


def _not_bool(dtype: str) -> str:
    return "int8" if dtype == "bool" else dtype


def _power_by_base(x: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
    return g * (y * power(x, y - 1.0))


def _power_by_exponent(x: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
    # log of a base that is not positive has no real value; TensorFlow puts zero there.
    positive = x > 0.0
    return g * (
        z
        * ops.where(positive, ops.log(ops.where(positive, x, ops.ones_like(x))), ops.zeros_like(x))
    )


add = _Add(
    "add",
    np.add,
    "_npi_add",
    ("_npi_add_scalar", "_npi_add_scalar"),
    (lambda x, y, z, g: g, lambda x, y, z, g: g),
    "x + y; on booleans, or.",
)
subtract = _Subtract(
    "subtract",
    np.subtract,
    "_npi_subtract",
    ("_npi_subtract_scalar", "_npi_rsubtract_scalar"),
    (lambda x, y, z, g: g, lambda x, y, z, g: -g),
    "x - y.",
)
multiply = _Multiply(
    "multiply",
    np.multiply,
    "_npi_multiply",
    ("_npi_multiply_scalar", "_npi_multiply_scalar"),
    (lambda x, y, z, g: g * y, lambda x, y, z, g: g * x),
    "x * y; on booleans, and.",
)
true_divide = _Divide(
    "true_divide",
    np.true_divide,
    "_npi_true_divide",
    ("_npi_true_divide_scalar", "_npi_rtrue_divide_scalar"),
    (lambda x, y, z, g: g / y, lambda x, y, z, g: -g * z / y),
    "x / y; integers are divided as float64.",
    domains=((-2.0, 2.0, 0.0), (0.5, 2.0, 0.0)),
    dtype=dtypes.floating,
)
floor_divide = _FloorDivide(
    "floor_divide",
    np.floor_divide,
    "",
    (None, None),
    (lambda x, y, z, g: ops.zeros_like(g), lambda x, y, z, g: ops.zeros_like(g)),
    "The largest whole number not above x / y; its gradient is zero.",
    domains=((-5.0, 5.0, 0.0), (0.5, 2.0, 0.0)),
    dtype=_not_bool,
)
mod = Binary(
    "mod",
    np.mod,
    "_npi_mod",
    (None, None),
    (lambda x, y, z, g: g, lambda x, y, z, g: -g * ops.floor(x / y)),
    "What floor division leaves over; it has the sign of y.",
    domains=((-5.0, 5.0, 0.0), (0.5, 2.0, 0.0)),
    dtype=_not_bool,
)
power = _Power(
    "power",
    np.power,
    "_npi_power",
    ("_npi_power_scalar", None),
    (_power_by_base, _power_by_exponent),
    "x to the power y; the gradient by y is zero where x is not positive, as in TensorFlow.",
    domains=((0.3, 3.0, 0.0), (-2.0, 2.0, 0.0)),
)
maximum = Binary(
    "maximum",
    np.maximum,
    "_npi_maximum",
    ("_npi_maximum_scalar", "_npi_maximum_scalar"),
    (
        lambda x, y, z, g: g * ops.cast(x >= y, g.dtype),
        lambda x, y, z, g: g * ops.cast(x < y, g.dtype),
    ),
    "The larger of x and y; where they are equal the gradient goes to x, as in TensorFlow.",
    domains=((-2.0, 2.0, 0.1), (-2.05, 1.95, 0.1)),
)
minimum = Binary(
    "minimum",
    np.minimum,
    "_npi_minimum",
    ("_npi_minimum_scalar", "_npi_minimum_scalar"),
    (
        lambda x, y, z, g: g * ops.cast(x <= y, g.dtype),
        lambda x, y, z, g: g * ops.cast(x > y, g.dtype),
    ),
    "The smaller of x and y; where they are equal the gradient goes to x, as in TensorFlow.",
    domains=((-2.0, 2.0, 0.1), (-2.05, 1.95, 0.1)),
)


def _comparison(name: str, numpy: Callable[..., Any], mirrored: str, doc: str) -> Binary:
    return Binary(
        name,
        numpy,
        f"_npi_{name}",
        (f"_npi_{name}_scalar", f"_npi_{mirrored}_scalar"),
        None,
        f"{doc}, as booleans.",
        result="bool",
    )


equal = _comparison("equal", np.equal, "equal", "Whether x equals y")
not_equal = _comparison("not_equal", np.not_equal, "not_equal", "Whether x differs from y")
less = _comparison("less", np.less, "greater", "Whether x is smaller than y")
less_equal = _comparison(
    "less_equal", np.less_equal, "greater_equal", "Whether x is smaller than y or equal to it"
)
greater = _comparison("greater", np.greater, "less", "Whether x is larger than y")
greater_equal = _comparison(
    "greater_equal", np.greater_equal, "less_equal", "Whether x is larger than y or equal to it"
)


class _Logical(Binary):
    """On booleans MXNet's arithmetic is logic: it has no logical operators for them."""

    def sample(self, draw: Draw) -> Sample:
        return Sample(*(a > 0.0 for a in broadcast_sample(draw, *self._domains)))


def _logical(name: str, numpy: Callable[..., Any], native: str, doc: str) -> Binary:
    return _Logical(
        name,
        numpy,
        native,
        (None, None),
        None,
        f"{doc}; other dtypes count as whether they are not zero.",
        dtype=lambda dtype: "bool",
        result="bool",
    )


logical_and = _logical("logical_and", np.logical_and, "_npi_multiply", "Whether x and y")
logical_or = _logical("logical_or", np.logical_or, "_npi_add", "Whether x or y")
logical_xor = _logical("logical_xor", np.logical_xor, "_npi_not_equal", "Whether either x or y")


class _LogicalNot(Operator):
    elementwise = True

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [cast_to(as_tensor(x), "bool")], {}

    def infer(self, x: Tensor) -> Spec:
        return x.spec

    def numpy(self, x: Any) -> Any:
        return np.logical_not(x)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_npi_logical_not", x)

    def sample(self, draw: Draw) -> Sample:
        return Sample(draw.array(draw.shape()) > 0.0)


logical_not = _LogicalNot(
    "logical_not", doc="Whether not x; other dtypes count as whether they are not zero."
)
