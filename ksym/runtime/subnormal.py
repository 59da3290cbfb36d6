"""Flushing of subnormal numbers to zero while graphs are computed, as TensorFlow and JAX do.

Gradients that vanish over many steps become smaller than the smallest normal number (1.2e-38 in
float32), and processors compute a hundred times slower with such numbers.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
import sys
from collections.abc import Callable
from typing import Any

_SIZE, _CONTROL = 32, 28
"""The size of Linux's `fenv_t` on x86-64, and the offset of the control word of SSE and AVX."""

_IS_KNOWN = sys.platform == "linux" and platform.machine() == "x86_64"

CONTROL = 0x8040 if _IS_KNOWN else 0
"""Bits of that word: FTZ for results, DAZ for operands (Intel 64 manual, volume 1, 10.2.3)."""


@functools.cache
def _library() -> Any:
    """Return the C library, for its floating-point environment; None if `fenv_t` is not known."""
    return ctypes.CDLL("libm.so.6") if _IS_KNOWN else None


@functools.cache
def _flushing() -> Any:
    """Return the floating-point environment to compute in."""
    environment = ctypes.create_string_buffer(_SIZE)
    _library().fegetenv(environment)
    (word,) = struct.unpack_from("I", environment, _CONTROL)
    struct.pack_into("I", environment, _CONTROL, word | CONTROL)
    return environment


class FlushedSubnormals:
    """A context in which the calling thread, and threads that it starts, take subnormals as zeros.

    Only one thread at a time may use an object.  MXNet starts its worker threads with the first
    parallel work, and they keep the setting of that moment.  A `Tape` flushes by itself, in less
    time.

    Python may raise KeyboardInterrupt whenever one of its functions begins, also before the first
    line of `__exit__`.  A caller that must restore the thread in any case calls the three steps
    itself: `save`, then `flush` in a `try` whose `finally` calls `restore`.  They are functions of
    C, which Python does not interrupt.

    Attributes:
        save: Stores the thread's floating-point environment.
        flush: Makes the thread take subnormals as zeros.
        restore: Restores the stored environment.
    """

    def __init__(self) -> None:
        library, before = _library(), ctypes.create_string_buffer(_SIZE)
        self.save: Callable[[], object] = dict
        self.flush: Callable[[], object] = dict
        self.restore: Callable[[], object] = dict
        if library is not None:
            self.save = functools.partial(library.fegetenv, before)
            self.flush = functools.partial(library.fesetenv, _flushing())
            self.restore = functools.partial(library.fesetenv, before)

    def __enter__(self) -> None:
        self.save()
        self.flush()

    def __exit__(self, *_: object) -> None:
        self.restore()
