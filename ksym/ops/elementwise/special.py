"""Special functions: error functions, and the gamma function's family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import GraphError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.machine import Machine, NoFormula, Register
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.unary import Unary

__all__ = ["erf", "erfinv", "erfc", "gammaln", "gamma", "polygamma", "digamma"]


def _each(function: Callable[[float], float], pole: float) -> Callable[[Any], Any]:
    """Return a function of Python's math module for arrays, with a value for poles."""

    def safe(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return pole
        except OverflowError:
            return math.inf

    return np.vectorize(safe, otypes=["float64"])


def _erfinv(y: Any) -> Any:
    """Return the inverse of math.erf, by bisection, which is independent of the formula."""
    low, high = np.full(np.shape(y), -6.0), np.full(np.shape(y), 6.0)
    erf_of = _each(math.erf, math.nan)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = erf_of(middle) < y
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    inside = 0.5 * (low + high)
    edge = np.where(np.abs(y) == 1, np.sign(y) * np.inf, np.nan)
    return np.where(np.abs(y) < 1, inside, edge)


_RARE = "MXNet's kernel is kept: the function is rare, and its approximations are long and many."

_TWO_BY_ROOT_PI = 2.0 / math.sqrt(math.pi)


def _scaled_complement(terms: int) -> tuple[float, np.ndarray]:
    """Return L and the polynomial p, highest power first, of exp(x**2) erfc(x) for x >= 0.

    It is 2 p((L - x) / (L + x)) / (L + x)**2 + 1 / (sqrt(pi) (L + x)): J. A. C. Weideman, 1994,
    "Computation of the complex error function", SIAM Journal on Numerical Analysis 31.
    """
    width = math.sqrt(terms / math.sqrt(2.0))
    points = width * np.tan(np.arange(1 - 2 * terms, 2 * terms) * (math.pi / (4 * terms)))
    values = np.exp(-(points**2)) * (width**2 + points**2)
    series = np.fft.fft(np.fft.fftshift(np.concatenate([[0.0], values]))).real
    return width, series[terms:0:-1] / (4 * terms)


_ERF_TERMS = {"float32": (10, 12), "float64": (19, 36)}
"""How many terms of the series up to 1, and of the complement beyond it, are exact to a dtype."""


def _error_function(m: Machine, x: Register) -> Register:
    if x.dtype not in _ERF_TERMS:
        raise NoFormula(x.dtype)
    near_terms, far_terms = _ERF_TERMS[x.dtype]
    coefficients = [
        _TWO_BY_ROOT_PI * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(near_terms)
    ]
    square = m.multiply(x, x)
    near = m.multiply(x, m.series(square, coefficients))
    # Above 6 the complement is rounded to zero; infinity would give NaN.
    size, one = m.below(m.magnitude(x), 6.0), m.number(1.0, x.dtype)
    number, polynomial = _scaled_complement(far_terms)
    width = m.number(number, x.dtype)
    inverse = m.divide(one, m.add(size, width))
    place = m.multiply(m.subtract(width, size), inverse)
    scaled = m.multiply(m.series(place, [2.0 * float(c) for c in polynomial[::-1]]), inverse)
    scaled = m.multiply(m.add(scaled, m.number(0.5 * _TWO_BY_ROOT_PI, x.dtype)), inverse)
    complement = m.multiply(m.exp(m.negative(m.multiply(size, size))), scaled)
    far = m.with_sign(m.subtract(one, complement), x)
    return m.choose(m.compare("lt", size, one), near, far)


erf = Unary(
    "erf",
    _each(math.erf, math.nan),
    "_npx_erf",
    lambda x, y, g: g * (_TWO_BY_ROOT_PI * ops.exp(-ops.square(x))),
    "Return the error function: 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.",
    formula=_error_function,
)
erfinv = Unary(
    "erfinv",
    _erfinv,
    "_npx_erfinv",
    lambda x, y, g: g * (ops.exp(ops.square(y)) / _TWO_BY_ROOT_PI),
    "Return the inverse of `erf`; infinite at -1 and 1, NaN outside.",
    domain=(-0.9, 0.9, 0.0),
    no_formula=_RARE,
)


_WIDTH, _COMPLEMENT = _scaled_complement(36)
"""36 terms are exact to float64: what is left out is below 1e-15 of the result."""


class _Erfc(Operator):
    elementwise = True
    half = False

    def prepare(self, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {}

    def infer(self, x: Tensor) -> Spec:
        return x.spec

    def numpy(self, x: Any) -> Any:
        return _each(math.erfc, math.nan)(x)

    def expand(self, node: Node) -> Tensor:
        (x,) = node.inputs
        # Above 30 the result is rounded to zero; infinity would give NaN.
        size = ops.minimum(ops.abs_(x), 30.0)
        inverse = 1.0 / (size + _WIDTH)
        place, series = (_WIDTH - size) * inverse, ops.zeros_like(x)
        for coefficient in _COMPLEMENT:
            series = series * place + float(coefficient)
        scaled = (2.0 * series * inverse + 1.0 / math.sqrt(math.pi)) * inverse
        # exp(-size**2) would multiply the rounding of the square by the square; that of a number
        # of few bits is exact (W. J. Cody, 1969).
        short = ops.floor(size * 16.0) * 0.0625
        tail = ops.exp(-ops.square(short)) * ops.exp((short - size) * (short + size)) * scaled
        return ops.where(x < 0.0, 2.0 - tail, tail)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [g * (-_TWO_BY_ROOT_PI * ops.exp(-ops.square(node.inputs[0])))]

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("float", "integer", "bool")
        return Sample(draw.array(draw.shape(min_side=0), -3.0, 6.0, dtype=dtype))


erfc: Operator = _Erfc(
    "erfc",
    doc="""Return 1 - erf(x), with a small relative error even if it is tiny; composed.""",
)

gammaln = Unary(
    "gammaln",
    _each(math.lgamma, math.inf),
    "_npx_gammaln",
    lambda x, y, g: g * polygamma(0, x),
    "Return the logarithm of the absolute value of `gamma`; infinite at 0, -1, -2, ...",
    domain=(0.3, 4.0, 0.0),
    no_formula=_RARE,
)
gamma = Unary(
    "gamma",
    _each(lambda x: math.gamma(x) if x else math.inf, math.nan),
    "_npx_gamma",
    lambda x, y, g: g * (y * polygamma(0, x)),
    "Return the gamma function: (x - 1)! at whole numbers; infinite at 0, NaN at -1, -2, ...",
    domain=(0.5, 4.0, 0.0),
    no_formula=_RARE,
)

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""B_2, B_4, ..., B_16."""

_SHIFT = 10
"""Above this the asymptotic series with those is exact to float64."""


def _tail_coefficients(order: int) -> list[float]:
    """Return the coefficients of the asymptotic series in x**-2 after its first two terms."""
    return [
        b * math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        for k, b in enumerate(_BERNOULLI, 1)
    ]


class _Polygamma(Operator):
    elementwise = True
    half = False

    def prepare(self, order: int, x: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 0:
            raise GraphError(f"the order {order!r} is not a whole number from 0 on")
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {"order": int(order)}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return [attributes["order"], *operands], {}

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(attributes["order"], *operands)

    def infer(self, x: Tensor, order: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, order: int) -> Any:
        # The sum that defines it, with the Euler-Maclaurin estimate of its tail; for x below 0 the
        # recurrence extends the sum to x.
        x = np.asarray(x, "float64")
        steps = 60
        far = x + steps
        sign = (-1.0) ** (order + 1) * math.factorial(order)
        terms = sum(1.0 / (x + k) ** (order + 1) for k in range(steps))
        if order == 0:
            rest = np.log(far) - 0.5 / far - 1 / (12 * far**2) + 1 / (120 * far**4)
            result = rest - terms
        else:
            first = 1 / (order * far**order) + 0.5 / far ** (order + 1)
            second = (order + 1) / (12 * far ** (order + 2))
            third = (order + 1) * (order + 2) * (order + 3) / (720 * far ** (order + 4))
            result = sign * (terms + first + second - third)
        return np.where((x <= 0) & (x == np.floor(x)), np.nan, result)

    def expand(self, node: Node) -> Tensor:
        (x,), order = node.inputs, node.attributes["order"]
        negative = x <= 0.0
        found = self._positive(ops.where(negative, 1.0 - x, x), order)
        # Reflection: (-1)**n psi_n(1 - x) - psi_n(x) = pi times the n-th derivative of cot(pi x).
        fraction = x - ops.rint(x)
        cotangent = 1.0 / ops.tan(math.pi * fraction)
        slope: Tensor = ops.zeros_like(x)
        for coefficient in self._cotangent(order):
            slope = slope * cotangent + coefficient
        reflected = (-1.0) ** order * found - math.pi * slope
        reflected = ops.where(ops.equal(fraction, 0.0), ops.full_like(x, math.nan), reflected)
        return ops.where(negative, reflected, found)

    @staticmethod
    def _cotangent(order: int) -> list[float]:
        """Return the n-th derivative of cot(pi x): a polynomial in it, highest power first."""
        polynomial = np.array([1.0, 0.0])
        for _ in range(order):
            polynomial = np.polymul(np.polyder(polynomial), [-math.pi, 0.0, -math.pi])
        return [float(c) for c in polynomial]

    @staticmethod
    def _positive(x: Tensor, order: int) -> Tensor:
        """Compute it by recurrence up to large x, then by asymptotic series (DLMF 5.11, 5.15)."""
        total: Tensor = ops.zeros_like(x)
        for k in range(_SHIFT):
            total = total + 1.0 / _whole_power(x + float(k), order + 1)
        far = 1.0 / (x + float(_SHIFT))
        square, series = far * far, ops.zeros_like(x)
        for coefficient in reversed(_tail_coefficients(order)):
            series = (series + coefficient) * square
        if order == 0:
            return ops.log(x + float(_SHIFT)) - 0.5 * far - series - total
        leading = math.factorial(order - 1) + 0.5 * math.factorial(order) * far + series
        result = _whole_power(far, order) * leading + math.factorial(order) * total
        return result * (-1.0) ** (order + 1)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [g * polygamma(node.attributes["order"] + 1, node.inputs[0])]

    def sample(self, draw: Draw) -> Sample:
        order = draw.integer(0, 3)
        dtype = draw.dtype("float", "integer")
        x = draw.array(draw.shape(min_side=0), 0.6, 4.0, dtype=dtype)
        if dtype == "float64" and draw.choose((False, True)):
            x = -np.floor(x) - 0.5 + 0.1 * np.tanh(x)
        return Sample(x, attributes={"order": order})


def _whole_power(x: Tensor, number: int) -> Tensor:
    result = x
    for _ in range(number - 1):
        result = result * x
    return result


polygamma: Operator = _Polygamma(
    "polygamma",
    doc="""Return a derivative of `digamma`; its order is given first, as in SciPy, 0 for `digamma`.

    Composed: MXNet has none.  Recurrence up to 10 and beyond, and there the asymptotic series; for
    x below zero the reflection formula (DLMF 5.5, 5.11 and 5.15).  NaN at the poles 0, -1, -2, ...

    Args:
        order: A whole number from 0 on.
        x: Where.

    Raises:
        GraphError: The order is something else.
    """,
)


def _digamma_sample(draw: Draw) -> Sample:
    dtype = draw.dtype("float", "integer")
    return Sample(draw.array(draw.shape(min_side=0), 0.6, 4.0, dtype=dtype))


@composite(
    numpy=lambda x: polygamma.numpy(np.asarray(x), order=0),
    sample=_digamma_sample,
)
def digamma(x: Any) -> Tensor:
    """Return the derivative of `gammaln`; NaN at the poles 0, -1, -2, ..., as in JAX."""
    result: Tensor = polygamma(0, x)
    return result
