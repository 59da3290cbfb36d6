"""The abstract machine of formulas: the instructions of a kernel for one element.

A formula is the part of a declaration that computes one element of an elementwise operator:
``lambda m, x: m.divide(x, m.add(m.number(1.0, x.dtype), m.magnitude(x)))``.  It is called while the
code of a kernel is generated, with registers instead of numbers.  The dtypes that an operator has a
formula for follow from the formula alone: for the others the machine raises `NoFormula`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class NoFormula(Exception):  # noqa: N818 - an answer rather than an error
    """The answer of a machine or a formula that does not exist for a dtype or an attribute."""


class Register(NamedTuple):
    """A number in the generated code: a constant or a register, and its dtype.

    Attributes:
        text: Its name in the code.
        dtype: Its dtype.
        value: The number itself, where it is an integer constant.
    """

    text: str
    dtype: str
    value: int | None = None


class Machine(Protocol):
    """The instructions that a kernel is generated from; all operands of one have the same dtype."""

    # --- instructions ----------------------------------------------------------------------------

    def number(self, value: float, dtype: str) -> Register:
        """Return a constant."""

    def arithmetic(self, operation: str, x: Register, y: Register) -> Register:
        """Apply ``add``, ``sub``, ``mul`` to numbers; integers wrap around.

        ``div`` is for floats.  ``sdiv`` and ``srem`` are for integers: the quotient rounded toward
        zero, and the remainder, for divisors other than 0 and -1.  ``and``, ``or`` and
        ``xor`` are for bools and the bits of integers.
        """

    def added(self, total: Register, x: Register) -> Register:
        """Return a sum of floats whose summands may be taken in any order."""

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

    def call(self, function: str, *operands: Register) -> Register:
        """Call a function of the C library's math.h for each element, and return its result."""

    def magnitude(self, x: Register) -> Register:
        """Return the absolute value of a float."""

    def with_sign(self, x: Register, y: Register) -> Register:
        """Return x with the sign of y."""

    def whole(self, direction: str, x: Register) -> Register:
        """Return a float rounded to a whole one: ``floor``, ``ceil``, ``trunc``, or ``rint``."""

    def rounded(self, x: Register) -> tuple[Register, Register]:
        """Return the nearest whole number as a float, and as an argument of `power_of_two`."""

    def power_of_two(self, exponent: Register) -> tuple[Register, Register]:
        """Return two floats whose product is two to a power."""

    def parts(self, x: Register) -> tuple[Register, Register]:
        """Return m from sqrt(1/2) to sqrt(2) and a whole float e with x = m * 2**e, for x > 0."""

    def cast(self, x: Register, dtype: str) -> Register:
        """Convert to another dtype."""

    # --- arithmetic ------------------------------------------------------------------------------

    def add(self, x: Register, y: Register) -> Register:
        """Return x + y."""

    def subtract(self, x: Register, y: Register) -> Register:
        """Return x - y."""

    def multiply(self, x: Register, y: Register) -> Register:
        """Return x * y."""

    def divide(self, x: Register, y: Register) -> Register:
        """Return x / y for floats."""

    def negative(self, x: Register) -> Register:
        """Return -x."""

    def maximum(self, x: Register, y: Register) -> Register:
        """Return the larger one; NaN if either is."""

    def minimum(self, x: Register, y: Register) -> Register:
        """Return the smaller one; NaN if either is."""

    def above(self, x: Register, bound: float) -> Register:
        """Return the larger of x and a bound; NaN stays."""

    def below(self, x: Register, bound: float) -> Register:
        """Return the smaller of x and a bound; NaN stays."""

    def series(self, x: Register, coefficients: Sequence[float]) -> Register:
        """Return the sum of coefficient * x**k."""

    # --- functions of floats, to some units in the last place ------------------------------------

    def exp(self, x: Register) -> Register:
        """Return e to the power x."""

    def expm1(self, x: Register) -> Register:
        """Return exp(x) - 1."""

    def log(self, x: Register) -> Register:
        """Return the natural logarithm."""

    def log1p(self, x: Register) -> Register:
        """Return log(1 + x)."""

    def exp2(self, x: Register) -> Register:
        """Return 2 to the power x."""

    def log_to_base(self, x: Register, base: float) -> Register:
        """Return the logarithm to another base."""

    def sinh(self, x: Register) -> Register:
        """Return the hyperbolic sine."""

    def cosh(self, x: Register) -> Register:
        """Return the hyperbolic cosine."""

    def arcsinh(self, x: Register) -> Register:
        """Return the inverse of `sinh`."""

    def arccosh(self, x: Register) -> Register:
        """Return the inverse of `cosh` that is not negative; NaN below 1."""

    def arctanh(self, x: Register) -> Register:
        """Return the inverse of `tanh`; infinite at -1 and 1, NaN outside."""

    def tanh(self, x: Register) -> Register:
        """Return the hyperbolic tangent."""

    def sigmoid(self, x: Register) -> Register:
        """Return 1 / (1 + exp(-x))."""

    def softplus(self, x: Register) -> Register:
        """Return log(1 + exp(x))."""


class Combination(NamedTuple):
    """The combination of elements in a reduction, one after the other.

    Attributes:
        start: The initial value.
        formula: The formula of the value so far and the next element.
    """

    start: float
    formula: Formula


Formula = Callable[..., Register]
"""Called with a machine, a register for each operand, and the node's attributes by name."""
