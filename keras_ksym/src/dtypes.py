"""Keras's dtypes, and the dtypes in which ksym stores their values.

MXNet has no bfloat16, int16, uint16, uint32 and uint64.  A tensor of such a dtype is stored in a
wider one, and each function that computes new values rounds or wraps them (`fitted`): so they are
those that the dtype has.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from keras.src.backend.common.variables import standardize_dtype

import ksym
from ksym.ops import cast_to

_WIDER = {
    "bfloat16": "float32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
"""The dtypes that MXNet lacks, and those in which their values are stored."""

_BITS = {"int16": 16, "uint16": 16, "uint32": 32}

FLOATS = ("bfloat16", "float16", "float32", "float64")


def stored(dtype: str) -> str:
    """Return the dtype in which ksym stores the values of one of Keras's.

    Raises:
        TypeError: It cannot: the dtype is complex, float8 or string.
    """
    if dtype in _WIDER:
        return _WIDER[dtype]
    if dtype.startswith(("complex", "float8", "string")):
        raise TypeError(
            f"Keras's backend ksym has no dtype {dtype}. To do: "
            + (
                "keep real and imaginary parts in two tensors, as keras.ops.fft does."
                if dtype.startswith("complex")
                else "use float16 or bfloat16."
                if dtype.startswith("float8")
                else "look strings up in a vocabulary first, with NumPy."
            )
        )
    return dtype


def numpy_dtype(dtype: str) -> np.dtype:
    """Return NumPy's dtype of one of Keras's."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def is_float(dtype: str) -> bool:
    """Return whether values of the dtype are floats."""
    return dtype in FLOATS


def as_dtype(dtype: Any) -> str:
    """Return the name of a dtype that Keras's users give.

    Raises:
        TypeError: It is NumPy's for texts or objects.
    """
    kind = dtype.kind if isinstance(dtype, np.dtype) else ""
    if kind in ("S", "U"):
        stored("string")
    if kind == "O":
        raise TypeError(
            "Keras's backend ksym has no arrays of Python objects, such as lists of unequal "
            "lengths, or sparse tensors. To do: give dense arrays of numbers."
        )
    return str(standardize_dtype(dtype))


def fitted(graph: ksym.Tensor, dtype: str) -> ksym.Tensor:
    """Return new values as values of one of Keras's dtypes: rounded, or wrapped around."""
    graph = cast_to(graph, stored(dtype))
    if dtype == "bfloat16":
        return ksym.reduce_precision(graph, exponent_bits=8, mantissa_bits=7)
    bits = _BITS.get(dtype)
    if bits is None:
        return graph
    low = ksym.bitwise_and(graph, 2**bits - 1)
    if dtype.startswith("u"):
        return low
    sign = 2 ** (bits - 1)
    return ksym.bitwise_xor(low, sign) - sign


def cast(graph: ksym.Tensor, before: str, after: str) -> ksym.Tensor:
    """Return values of one of Keras's dtypes as values of another one."""
    if before == after:
        return graph
    wide = stored(after)
    if before == "uint64" and is_float(after):
        # Stored as int64, the numbers from 2**63 are negative.
        number = cast_to(graph, "float64")
        graph = ksym.where(number < 0, number + 2.0**64, number)
    elif is_float(before) and after in ("uint32", "uint64", "uint16", "uint8"):
        graph = cast_to(graph, "int64")
    return fitted(cast_to(graph, wide), after)
