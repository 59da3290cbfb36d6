"""Division and remainders, for floats and integers, and powers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError
from ksym.graph import Node, Tensor
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.machine import Machine, NoFormula, Register
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.binary import Binary, is_filled_with, scalar_of
from ksym.ops.leaves import is_constant

__all__ = ["true_divide", "floor_divide", "mod", "remainder", "truncate_divide", "fmod", "power"]

NUMBERS = ("bool", "integer", "float")


class _Divide(Binary):
    linear_in = (0,)

    def simplify(self, node: Node) -> Tensor | None:
        return self._kept(node, 0) if is_filled_with(node.inputs[1], 1) else None


class _Whole(Binary):
    """An operator that is discontinuous, or has a kink, where one operand divides the other."""

    def sample(self, draw: Draw) -> Sample:
        if not dtypes.is_float(draw.dtype(*NUMBERS)):
            return super().sample(draw)
        shape = draw.shape(min_side=0)
        own = [draw.choose((side, side, 1)) for side in shape][draw.integer(0, len(shape)) :]
        quotient = draw.array(shape, 0.3, 4.0, kinks=(1, 2, 3, 4))
        other = draw.array(own, 0.5, 2.0)
        multiplied = draw.choose((True, False))
        made = quotient * other if multiplied else other / quotient
        signed = [
            np.asarray(array * draw.choose((-1.0, 1.0)), other.dtype) for array in (made, other)
        ]
        return Sample(*(signed if multiplied else reversed(signed)))


def _not_bool(dtype: str) -> str:
    return "int8" if dtype == "bool" else dtype


def _whole_division(emit: Emitter, node: Node, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Divide integers, rounding toward zero.

    MXNet's old kernel is used, on which the processor raises an exception for some divisors.

    Returns:
        The quotient, the remainder, and 1 where the quotient is one above that of floor division.
    """
    dtype = node.outputs[0].dtype
    zero, one = (emit.constant(np.array(n, dtype)) for n in (0, 1))
    number = scalar_of(node.inputs[1])
    if number is not None and number not in (0, -1):
        divisor, factor = y, None
    else:
        # For 0, and -1 (which overflows for the smallest number): divide by 1, then multiply.
        odd = emit("_npi_equal", emit("_npi_multiply", y, y), emit("_npi_absolute", y))
        divisor, factor = emit("_npi_where", odd, one, y), emit("_npi_where", odd, y, one)
    quotient = emit("broadcast_div", x, divisor)
    rest = emit("_npi_subtract", x, emit("_npi_multiply", quotient, divisor))
    above = _other_sign(emit, rest, y, zero)
    return quotient if factor is None else emit("_npi_multiply", quotient, factor), rest, above


def _other_sign(emit: Emitter, rest: Any, y: Any, zero: Any) -> Any:
    signs = [emit("_npi_less", value, zero) for value in (rest, y)]
    differ = emit("_npi_not_equal", *signs)
    return emit("_npi_multiply", differ, emit("_npi_not_equal", rest, zero))


def _not_zero(emit: Emitter, node: Node, y: Any) -> Any:
    """Return y with NaN for zeros: MXNet's remainder by zero is 0."""
    number = scalar_of(node.inputs[1])
    if number is not None and number != 0:
        return y
    zero, nan = (emit.constant(np.array(n, node.outputs[0].dtype)) for n in (0, np.nan))
    return emit("_npi_where", emit("_npi_equal", y, zero), nan, y)


def _float_rest(emit: Emitter, node: Node, x: Any, y: Any) -> Any:
    """Return C's fmod: MXNet's remainder of two positive numbers, with the sign of x."""
    zero = emit.constant(np.array(0, node.outputs[0].dtype))
    rest = emit("_npi_mod", emit("_npi_absolute", x), emit("_npi_absolute", y))
    return emit("_npi_where", emit("_npi_less", x, zero), emit("_npi_negative", rest), rest)


class _TruncateDivide(_Whole):
    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        if dtypes.is_float(node.outputs[0].dtype):
            return emit("_npi_trunc", emit("_npi_true_divide", x, y))
        return _whole_division(emit, node, x, y)[0]


