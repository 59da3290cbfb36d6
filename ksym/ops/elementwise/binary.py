"""Elementwise operators on two tensors, with NumPy's broadcasting and promotion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Formula
from ksym.operator.operands import cast_to, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import is_constant

__all__ = ["add", "subtract", "multiply"]

BinaryGradient = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def scalar_of(tensor: Tensor) -> Any:
    """Return the value of a constant scalar as a Python number, None for any other tensor."""
    if is_constant(tensor) and tensor.rank == 0 and tensor.value is not None:
        return tensor.value.item()
    return None


def is_filled_with(tensor: Tensor, number: float) -> bool:
    """Return whether the tensor is a constant whose elements all equal number."""
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


def broadcast_sample(
    draw: Draw, *ranges: tuple[float, float, float], kinds: Sequence[str] = ("float",)
) -> list[np.ndarray]:
    """Draw one array for each (low, high, apart), of shapes that broadcast and dtypes of kinds."""
    shape = draw.shape(min_side=0)
    arrays = []
    for low, high, apart in ranges:
        own = [draw.choose((side, side, 1)) for side in shape][draw.integer(0, len(shape)) :]
        dtype = draw.dtype(*kinds)
        arrays.append(draw.array(own, low, high, dtype=dtype, apart=apart))
    return arrays


class Binary(Operator):
    """An operator on each pair of elements.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator on two arrays.
        scalar: The MXNet operators on an array and a number, and on a number and an array.
        gradients: For each operand ``(x, y, z, g) -> gradient``, before undoing the broadcast.
        domains: For each operand the interval that tests draw from, and the distance of elements.
        dtype: The dtype to convert operands to, from the one that they are promoted to.
        result: The dtype of the result where it is not that of the operands.
        kinds: The kinds of dtypes tests draw from.
        formula: As for `Operator`.
        commutative: As for `Operator`.
    """

    elementwise = True

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        native: str,
        scalar: tuple[str | None, str | None],
        gradients: tuple[BinaryGradient, BinaryGradient] | None,
        doc: str,
        *,
        domains: Sequence[tuple[float, float, float]] = ((-2.0, 2.0, 0.0), (-2.0, 2.0, 0.0)),
        dtype: Callable[[str], str] = lambda dtype: dtype,
        result: str | None = None,
        kinds: Sequence[str] = ("float", "integer"),
        formula: Formula | None = None,
        commutative: bool = False,
    ):
        self.commutative = commutative
        self.formula = formula
        self._kinds = kinds
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
            if native and number is not None and self._takes_scalar(node, number):
                return emit(native, operand, scalar=number)
        return self._lower_arrays(emit, node, x, y)

    def _takes_scalar(self, node: Node, number: float) -> bool:
        # Beyond 2**53 the double in which MXNet holds the number is not exact (and NaN compares
        # false here); booleans would become int64.
        kept = self._result or node.inputs[0].dtype != "bool"
        return bool(node.outputs[0].shape and abs(number) < 2**53 and kept)

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
        """Return an operand as the result, if broadcasting does not change its shape."""
        operand = node.inputs[kept]
        if operand.shape == node.outputs[0].shape and shapes.is_known(operand.shape):
            return operand
        return None

    def sample(self, draw: Draw) -> Sample:
        return Sample(*broadcast_sample(draw, *self._domains, kinds=self._kinds))


class _Add(Binary):
    keeps_layout = True

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


add = _Add(
    "add",
    np.add,
    "_npi_add",
    ("_npi_add_scalar", "_npi_add_scalar"),
    (lambda x, y, z, g: g, lambda x, y, z, g: g),
    "Return x + y; on booleans, or.",
    kinds=("bool", "integer", "float"),
    formula=lambda m, x, y: m.arithmetic("or" if x.dtype == "bool" else "add", x, y),
    commutative=True,
)
subtract = _Subtract(
    "subtract",
    np.subtract,
    "_npi_subtract",
    ("_npi_subtract_scalar", "_npi_rsubtract_scalar"),
    (lambda x, y, z, g: g, lambda x, y, z, g: -g),
    "Return x - y.",
    formula=lambda m, x, y: m.subtract(x, y),
)
multiply = _Multiply(
    "multiply",
    np.multiply,
    "_npi_multiply",
    ("_npi_multiply_scalar", "_npi_multiply_scalar"),
    (lambda x, y, z, g: g * y, lambda x, y, z, g: g * x),
    "Return x * y; on booleans, and.",
    kinds=("bool", "integer", "float"),
    formula=lambda m, x, y: m.arithmetic("and" if x.dtype == "bool" else "mul", x, y),
    commutative=True,
)
