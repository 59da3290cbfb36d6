"""Values as arrays of MXNet's own Python package, which a user may have beside ksym."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.errors import MissingMXNetError, ShapeError
from ksym.runtime import loading
from ksym.variables import Variable


def to_mxnet(value: Any) -> Any:
    """Return a value, such as the result of a function, as an array of MXNet's Python package.

    The array is a copy, on MXNet's current context, with the value's shape and dtype.  It is an
    `mxnet.np.ndarray` if `mxnet.npx.set_np()` is in force, and an `mxnet.nd.NDArray` otherwise;
    these have no scalars, so that a number becomes an array of shape ``(1,)``.

    The other way needs no function: such arrays are taken wherever ksym takes NumPy arrays.

    Args:
        value: A NumPy array, a number, or a `Variable`; or a list, tuple or dictionary of such.

    Returns:
        An array; for a list, tuple or dictionary the same of arrays.

    Raises:
        MissingMXNetError: MXNet's Python package cannot be imported.
        ShapeError: An array without elements is to become an `mxnet.nd.NDArray`.
        DTypeError: The value is not numeric.

    Example::

        x = ksym.placeholder((None, 3))
        f = ksym.function([x], [ksym.tanh(x), ksym.sum(x)])
        y, total = ksym.to_mxnet(f(mxnet.nd.ones((2, 3))))
    """
    if isinstance(value, Mapping):
        return {key: to_mxnet(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        made = [to_mxnet(item) for item in value]
        return tuple(made) if isinstance(value, tuple) else made
    array = dtypes.storable(value.get_value() if isinstance(value, Variable) else value)
    mxnet = package()
    if mxnet.util.is_np_array():
        return mxnet.np.array(array, dtype=array.dtype)
    if not array.size:
        raise ShapeError(
            f"an mxnet.nd.NDArray of shape {array.shape} cannot be made: it would have no elements",
            remedy="call mxnet.npx.set_np() before; then it becomes an mxnet.np.ndarray",
        )
    return mxnet.nd.array(np.atleast_1d(array), dtype=array.dtype)


def package() -> ModuleType:
    """Return MXNet's Python package, which shares the library that ksym loads.

    Raises:
        MissingMXNetError: It cannot be imported.
    """
    loading.library()  # first, for its settings
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses deprecated names of NumPy and distutils
            import mxnet
    except (ImportError, AttributeError, OSError) as error:
        raise MissingMXNetError(
            f"MXNet's Python package cannot be imported: {error}",
            remedy="import mxnet by yourself first, with what this version of it needs; ksym needs "
            "only MXNet's C library, and gives NumPy arrays without the package",
        ) from error
    return mxnet