class _Fmod(_Whole):
    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        if dtypes.is_float(node.outputs[0].dtype):
            return _float_rest(emit, node, x, _not_zero(emit, node, y))
        return _whole_division(emit, node, x, y)[1]


class _FloorDivide(_Whole):
    """Floor division, which is composed, since MXNet 1.9.1 has none."""

    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        dtype = node.outputs[0].dtype
        if not dtypes.is_float(dtype):
            quotient, _, above = _whole_division(emit, node, x, y)
            return emit("_npi_subtract", quotient, emit("Cast", above, dtype=dtype))
        # As NumPy's npy_divmod: the quotient alone may have been rounded up to a whole number.
        zero, half = (emit.constant(np.array(n, dtype)) for n in (0, 0.5))
        rest = _float_rest(emit, node, x, _not_zero(emit, node, y))
        quotient = emit("_npi_true_divide", emit("_npi_subtract", x, rest), y)
        above = emit("Cast", _other_sign(emit, rest, y, zero), dtype=dtype)
        quotient = emit("_npi_subtract", quotient, above)
        whole = emit("_npi_floor", quotient)
        up = emit("_npi_greater", emit("_npi_subtract", quotient, whole), half)
        whole = emit("_npi_add", whole, emit("Cast", up, dtype=dtype))
        by_zero = emit("_npi_true_divide", x, y)
        return emit("_npi_where", emit("_npi_equal", y, zero), by_zero, whole)


class _Mod(_Whole):
    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        dtype = node.outputs[0].dtype
        if dtypes.is_float(dtype):
            return emit("_npi_mod", x, _not_zero(emit, node, y))
        _, rest, above = _whole_division(emit, node, x, y)
        above = emit("Cast", above, dtype=dtype)
        return emit("_npi_add", rest, emit("_npi_multiply", above, y))


