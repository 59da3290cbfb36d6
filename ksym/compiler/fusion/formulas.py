"""Elementwise operators in terms of a small machine: what loops can compute.

Exponentials and logarithms are series, so that they are computed for many elements at once; errors
are a few units in the last place.  Series and reductions are in W. Cody and W. Waite, Software
Manual for the Elementary Functions, 1980.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ksym import ops
from ksym.operator.declaration import Operator


class Register(NamedTuple):
    """A number while code is emitted: a constant or a register, and its dtype."""

    text: str
    dtype: str


class Machine(Protocol):
    """What a loop's code is written to."""

    def number(self, value: float, dtype: str) -> Register:
        """Return a constant."""

    def arithmetic(self, operation: str, x: Register, y: Register) -> Register:
        """Apply ``add``, ``sub``, ``mul`` to numbers, ``div`` to floats.

        ``and``, ``or`` and ``xor`` are for bools.
        """

    def compare(self, relation: str, x: Register, y: Register) -> Register:
        """Apply ``eq``, ``ne``, ``lt``, ``le``, ``gt`` or ``ge``; only ``ne`` holds for NaN."""

    def choose(self, condition: Register, x: Register, y: Register) -> Register:
        """Return x where a condition holds, else y."""

    def multiply_add(self, x: Register, y: Register, z: Register) -> Register:
        """Return x * y + z, rounded once or twice."""

    def root(self, x: Register) -> Register:
        """Return the square root."""

    def power(self, x: Register, y: Register) -> Register:
        """Return x to the power of y, by calling the C library."""

    def magnitude(self, x: Register) -> Register:
        """Return the absolute value."""

    def with_sign(self, x: Register, y: Register) -> Register:
        """Return x with the sign of y."""

    def rounded(self, x: Register) -> tuple[Register, Register]:
        """Return the nearest whole number as a float, and as what `power_of_two` takes."""

    def power_of_two(self, exponent: Register) -> tuple[Register, Register]:
        """Return two floats whose product is two to a power."""

    def parts(self, x: Register) -> tuple[Register, Register]:
        """Return m from sqrt(1/2) to sqrt(2) and a whole float e with x = m * 2**e, for x > 0."""

    def cast(self, x: Register, dtype: str) -> Register:
        """Convert to another dtype."""


class _Precision(NamedTuple):
    """Constants for a dtype.

    Attributes:
        exp_terms: Terms of the series of exp(r) - 1 up to |r| = log(2) / 2.
        log_terms: Terms of the series of atanh(s) / s in s**2, up to s = 0.1716.
        low: Where exp is zero.
        high: Where exp is infinite.
        saturation: Where tanh is one.
        log2_high: The first digits of log(2), so few that products with exponents are exact.
    """

    exp_terms: int
    log_terms: int
    low: float
    high: float
    saturation: float
    log2_high: float


_PRECISION = {
    "float32": _Precision(7, 5, -104.0, 89.0, 9.1, 0.693359375),
    "float64": _Precision(13, 11, -746.0, 710.0, 20.0, 6.93147180369123816490e-01),
}
_LOG2_LOW = {
    "float32": -2.12194440054690583e-4,
    "float64": 1.90821492927058770002e-10,
}


