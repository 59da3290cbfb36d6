"""MXNet's file of named arrays (``.params``), as ``mxnet.nd.save`` writes it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import IO

import numpy as np

LIST_MAGIC = 0x112
"""The first number of a file of arrays."""

CLASSIC, NUMPY = 0xF993FAC9, 0xF993FACA
"""The first number of an array in which a shape with 0 or without axes is unknown; and is not."""

TYPE_FLAGS = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "uint8": 3,
    "int32": 4,
    "int8": 5,
    "int64": 6,
    "bool": 7,
}
"""MXNet's number for each dtype."""


def write_params(file: IO[bytes], arrays: Mapping[str, np.ndarray], numpy_shapes: bool) -> None:
    """Write named arrays.

    Args:
        file: The file.
        arrays: The arrays by their names, which begin with ``arg:`` or ``aux:``.
        numpy_shapes: Whether scalars and arrays without elements are among them; MXNet then loads
            the file under ``mxnet.util.np_shape`` only.
    """
    file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
    for array in arrays.values():
        # The kind of storage (dense), and the device (the first CPU).
        file.write(struct.pack("<Ii", NUMPY if numpy_shapes else CLASSIC, 0))
        file.write(struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape))
        file.write(struct.pack("<iii", 1, 0, TYPE_FLAGS[array.dtype.name]))
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    file.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        text = name.encode()
        file.write(struct.pack("<Q", len(text)) + text)
