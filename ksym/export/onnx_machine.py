"""Formulas of elements, written as operators of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.compiler.fusion.formulas import Mathematics
from ksym.operator.emitter import OnnxEmitter
from ksym.operator.machine import NoFormula, Register

_RELATIONS = {
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}
_ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "sdiv": "Div"}
_FUNCTIONS = {
    name: name.capitalize() for name in ("sin", "cos", "tan", "asin", "acos", "atan", "erf")
}
NARROW = ("bool", "int8", "uint8")
"""The dtypes in which runtimes lack arithmetic and comparisons, so that int32 is used instead."""


class OnnxMachine(Mathematics):
    """A machine whose registers are whole tensors of an ONNX graph.

    Functions that ONNX has are applied as they are; the others are composed, near zero too to
    some units in the last place.
    """

    def __init__(self, emit: OnnxEmitter):
        self._emit = emit
        self._values: list[Any] = []

    def register(self, value: Any, dtype: str) -> Register:
        """Return a register that holds a tensor."""
        self._values.append(value)
        return Register(str(len(self._values) - 1), dtype)

    def value(self, x: Register) -> Any:
        """Return the tensor in a register."""
        return self._values[int(x.text)]

    def _apply(
        self, operator: str, *operands: Register, dtype: str = "", **options: Any
    ) -> Register:
        made = self._emit(operator, *map(self.value, operands), **options)
        return self.register(made, dtype or operands[0].dtype)

    def number(self, value: float, dtype: str) -> Register:
        register = self.register(self._emit.constant(np.array(value, dtype), dtype), dtype)
        return register if dtypes.is_float(dtype) else register._replace(value=int(value))

    def _wide(self, x: Register) -> Register:
        return self.cast(x, "int32") if x.dtype in NARROW else x

    def arithmetic(self, operation: str, x: Register, y: Register) -> Register:
        if operation in ("and", "or", "xor"):
            name = operation.capitalize()
            return self._apply(name if x.dtype == "bool" else f"Bitwise{name}", x, y)
        wide = self._wide(x), self._wide(y)
        if operation == "srem":
            made = self._apply("Mod", *wide, fmod=1)
        else:
            made = self._apply(_ARITHMETIC[operation], *wide)
        return self.cast(made, x.dtype)

    def added(self, total: Register, x: Register) -> Register:
        return self.add(total, x)

    def compare(self, relation: str, x: Register, y: Register) -> Register:
        wide = self._wide(x), self._wide(y)
        if relation == "ne":
            return self._apply("Not", self._apply("Equal", *wide, dtype="bool"))
        return self._apply(_RELATIONS[relation], *wide, dtype="bool")

    def choose(self, condition: Register, x: Register, y: Register) -> Register:
        made = self._apply("Where", condition, self._wide(x), self._wide(y), dtype=x.dtype)
        made = made._replace(dtype=self._wide(x).dtype)
        return self.cast(made, x.dtype)

    def multiply_add(self, x: Register, y: Register, z: Register) -> Register:
        return self.add(self.multiply(x, y), z)

    def root(self, x: Register) -> Register:
        return self._apply("Sqrt", x)

    def power(self, x: Register, y: Register) -> Register:
        return self._apply("Pow", x, y)

    def call(self, function: str, *operands: Register) -> Register:
        if function in _FUNCTIONS:
            return self._apply(_FUNCTIONS[function], *operands)
        return _COMPOSED[function](self, *operands)

    def magnitude(self, x: Register) -> Register:
        return self._apply("Abs", x)

    def negative(self, x: Register) -> Register:
        return self.cast(self._apply("Neg", self._wide(x)), x.dtype)

    def with_sign(self, x: Register, y: Register) -> Register:
        size = self.magnitude(x)
        below = self.compare("lt", y, self.number(0.0, y.dtype))
        return self.choose(below, self.negative(size), size)

    def whole(self, direction: str, x: Register) -> Register:
        if direction != "trunc":
            return self._apply({"floor": "Floor", "ceil": "Ceil", "rint": "Round"}[direction], x)
        return self.with_sign(self._apply("Floor", self.magnitude(x)), x)

    def rounded(self, x: Register) -> tuple[Register, Register]:
        raise NoFormula("bits of floats")

    def power_of_two(self, exponent: Register) -> tuple[Register, Register]:
        raise NoFormula("bits of floats")

    def parts(self, x: Register) -> tuple[Register, Register]:
        raise NoFormula("bits of floats")

    def cast(self, x: Register, dtype: str) -> Register:
        if x.dtype == dtype:
            return x
        return self._apply("Cast", x, dtype=dtype, to=np.dtype(dtype))

    # --- functions of floats ---------------------------------------------------------------------

    def exp(self, x: Register) -> Register:
        return self._apply("Exp", x)

    def expm1(self, x: Register) -> Register:
        # exp(x) - 1 = tanh(x / 2) * (exp(x) + 1) loses nothing near zero.
        half = self.multiply(x, self.number(0.5, x.dtype))
        above = self.add(self.exp(x), self.number(1.0, x.dtype))
        return self.multiply(self.tanh(half), above)

    def log(self, x: Register) -> Register:
        return self._apply("Log", x)

    def log1p(self, x: Register) -> Register:
        # log(u) * x / (u - 1) with the u that 1 + x is rounded to (Goldberg 1991, theorem 4).
        one = self.number(1.0, x.dtype)
        u = self.add(one, x)
        log, less = self.log(u), self.subtract(u, one)
        corrected = self.multiply(log, self.divide(x, less))
        as_is = self.arithmetic(
            "or", self.compare("eq", u, one), self.compare("eq", u, self.number(math.inf, x.dtype))
        )
        return self.choose(as_is, self.choose(self.compare("eq", u, one), x, log), corrected)

    def exp2(self, x: Register) -> Register:
        return self.power(self.number(2.0, x.dtype), x)

    def log_to_base(self, x: Register, base: float) -> Register:
        return self.multiply(self.log(x), self.number(1.0 / math.log(base), x.dtype))

    def sinh(self, x: Register) -> Register:
        return self._apply("Sinh", x)

    def cosh(self, x: Register) -> Register:
        return self._apply("Cosh", x)

    def arcsinh(self, x: Register) -> Register:
        return self._apply("Asinh", x)

    def arccosh(self, x: Register) -> Register:
        return self._apply("Acosh", x)

    def arctanh(self, x: Register) -> Register:
        return self._apply("Atanh", x)

    def tanh(self, x: Register) -> Register:
        return self._apply("Tanh", x)

    def sigmoid(self, x: Register) -> Register:
        return self._apply("Sigmoid", x)

    def softplus(self, x: Register) -> Register:
        return self._apply("Softplus", x)


def _hypot(m: OnnxMachine, x: Register, y: Register) -> Register:
    x, y = m.magnitude(x), m.magnitude(y)
    large, small = m.maximum(x, y), m.minimum(x, y)
    zero, one = m.number(0.0, x.dtype), m.number(1.0, x.dtype)
    ratio = m.divide(small, m.choose(m.compare("eq", large, zero), one, large))
    ratio = m.choose(
        m.compare("eq", small, large), m.choose(m.compare("eq", large, zero), zero, one), ratio
    )
    return m.multiply(large, m.root(m.add(one, m.multiply(ratio, ratio))))


def _atan2(m: OnnxMachine, y: Register, x: Register) -> Register:
    zero, pi = m.number(0.0, x.dtype), m.number(math.pi, x.dtype)
    half = m.number(math.pi / 2, x.dtype)
    at = m.call("atan", m.divide(y, x))
    shifted = m.choose(m.compare("lt", y, zero), m.subtract(at, pi), m.add(at, pi))
    found = m.choose(m.compare("lt", x, zero), shifted, at)
    upright = m.choose(m.compare("eq", y, zero), zero, m.with_sign(half, y))
    return m.choose(m.compare("eq", x, zero), upright, found)


def _cbrt(m: OnnxMachine, x: Register) -> Register:
    return m.with_sign(m.power(m.magnitude(x), m.number(1.0 / 3.0, x.dtype)), x)


def _fmod(m: OnnxMachine, x: Register, y: Register) -> Register:
    return m._apply("Mod", x, y, fmod=1)


_COMPOSED: Mapping[str, Callable[..., Register]] = {
    "hypot": _hypot,
    "atan2": _atan2,
    "cbrt": _cbrt,
    "fmod": _fmod,
    "pow": OnnxMachine.power,
}
