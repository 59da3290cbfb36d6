"""Loading MXNet into the process, with settings under which it runs well.

Nothing is loaded until a value is needed.  Then, before ``import mxnet``: threads and engine are
set where the user has not, names that NumPy dropped are put back, and the CUDA libraries that the
CUDA build needs are opened from the wheels they come in.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ksym.errors import MissingMXNetError
from ksym.locking import reentrant_lock

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

INSTALL = (
    "install MXNet with `pip install 'ksym[cpu]'`, or `pip install 'ksym[cu112]'` for NVIDIA GPUs "
    "of compute capability 5.0 to 8.9"
)

_quiet = reentrant_lock(awaited=True)
_lock = reentrant_lock(awaited=True)  # made after _quiet, as that is taken while it is held
_loaded: ModuleType | None = None
_synchronous = False


def available_processors() -> int:
    """Return how many processors this process may use, container limits included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count or 1, max(1, round(int(quota) / int(period))))
    return count or 1


def distribution() -> tuple[str, str] | None:
    """Return the name and version of the installed MXNet, None if there is none."""
    spec = importlib.util.find_spec("mxnet")
    if (
        spec is None or spec.origin is None
    ):  # a folder of this name that is no package has no origin
        return None
    for name in ("mxnet", "mxnet-cu112"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return name, importlib.metadata.version(name)
    return "mxnet", "unknown"


def load(prefer_gpu: bool = False) -> ModuleType:
    """Return the mxnet module, importing it at the first call.

    Args:
        prefer_gpu: Leave the engine to MXNet's default, which overlaps work on a GPU.

    Raises:
        MissingMXNetError: MXNet is not installed, or fails to load; the message has the reason.
    """
    global _loaded, _synchronous
    with _lock:
        if _loaded is None:
            # If MXNet was imported before, its engine is chosen, and cannot be queried.
            first = "mxnet" not in sys.modules
            if first:
                _set_defaults(prefer_gpu)
            _restore_numpy_names()
            _loaded = _import()
            _dismiss_threads_at_fork(_loaded.base._LIB)
            _synchronous = first and os.environ.get("MXNET_ENGINE_TYPE") == "NaiveEngine"
        return _loaded


def _set_defaults(prefer_gpu: bool) -> None:
    """Set the environment variables that MXNet reads at import, unless the user has set them."""
    # MXNet would assume that half of the processors are hyperthreads.
    os.environ.setdefault("OMP_NUM_THREADS", str(available_processors()))
    if not prefer_gpu:
        # On CPU the threaded engine's workers and OpenMP's threads compete for the cores: every
        # graph that was measured ran faster on the calling thread (docs/mxnet.md).
        os.environ.setdefault("MXNET_ENGINE_TYPE", "NaiveEngine")


_PAUSE_SOFT = 1
"""OpenMP's omp_pause_soft: threads go, settings stay."""


def _dismiss_threads_at_fork(library: Any) -> None:
    """Have this thread's OpenMP team end before each fork; the next parallel work makes another.

    A forked process has none of the team's threads, but would wait for them for ever: libgomp keeps
    the team of the forking thread, OpenBLAS and compiled loops use the same one.
    """
    pause = getattr(library, "omp_pause_resource_all", None)  # OpenMP 5.0, libgomp of GCC 9
    if pause is not None and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=functools.partial(pause, _PAUSE_SOFT))


@contextlib.contextmanager
def _known_processor() -> Iterator[None]:
    """Make MXNet's OpenBLAS, if it is loaded inside, use AVX2 if the processor has it.

    OpenBLAS 0.3.13, which is in the wheel, uses only SSE3 on processors that are newer than itself.
    The variable is set only inside: other copies of OpenBLAS may know the processor.
    """
    name = "OPENBLAS_CORETYPE"
    core = blas_core()
    if core is None or name in os.environ:
        yield
        return
    os.environ[name] = core
    try:
        yield
    finally:
        del os.environ[name]


@functools.cache
def _processor() -> tuple[bool, frozenset[str]]:
    """Return whether AMD made the processor, and its features, both as Linux says."""
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False, frozenset()
    flags = next((line for line in about.splitlines() if line.startswith("flags")), "")
    return "AuthenticAMD" in about, frozenset(flags.split())


def blas_core() -> str | None:
    """Return OpenBLAS's name for a processor with AVX2; None if this one has none."""
    is_amd, flags = _processor()
    if not {"avx2", "fma"} <= flags:
        return None
    return "Zen" if is_amd else "Haswell"


def has_avx512() -> bool:
    """Return whether the processor has AVX-512, which oneDNN uses and OpenBLAS does not."""
    return "avx512f" in _processor()[1]


