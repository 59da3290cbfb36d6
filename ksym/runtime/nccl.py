"""NVIDIA's NCCL, by ctypes: sums over the GPUs of several processes.

The library is the one that the wheels of the extra ``cu112`` bring, or that of the system.  Nothing
here has run on a GPU yet.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

from ksym.parallel.engine import Memory
from ksym.runtime.library import cuda_libraries

NCCL, RUNTIME = "libnccl.so.2", "libcudart.so.11.0"

DTYPES = {
    "int8": 0,
    "uint8": 1,
    "int32": 2,
    "int64": 4,
    "float16": 6,
    "float32": 7,
    "float64": 8,
}
"""NCCL's numbers for dtypes (nccl.h, ncclDataType_t)."""

_SUM = 0
"""NCCL's number for a sum (ncclRedOp_t)."""


class NcclError(Exception):
    """A library that is not there, or the error that it reports."""


class UniqueId(ctypes.Structure):
    """What tells a communicator from others: made by one process, and given to all."""

    _fields_ = (("data", ctypes.c_ubyte * 128),)


def open_nccl() -> ctypes.CDLL:
    """Load NCCL, and declare the functions that are called.

    Raises:
        NcclError: It is not there, or is no NCCL 2.
    """
    library = _opened(NCCL)
    signatures = {
        "ncclGetVersion": (POINTER(c_int),),
        "ncclGetUniqueId": (POINTER(UniqueId),),
        "ncclCommInitRank": (POINTER(c_void_p), c_int, UniqueId, c_int),
        "ncclAllReduce": (c_void_p, c_void_p, c_size_t, c_int, c_int, c_void_p, c_void_p),
        "ncclGroupStart": (),
        "ncclGroupEnd": (),
        "ncclCommDestroy": (c_void_p,),
    }
    _declare(library, signatures)
    library.ncclGetErrorString.argtypes = (c_int,)
    library.ncclGetErrorString.restype = c_char_p
    return library


def open_runtime() -> ctypes.CDLL:
    """Load the CUDA runtime, and declare the functions that are called.

    Raises:
        NcclError: It is not there.
    """
    library = _opened(RUNTIME)
    signatures = {
        "cudaSetDevice": (c_int,),
        "cudaStreamCreate": (POINTER(c_void_p),),
        "cudaStreamSynchronize": (c_void_p,),
        "cudaStreamDestroy": (c_void_p,),
    }
    _declare(library, signatures)
    library.cudaGetErrorString.argtypes = (c_int,)
    library.cudaGetErrorString.restype = c_char_p
    return library


def _declare(library: ctypes.CDLL, signatures: Mapping[str, tuple[Any, ...]]) -> None:
    try:
        for name, types in signatures.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, c_int
    except AttributeError as error:
        raise NcclError(f"{library._name} is another library: {error}") from None


def _opened(soname: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(cuda_libraries()[soname] or soname)
    except OSError as error:
        raise NcclError(f"{soname} cannot be loaded: {error}") from None


class Communicator:
    """This process and its GPU among others.

    Args:
        rank: The number of this process.
        size: How many there are.
        unique: The id that one of them has made; see `unique_id`.
        device: The number of this process's GPU.

    Raises:
        NcclError: NCCL is not there, or refuses.
    """

    def __init__(self, rank: int, size: int, unique: bytes, device: int):
        self._nccl, self._runtime = open_nccl(), open_runtime()
        self._device = device
        self._communicator, self._stream = c_void_p(), c_void_p()
        self._select()
        self._check_runtime(self._runtime.cudaStreamCreate(byref(self._stream)))
        check(
            self._nccl,
            self._nccl.ncclCommInitRank(
                byref(self._communicator), size, UniqueId.from_buffer_copy(unique), rank
            ),
        )

    def sum(self, sources: Sequence[Memory], targets: Sequence[Memory]) -> None:
        """Write the sums of arrays over all processes into others, and wait for them.

        Nothing else writes or reads the arrays meanwhile.

        Args:
            sources: The arrays of this process.
            targets: Arrays for the sums, of the same sizes and dtypes.

        Raises:
            NcclError: NCCL refuses or fails.
        """
        self._select()
        with self._group():
            for source, target in zip(sources, targets, strict=True):
                status = self._nccl.ncclAllReduce(
                    *(source.address, target.address, source.size, DTYPES[source.dtype]),
                    *(_SUM, self._communicator, self._stream),
                )
                check(self._nccl, status)
        self._check_runtime(self._runtime.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """End the communicator; all processes call it."""
        self._select()
        check(self._nccl, self._nccl.ncclCommDestroy(self._communicator))
        self._check_runtime(self._runtime.cudaStreamDestroy(self._stream))

    @contextlib.contextmanager
    def _group(self) -> Iterator[None]:
        """Have NCCL begin what is asked for inside at the end, together."""
        check(self._nccl, self._nccl.ncclGroupStart())
        try:
            yield
        finally:
            status = self._nccl.ncclGroupEnd()
        check(self._nccl, status)

    def _select(self) -> None:
        # A thread has a GPU of its own, and MXNet chooses others for its threads.
        self._check_runtime(self._runtime.cudaSetDevice(self._device))

    def _check_runtime(self, status: int) -> None:
        if status != 0:
            text = (self._runtime.cudaGetErrorString(status) or b"").decode(errors="replace")
            raise NcclError(f"CUDA reports error {status}: {text}")


def unique_id() -> bytes:
    """Return an id for a communicator, for all of its processes.

    Raises:
        NcclError: NCCL is not there, or finds no network.
    """
    library, made = open_nccl(), UniqueId()
    check(library, library.ncclGetUniqueId(byref(made)))
    return bytes(made.data)


def version() -> str:
    """Return the version of NCCL, for example ``2.21.5``.

    Raises:
        NcclError: NCCL is not there.
    """
    library, number = open_nccl(), c_int()
    check(library, library.ncclGetVersion(byref(number)))
    return f"{number.value // 10000}.{number.value // 100 % 100}.{number.value % 100}"


def check(library: ctypes.CDLL, status: int) -> None:
    """Raise the error that a call of NCCL reports, if it failed."""
    if status != 0:
        text = (library.ncclGetErrorString(status) or b"").decode(errors="replace")
        raise NcclError(f"NCCL reports error {status}: {text}")
