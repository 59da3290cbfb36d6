"""The dtypes that ksym stores, and promotion between them.

A dtype is written as its NumPy name, a plain `str` such as ``"float32"``: it can be hashed and
printed, and is equal to the names Keras compares with.  Promotion between tensors is NumPy's own
table, except that a dtype MXNet does not store is widened to the next one it does.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from ksym.errors import DTypeError

SUPPORTED = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")
FLOATS = frozenset({"float16", "float32", "float64"})
INTEGERS = frozenset({"uint8", "int8", "int32", "int64"})

DEFAULT_FLOAT = "float32"
"""The dtype of a Python float, or a list of them, when nothing else decides."""

_WIDENED = {"int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64"}


def canonical(dtype: Any) -> str:
    """Return the name of a dtype that ksym stores.

    Raises:
        DTypeError: The dtype is unknown to NumPy, or MXNet does not store it.
    """
    if isinstance(dtype, str | bytes):
        name = dtype if isinstance(dtype, str) and dtype in SUPPORTED else _name_of_text(dtype)
    else:
        try:
            # Of an array or a tensor NumPy would take the attribute `dtype`: nobody asked for it.
            is_array = hasattr(dtype, "shape") and not isinstance(dtype, np.dtype | type)
            name = str(dtype) if is_array else np.dtype(dtype).name
        except (TypeError, ValueError):
            name = str(dtype)
    if name not in SUPPORTED:
        instead = _WIDENED.get(name)
        raise DTypeError(
            f"dtype {name!r} is not supported",
            remedy=f"use {instead!r}" if instead else f"use one of {', '.join(SUPPORTED)}",
        )
    return name


def _name_of_text(text: Any) -> str:
    """Return NumPy's name of a dtype, for example of ``"<f4"``; the text, if it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of "a", which is refused
        try:
            return np.dtype(text).name
        except (TypeError, ValueError):
            return str(text)


@cache
def _name(dtype: np.dtype) -> str:
    return dtype.name  # NumPy makes the name anew each time


def name_of(array: np.ndarray) -> str:
    """Return the name of an array's dtype."""
    return _name(array.dtype)


def is_float(dtype: str) -> bool:
    """Return whether gradients can flow through values of this dtype."""
    return dtype in FLOATS


def kind(dtype: str) -> int:
    """Return 0 for bool, 1 for integers, 2 for floats: the order in which constants give way."""
    return 2 if dtype in FLOATS else 1 if dtype in INTEGERS else 0


@cache
def promote(*dtypes: str) -> str:
    """Return the common dtype of values of these dtypes, by NumPy's promotion table.

    >>> promote("int32", "float32")
    'float64'
    >>> promote("uint8", "int8")  # NumPy says int16, which MXNet does not store
    'int32'
    """
    name = np.result_type(*dtypes).name
    return _WIDENED.get(name, name)


def floating(dtype: str) -> str:
    """Return the dtype of `exp`, `mean` or a true division of values of this dtype.

    Floats keep their type, integers and booleans become float64, as in NumPy.
    """
    return dtype if is_float(dtype) else "float64"


CASTS_WARN = np.lib.NumpyVersion(np.__version__) >= "1.24.0"
"""Whether NumPy warns when it casts a number to a float dtype in which that is an infinity."""


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return an array in another dtype, itself if it has it; too large floats become infinities."""
    if name_of(array) == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)


_NUMBERS = (int, float, np.generic)


def as_array(value: Any) -> np.ndarray:
    """Return a value as a NumPy array: one of MXNet with its dtype, all others as NumPy does.

    Raises:
        DTypeError: NumPy makes no array of it.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, _NUMBERS):
        return np.asarray(value)
    if hasattr(value, "asnumpy"):  # an array of MXNet's Python package
        value = value.asnumpy()
    elif isinstance(value, list | tuple) and value and hasattr(value[0], "asnumpy"):
        value = [as_array(item) for item in value]  # NumPy would ask for one element at a time
    elif hasattr(value, "tocsr"):
        raise DTypeError(
            "a sparse matrix of SciPy's is no array",
            remedy="multiply by it: ksym.sparse_dot(matrix, x); or give matrix.toarray()",
        )
    try:
        with warnings.catch_warnings():
            # NumPy before 1.24 makes an array of lists from rows of different lengths, and warns.
            warnings.simplefilter("ignore")
            return np.asarray(value)
    except ValueError as error:
        raise DTypeError(f"no array can be made of it: {error}") from None


