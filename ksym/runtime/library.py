"""MXNet's C library: where it is installed, and the signatures of the functions that ksym calls.

Only `libmxnet.so` is needed of an installed MXNet.  Its Python package is looked at to find that
file, and not imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

FILE = "libmxnet.so"
UNKNOWN = "of unknown version"

PACKAGES = {
    "mxnet": ("mxnet", "mxnet-cu112"),
    "ksym_libmxnet_cu112": ("ksym-libmxnet-cu112",),
    "ksym_libmxnet": ("ksym-libmxnet",),
}
"""The packages that have the library in their folder, and the distributions that install them.

A user's own `import mxnet` loads the library of `mxnet`, so that is preferred: both share it.
"""

CUDA_LIBRARIES = (
    # soname, and the folder of its wheel; each after those it needs itself
    ("libcudart.so.11.0", "cuda_runtime"),
    ("libnvToolsExt.so.1", "nvtx"),
    ("libnvrtc.so.11.2", "cuda_nvrtc"),
    ("libcublasLt.so.11", "cublas"),
    ("libcublas.so.11", "cublas"),
    ("libcudnn.so.8", "cudnn"),
    ("libcurand.so.10", "curand"),
    ("libcufft.so.10", "cufft"),
    ("libcusolver.so.11", "cusolver"),
    ("libnccl.so.2", "nccl"),
)


class Installation(NamedTuple):
    """An installed MXNet.

    Attributes:
        name: The distribution that it belongs to; if it belongs to none, its package or file.
        version: The version of the distribution, `UNKNOWN` if it belongs to none.
        path: The file of the C library.
    """

    name: str
    version: str
    path: Path

    @property
    def has_cuda(self) -> bool:
        """Whether it is a CUDA build: by its name, or by what it is linked to if that has none."""
        if self.version != UNKNOWN:
            return re.search(r"-cu\d+$", self.name) is not None
        with self.path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.find(b"libcudart.so") >= 0

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find() -> Installation | None:
    """Return the MXNet to load, None if there is none.

    The file is the one that a user's own `import mxnet` has loaded or would load: MXNet's package
    looks at the variables MXNET_LIBRARY_PATH and LD_LIBRARY_PATH before its own folder.
    """
    path = next((path for path in _candidates() if path.is_file()), None)
    return None if path is None else Installation(*_distribution(path), path)


def _candidates() -> Iterator[Path]:
    """Yield the paths where the library may be, the preferred ones first."""
    base = getattr(sys.modules.get("mxnet"), "base", None)
    loaded = getattr(getattr(base, "_LIB", None), "_name", None)
    if loaded:
        yield Path(loaded)
    named = Path(os.environ.get("MXNET_LIBRARY_PATH", ""))
    if named.is_absolute():
        yield named
    searched = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    yield from (Path(folder.strip()) / FILE for folder in searched if folder.strip())
    for package in PACKAGES:
        for folder in folders(package):
            yield folder / FILE


def folders(package: str) -> list[Path]:
    """Return the folders of an installed package, which is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module without a specification, as a notebook or a test may make one
        return []
    return [Path(path) for path in (spec and spec.submodule_search_locations) or ()]


def _distribution(path: Path) -> tuple[str, str]:
    """Return the name and the version of the distribution that a library belongs to."""
    for package, distributions in PACKAGES.items():
        if path.parent in folders(package):
            for name in distributions:
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    return name, importlib.metadata.version(name)
            return package, UNKNOWN
    return str(path), UNKNOWN


def cuda_libraries() -> dict[str, str | None]:
    """Return the files of the CUDA 11 libraries in NVIDIA's wheels, None for one that is missing.

    They are opened by their full paths before MXNet's own library, which then finds them without a
    search path.
    """
    result: dict[str, str | None] = {}
    for soname, folder in CUDA_LIBRARIES:
        files = [root / folder / "lib" / soname for root in folders("nvidia")]
        result[soname] = next((str(file) for file in files if file.is_file()), None)
    return result


