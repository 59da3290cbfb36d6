"""The device that everything runs on, which is chosen once."""

from __future__ import annotations

import ctypes
import os
import re
from typing import NamedTuple

from ksym.errors import DeviceError
from ksym.locking import reentrant_lock
from ksym.runtime import loading
from ksym.runtime.capi import Context
from ksym.runtime.library import find

ENVIRONMENT = "KSYM_DEVICE"

SUPPORTED_CAPABILITIES = ((5, 0), (8, 9))
"""The compute capabilities that mxnet-cu112 1.9.1 has machine code for; it has no PTX."""


class Device(NamedTuple):
    """A kind of device, and its number."""

    kind: str
    number: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.number}"


class Gpu(NamedTuple):
    """A GPU, as the driver describes it."""

    name: str
    capability: tuple[int, int]

    def problem(self) -> str | None:
        """The reason why MXNet's wheel cannot use it, None if it can."""
        low, high = SUPPORTED_CAPABILITIES
        if low <= self.capability <= high:
            return None
        return (
            f"{self.name} has compute capability {self.capability[0]}.{self.capability[1]}; "
            f"mxnet-cu112 1.9.1 has code for {low[0]}.{low[1]} to {high[0]}.{high[1]} only"
        )


_lock = reentrant_lock()
_requested: Device | None = None
_current: Device | None = None


def parse(name: str) -> Device:
    """Return the device that ``"cpu"``, ``"gpu"`` or ``"gpu:1"`` names.

    Raises:
        DeviceError: The name is none of these.
    """
    text = name.strip().lower() if isinstance(name, str) else ""
    match = re.fullmatch(r"(cpu|gpu)(?::(\d+))?", text)
    if match is None or (match[1] == "cpu" and match[2] not in (None, "0")):
        raise DeviceError(f"{name!r} is not a device", remedy='use "cpu" or "gpu:0"')
    return Device(match[1], int(match[2] or 0))


def set_device(name: str) -> None:
    """Choose the device that everything runs on.

    Call this before the first value is computed.  Without a call the environment variable
    KSYM_DEVICE decides; without that a GPU is used if MXNet can use one.

    Args:
        name: ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

    Raises:
        DeviceError: There is no such device, MXNet cannot use it, or another is in use already.
    """
    global _requested
    device = parse(name)
    with _lock:
        if _current is not None and device != _current:
            raise DeviceError(
                f"{device} cannot be chosen: values live on {_current} already",
                remedy="call ksym.set_device before anything is computed, or set KSYM_DEVICE",
            )
        _check(device)
        _requested = device


def get_device() -> Device:
    """Return the device in use, which the first call chooses."""
    global _current
    with _lock:
        if _current is None:
            _current = _choose()
        return _current


def _choose() -> Device:
    device = _requested
    if device is None and os.environ.get(ENVIRONMENT):
        device = parse(os.environ[ENVIRONMENT])
    if device is not None:
        _check(device)
        return device
    usable = [n for n, gpu in enumerate(gpus()) if gpu.problem() is None]
    return Device("gpu", usable[0]) if usable and has_cuda_build() else Device("cpu")


def _check(device: Device) -> None:
    """Raise an error for a device that does not exist, or that MXNet cannot use."""
    if device.kind == "cpu":
        return
    if not has_cuda_build():
        raise DeviceError(
            f"{device} cannot be used: the MXNet that is installed is a CPU build",
            remedy=f"{loading.INSTALL_CUDA}, or use the CPU",
        )
    present = gpus()
    if device.number >= len(present):
        raise DeviceError(
            f"{device} is not there: the driver reports {len(present)} GPU(s)",
            remedy="`python -m ksym` lists the devices; use the CPU, or check the driver",
        )
    problem = present[device.number].problem()
    if problem:
        raise DeviceError(f"{device} cannot be used: {problem}", remedy="use the CPU")


def has_cuda_build() -> bool:
    """Return whether the installed MXNet is a CUDA build."""
    found = find()
    return found is not None and found.has_cuda


def gpus() -> list[Gpu]:
    """Return the GPUs that NVIDIA's driver reports, none without a driver."""
    return _probed()[0]


def absence() -> str:
    """Return why there is no GPU, as a sentence on NVIDIA's driver."""
    return _probed()[1]


def _probed() -> tuple[list[Gpu], str]:
    """Return the GPUs that NVIDIA's driver reports, and why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return [], f"NVIDIA's driver cannot be loaded: {error}"
    count = ctypes.c_int()
    try:
        status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except AttributeError:
        return [], "libcuda.so.1 is a stand-in for NVIDIA's driver, as build machines have"
    if status != 0:
        return [], f"NVIDIA's driver finds no device: it reports error {status}"
    found = []
    for number in range(count.value):
        handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(handle), number)
        driver.cuDeviceGetName(name, 256, handle)
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, handle)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, handle)
        found.append(Gpu(name.value.decode(errors="replace"), (major.value, minor.value)))
    return found, "NVIDIA's driver reports no device"


def context() -> Context:
    """Return MXNet's context for the device in use, after loading MXNet.

    On CPU it is ``cpu(1)``, which is the same memory and the same cores as ``cpu(0)``: for
    ``cpu(0)`` MXNet rewrites every graph it binds for inference (its oneDNN subgraphs), and that
    rewriting refuses gradient kernels.
    """
    device = get_device()
    loading.library(prefer_gpu=device.kind == "gpu")
    return Context("cpu", 1) if device.kind == "cpu" else Context("gpu", device.number)
