"""Loading MXNet's C library into the process, with settings under which it runs well.

Nothing is loaded until a value is needed.  Then threads and engine are set where the user has not,
and the CUDA libraries that the CUDA build needs are opened from the wheels they come in.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import enum
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from ksym.errors import MissingMXNetError
from ksym.locking import reentrant_lock
from ksym.origin import warn
from ksym.runtime.library import (
    FILE,
    Installation,
    cuda_libraries,
    find,
    folders,
    is_loaded,
    open_library,
)
from ksym.runtime.settings import CACHED, available_processors, blas_core, settings

INSTALL = (
    "install its library: `pip install ./libmxnet` in a checkout of ksym, or "
    "`pip install --no-deps mxnet==1.9.1`"
)
INSTALL_CUDA = (
    "for NVIDIA GPUs of compute capability 5.0 to 8.9 `pip install ./libmxnet-cu112 '.[cu112]'` in "
    "a checkout of ksym"
)
VERSION = 10901
"""The MXNet that ksym is written for, 1.9.1, as its library says it."""


FUSION = "MXNET_USE_FUSION"
"""The variable that turns MXNet's pointwise fusion on GPUs on, which no test has run yet."""


class Engine(enum.Enum):
    """The way in which MXNet runs operators on the CPU, as ksym uses it."""

    SYNCHRONOUS = "NaiveEngine, which runs operators on the calling thread"
    AWAITED = "threaded, as MXNet was in use before ksym; each call waits for its operators"
    ASYNCHRONOUS = "threaded, which runs operators on threads of MXNet"


_quiet = reentrant_lock(awaited=True)
_lock = reentrant_lock(awaited=True)  # made after _quiet, as that is taken while it is held
_loaded: ctypes.CDLL | None = None
_engine = Engine.SYNCHRONOUS


def library(prefer_gpu: bool = False) -> ctypes.CDLL:
    """Return MXNet's C library, which the first call loads.

    Args:
        prefer_gpu: Leave the engine to MXNet's default, which overlaps work on a GPU.

    Raises:
        MissingMXNetError: MXNet is not installed, or fails to load; the message has the reason.
    """
    return _loaded or _load(prefer_gpu)


def _load(prefer_gpu: bool) -> ctypes.CDLL:
    global _loaded, _engine
    with _lock:
        if _loaded is None:
            found = find()
            if found is None:
                raise MissingMXNetError(_absence(), remedy=INSTALL)
            named = os.environ.get("MXNET_LIBRARY_PATH")
            if named and named != str(found.path):
                warn(
                    f"MXNET_LIBRARY_PATH is {named!r}, and {found.path} is loaded",
                    "give the absolute path of a file, before mxnet is imported, or unset it",
                )
            loaded = _opened(found)
            _check_version(loaded, found)
            _engine = _started_engine(loaded, prefer_gpu)
            # This registers the operators of MXNet's oldest interface; without them binding a
            # depthwise convolution ends the process.
            count, names = ctypes.c_uint(), ctypes.POINTER(ctypes.c_char_p)()
            loaded.MXListAllOpNames(ctypes.byref(count), ctypes.byref(names))
            _dismiss_threads_at_fork(loaded)
            if _engine is not Engine.SYNCHRONOUS:
                # Its threads must not outlive what they work on.  MXNotifyShutdown would have it
                # skip all later work, so that whoever computes at exit waits for ever.
                atexit.register(loaded.MXNDArrayWaitAll)
            _loaded = loaded
        return _loaded


def fuses() -> bool:
    """Return whether MXNet fuses elementwise operators on GPUs; where the user has asked for it."""
    return os.environ.get(FUSION) == "1"


def engine() -> Engine:
    """Return how operators run on the CPU."""
    library()
    return _engine


def _absence() -> str:
    """Return what is missing, if no library is found."""
    places = [str(folder) for folder in folders("mxnet")]
    return f"{places[0]} has no {FILE}" if places else "MXNet is not installed"


def _opened(found: Installation) -> ctypes.CDLL:
    """Load a library, with settings under which it runs well where the user has made none."""
    threads = available_processors()
    own = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("MXNET_MKLDNN_CACHE_NUM", str(CACHED))  # read when it is first needed
    try:
        if found.has_cuda:
            paths = [path for path in cuda_libraries().values() if path is not None]
            _cuda.extend(ctypes.CDLL(path, ctypes.RTLD_GLOBAL) for path in paths)
        if not is_loaded(found.path):
            # MXNet would assume that half of the processors are hyperthreads.
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
            with quietly(), settings():
                return open_library(found.path)
        loaded = open_library(found.path)
    except (OSError, AttributeError) as error:
        raise MissingMXNetError(
            f"{found} cannot be loaded: {error}", remedy=remedy_for(str(error))
        ) from error
    # The user's own import of mxnet has loaded it.
    if not own:
        loaded.MXSetNumOMPThreads(threads)
        loaded.omp_set_num_threads(threads)
    _warn_of_slow_products(loaded)
    return loaded


def remedy_for(reason: str) -> str:
    """Return what to do if the library cannot be loaded.

    Args:
        reason: What the dynamic linker says.
    """
    if "libcuda.so" in reason:
        return (
            "the CUDA build of MXNet needs NVIDIA's driver; on a machine without GPU uninstall it, "
            f"and {INSTALL}"
        )
    if "libgomp" in reason or "libquadmath" in reason:
        return (
            "install what it needs of the system: `apt-get install libgomp1 libquadmath0` on "
            "Debian and Ubuntu, `dnf install libgomp libquadmath` on Fedora and its kin"
        )
    return f"check the installation; {INSTALL}"


