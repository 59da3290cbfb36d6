"""Rounding to whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Tensor
from ksym.operator.composite import composite
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Formula
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops.elementwise.unary import Unary

__all__ = ["floor", "ceil", "trunc", "fix", "rint"]


class _Rounding(Unary):
    """Rounding to whole numbers, which leaves integers as they are."""

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit(self._native if dtypes.is_float(node.inputs[0].dtype) else "_copy", x)

    def numpy(self, x: Any) -> Any:
        return self._numpy(x) if x.dtype.kind == "f" else x

    def simplify(self, node: Node) -> Tensor | None:
        return None if dtypes.is_float(node.inputs[0].dtype) else node.inputs[0]


class _Round(_Rounding):
    """Rounding by MXNet's `around`, since its `rint` rounds some halves to the odd number."""

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if dtypes.is_float(node.inputs[0].dtype):
            return emit("_npi_around", x, decimals=0)
        return emit("_copy", x)


def _rounding(direction: str) -> Formula:
    return lambda m, x: m.whole(direction, x) if dtypes.is_float(x.dtype) else x


_WHOLE = tuple(range(-3, 4))
_HALVES = tuple(number + 0.5 for number in range(-3, 3))

floor = _Rounding(
    "floor",
    np.floor,
    "_npi_floor",
    None,
    "Return the largest whole number not above x; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_WHOLE,
    kinds=("float", "integer", "bool"),
    formula=_rounding("floor"),
)
ceil = _Rounding(
    "ceil",
    np.ceil,
    "_npi_ceil",
    None,
    "Return the smallest whole number not below x; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_WHOLE,
    kinds=("float", "integer", "bool"),
    formula=_rounding("ceil"),
)
trunc = _Rounding(
    "trunc",
    np.trunc,
    "_npi_trunc",
    None,
    "Return x without its fraction: rounded toward zero; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_WHOLE,
    kinds=("float", "integer", "bool"),
    formula=_rounding("trunc"),
)
fix = trunc
rint = _Round(
    "rint",
    np.rint,
    "_npi_around",
    None,
    "Return the nearest whole number, halves to the even one; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_HALVES,
    kinds=("float", "integer", "bool"),
    half=False,
    formula=_rounding("rint"),
)


def _sample_round(draw: Draw) -> Sample:
    shape, decimals = draw.shape(min_side=0), draw.choose((-1, 0, 1, 2))
    if draw.dtype("float", "integer") in dtypes.INTEGERS:
        x = draw.array(shape, -100, 100, dtype="int64")
        return Sample(x, attributes={"decimals": decimals})
    x = draw.array(shape, -3.0, 3.0, dtype="float64", kinks=_HALVES)
    return Sample(x, attributes={"decimals": decimals}, differentiate=())


@composite(numpy=np.round, sample=_sample_round)
def round_(x: Any, decimals: int = 0) -> Tensor:
    """Round to a number of decimals, halves to the even neighbour; the gradient is zero.

    Args:
        x: A tensor.
        decimals: The number of places behind the point; negative for places before it.
    """
    x = as_tensor(x)
    if decimals == 0:
        return rint(x)
    if dtypes.is_float(x.dtype):
        scale = 10.0 ** abs(decimals)
        return rint(x * scale) / scale if decimals > 0 else rint(x / scale) * scale
    if decimals > 0:
        return x
    step = 10**-decimals
    count, rest = ops.floor_divide(x, step), ops.mod(x, step)
    up = (2 * rest > step) | (ops.equal(2 * rest, step) & ops.equal(ops.mod(count, 2), 1))
    return step * (count + ops.cast(up, x.dtype))
