"""Taking subnormal numbers as zeros while graphs are computed, as TensorFlow and JAX do.

Gradients that vanish over many steps end as numbers below the smallest normal one (1.2e-38 in
float32), with which processors compute a hundred times slower.
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
"""Linux's `fenv_t` on x86-64, and where in it the control word of SSE and AVX lies."""

_IS_KNOWN = sys.platform == "linux" and platform.machine() == "x86_64"

CONTROL = 0x8040 if _IS_KNOWN else 0
"""Bits of that word: FTZ for results, DAZ for operands (Intel 64 manual, volume 1, 10.2.3)."""


@functools.cache
def _library() -> Any:
    """The C library's floating-point environment; None where `fenv_t` is another one."""
    return ctypes.CDLL("libm.so.6") if _IS_KNOWN else None


@functools.cache
def _flushing() -> Any:
    """The environment to compute in."""
    environment = ctypes.create_string_buffer(_SIZE)
    _library().fegetenv(environment)
    (word,) = struct.unpack_from("I", environment, _CONTROL)
    struct.pack_into("I", environment, _CONTROL, word | CONTROL)
    return environment


class FlushedSubnormals:
    """A context in which the calling thread, and threads it starts, take subnormals as zeros.

    One object is for one thread at a time.  MXNet's worker threads are started by the first work
    for several, and stay as they were started.  A `Tape` does the same by itself, in less time.

    Python may be interrupted (Ctrl-C) wherever one of its own functions begins, so also before
    `__exit__` does anything.  Who must not leave the thread changed calls the three steps: `save`,
    then `flush` within a `try` that ends by `restore`.  They are functions of C.

    Attributes:
        save: Note how the thread computes.
        flush: Have it take subnormals as zeros.
        restore: Have it compute as noted.
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
