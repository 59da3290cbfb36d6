"""Settings under which MXNet's library and those that it brings run well on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path


def available_processors() -> int:
    """Return how many processors this process may use, container limits included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count or 1, max(1, round(int(quota) / int(period))))
    return count or 1


SPINS = 3000
"""How often a thread of libgomp looks for work before it sleeps; the default is 300,000 times.

A thread that spins for that long takes the processor from the one that it waits for, if other
processes leave them only one.  Means of predicting with ResNet-20 on two processors, in ms: alone,
as one of two processes that do so, and beside a process that computes without end (three runs):

    =======  =====  ============  ============
    spins    alone  one of two    beside
    =======  =====  ============  ============
    300,000   19.9  86 to 1,275   152 to 1,042
    3,000     19.7  83 to 102     100 to 127
    1,000     19.7  43 to 91      50 to 72
    =======  =====  ============  ============

Training a network of small layers takes 2 % longer with 3,000 spins, 10 to 20 % with 1,000.
"""


CACHED = 256
"""How many of oneDNN's kernels MXNet keeps for each kind of operator; without end by itself.

A kernel serves one combination of shapes and takes some 28 KiB: a convolutional network that met
2,000 sizes of images grew by 0.34 MiB with each.  MXNet looks for room only when it adds a kernel,
and then drops any.  The 1,024 kernels of all kinds that oneDNN itself keeps stay, so what is lost
is found there: a step of ResNet-20 in which all are lost takes 0 to 4 % longer, and one of a
DenseNet of 49 convolutions on two small images 23 %.
"""


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Set what libraries read when they are loaded, where the user has not, inside only.

    MXNet's OpenBLAS 0.3.13 uses only SSE3 on processors that are newer than itself; other copies
    of OpenBLAS may know the processor.  libgomp is told how long to spin, see `SPINS`.
    """
    chosen = {"OPENBLAS_CORETYPE": blas_core()}
    if "OMP_WAIT_POLICY" not in os.environ:
        chosen["GOMP_SPINCOUNT"] = str(SPINS)
    made = {name: value for name, value in chosen.items() if value and name not in os.environ}
    os.environ.update(made)
    try:
        yield
    finally:
        for name in made:
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