def storable(value: Any, python_float: str = DEFAULT_FLOAT) -> np.ndarray:
    """Return a value as an array of a dtype that ksym stores, widened where nothing is lost.

    Values of NumPy, and arrays of MXNet, keep their dtype.

    Args:
        value: A number, an array, or nested sequences of numbers.
        python_float: The dtype of Python floats and of nested lists of them.

    Raises:
        DTypeError: The value is not numeric (objects, strings, complex numbers), or its integers
            do not fit into int64.
    """
    array = as_array(value)
    name = name_of(array)
    if name in SUPPORTED:
        if name == "float64" and not isinstance(value, np.ndarray | np.generic):
            return array if hasattr(value, "asnumpy") else cast(array, python_float)
        return array
    if name in _WIDENED:
        if name == "uint64" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DTypeError(
                f"the value {array.max()} does not fit into int64", remedy="give it as a float"
            )
        return array.astype(_WIDENED[name])
    if array.dtype.kind == "f":
        return cast(array, "float64")
    if _is_of_numbers(array) and any(abs(item) >= 2**63 for item in array.flat):
        raise DTypeError("an integer does not fit into int64", remedy="give it as a float")
    if array.dtype == object and not isinstance(value, np.ndarray | list | tuple):
        kind = type(value)
        raise DTypeError(
            f"a {kind.__module__}.{kind.__qualname__} is neither a tensor of ksym nor a number",
            remedy="stay with one library: make tensors by ksym's operators or Keras's backend",
        )
    if array.dtype == object:
        raise DTypeError(
            "an array of Python objects has no numeric value",
            remedy="give numbers of one length per row; for rows of different lengths, pad them",
        )
    raise DTypeError(f"dtype {name!r} is not supported", remedy="give numbers or booleans")


def _is_of_numbers(array: np.ndarray) -> bool:
    """Return whether an array holds Python's numbers, among them integers too large for NumPy."""
    return array.dtype == object and all(type(item) in (int, float) for item in array.flat)


def fitting(value: Any, dtype: str) -> np.ndarray:
    """Return a value as an array that can be converted to a dtype without changing its meaning.

    The array keeps the value's own dtype, so that it is rounded once.  Float dtypes accept every
    number, integer dtypes the whole numbers in their range, and bool everything.

    Args:
        value: A number, an array, or nested sequences of numbers.
        dtype: The dtype that it is to be converted to.

    Raises:
        DTypeError: The value is not numeric, or not among the numbers of an integer dtype.
    """
    array = as_array(value)
    if name_of(array) == dtype:
        return array
    if _is_of_numbers(array):
        if kind(dtype) != 1 or any(type(item) is float for item in array.flat):
            try:
                array = array.astype("float64")
            except OverflowError:
                raise DTypeError(
                    "an integer is larger than all numbers of float64", remedy="scale it first"
                ) from None
    elif array.dtype.kind not in "biuf":
        return storable(value)  # refuses it, and says why
    if kind(dtype) == 1:
        _check_range(array, dtype)
    return array


def converted(value: Any, dtype: str) -> np.ndarray:
    """Return a value as an array of a dtype, rounded once.

    >>> converted(0.1, "float64")
    array(0.1)

    Raises:
        DTypeError: As for `fitting`.
    """
    return cast(fitting(value, dtype), dtype)


_LIMITS = {dtype: (np.iinfo(dtype).min, np.iinfo(dtype).max) for dtype in INTEGERS}


def _check_range(array: np.ndarray, dtype: str) -> None:
    """Raise an error for numbers that are not among those of an integer dtype."""
    if not array.size or np.can_cast(array.dtype, dtype, "safe"):
        return
    least, most = _LIMITS[dtype]
    if array.dtype.kind == "f":
        # The number above the largest is a power of two, which a float type holds exactly.
        with np.errstate(invalid="ignore"):
            fits = (array >= least) & (array < float(most + 1))
            fits &= (np.trunc(array) == array) & np.isfinite(array)
        if fits.all():
            return
        wrong = float(array[~fits].flat[0])
        remedy = "use a float dtype"
        if least <= wrong <= most:
            remedy += f", or round and cast: np.round(value).astype({dtype!r})"
        raise DTypeError(
            f"{dtype} holds whole numbers from {least} to {most}, no fractions and not {wrong}",
            remedy=remedy,
        )
    values: Any = array
    lowest, highest = int(values.min()), int(values.max())
    if lowest < least or highest > most:
        raise DTypeError(
            f"{lowest if lowest < least else highest} does not fit into {dtype}, which holds whole "
            f"numbers from {least} to {most}",
            remedy="use a float dtype" if dtype == "int64" else "use a wider dtype, such as int64",
        )
