"""Operators on the bits of numbers, and on the divisors of integers: computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import ArgumentError, DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, floating, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.binary import broadcast_sample, unbroadcast

__all__ = ["bitcast", "reduce_precision", "nextafter", "gcd", "lcm"]


class _Bitcast(Operator):
    runs = "host"

    def prepare(self, x: Any, dtype: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(x)], {"dtype": dtypes.canonical(dtype)}

    def infer(self, x: Tensor, dtype: str) -> Spec:
        before, after = np.dtype(x.dtype).itemsize, np.dtype(dtype).itemsize
        if before == after:
            return Spec(x.shape, dtype)
        if not x.rank:
            raise DTypeError(
                f"a scalar of {x.dtype} has not as many bits as one of {dtype}",
                remedy="give it an axis: its size is what changes",
            )
        last = x.shape[-1]
        if last is not None and last * before % after:
            raise DTypeError(
                f"rows of {last} elements of {x.dtype} are no whole number of elements of {dtype}"
            )
        sides = (*x.shape[:-1], None if last is None else last * before // after)
        return Spec(sides, dtype)

    def numpy(self, x: Any, dtype: str) -> Any:
        return np.ascontiguousarray(x).reshape(np.shape(x)).view(dtype)

    def sample(self, draw: Draw) -> Sample:
        whole = draw.array(draw.shape(min_side=0), 0, 1e6, dtype="int32")
        return Sample(whole, attributes={"dtype": "float32"}, differentiate=())


bitcast = _Bitcast(
    "bitcast",
    doc="""Return the bits of x as numbers of another dtype, as numpy.ndarray.view.

    Where an element has more or fewer bits, the last axis becomes shorter or longer.

    Args:
        x: A tensor of any shape.
        dtype: The dtype of the result.

    Raises:
        DTypeError: The last axis, or the lack of one, does not allow it.

    >>> import ksym
    >>> ksym.evaluate(bitcast([1.0], "int32"))
    array([1065353216], dtype=int32)
    """,
)


def _rounded(x: Any, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round floats to fewer bits, halves to the even neighbour."""
    x = np.asarray(x)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(x)
        least = 2 - 2 ** (exponent_bits - 1)
        # Numbers below the least normal one lose bits from the front.
        step = np.maximum(exponent - 1, least) - mantissa_bits
        result = np.ldexp(np.rint(np.ldexp(x, -step)), step)
        largest = (2.0 - 2.0**-mantissa_bits) * 2.0 ** (2 ** (exponent_bits - 1) - 1)
        result = np.where(np.abs(result) > largest, np.copysign(np.inf, x), result)
        return np.where(np.isfinite(x), result, x).astype(x.dtype)


class _ReducePrecision(Operator):
    runs = "host"
    # The result has steps, which differences do not see through.
    unproven = dict.fromkeys(("gradients", "second order"), "the function has steps")

    def prepare(
        self, x: Any, exponent_bits: int, mantissa_bits: int
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        for name, bits, most in (
            ("exponent_bits", exponent_bits, 11),
            ("mantissa_bits", mantissa_bits, 52),
        ):
            if not isinstance(bits, int) or not 1 <= bits <= most:
                raise ArgumentError(f"{name} is {bits!r}, not an int from 1 to {most}")
        attributes = {"exponent_bits": exponent_bits, "mantissa_bits": mantissa_bits}
        return [floating(x)], attributes

    def infer(self, x: Tensor, exponent_bits: int, mantissa_bits: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, exponent_bits: int, mantissa_bits: int) -> Any:
        return _rounded(x, exponent_bits, mantissa_bits)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [self.make([g], node.attributes)]

    def simplify(self, node: Node) -> Tensor | None:
        inner = node.inputs[0].node
        if inner.operator is self and inner.attributes == node.attributes:
            return node.inputs[0]
        return None

    def sample(self, draw: Draw) -> Sample:
        x = draw.array(draw.shape(min_side=0), -100.0, 100.0)
        return Sample(x, attributes={"exponent_bits": 8, "mantissa_bits": 7})


reduce_precision = _ReducePrecision(
    "reduce_precision",
    doc="""Round floats to those of a format with fewer bits, halves to the even neighbour.

    The gradient is rounded likewise, as in JAX.

    Args:
        x: A tensor of any shape.
        exponent_bits: The number of bits of the format's exponent: 8 for bfloat16.
        mantissa_bits: The number of bits behind the point: 7 for bfloat16.

    Raises:
        ArgumentError: There is no such format.

    >>> import ksym
    >>> ksym.evaluate(reduce_precision([1.001, 3.14159], 8, 7))
    array([1.      , 3.140625], dtype=float32)
    """,
)


class _OfPairs(Operator):
    """An operator on pairs of elements that NumPy computes.

    Args:
        name: The name.
        numpy: NumPy's function.
        integers: Whether it takes integers, or else floats.
        doc: The docstring.
    """

    runs = "host"

    def __init__(self, name: str, numpy: Callable[..., Any], integers: bool, doc: str):
        self._numpy = numpy
        self._integers = integers
        super().__init__(name, doc)

    def prepare(self, x: Any, y: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not self._integers:
            x, y = (floating(v) if isinstance(v, Tensor) else v for v in (x, y))
        return promoted(x, y), {}

    def infer(self, x: Tensor, y: Tensor) -> Spec:
        if (dtypes.kind(x.dtype) == 1) != self._integers:
            wanted = "integers" if self._integers else "floats"
            raise DTypeError(f"takes {wanted}, not {x.dtype}", remedy="cast the operands")
        return Spec(shapes.broadcast(x.shape, y.shape), x.dtype)

    def numpy(self, x: Any, y: Any) -> Any:
        with np.errstate(all="ignore"):
            return self._numpy(x, y)

    def sample(self, draw: Draw) -> Sample:
        kind = "integer" if self._integers else "float"
        pair = broadcast_sample(draw, (0, 60, 0.0), (0, 60, 0.0), kinds=(kind,))
        return Sample(*pair)


gcd = _OfPairs(
    "gcd",
    np.gcd,
    True,
    """Return the greatest common divisor of integers.

    Args:
        x: Integers.
        y: Integers, which broadcast with x.

    Raises:
        DTypeError: They are no integers.
    """,
)
lcm = _OfPairs(
    "lcm",
    np.lcm,
    True,
    """Return the least common multiple of integers.

    Args:
        x: Integers.
        y: Integers, which broadcast with x.

    Raises:
        DTypeError: They are no integers.
    """,
)


class _Nextafter(_OfPairs):
    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, y = node.inputs
        return [unbroadcast(g, x, y), None]

    def sample(self, draw: Draw) -> Sample:
        x, y = broadcast_sample(draw, (0.5, 2.0, 0.0), (3.0, 4.0, 0.0))
        return Sample(x, y, differentiate=(0,))


nextafter = _Nextafter(
    "nextafter",
    np.nextafter,
    False,
    """Return the float next to x in the direction of y.

    Args:
        x: Floats.
        y: Floats, which broadcast with x.

    Raises:
        DTypeError: They are no floats.
    """,
)