def is_loaded(path: Path) -> bool:
    """Return whether a library is in the process already."""
    try:
        ctypes.CDLL(str(path), os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return False
    return True


_OUT = POINTER(c_void_p)
"""A handle that a function writes, or an array of handles."""
_NAMES = POINTER(c_char_p)

CONTROLLER = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
"""A function that a server of the KVStore calls with the commands of workers."""

UPDATER = ctypes.CFUNCTYPE(None, c_int, c_void_p, c_void_p, c_void_p)
"""A function that a server calls with a key, and the handles of what came and of what is kept."""

MONITOR = ctypes.CFUNCTYPE(None, c_char_p, c_void_p, c_void_p)
"""A function that an executor calls with the name and the handle of each result."""

SIGNATURES: dict[str, tuple[Any, ...]] = {
    # The process, and the settings of the calling thread
    "MXListAllOpNames": (POINTER(c_uint), POINTER(_NAMES)),
    "MXSetNumOMPThreads": (c_int,),
    "MXEngineSetBulkSize": (c_int, POINTER(c_int)),
    "MXNDArrayWaitAll": (),
    "MXIsNumpyShape": (POINTER(c_int),),
    "MXSetIsNumpyShape": (c_int, POINTER(c_int)),
    "MXAutogradSetIsTraining": (c_int, POINTER(c_int)),
    # Arrays; a context is the kind of the device and its number
    "MXNDArrayCreateEx64": (POINTER(c_int64), c_int, c_int, c_int, c_int, c_int, _OUT),
    "MXNDArrayFree": (c_void_p,),
    "MXNDArrayGetShapeEx": (c_void_p, POINTER(c_int), POINTER(POINTER(c_int))),
    "MXNDArrayGetDType": (c_void_p, POINTER(c_int)),
    "MXNDArrayGetData": (c_void_p, _OUT),
    "MXNDArrayAt": (c_void_p, c_uint, _OUT),
    "MXNDArrayReshape64": (c_void_p, c_int, POINTER(c_int64), c_bool, _OUT),
    "MXNDArraySyncCopyFromCPU": (c_void_p, c_void_p, c_size_t),
    "MXNDArraySyncCopyToCPU": (c_void_p, c_void_p, c_size_t),
    "MXNDArrayWaitToRead": (c_void_p,),
    "MXNDArrayWaitToWrite": (c_void_p,),
    # Single operators: inputs, outputs, and attributes as text
    "NNGetOpHandle": (c_char_p, _OUT),
    "MXImperativeInvokeEx": (
        *(c_void_p, c_int, _OUT, POINTER(c_int), POINTER(_OUT)),
        *(c_int, _NAMES, _NAMES, POINTER(POINTER(c_int))),
    ),
    # Graphs
    "MXSymbolCreateFromJSON": (c_char_p, _OUT),
    "MXSymbolListArguments": (c_void_p, POINTER(c_uint), POINTER(_NAMES)),
    "MXSymbolListAuxiliaryStates": (c_void_p, POINTER(c_uint), POINTER(_NAMES)),
    "NNSymbolFree": (c_void_p,),
    "MXExecutorBindEX": (
        *(c_void_p, c_int, c_int),  # the symbol, and the context
        *(c_uint, _NAMES, POINTER(c_int), POINTER(c_int)),  # contexts of groups of nodes
        *(c_uint, _OUT, _OUT, POINTER(c_uint)),  # arguments, their gradients, kinds of these
        *(c_uint, _OUT),  # auxiliary states
        *(c_void_p, _OUT),  # an executor to share memory with, and the new one
    ),
    "MXExecutorOutputs": (c_void_p, POINTER(c_uint), POINTER(_OUT)),
    "MXExecutorForward": (c_void_p, c_int),
    "MXExecutorPrint": (c_void_p, POINTER(c_char_p)),
    "MXExecutorSetMonitorCallback": (c_void_p, MONITOR, c_void_p),
    "MXExecutorFree": (c_void_p,),
    # The KVStore: arrays by keys, which are numbers
    "MXInitPSEnv": (c_uint, _NAMES, _NAMES),
    "MXKVStoreCreate": (c_char_p, _OUT),
    "MXKVStoreFree": (c_void_p,),
    "MXKVStoreInit": (c_void_p, c_uint, POINTER(c_int), _OUT),
    "MXKVStorePush": (c_void_p, c_uint, POINTER(c_int), _OUT, c_int),
    "MXKVStorePull": (c_void_p, c_uint, POINTER(c_int), _OUT, c_int),
    "MXKVStoreSetGradientCompression": (c_void_p, c_uint, _NAMES, _NAMES),
    "MXKVStoreGetRank": (c_void_p, POINTER(c_int)),
    "MXKVStoreSendCommmandToServers": (c_void_p, c_int, c_char_p),
    "MXKVStoreSetUpdater": (c_void_p, UPDATER, c_void_p),
    "MXKVStoreRunServer": (c_void_p, CONTROLLER, c_void_p),
}
"""The types of the arguments of each function; all return 0, or -1 after an error."""

FREEING = ("MXNDArrayFree", "MXExecutorFree")
"""The functions that finalizers call.  No fork can come between what they do: they keep Python's
global lock, as a finalizer must not wait for another one (`loading.running` says what would be)."""


def open_library(path: Path) -> ctypes.CDLL:
    """Load the library, or find it if it is in the process already, and declare its functions.

    Raises:
        OSError: It cannot be loaded.
        AttributeError: It lacks a function, so it is no MXNet 1.9.
    """
    library = ctypes.CDLL(str(path))
    with_global_lock = ctypes.PyDLL(str(path), handle=library._handle)
    for name, types in SIGNATURES.items():
        function = getattr(with_global_lock if name in FREEING else library, name)
        function.argtypes, function.restype = types, c_int
        setattr(library, name, function)
    library.MXGetLastError.restype = c_char_p
    return library
