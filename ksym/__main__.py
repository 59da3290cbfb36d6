"""``python -m ksym``: a report of what is installed, and of the devices that can be used."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator

import ksym
from ksym.errors import KsymError
from ksym.runtime import device, loading
from ksym.runtime.library import cuda_libraries, find
from ksym.runtime.settings import available_processors
from ksym.versions import installed


def report() -> Iterator[str]:
    """Yield the report's lines."""
    yield f"ksym {ksym.__version__}, Python {platform.python_version()}, {platform.platform()}"
    for name in ("numpy", "llvmlite", "keras", "h5py", "mpi4py"):
        yield f"{name}: {installed(name) or 'not installed'}"
    found = find()
    yield f"MXNet: {f'{found}, {found.path}' if found else 'not installed'}"
    try:
        loading.library(prefer_gpu=device.get_device().kind == "gpu")
    except KsymError as error:
        yield from str(error).splitlines()
    else:
        yield f"engine: {loading.engine().value}"
        chosen = device.get_device()
        reason = os.environ.get(device.ENVIRONMENT)
        yield f"device in use: {chosen}" + (f" ({device.ENVIRONMENT}={reason})" if reason else "")
    yield (
        f"threads: OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}, "
        f"{available_processors()} processor(s) available"
    )
    yield from _gpus()


def _gpus() -> Iterator[str]:
    present = device.gpus()
    if not present:
        yield f"GPU: none; {device.absence()}"
    if not device.has_cuda_build():
        yield f"  the MXNet that is installed is a CPU build; {loading.INSTALL_CUDA}"
    for number, gpu in enumerate(present):
        major, minor = gpu.capability
        yield f"GPU {number}: {gpu.name}, compute capability {major}.{minor}"
        problem = gpu.problem()
        if problem is None and not device.has_cuda_build():
            problem = "the MXNet that is installed is a CPU build"
        yield f"  {f'cannot be used: {problem}' if problem else 'can be used'}"
    if device.has_cuda_build():
        for soname, path in cuda_libraries().items():
            yield f"  {soname}: {path or 'not found in the installed packages'}"
        for name, what in (
            (loading.FUSION, "elementwise operators are fused on GPUs; no test has run it"),
            ("MXNET_ENFORCE_DETERMINISM", "cuDNN's kernels give the same bits at each run"),
        ):
            yield f"  {name}={os.environ.get(name, '0')}: if 1, {what}"


def main() -> int:
    """Print the report."""
    for line in report():
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