def _truncated(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind == "f":
        return np.trunc(np.true_divide(x, y))
    quotient = np.floor_divide(x, y)
    above = (y != 0) & (quotient * y != x) & ((x < 0) != (y < 0))
    return quotient + above.astype(quotient.dtype)


def _vanish(x: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
    return ops.zeros_like(g)


def _whole_parts(m: Machine, x: Register, y: Register) -> tuple[Register, Register]:
    """Return the quotient of integers, rounded toward zero, and the remainder; for 0 both are 0."""
    zero, one, minus = (m.number(n, x.dtype) for n in (0, 1, -1))
    by_zero, by_minus = m.compare("eq", y, zero), m.compare("eq", y, minus)
    odd = m.arithmetic("or", by_zero, by_minus)
    divisor = m.choose(odd, one, y)
    quotient = m.choose(by_minus, m.subtract(zero, x), m.arithmetic("sdiv", x, divisor))
    return m.choose(by_zero, zero, quotient), m.arithmetic("srem", x, divisor)


def _signs_differ(m: Machine, rest: Register, y: Register) -> Register:
    """Return whether a remainder is not zero and has another sign than the divisor."""
    zero = m.number(0, y.dtype)
    differ = m.arithmetic("xor", m.compare("lt", rest, zero), m.compare("lt", y, zero))
    return m.arithmetic("and", differ, m.compare("ne", rest, zero))


def _quotient(m: Machine, x: Register, y: Register) -> Register:
    if dtypes.is_float(x.dtype):
        return m.whole("trunc", m.divide(x, y))
    return _whole_parts(m, x, y)[0]


def _rest(m: Machine, x: Register, y: Register) -> Register:
    if dtypes.is_float(x.dtype):
        return m.call("fmod", x, y)
    return _whole_parts(m, x, y)[1]


def _floor_rest(m: Machine, x: Register, y: Register) -> Register:
    rest = _rest(m, x, y)
    return m.choose(_signs_differ(m, rest, y), m.add(rest, y), rest)


def _floor_quotient(m: Machine, x: Register, y: Register) -> Register:
    one, zero = m.number(1, x.dtype), m.number(0, x.dtype)
    if not dtypes.is_float(x.dtype):
        quotient, rest = _whole_parts(m, x, y)
        return m.choose(_signs_differ(m, rest, y), m.subtract(quotient, one), quotient)
    # As NumPy's npy_divmod: the quotient alone may have been rounded up to a whole number.
    rest = _rest(m, x, y)
    quotient = m.divide(m.subtract(x, rest), y)
    below = m.choose(_signs_differ(m, rest, y), m.subtract(quotient, one), quotient)
    whole = m.whole("floor", below)
    up = m.compare("gt", m.subtract(below, whole), m.number(0.5, x.dtype))
    whole = m.choose(up, m.add(whole, one), whole)
    return m.choose(m.compare("eq", y, zero), m.divide(x, y), whole)


def _power_of(m: Machine, x: Register, y: Register) -> Register:
    if dtypes.is_float(x.dtype):
        return m.power(x, y)
    if y.value is None or y.value < 0:
        raise NoFormula("only to a power that is known are integers raised by few products")
    result, square, rest = m.number(1, x.dtype), x, y.value
    while rest:
        if rest & 1:
            result = m.multiply(result, square)
        rest >>= 1
        if rest:
            square = m.multiply(square, square)
    return result


_DIVIDEND_AND_DIVISOR = ((-5.0, 5.0, 0.0), (0.5, 2.0, 0.0))

true_divide = _Divide(
    "true_divide",
    np.true_divide,
    "_npi_true_divide",
    ("_npi_true_divide_scalar", "_npi_rtrue_divide_scalar"),
    (lambda x, y, z, g: g / y, lambda x, y, z, g: -g * z / y),
    "Return x / y; integers and booleans are divided as float64.",
    domains=((-2.0, 2.0, 0.0), (0.5, 2.0, 0.0)),
    dtype=dtypes.floating,
    kinds=NUMBERS,
    formula=lambda m, x, y: m.divide(x, y),
)
floor_divide = _FloorDivide(
    "floor_divide",
    np.floor_divide,
    "",
    (None, None),
    (_vanish, _vanish),
    """Return the largest whole number not above x / y; its gradient is zero.

    Computed from the exact remainder, as NumPy does.  Integers divided by 0 give 0; booleans count
    as int8.
    """,
    domains=_DIVIDEND_AND_DIVISOR,
    dtype=_not_bool,
    kinds=NUMBERS,
    formula=_floor_quotient,
)
mod = _Mod(
    "mod",
    np.mod,
    "",
    (None, None),
    (lambda x, y, z, g: g, lambda x, y, z, g: -g * floor_divide(x, y)),
    """Return the remainder of floor division, which has the sign of y.

    By zero, NaN for floats and 0 for integers; booleans count as int8.
    """,
    domains=_DIVIDEND_AND_DIVISOR,
    dtype=_not_bool,
    kinds=NUMBERS,
    formula=_floor_rest,
)
remainder = mod
truncate_divide = _TruncateDivide(
    "truncate_divide",
    _truncated,
    "",
    (None, None),
    (_vanish, _vanish),
    """Return x / y rounded toward zero, as TensorFlow's truncatediv; its gradient is zero.

    Integers divided by 0 give 0; booleans count as int8.
    """,
    domains=_DIVIDEND_AND_DIVISOR,
    dtype=_not_bool,
    kinds=NUMBERS,
    formula=_quotient,
)
fmod = _Fmod(
    "fmod",
    np.fmod,
    "",
    (None, None),
    (lambda x, y, z, g: g, lambda x, y, z, g: -g * ops.rint((x - z) / y)),
    """Return the remainder of division rounded toward zero, which has the sign of x.

    By zero, NaN for floats and 0 for integers; booleans count as int8.
    """,
    domains=_DIVIDEND_AND_DIVISOR,
    dtype=_not_bool,
    kinds=NUMBERS,
    formula=_rest,
)


class _Power(Binary):
    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(x, y)
        base, exponent = operands
        whole = not dtypes.is_float(base.dtype) and is_constant(exponent)
        if whole and exponent.value is not None and (exponent.value < 0).any():
            raise DTypeError(
                "integers have no negative powers among the integers",
                remedy="cast the base to a float",
            )
        return operands, attributes

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, y: Any) -> Any:
        dtype = node.outputs[0].dtype
        if dtype not in ("int8", "uint8"):
            return emit("Pow", x, y)
        wide = (emit("Cast", value, to=np.dtype("int32")) for value in (x, y))
        return emit("Cast", emit("Pow", *wide), to=np.dtype(dtype))

    def lower(self, emit: Emitter, node: Node, x: Any, y: Any) -> Any:
        if dtypes.is_float(node.outputs[0].dtype):
            return super().lower(emit, node, x, y)
        # MXNet's power of integers goes through doubles: not exact, and overflow is not wrapped.
        dtype = node.outputs[0].dtype
        zero, one, minus = (emit.constant(np.array(n).astype(dtype)) for n in (0, 1, -1))
        number = scalar_of(node.inputs[1])
        result = emit("_npi_add", one, emit("_npi_multiply", emit("_npi_add", x, y), zero))
        square = x
        bits = np.iinfo(dtype).bits - (dtype != "uint8")
        for bit in range(bits if number is None else int(number).bit_length()):
            if number is None:
                has = emit("_npi_bitwise_and", y, emit.constant(np.array(1 << bit, dtype)))
                has = emit("_npi_not_equal", has, zero)
                result = emit("_npi_multiply", result, emit("_npi_where", has, square, one))
            elif number >> bit & 1:
                result = emit("_npi_multiply", result, square)
            square = emit("_npi_multiply", square, square)
        if number is not None or dtype == "uint8":
            return result
        # With a negative exponent only the powers of 1 and -1 are whole numbers.
        units = [emit("_npi_equal", x, unit) for unit in (one, minus)]
        whole = emit("_npi_add", emit("_npi_add", *units), emit("_npi_greater_equal", y, zero))
        return emit("_npi_multiply", result, emit("Cast", whole, dtype=dtype))

    def simplify(self, node: Node) -> Tensor | None:
        base, exponent = node.inputs
        if not dtypes.is_float(base.dtype) or not is_constant(exponent) or exponent.rank:
            return None
        for number, same in ((1.0, ops.copy), (2.0, ops.square), (0.5, ops.sqrt)):
            if is_filled_with(exponent, number):
                return same(base)
        return None

    def sample(self, draw: Draw) -> Sample:
        if not dtypes.is_float(draw.dtype("float", "integer")):
            shape = draw.shape(min_side=0)
            kinds = [draw.dtype("bool", "integer") for _ in range(2)]
            x = draw.array(shape, -3, 3, dtype=kinds[0])
            return Sample(x, draw.array(shape, 0, 9, dtype=kinds[1]))
        return super().sample(draw)


def _power(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind == "f":
        return np.power(x, y)
    below = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0)).astype(x.dtype)
    return np.where(y < 0, below, np.power(x, np.maximum(y, 0)))


