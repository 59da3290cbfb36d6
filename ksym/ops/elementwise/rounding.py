"""Rounding to whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import dtypes
from ksym.graph import Node, Tensor
from ksym.operator.emitter import Emitter
from ksym.operator.machine import Formula
from ksym.ops.elementwise.unary import Unary

__all__ = ["floor", "ceil", "trunc", "fix"]


class _Rounding(Unary):
    """Rounding to whole numbers, which leaves integers as they are."""

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit(self._native if dtypes.is_float(node.inputs[0].dtype) else "_copy", x)

    def numpy(self, x: Any) -> Any:
        return self._numpy(x) if x.dtype.kind == "f" else x

    def simplify(self, node: Node) -> Tensor | None:
        return None if dtypes.is_float(node.inputs[0].dtype) else node.inputs[0]


class _Round(_Rounding):
    """By `around`: MXNet's `rint` rounds some halves to the odd number."""

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
    "The largest whole number not above x; its gradient is zero.",
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
    "The smallest whole number not below x; its gradient is zero.",
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
    "x without its fraction: rounded toward zero; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_WHOLE,
    kinds=("float", "integer", "bool"),
    formula=_rounding("trunc"),
)
fix = trunc
round_ = _Round(
    "round",
    np.rint,
    "_npi_around",
    None,
    "The nearest whole number, halves to the even one; its gradient is zero.",
    floating=False,
    domain=(-3.0, 3.0, 0.0),
    kinks=_HALVES,
    kinds=("float", "integer", "bool"),
    half=False,
    formula=_rounding("rint"),
)
