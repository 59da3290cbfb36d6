r"""The layout of a file: a checksum, a JSON header and raw arrays.

All numbers are little-endian.

    bytes 0-7     ``\x89 K S Y M \r \n \x1a``
    bytes 8-11    the version of the format, an unsigned integer
    bytes 12-43   the SHA-256 of all that follows
    bytes 44-51   the number of bytes of the header, an unsigned integer
    then          the header: JSON in UTF-8, an object; its ``"arrays"`` is a list of ``[dtype,
                  shape]``
    then          each array in C order, at the next multiple of 64 bytes, zeros in between; the
                  file ends with the last one

Nothing in a file is run.  Where each array lies follows from the shapes, and has to end where the
file ends, so no more memory is taken than a fixed multiple of the file's size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from ksym import dtypes
from ksym.errors import FileError
from ksym.output import path_text, replacing

MAGIC = b"\x89KSYM\r\n\x1a"
"""The first bytes; the line end in them changes if a file is transferred as text."""

VERSION = 1
"""The version of the format that is written, and the newest that is read."""

ALIGNMENT = 64
"""The alignment of arrays in the file, that of a cache line."""

MOST_AXES = 32
"""The largest number of axes: that of NumPy's arrays."""

_FIRST = struct.Struct("<8sI32s")
_LENGTH = struct.Struct("<Q")


def write_file(path: Any, header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> None:
    """Write a file, whole or not at all: it takes the place of an older one when it is complete.

    Args:
        path: The path.
        header: The header but for its ``"arrays"``.
        arrays: Arrays of dtypes that ksym stores.

    Raises:
        FileError: The file cannot be written.
    """
    described = [[array.dtype.name, list(array.shape)] for array in arrays]
    whole = {**header, "arrays": described}
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    with replacing(path) as file:
        file.write(bytes(_FIRST.size))
        digest = hashlib.sha256()
        for piece in _pieces(text, arrays):
            digest.update(piece)
            file.write(piece)
        file.seek(0)
        file.write(_FIRST.pack(MAGIC, VERSION, digest.digest()))


def _pieces(text: bytes, arrays: Sequence[np.ndarray]) -> Iterator[Any]:
    """Return what follows the checksum, piece by piece."""
    position = _FIRST.size
    for piece in (_LENGTH.pack(len(text)), text):
        yield piece
        position += len(piece)
    for array in arrays:
        yield bytes(-position % ALIGNMENT)
        position += -position % ALIGNMENT
        dtype = array.dtype.newbyteorder("<")
        yield np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
        position += array.nbytes


def read_file(path: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return the header of a file, and its arrays.

    Raises:
        FileError: The file cannot be read, is none of ksym's, of a newer version, or damaged.
    """
    name = path_text(path)
    try:
        with open(name, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{name!r} is no regular file", remedy="copy it to a file first")
            return _Reader(file, name, status.st_size).read()
    except OSError as error:
        raise FileError(
            f"{name!r} cannot be read: {error.strerror or error}",
            remedy="give the path of a file that ksym.save wrote",
        ) from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


class _Reader:
    """The reading of one file, from the first byte to the last, each once."""

    def __init__(self, file: IO[bytes], name: str, size: int):
        self._file = file
        self._name = name
        self._size = size
        self._position = 0
        self._digest = hashlib.sha256()

    def damaged(self, what: str) -> FileError:
        return FileError(
            f"{self._name!r} is damaged: {what}",
            remedy="save the function anew, or take a copy of the file from where it was written",
        )

    def read(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        checksum = self._read_beginning()
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size, "the length of its header"))
        text = self._take(length, "its header")
        header = self._parsed(text)
        arrays = [self._read_array(described) for described in self._described(header)]
        if self._position != self._size:
            raise self.damaged(f"{self._size - self._position} byte(s) follow its last array")
        if self._digest.digest() != checksum:
            raise self.damaged("its checksum is another one")
        return header, arrays

    def _read_beginning(self) -> bytes:
        first = self._file.read(_FIRST.size)
        self._position = len(first)
        if first[: len(MAGIC)] != MAGIC:
            raise FileError(
                f"{self._name!r} is no file of ksym's: it begins with {first[:8]!r}",
                remedy="give a file that ksym.save wrote; if it is one, it was transferred as "
                "text: transfer it as binary",
            )
        if len(first) < _FIRST.size:
            raise self.damaged(f"it ends after {len(first)} bytes")
        checksum: bytes
        _, version, checksum = _FIRST.unpack(first)
        if version > VERSION:
            raise FileError(
                f"{self._name!r} has version {version} of the format, this ksym reads up to "
                f"{VERSION}",
                remedy="install a newer ksym, or save the function with this one",
            )
        return checksum

    def _room(self, length: int, what: str) -> None:
        left = self._size - self._position
        if not 0 <= length <= left:
            raise self.damaged(f"{what} takes {length} bytes, of which there are {left}")

    def _take(self, length: int, what: str) -> bytes:
        self._room(length, what)
        found = self._file.read(length)
        self._position += len(found)
        self._digest.update(found)
        if len(found) < length:
            raise self.damaged("it became shorter while it was read")
        return found

    def _parsed(self, text: bytes) -> dict[str, Any]:
        try:
            header = json.loads(text.decode(), parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"its header is no JSON: {error}") from None
        if not isinstance(header, dict):
            raise self.damaged("its header is no JSON object")
        return header

    def _described(self, header: Mapping[str, Any]) -> list[Any]:
        found = header.get("arrays")
        if not isinstance(found, list):
            raise self.damaged("its header has no list of arrays")
        return found

    def _read_array(self, described: Any) -> np.ndarray:
        shape = described[1] if isinstance(described, list) and len(described) == 2 else None
        sides: list[Any] = shape if isinstance(shape, list) and len(shape) <= MOST_AXES else [None]
        if not all(type(side) is int and 0 <= side < 2**31 for side in sides):
            raise self.damaged(f"an array is described as {described!r:.100}")
        if described[0] not in dtypes.SUPPORTED:
            raise self.damaged(f"an array has the dtype {described[0]!r:.100}")
        dtype = np.dtype(described[0])
        length = math.prod(sides) * dtype.itemsize
        self._take(-self._position % ALIGNMENT, "the gap before an array")
        self._room(length, "an array")
        if math.prod(side or 1 for side in sides) >= 2**60:  # NumPy refuses it, empty or not
            raise self.damaged("an array has too many elements")
        array = np.empty(sides, dtype.newbyteorder("<"))
        flat: Any = array.reshape(-1).view(np.uint8)
        if self._file.readinto(flat.data) != length:  # type: ignore[attr-defined]
            raise self.damaged("it became shorter while it was read")
        self._position += length
        self._digest.update(flat.data)
        if dtype.kind == "b" and flat.size and flat.max() > 1:
            raise self.damaged("a truth value is neither 0 nor 1")
        return array.astype(dtype, copy=False)