def _restore_numpy_names() -> None:
    """Restore the names in NumPy that MXNet reads at import, and NumPy 1.24 dropped."""
    if "bool" not in vars(np):
        np.bool = np.bool_  # type: ignore[attr-defined]


def _import() -> ModuleType:
    found = distribution()
    if found is None:
        raise MissingMXNetError("MXNet is not installed", remedy=INSTALL)
    if found[0] != "mxnet":
        paths = [path for path in cuda_libraries().values() if path is not None]
        _opened.extend(ctypes.CDLL(path, ctypes.RTLD_GLOBAL) for path in paths)
    try:
        with quietly(), _known_processor(), warnings.catch_warnings():
            # MXNet uses deprecated names of NumPy and distutils.
            warnings.simplefilter("ignore")
            import mxnet

            # The first array starts the engine, which prints its name.
            mxnet.nd.empty((1,))
    except (ImportError, OSError, AttributeError) as error:
        reason, remedy = str(error), f"check the installation; {INSTALL}"
        if "libcuda.so" in reason:
            remedy = (
                "the CUDA build of MXNet needs NVIDIA's driver; on a machine without GPU use "
                "`pip uninstall mxnet-cu112 && pip install 'ksym[cpu]'`"
            )
        elif isinstance(error, AttributeError) and "numpy" in reason:
            remedy = f"NumPy {np.__version__} is too new for it: pip install 'numpy<2'"
        raise MissingMXNetError(
            f"{found[0]} {found[1]} cannot be loaded: {reason}", remedy=remedy
        ) from error
    return mxnet


_opened: list[ctypes.CDLL] = []


def cuda_libraries() -> dict[str, str | None]:
    """Return the files of the CUDA 11 libraries in NVIDIA's wheels, None for one that is missing.

    They are opened by their full paths before MXNet's own library, which then finds them without a
    search path.
    """
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    result: dict[str, str | None] = {}
    for soname, folder in CUDA_LIBRARIES:
        files = [root / folder / "lib" / soname for root in roots]
        result[soname] = next((str(file) for file in files if file.is_file()), None)
    return result


NOISE = (
    "MXNet start using engine",
    # oneDNN's average pooling saves nothing for its gradient, which needs nothing.
    "training with prop_kind is forward_scoring",
)
"""Lines that MXNet prints though there is nothing to report."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Remove the lines of `NOISE` from the standard error inside; pass on all others.

    Threads wait for each other here, since they share the standard error.
    """
    sys.stderr.flush()
    with _quiet, tempfile.TemporaryFile() as printed:
        kept = os.dup(2)
        try:
            os.dup2(printed.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            printed.seek(0)
            for line in printed.read().decode(errors="replace").splitlines(keepends=True):
                if not any(noise in line for noise in NOISE):
                    sys.stderr.write(line)


def is_synchronous() -> bool:
    """Return whether operators run on the calling thread, so that memory can be accessed."""
    load()
    return _synchronous


running = reentrant_lock(awaited=True)
"""The lock that a thread holds while MXNet's kernels run.

Working memory belongs to the thread on which a graph was bound, not to the graph.  Two graphs that
two threads run at once would write to the same memory (resource.cc, `GetSpace`), and each could
free memory that the other one uses.  A kernel uses all cores anyway.
"""


class NativeError(Exception):
    """The error that MXNet reports when a call fails."""


def check(status: int) -> None:
    """Raise the error that MXNet reports if a call of its C library failed."""
    if status != 0:
        message = load().base._LIB.MXGetLastError
        message.restype = ctypes.c_char_p
        raise NativeError((message() or b"").decode(errors="replace"))


def library() -> Any:
    """Return MXNet's C library."""
    return load().base._LIB


@contextlib.contextmanager
def numpy_shapes() -> Iterator[None]:
    """Allow scalars and arrays without elements, on this thread and inside the block only."""
    before = ctypes.c_int()
    lib = library()
    lib.MXIsNumpyShape(ctypes.byref(before))
    if before.value:
        yield
        return
    # Built before `try`: Python handles signals after each call, so `finally` makes only one.
    undo = functools.partial(lib.MXSetIsNumpyShape, 0, ctypes.byref(before))
    try:
        lib.MXSetIsNumpyShape(1, ctypes.byref(before))
        yield
    finally:
        undo()


@contextlib.contextmanager
def native_calls() -> Iterator[None]:
    """Do as `numpy_shapes`, and turn errors of MXNet's Python code into `NativeError`."""
    mxnet = load()
    try:
        with numpy_shapes():
            yield
    except mxnet.MXNetError as error:
        raise NativeError(str(error)) from None