class _Math:
    """Functions written for one machine and dtype."""

    def __init__(self, machine: Machine, dtype: str):
        self.machine = machine
        self.dtype = dtype

    @property
    def precision(self) -> _Precision:
        return _PRECISION[self.dtype]

    def number(self, value: float) -> Register:
        return self.machine.number(value, self.dtype)

    def add(self, x: Register, y: Register) -> Register:
        return self.machine.arithmetic("add", x, y)

    def subtract(self, x: Register, y: Register) -> Register:
        return self.machine.arithmetic("sub", x, y)

    def multiply(self, x: Register, y: Register) -> Register:
        return self.machine.arithmetic("mul", x, y)

    def divide(self, x: Register, y: Register) -> Register:
        return self.machine.arithmetic("div", x, y)

    def series(self, x: Register, coefficients: list[float]) -> Register:
        """The sum of coefficient * x**k."""
        total = self.number(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = self.machine.multiply_add(total, x, self.number(coefficient))
        return total

    def below(self, x: Register, bound: float) -> Register:
        """The smaller of x and a bound; NaN stays."""
        limit = self.number(bound)
        return self.machine.choose(self.machine.compare("gt", x, limit), limit, x)

    def above(self, x: Register, bound: float) -> Register:
        """The larger of x and a bound; NaN stays."""
        limit = self.number(bound)
        return self.machine.choose(self.machine.compare("lt", x, limit), limit, x)

    def reduced(self, x: Register) -> tuple[Register, Register]:
        """Return exp(r) - 1 and k with x = k * log(2) + r."""
        whole, exponent = self.machine.rounded(self.multiply(x, self.number(1.0 / math.log(2.0))))
        r = self.machine.multiply_add(whole, self.number(-self.precision.log2_high), x)
        r = self.machine.multiply_add(whole, self.number(-_LOG2_LOW[self.dtype]), r)
        terms = range(1, self.precision.exp_terms + 1)
        return self.multiply(r, self.series(r, [1.0 / math.factorial(k) for k in terms])), exponent

    def exp(self, x: Register) -> Register:
        x = self.above(self.below(x, self.precision.high), self.precision.low)
        less_one, exponent = self.reduced(x)
        first, second = self.machine.power_of_two(exponent)
        return self.multiply(self.multiply(self.add(less_one, self.number(1.0)), first), second)

    def _expm1_of_limited(self, x: Register) -> Register:
        less_one, exponent = self.reduced(x)
        power = self.multiply(*self.machine.power_of_two(exponent))
        return self.add(self.multiply(power, less_one), self.subtract(power, self.number(1.0)))

    def expm1(self, x: Register) -> Register:
        middle = self.below(self.above(x, -50.0), 50.0)
        outside = self.machine.compare("gt", x, self.number(50.0))
        return self.machine.choose(outside, self.exp(x), self._expm1_of_limited(middle))

    def tanh(self, x: Register) -> Register:
        size = self.below(self.machine.magnitude(x), self.precision.saturation)
        e = self._expm1_of_limited(self.add(size, size))
        return self.machine.with_sign(self.divide(e, self.add(e, self.number(2.0))), x)

    def sigmoid(self, x: Register) -> Register:
        one = self.number(1.0)
        return self.divide(one, self.add(one, self.exp(self.negative(x))))

    def negative(self, x: Register) -> Register:
        return self.multiply(x, self.number(-1.0))

    def log(self, x: Register) -> Register:
        mantissa, exponent = self.machine.parts(x)
        f = self.subtract(mantissa, self.number(1.0))
        s = self.divide(f, self.add(f, self.number(2.0)))
        terms = range(self.precision.log_terms)
        fraction = self.series(self.multiply(s, s), [2.0 / (2 * k + 1) for k in terms])
        low = self.multiply(exponent, self.number(_LOG2_LOW[self.dtype]))
        result = self.add(self.multiply(s, fraction), low)
        high = self.multiply(exponent, self.number(self.precision.log2_high))
        result = self.add(high, result)
        zero, machine = self.number(0.0), self.machine
        outside = machine.choose(
            machine.compare("eq", x, zero), self.number(-math.inf), self.number(math.nan)
        )
        result = machine.choose(machine.compare("gt", x, zero), result, outside)
        return machine.choose(machine.compare("eq", x, self.number(math.inf)), x, result)

    def log1p(self, x: Register) -> Register:
        # What rounding 1 + x loses is made up for by the quotient.
        machine, one = self.machine, self.number(1.0)
        u = self.add(x, one)
        rounded = self.subtract(u, one)
        exact = self.divide(self.multiply(self.log(u), x), rounded)
        as_it_is = machine.choose(machine.compare("eq", rounded, self.number(0.0)), x, exact)
        return machine.choose(machine.compare("eq", x, self.number(math.inf)), x, as_it_is)

    def softplus(self, x: Register) -> Register:
        rest = self.log1p(self.exp(self.negative(self.machine.magnitude(x))))
        return self.add(self.above(x, 0.0), rest)

    def maximum(self, x: Register, y: Register) -> Register:
        """The larger one; NaN if either is."""
        machine = self.machine
        first = machine.arithmetic("or", machine.compare("ge", x, y), machine.compare("ne", x, x))
        return machine.choose(first, x, y)

    def minimum(self, x: Register, y: Register) -> Register:
        """The smaller one; NaN if either is."""
        machine = self.machine
        first = machine.arithmetic("or", machine.compare("le", x, y), machine.compare("ne", x, x))
        return machine.choose(first, x, y)

    def sign(self, x: Register) -> Register:
        unsigned = self.machine.compare("eq", x, self.number(0.0))
        unsigned = self.machine.arithmetic("or", unsigned, self.machine.compare("ne", x, x))
        return self.machine.choose(unsigned, x, self.machine.with_sign(self.number(1.0), x))

    def relu(self, x: Register) -> Register:
        # As MXNet's kernels: NaN becomes zero in float32.
        zero = self.number(0.0)
        if self.dtype == "float32":
            return self.machine.choose(self.machine.compare("gt", x, zero), x, zero)
        return self.above(x, 0.0)

    def relu_gradient(self, g: Register, y: Register) -> Register:
        zero = self.number(0.0)
        return self.machine.choose(self.machine.compare("gt", y, zero), g, zero)


Formula = Callable[..., Register]
ON_FLOATS: dict[Operator, Formula] = {
    ops.add: _Math.add,
    ops.subtract: _Math.subtract,
    ops.multiply: _Math.multiply,
    ops.true_divide: _Math.divide,
    ops.maximum: _Math.maximum,
    ops.minimum: _Math.minimum,
    ops.negative: _Math.negative,
    ops.positive: lambda m, x: x,
    ops.identity: lambda m, x: x,
    ops.stop_gradient: lambda m, x: x,
    ops.abs_: lambda m, x: m.machine.magnitude(x),
    ops.sign: _Math.sign,
    ops.square: lambda m, x: m.multiply(x, x),
    ops.reciprocal: lambda m, x: m.divide(m.number(1.0), x),
    ops.sqrt: lambda m, x: m.machine.root(x),
    ops.rsqrt: lambda m, x: m.divide(m.number(1.0), m.machine.root(x)),
    ops.exp: _Math.exp,
    ops.expm1: _Math.expm1,
    ops.log: _Math.log,
    ops.log1p: _Math.log1p,
    ops.tanh: _Math.tanh,
    ops.sigmoid: _Math.sigmoid,
    ops.softplus: _Math.softplus,
    ops.power: lambda m, x, y: m.machine.power(x, y),
    ops.relu: _Math.relu,
    ops.relu_gradient: _Math.relu_gradient,
    ops.clip: lambda m, x, low, high: m.minimum(m.maximum(x, low), high),
    ops.equal: lambda m, x, y: m.machine.compare("eq", x, y),
    ops.not_equal: lambda m, x, y: m.machine.compare("ne", x, y),
    ops.less: lambda m, x, y: m.machine.compare("lt", x, y),
    ops.less_equal: lambda m, x, y: m.machine.compare("le", x, y),
    ops.greater: lambda m, x, y: m.machine.compare("gt", x, y),
    ops.greater_equal: lambda m, x, y: m.machine.compare("ge", x, y),
}
"""What operators compute from floats of one dtype."""

ON_INTEGERS = frozenset(
    {
        *(ops.add, ops.subtract, ops.multiply, ops.negative, ops.square),
        *(ops.maximum, ops.minimum, ops.positive, ops.identity, ops.stop_gradient),
        *(ops.equal, ops.not_equal, ops.less, ops.less_equal, ops.greater, ops.greater_equal),
    }
)
"""Those of them that integers of one dtype have too."""

CALLED = frozenset({ops.power})
"""What a function is called for on each element, instead of being computed for many at once."""

_on_bools: dict[Operator, Callable[..., Register]] = {
    ops.logical_and: lambda m, x, y: m.arithmetic("and", x, y),
    ops.logical_or: lambda m, x, y: m.arithmetic("or", x, y),
    ops.logical_xor: lambda m, x, y: m.arithmetic("xor", x, y),
    ops.logical_not: lambda m, x: m.arithmetic("xor", x, m.number(1, "bool")),
}
COMPILED_FLOATS = tuple(_PRECISION)
COMPILED_INTEGERS = ("int32", "int64")
DTYPES = (*COMPILED_FLOATS, *COMPILED_INTEGERS, "bool")
"""The dtypes of what loops read and write."""


def has_formula(operator: Operator, operands: tuple[str, ...], result: str) -> bool:
    """Whether there is a formula for an operator on operands of some dtypes."""
    if operator in (ops.where, ops.cast, ops.broadcast_to):
        return {*operands, result} <= {*DTYPES}
    if operator in _on_bools:
        return set(operands) == {"bool"}
    if operator not in ON_FLOATS or len(set(operands)) != 1:
        return False
    return operands[0] in COMPILED_FLOATS or (
        operands[0] in COMPILED_INTEGERS and operator in ON_INTEGERS
    )


def apply(machine: Machine, operator: Operator, operands: list[Register], dtype: str) -> Any:
    """Write the code of an operator and return its result."""
    if operator is ops.where:
        return machine.choose(*operands)
    if operator is ops.cast:
        return machine.cast(operands[0], dtype)
    if operator in _on_bools:
        return _on_bools[operator](machine, *operands)
    return ON_FLOATS[operator](_Math(machine, operands[0].dtype), *operands)
