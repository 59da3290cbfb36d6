"""The functions of the abstract machine: exp, log and others, made of its instructions.

Exponentials and logarithms are series, so that they can be vectorised; errors are a few units in
the last place.  Series and argument reductions are from W. Cody and W. Waite, Software
Manual for the Elementary Functions, 1980.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.operator.declaration import Operator
from ksym.operator.machine import Machine, NoFormula, Register


class _Precision(NamedTuple):
    """Constants for a dtype.

    Attributes:
        exp_terms: The number of terms of the series of exp(r) - 1 up to |r| = log(2) / 2.
        log_terms: The number of terms of the series of atanh(s) / s in s**2, up to s = 0.1716.
        low: The argument below which exp is zero.
        high: The argument above which exp is infinite.
        saturation: The argument above which tanh is one.
        log2_high: The first digits of log(2), so few that products with exponents are exact.
        log2_low: The rest of log(2).
    """

    exp_terms: int
    log_terms: int
    low: float
    high: float
    saturation: float
    log2_high: float
    log2_low: float


_PRECISION = {
    "float32": _Precision(7, 5, -104.0, 89.0, 9.1, 0.693359375, -2.12194440054690583e-4),
    "float64": _Precision(
        13, 11, -746.0, 710.0, 20.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10
    ),
}


class Mathematics(Machine):
    """The arithmetic and functions that every machine has, made of its instructions."""

    def add(self, x: Register, y: Register) -> Register:
        return self.arithmetic("add", x, y)

    def subtract(self, x: Register, y: Register) -> Register:
        return self.arithmetic("sub", x, y)

    def multiply(self, x: Register, y: Register) -> Register:
        return self.arithmetic("mul", x, y)

    def divide(self, x: Register, y: Register) -> Register:
        return self.arithmetic("div", x, y)

    def negative(self, x: Register) -> Register:
        return self.multiply(x, self.number(-1, x.dtype))

    def maximum(self, x: Register, y: Register) -> Register:
        first = self.arithmetic("or", self.compare("ge", x, y), self.compare("ne", x, x))
        return self.choose(first, x, y)

    def minimum(self, x: Register, y: Register) -> Register:
        first = self.arithmetic("or", self.compare("le", x, y), self.compare("ne", x, x))
        return self.choose(first, x, y)

    def above(self, x: Register, bound: float) -> Register:
        limit = self.number(bound, x.dtype)
        return self.choose(self.compare("lt", x, limit), limit, x)

    def below(self, x: Register, bound: float) -> Register:
        limit = self.number(bound, x.dtype)
        return self.choose(self.compare("gt", x, limit), limit, x)

    def series(self, x: Register, coefficients: Sequence[float]) -> Register:
        total = self.number(coefficients[-1], x.dtype)
        for coefficient in coefficients[-2::-1]:
            total = self.multiply_add(total, x, self.number(coefficient, x.dtype))
        return total

    def _reduced(self, x: Register) -> tuple[Register, Register]:
        """Return exp(r) - 1 and k with x = k * log(2) + r."""
        scaled = self.multiply(x, self.number(1.0 / math.log(2.0), x.dtype))
        whole, exponent = self.rounded(scaled)
        precision = _precision(x)
        r = self.multiply_add(whole, self.number(-precision.log2_high, x.dtype), x)
        r = self.multiply_add(whole, self.number(-precision.log2_low, x.dtype), r)
        return self._exponential(r), exponent

    def _exponential(self, r: Register) -> Register:
        """Return exp(r) - 1 for |r| up to log(2) / 2."""
        terms = range(1, _precision(r).exp_terms + 1)
        return self.multiply(r, self.series(r, [1.0 / math.factorial(k) for k in terms]))

    def _times_power(self, less_one: Register, exponent: Register) -> Register:
        first, second = self.power_of_two(exponent)
        one = self.number(1.0, less_one.dtype)
        return self.multiply(self.multiply(self.add(less_one, one), first), second)

    def exp(self, x: Register) -> Register:
        precision = _precision(x)
        x = self.above(self.below(x, precision.high), precision.low)
        return self._times_power(*self._reduced(x))

    def _expm1_of_limited(self, x: Register) -> Register:
        less_one, exponent = self._reduced(x)
        power = self.multiply(*self.power_of_two(exponent))
        return self.add(
            self.multiply(power, less_one), self.subtract(power, self.number(1.0, x.dtype))
        )

    def expm1(self, x: Register) -> Register:
        middle = self.below(self.above(x, -50.0), 50.0)
        outside = self.compare("gt", x, self.number(50.0, x.dtype))
        return self.choose(outside, self.exp(x), self._expm1_of_limited(middle))

    def tanh(self, x: Register) -> Register:
        size = self.below(self.magnitude(x), _precision(x).saturation)
        e = self._expm1_of_limited(self.add(size, size))
        return self.with_sign(self.divide(e, self.add(e, self.number(2.0, x.dtype))), x)

    def sigmoid(self, x: Register) -> Register:
        one = self.number(1.0, x.dtype)
        return self.divide(one, self.add(one, self.exp(self.negative(x))))

    def _log_of_mantissa(self, mantissa: Register) -> tuple[Register, Register]:
        """Return two factors of the logarithm of a number from sqrt(1/2) to sqrt(2)."""
        f = self.subtract(mantissa, self.number(1.0, mantissa.dtype))
        s = self.divide(f, self.add(f, self.number(2.0, mantissa.dtype)))
        terms = range(_precision(mantissa).log_terms)
        return s, self.series(self.multiply(s, s), [2.0 / (2 * k + 1) for k in terms])

    def _at_ends(self, result: Register, x: Register) -> Register:
        """Return a logarithm with its values at zero, at infinity, and below zero."""
        zero = self.number(0.0, x.dtype)
        outside = self.choose(
            self.compare("eq", x, zero),
            self.number(-math.inf, x.dtype),
            self.number(math.nan, x.dtype),
        )
        result = self.choose(self.compare("gt", x, zero), result, outside)
        return self.choose(self.compare("eq", x, self.number(math.inf, x.dtype)), x, result)

    def log(self, x: Register) -> Register:
        mantissa, exponent = self.parts(x)
        s, fraction = self._log_of_mantissa(mantissa)
        low = self.multiply(exponent, self.number(_precision(x).log2_low, x.dtype))
        result = self.add(self.multiply(s, fraction), low)
        high = self.multiply(exponent, self.number(_precision(x).log2_high, x.dtype))
        return self._at_ends(self.add(high, result), x)

    def log1p(self, x: Register) -> Register:
        # The quotient corrects the error of rounding 1 + x.
        one = self.number(1.0, x.dtype)
        u = self.add(x, one)
        rounded = self.subtract(u, one)
        exact = self.divide(self.multiply(self.log(u), x), rounded)
        corrected = self.choose(self.compare("eq", rounded, self.number(0.0, x.dtype)), x, exact)
        return self.choose(self.compare("eq", x, self.number(math.inf, x.dtype)), x, corrected)

    def exp2(self, x: Register) -> Register:
        low, high = (bound / math.log(2.0) for bound in (_precision(x).low, _precision(x).high))
        x = self.above(self.below(x, high), low)
        whole, exponent = self.rounded(x)
        r = self.multiply(self.subtract(x, whole), self.number(math.log(2.0), x.dtype))
        return self._times_power(self._exponential(r), exponent)

    def log_to_base(self, x: Register, base: float) -> Register:
        # The exponent's part of powers of two is a whole number to base two.
        mantissa, exponent = self.parts(x)
        s, fraction = self._log_of_mantissa(mantissa)
        of_mantissa = self.multiply(
            self.multiply(s, fraction), self.number(1.0 / math.log(base), x.dtype)
        )
        of_two = self.number(math.log(2.0, base), x.dtype)
        return self._at_ends(self.multiply_add(exponent, of_two, of_mantissa), x)

    def _half_of_exp(self, x: Register) -> Register:
        """Return exp(x) / 2, which is finite for some x for which exp(x) is not."""
        root = self.exp(self.multiply(x, self.number(0.5, x.dtype)))
        return self.multiply(self.multiply(root, self.number(0.5, x.dtype)), root)

    def sinh(self, x: Register) -> Register:
        size, one = self.magnitude(x), self.number(1.0, x.dtype)
        e = self.expm1(size)
        small = self.add(e, self.divide(e, self.add(e, one)))
        small = self.multiply(small, self.number(0.5, x.dtype))
        large = self.compare("gt", size, self.number(20.0, x.dtype))
        return self.with_sign(self.choose(large, self._half_of_exp(size), small), x)

    def cosh(self, x: Register) -> Register:
        size = self.magnitude(x)
        half = self._half_of_exp(size)
        return self.add(half, self.divide(self.number(0.25, x.dtype), half))

    def _log_of_double(self, x: Register) -> Register:
        return self.add(self.log(x), self.number(math.log(2.0), x.dtype))

    def _is_large(self, x: Register) -> Register:
        """Return whether 1 + x**2 rounds to x**2."""
        bound = 1.0 / math.sqrt(float(np.finfo(x.dtype).eps))
        return self.compare("gt", x, self.number(bound, x.dtype))

    def arcsinh(self, x: Register) -> Register:
        size, one = self.magnitude(x), self.number(1.0, x.dtype)
        square = self.multiply(size, size)
        root = self.root(self.add(square, one))
        small = self.log1p(self.add(size, self.divide(square, self.add(one, root))))
        large = self._log_of_double(size)
        return self.with_sign(self.choose(self._is_large(size), large, small), x)

    def arccosh(self, x: Register) -> Register:
        one = self.number(1.0, x.dtype)
        above = self.subtract(x, one)
        root = self.root(self.multiply(above, self.add(above, self.number(2.0, x.dtype))))
        small = self.log1p(self.add(above, root))
        result = self.choose(self._is_large(x), self._log_of_double(x), small)
        return self.choose(self.compare("ge", x, one), result, self.number(math.nan, x.dtype))

    def arctanh(self, x: Register) -> Register:
        size = self.magnitude(x)
        quotient = self.divide(self.add(size, size), self.subtract(self.number(1.0, x.dtype), size))
        half = self.multiply(self.log1p(quotient), self.number(0.5, x.dtype))
        return self.with_sign(half, x)

    def softplus(self, x: Register) -> Register:
        rest = self.log1p(self.exp(self.negative(self.magnitude(x))))
        return self.add(self.above(x, 0.0), rest)


def _precision(x: Register) -> _Precision:
    if x.dtype not in _PRECISION:
        raise NoFormula(f"functions are of floats, not of {x.dtype}")
    return _PRECISION[x.dtype]


class _Probe(Mathematics):
    """A machine that generates no code, and raises `NoFormula` for dtypes that no machine has.

    Attributes:
        calls: Whether a function was called.
    """

    def __init__(self) -> None:
        self.calls = False
        self.instructions = 0.0

    def _of(self, dtypes: Collection[str], *operands: Register, dtype: str = "") -> Register:
        """Check that the operands have one dtype, one of `dtypes`, and return a result."""
        self.instructions += 1
        (found, *others) = {x.dtype for x in operands}
        if others or found not in dtypes:
            raise NoFormula(f"{found} where {dtypes} are meant")
        return Register("", dtype or found)

    def number(self, value: float, dtype: str) -> Register:
        return Register("", dtype)

    def arithmetic(self, operation: str, x: Register, y: Register) -> Register:
        return self._of(_OF_ARITHMETIC[operation], x, y)

    def added(self, total: Register, x: Register) -> Register:
        return self._of(COMPILED_FLOATS, total, x)

    def compare(self, relation: str, x: Register, y: Register) -> Register:
        return self._of(DTYPES, x, y, dtype="bool")

    def choose(self, condition: Register, x: Register, y: Register) -> Register:
        self._of(("bool",), condition)
        return self._of(DTYPES, x, y)

    def multiply_add(self, x: Register, y: Register, z: Register) -> Register:
        return self._of(COMPILED_FLOATS, x, y, z)

    def root(self, x: Register) -> Register:
        return self._of(COMPILED_FLOATS, x)

    def power(self, x: Register, y: Register) -> Register:
        return self.call("pow", x, y)

    def call(self, function: str, *operands: Register) -> Register:
        self.calls = True
        self.instructions += _CALL
        return self._of(COMPILED_FLOATS, *operands)

    def magnitude(self, x: Register) -> Register:
        return self._of(COMPILED_FLOATS, x)

    def with_sign(self, x: Register, y: Register) -> Register:
        return self._of(COMPILED_FLOATS, x, y)

    def whole(self, direction: str, x: Register) -> Register:
        return self._of(COMPILED_FLOATS, x)

    def rounded(self, x: Register) -> tuple[Register, Register]:
        return self._of(COMPILED_FLOATS, x), x

    def power_of_two(self, exponent: Register) -> tuple[Register, Register]:
        return exponent, exponent

    def parts(self, x: Register) -> tuple[Register, Register]:
        return self._of(COMPILED_FLOATS, x), x

    def cast(self, x: Register, dtype: str) -> Register:
        self._of(DTYPES, Register("", dtype))
        return self._of(DTYPES, x, dtype=dtype)


COMPILED_FLOATS = tuple(_PRECISION)
COMPILED_INTEGERS = ("int32", "int64")
DTYPES = (*COMPILED_FLOATS, *COMPILED_INTEGERS, "bool")
"""The dtypes that kernels read and write."""

_NUMBERS = (*COMPILED_FLOATS, *COMPILED_INTEGERS)
_OF_ARITHMETIC = {
    **dict.fromkeys(("add", "sub", "mul"), _NUMBERS),
    "div": COMPILED_FLOATS,
    **dict.fromkeys(("sdiv", "srem"), COMPILED_INTEGERS),
    **dict.fromkeys(("and", "or", "xor"), (*COMPILED_INTEGERS, "bool")),
}


_CALL = 100.0
"""The instructions that a call of a function for one element stands for."""


class Known(NamedTuple):
    """The properties of a formula that are known before its code is generated.

    Attributes:
        dtype: The dtype of its result.
        calls: Whether it calls a function for each element, instead of computing many at once.
        instructions: How many instructions it takes for an element, about.
    """

    dtype: str
    calls: bool
    instructions: float


def known(
    operator: Operator, operands: Sequence[Register], attributes: Mapping[str, Any]
) -> Known | None:
    """Return the properties of an operator's formula for operands; None if it has none for them.

    Args:
        operator: The operator.
        operands: The dtype of each operand, and the value of an integer constant.
        attributes: The attributes of the node.
    """
    return _known(operator, tuple(operands), tuple(attributes.items()))


@functools.lru_cache(maxsize=4096)
def _known(
    operator: Operator, operands: tuple[Register, ...], attributes: tuple[tuple[str, Any], ...]
) -> Known | None:
    if operator.formula is None or any(x.dtype not in DTYPES for x in operands):
        return None
    probe = _Probe()
    try:
        result = operator.formula(probe, *operands, **dict(attributes))
    except NoFormula:
        return None
    return Known(result.dtype, probe.calls, probe.instructions)