def _check_version(loaded: ctypes.CDLL, found: Installation) -> None:
    """Raise an error for a library of another version of MXNet."""
    version = ctypes.c_int()
    loaded.MXGetVersion(ctypes.byref(version))
    if version.value != VERSION:
        there, needed = (
            f"{n // 10000}.{n // 100 % 100}.{n % 100}" for n in (version.value, VERSION)
        )
        raise MissingMXNetError(
            f"ksym needs MXNet {needed}, and {found.path} is MXNet {there}",
            remedy=f"uninstall that, and {INSTALL}",
        )


_cuda: list[ctypes.CDLL] = []


def _started_engine(loaded: ctypes.CDLL, prefer_gpu: bool) -> Engine:
    """Have MXNet choose its engine, and return what it is.

    MXNet chooses when the engine is first used, which `import mxnet` by itself does not.
    """
    name = "MXNET_ENGINE_TYPE"
    asked = name in os.environ
    if prefer_gpu:
        os.environ.setdefault(FUSION, "0")
    else:
        # On CPU the threaded engine's workers and OpenMP's threads compete for the cores: every
        # graph that was measured ran faster on the calling thread (docs/mxnet.md).
        os.environ.setdefault(name, "NaiveEngine")
    before, found = ctypes.c_int(), ctypes.c_int()
    with quietly():  # it prints its name
        status = loaded.MXEngineSetBulkSize(1, ctypes.byref(before))
    if status != 0:
        raise MissingMXNetError(
            f"MXNet has no engine {os.environ.get(name)!r}, which {name} names",
            remedy=f"unset {name}, or set it to NaiveEngine or ThreadedEnginePerDevice",
        )
    # Threaded engines store the size, for this thread; the other one has none to store.
    loaded.MXEngineSetBulkSize(before.value, ctypes.byref(found))
    if found.value == 0:
        return Engine.SYNCHRONOUS
    if asked or prefer_gpu:
        return Engine.ASYNCHRONOUS
    del os.environ[name]
    return Engine.AWAITED


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


VECTOR_CORES = ("Haswell", "Zen", "SkylakeX", "Cooperlake")
"""OpenBLAS's names for the processors whose AVX2 or AVX-512 it uses."""


def _warn_of_slow_products(loaded: ctypes.CDLL) -> None:
    """Warn if OpenBLAS, which chooses its kernels when it is loaded, uses no AVX2 though it may."""
    core = blas_core()
    if core is None or "OPENBLAS_CORETYPE" in os.environ:
        return
    asked = getattr(loaded, "openblas_get_corename", None)
    if asked is None:  # another BLAS
        return
    asked.restype = ctypes.c_char_p
    chosen = (asked() or b"").decode()
    if chosen not in VECTOR_CORES:
        warn(
            f"mxnet was imported before ksym computed anything, and its OpenBLAS takes this "
            f"processor for a {chosen}: products of matrices take up to twice as long",
            f"set OPENBLAS_CORETYPE={core} before mxnet is imported, or have ksym compute a value "
            "before: ksym.evaluate(ksym.constant(0.0))",
        )


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


running = reentrant_lock(awaited=True)
"""The lock that a thread holds while MXNet's kernels run.

Working memory belongs to the thread on which a graph was bound, not to the graph.  Two graphs that
two threads run at once would write to the same memory (resource.cc, `GetSpace`), and each could
free memory that the other one uses.  A kernel uses all cores anyway.

A fork waits for the lock.  So a thread holds it, too, while it waits for an asynchronous engine: in
the forked process nobody could wake that thread, nor whoever waits for the engine next.  And while
it gives the engine work: MXNet stops its engine for the time of a fork, and would lose that work
without noticing, so that whoever waits for all work, the next fork first, would wait for ever.
"""


class NativeError(Exception):
    """The error that MXNet reports when a call fails."""


_failures = 0


def failures() -> int:
    """Return how many errors MXNet has reported in this process to those who wait.

    An asynchronous engine reports an operator's error to whoever waits first for an array that the
    operator writes, its working memory included, which operators of other threads write too.  So a
    call whose own waits raise nothing has succeeded only if this number is still what it was.
    """
    return _failures


def check(status: int) -> None:
    """Raise the error that MXNet reports if a call of its C library failed."""
    if status != 0:
        raise NativeError((library().MXGetLastError() or b"").decode(errors="replace"))


def check_wait(status: int) -> None:
    """Raise the error that MXNet reports to who waits for an array, and count it.

    The caller holds `running` if the engine is asynchronous.
    """
    global _failures
    if status != 0:
        _failures += 1
        check(status)


def wait_for_all(before: int) -> None:
    """Wait until all operators have run, those of other threads included.

    Args:
        before: The number of `failures` when the operators were started.

    Raises:
        NativeError: An operator has failed, maybe one of another thread.
    """
    with running:
        check_wait(library().MXNDArrayWaitAll())
        check_undisturbed(before)


def check_undisturbed(before: int) -> None:
    """Raise an error if another thread may have been told of an error of this one.

    The caller has waited for its results.  Errors are reported to threads that hold `running`, so
    one that is told of another thread's error has counted it before that thread's wait ends.

    Raises:
        NativeError: The number of failures is another one than before.
    """
    if _failures != before:
        raise NativeError("an operator has failed, maybe one of another thread")


def forget_failures() -> None:
    """Wait until all operators have run, and drop all their errors that nobody was told of."""
    with running:
        for _ in range(10):  # once is enough: the second time there is nothing to wait for
            if library().MXNDArrayWaitAll() == 0:
                break


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