def _power_by_base(x: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
    if is_constant(y) and y.value is not None and y.value.all():
        return g * (y * power(x, y - 1.0))
    # Where the exponent is zero so is the gradient, also at a base of zero (as in JAX).
    flat = ops.equal(y, 0.0)
    return g * (y * power(x, ops.where(flat, ops.ones_like(y), y - 1.0)))


def _power_by_exponent(x: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
    # log of a base that is not positive has no real value; TensorFlow puts zero there.
    positive = x > 0.0
    slope = g * (z * ops.log(ops.where(positive, x, ops.ones_like(x))))
    return ops.where(positive, slope, ops.zeros_like(slope))


power = _Power(
    "power",
    _power,
    "_npi_power",
    ("_npi_power_scalar", None),
    (_power_by_base, _power_by_exponent),
    """Return x to the power y; the gradient by y is 0 where x is not positive, as in TensorFlow.

    Powers of integers wrap on overflow; booleans count as int8.  An integer to a negative power is
    the exact result where that is an integer (of 1 and -1), else 0.

    Raises:
        DTypeError: The exponent is a constant with negative integers, and the base is of integers.
    """,
    domains=((0.3, 3.0, 0.0), (-2.0, 2.0, 0.0)),
    dtype=_not_bool,
    formula=_power_of,
)
