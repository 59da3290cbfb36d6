"""Selection of elements, and limits on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Machine, Register
from ksym.operator.operands import as_tensor, cast_to, is_settled, promoted
from ksym.operator.operands import condition as as_condition
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.binary import Binary, broadcast_sample, scalar_of, unbroadcast
from ksym.ops.leaves import is_constant

__all__ = [
    "where",
    "clip",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "signbit",
    "copysign",
    "heaviside",
    "nan_to_num",
    "isclose",
]


class _Where(Operator):
    elementwise = True

    def prepare(self, condition: Any, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_condition(condition), *promoted(x, y)], {}

    def infer(self, condition: Tensor, x: Tensor, y: Tensor) -> Spec:
        if x.dtype != y.dtype:
            raise DTypeError(f"the dtypes {x.dtype} and {y.dtype} of the two choices differ")
        return Spec(shapes.broadcast(condition.shape, x.shape, y.shape), x.dtype)

    def numpy(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(condition, x, y)

    def lower(self, emit: Emitter, node: Node, condition: Any, x: Any, y: Any) -> Any:
        shape = node.outputs[0].shape
        if not shape:
            return emit("_npi_where", condition, x, y)

        if node.outputs[0].dtype == "bool":
            # `where` takes no booleans; uint8 of 0 and 1 is the same memory.
            x, y = (emit("Cast", value, dtype="uint8") for value in (x, y))

        # MXNet's `where` is 14 times faster than its broadcasting `_npi_where`.
        def full(value: Any, tensor: Tensor) -> Any:
            return value if tensor.shape == shape else emit("_npi_broadcast_to", value, shape=shape)

        # `where` mistakes a bool condition for an unknown type; uint8 is as small.
        condition = full(emit("Cast", condition, dtype="uint8"), node.inputs[0])
        chosen = emit("where", condition, full(x, node.inputs[1]), full(y, node.inputs[2]))
        return emit("Cast", chosen, dtype="bool") if node.outputs[0].dtype == "bool" else chosen

    def formula(self, m: Machine, condition: Register, x: Register, y: Register) -> Register:
        return m.choose(condition, x, y)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        condition, x, y = node.inputs
        if not dtypes.is_float(x.dtype):
            return [None, None, None]
        return [
            None,
            unbroadcast(kept_where(condition, g), x, condition, y),
            unbroadcast(dropped_where(condition, g), y, condition, x),
        ]

    def simplify(self, node: Node) -> Tensor | None:
        condition, x, y = node.inputs
        if condition.value is None or not condition.value.size:
            return None
        for decided, chosen in ((condition.value.all(), x), (not condition.value.any(), y)):
            if decided:
                out = node.outputs[0]
                if chosen.shape == out.shape and shapes.is_known(out.shape):
                    return chosen
                return ops.broadcast_to(chosen, ops.shape_of(out))
        return None

    def sample(self, draw: Draw) -> Sample:
        kinds = ("float", "integer", "bool")
        condition, x, y = broadcast_sample(draw, *[(-2.0, 2.0, 0.0)] * 3, kinds=kinds)
        # An array at rank 0 too, where a comparison gives a boolean of NumPy: no condition.
        return Sample(np.asarray(condition > 0), x, y)


class _Choose(Operator):
    internal = "a part of Keras's switch"
    static_operands = (0,)

    def prepare(self, condition: Any, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [cast_to(as_tensor(condition), "bool"), *promoted(x, y)], {}

    def infer(self, condition: Tensor, x: Tensor, y: Tensor) -> Spec:
        if condition.rank:
            raise ShapeError(f"the condition is a scalar, not {condition.spec}")
        if x.dtype != y.dtype or x.rank != y.rank:
            raise ShapeError(f"one choice is {x.spec}, the other {y.spec}")
        if is_settled(condition):
            assert condition.value is not None
            return (x if condition.value.item() else y).spec
        sides = (m if m == n else None for m, n in zip(x.shape, y.shape, strict=True))
        return Spec(tuple(sides), x.dtype)

    def numpy(self, condition: Any, x: Any, y: Any) -> Any:
        return x if condition else y

    def takes_data(self, node: Node) -> bool:
        return node.inputs[1].shape == node.inputs[2].shape

    def expand(self, node: Node) -> Tensor:
        condition, x, y = node.inputs
        if is_settled(condition):
            assert condition.value is not None
            return x if condition.value.item() else y
        return ops.where(condition, x, y)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        condition, x, y = node.inputs
        return [
            None,
            choose(condition, g, ops.zeros_like(x)),
            choose(condition, ops.zeros_like(y), g),
        ]

    def sample(self, draw: Draw) -> Sample:
        first = draw.shape(min_side=0)
        second = [draw.integer(0, 3) for _ in first]
        dtype = draw.dtype("float", "integer", "bool")
        x, y = draw.array(first, dtype=dtype), draw.array(second, dtype=dtype)
        return Sample(np.array(draw.choose((True, False))), x, y)


choose = _Choose(
    "choose",
    doc="""Return one of two tensors as it is, by a scalar: nothing is broadcast.

    Args:
        condition: A scalar.
        x: The tensor to return if the condition is true.
        y: The tensor to return otherwise, of the same rank and dtype.

    Raises:
        ShapeError: The condition is not a scalar, or the ranks differ.
    """,
)


where = _Where(
    "where",
    doc="""Choose elements from x where condition holds, else from y.

    Both choices are computed; where the condition is known before the call, only that one is.

    Args:
        condition: Booleans; other dtypes count as whether they are not zero.  ``x == 0`` is no
            condition but Python's False, and refused: write ``ksym.equal(x, 0)``.
        x: Values where it holds.
        y: Values where it does not.
    """,
)


def _range(dtype: str) -> tuple[float, float]:
    """Return the least and the greatest number of a dtype."""
    if dtypes.is_float(dtype):
        return -np.inf, np.inf
    if dtype == "bool":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def kept_where(condition: Tensor, g: Tensor) -> Tensor:
    """Return g where a condition holds, else 0.

    Gradients are selected by this, not multiplied by a mask: 0 times infinity would be NaN.
    """
    return where(condition, g, ops.zeros_like(g))


def dropped_where(condition: Tensor, g: Tensor) -> Tensor:
    """Return 0 where a condition holds, else g."""
    return where(condition, ops.zeros_like(g), g)


class _Clip(Operator):
    elementwise = True

    def prepare(self, x: Any, a_min: Any, a_max: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not isinstance(a_min, Tensor) and not isinstance(a_max, Tensor):
            x = as_tensor(x)  # the bounds give way to it
        if a_min is None or a_max is None:
            lowest, highest = _range(as_tensor(x).dtype)
            a_min = lowest if a_min is None else a_min
            a_max = highest if a_max is None else a_max
        return promoted(x, a_min, a_max), {}

    def infer(self, x: Tensor, low: Tensor, high: Tensor) -> Spec:
        if x.dtype == "bool":
            raise DTypeError("booleans have no range", remedy="cast to int32")
        if {low.dtype, high.dtype} != {x.dtype}:
            raise DTypeError(f"the dtypes {x.dtype}, {low.dtype} and {high.dtype} differ")
        if shapes.broadcast(x.shape, low.shape, high.shape) != x.shape:
            shapes.merge(x.shape, shapes.broadcast(x.shape, low.shape, high.shape))
        return x.spec

    def numpy(self, x: Any, low: Any, high: Any) -> Any:
        return np.minimum(np.maximum(x, low), high)

    def lower(self, emit: Emitter, node: Node, x: Any, low: Any, high: Any) -> Any:
        for operator, bound, value in (
            ("_npi_maximum", node.inputs[1], low),
            ("_npi_minimum", node.inputs[2], high),
        ):
            number = scalar_of(bound)
            if number is not None and node.inputs[0].shape and abs(number) < 2**53:
                x = emit(f"{operator}_scalar", x, scalar=number)
            else:
                x = emit(operator, x, value)
        return x

    def formula(self, m: Machine, x: Register, low: Register, high: Register) -> Register:
        return m.minimum(m.maximum(x, low), high)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, low, high = node.inputs
        if not dtypes.is_float(x.dtype):
            return [None, None, None]
        above, below = x > high, x < low
        # The upper bound is applied last, so it is the result where the bounds cross.
        return [
            kept_where(ops.logical_and(x >= low, x <= high), g),
            None if is_constant(low) else unbroadcast(kept_where(below & (low <= high), g), low, x),
            None
            if is_constant(high)
            else unbroadcast(kept_where(above | (below & (low > high)), g), high, x),
        ]

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("float", "integer")
        low, high = (-2.5, 2.0) if dtypes.is_float(dtype) else (1, 3)
        x = draw.array(draw.shape(min_side=0), -5, 5, dtype=dtype, kinks=(low, high))
        return Sample(x, np.array(low, dtype), np.array(high, dtype))


clip = _Clip(
    "clip",
    doc="""Limit the elements of x to the range from low to high.

    Inside the range and on its ends the gradient passes to x, outside it goes to the bound, as in
    TensorFlow; where x is NaN, so is the result, and no gradient passes.  Where low exceeds high
    the result is high.

    Args:
        x: A tensor.
        low: The lower bound, broadcast against x.
        high: The upper bound, broadcast against x.
    """,
)


def _untied(draw: Draw, *kinds: str) -> list[np.ndarray]:
    """Draw two arrays that broadcast; no float of one is close to one of the other."""
    whole = (-2.0, 2.0, 0.0)
    pair = broadcast_sample(draw, whole, whole, kinds=kinds)
    if all(array.dtype.kind == "f" for array in pair):
        return [
            np.asarray(np.round(array, 1) + shift, array.dtype)
            for array, shift in zip(pair, (0.025, 0.075), strict=True)
        ]
    return pair


class _Extreme(Binary):
    """Operators `maximum` and `minimum`; on booleans logical or and and, by MXNet's arithmetic."""

    def sample(self, draw: Draw) -> Sample:
        return Sample(*_untied(draw, "bool", "integer", "float"))

    def _lower_arrays(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        if node.outputs[0].dtype == "bool":
            return emit("_npi_add" if self is maximum else "_npi_multiply", x, y)
        return super()._lower_arrays(emit, node, x, y)


maximum = _Extreme(
    "maximum",
    np.maximum,
    "_npi_maximum",
    ("_npi_maximum_scalar", "_npi_maximum_scalar"),
    (
        lambda x, y, z, g: kept_where(x >= y, g),
        lambda x, y, z, g: dropped_where(x >= y, g),
    ),
    """Return the larger of x and y, NaN if one of them is.

    Where they are equal the gradient goes to x, and where one is NaN to y, as in TensorFlow.
    """,
    formula=lambda m, x, y: m.maximum(x, y),
)
minimum = _Extreme(
    "minimum",
    np.minimum,
    "_npi_minimum",
    ("_npi_minimum_scalar", "_npi_minimum_scalar"),
    (
        lambda x, y, z, g: kept_where(x <= y, g),
        lambda x, y, z, g: dropped_where(x <= y, g),
    ),
    """Return the smaller of x and y, NaN if one of them is.

    Where they are equal the gradient goes to x, and where one is NaN to y, as in TensorFlow.
    """,
    formula=lambda m, x, y: m.minimum(x, y),
)


def _pair_sample(draw: Draw) -> Sample:
    return Sample(*_untied(draw, "float", "integer"))


def _without_nan(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    x, y = promoted(x, y)
    return ops.where(ops.isnan(x), y, x), ops.where(ops.isnan(y), x, y)


@composite(numpy=np.fmax, sample=_pair_sample)
def fmax(x: Any, y: Any) -> Tensor:
    """Return the larger of x and y, or the one that is not NaN; gradients as of `maximum`."""
    return maximum(*_without_nan(x, y))


@composite(numpy=np.fmin, sample=_pair_sample)
def fmin(x: Any, y: Any) -> Tensor:
    """Return the smaller of x and y, or the one that is not NaN; gradients as of `minimum`."""
    return minimum(*_without_nan(x, y))


@composite(numpy=np.signbit, sample=lambda draw: Sample(draw.array(draw.shape(min_side=0))))
def signbit(x: Any) -> Tensor:
    """Return whether x is negative, also -0.0; False for NaN, whose sign MXNet does not keep."""
    x = as_tensor(x)
    if not dtypes.is_float(x.dtype):
        return ops.less(x, 0)
    return ops.logical_or(x < 0.0, ops.logical_and(ops.equal(x, 0.0), ops.reciprocal(x) < 0.0))


@composite(numpy=np.copysign, sample=_pair_sample)
def copysign(x: Any, y: Any) -> Tensor:
    """Return the absolute value of x with the sign of y, as floats; the gradient by y is zero.

    Composed: MXNet's own does not see the sign of -0.0.
    """
    x, y = promoted(x, y)
    x, y = (cast_to(tensor, dtypes.floating(tensor.dtype)) for tensor in (x, y))
    size = ops.abs_(x)
    return where(signbit(y), -size, size)


def _heaviside_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_side=0)
    return Sample(draw.array(shape, apart=0.05), draw.array(shape))


@composite(numpy=np.heaviside, sample=_heaviside_sample)
def heaviside(x: Any, middle: Any) -> Tensor:
    """Return 0 where x is negative, 1 where positive, middle where zero, NaN where x is NaN.

    The gradient by x is zero; by middle it is passed where x is zero.
    """
    x, middle = promoted(x, middle)
    x, middle = (cast_to(tensor, dtypes.floating(tensor.dtype)) for tensor in (x, middle))
    step = where(ops.isnan(x), ops.stop_gradient(x), cast_to(x > 0.0, x.dtype))
    return where(ops.equal(x, 0.0), middle, step)


def _limits(dtype: str) -> tuple[float, float]:
    return float(np.finfo(dtype).min), float(np.finfo(dtype).max)


@composite(
    numpy=lambda x, nan: np.nan_to_num(x, nan=nan),
    sample=lambda draw: Sample(draw.array(draw.shape(min_side=0)), attributes={"nan": 0.5}),
)
def nan_to_num(
    x: Any, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replace NaN and the infinities in x by numbers, whose gradient is zero.

    Args:
        x: A tensor; integers and booleans are returned as they are.
        nan: The number for NaN.
        posinf: The number for infinity; by default the largest one.
        neginf: The number for minus infinity; by default the most negative one.
    """
    x = as_tensor(x)
    if not dtypes.is_float(x.dtype):
        return ops.copy(x)
    lowest, highest = _limits(x.dtype)
    x = where(ops.isnan(x), ops.full_like(x, nan), x)
    x = where(ops.equal(x, np.inf), ops.full_like(x, highest if posinf is None else posinf), x)
    return where(ops.equal(x, -np.inf), ops.full_like(x, lowest if neginf is None else neginf), x)


@composite(
    numpy=lambda x, y, rtol: np.isclose(x, y, rtol=rtol),
    sample=lambda draw: Sample(
        *broadcast_sample(draw, *[(-2.0, 2.0, 0.0)] * 2), attributes={"rtol": 0.5}
    ),
)
def isclose(
    x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return whether x differs from y by no more than atol + rtol * abs(y), as booleans.

    Args:
        x: A tensor.
        y: A tensor.
        rtol: The difference allowed relative to y.
        atol: The difference allowed at least.
        equal_nan: Whether NaN is close to NaN.
    """
    x, y = promoted(x, y)
    x, y = (cast_to(tensor, dtypes.floating(tensor.dtype)) for tensor in (x, y))
    near = ops.abs_(x - y) <= atol + rtol * ops.abs_(y)
    close = ops.logical_or(ops.equal(x, y), ops.logical_and(near, ops.isfinite(y)))
    if equal_nan:
        return ops.logical_or(close, ops.logical_and(ops.isnan(x), ops.isnan(y)))
    return close
