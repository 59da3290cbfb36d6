"""Giving memory back after compiled graphs were dropped."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable

BYTES = 32 << 20
"""The bytes of arrays after which memory is given back, as that has to look at all of it."""

NODES = 2048
"""The nodes of dropped plans after which the collector runs, as it has to look at all objects.

That takes some 0.15 s in a process with Keras, compiling a plan of 40 nodes 0.02 s; the plans that
wait take 8 MiB.
"""

_waiting = {"bytes": 0, "nodes": 0}


def give_back(nbytes: int) -> None:
    """Note that arrays were dropped, and give memory back to the system after some of them.

    The C library keeps what was freed between blocks that are in use: a GiB after 180 programs.

    Args:
        nbytes: The bytes of the arrays.
    """
    if _is_enough("bytes", nbytes, BYTES):
        _trim()(0)


def collect(nodes: int) -> None:
    """Note that a plan was dropped, and have Python's collector free memory after some of them.

    Graphs are made of cycles, a tensor and its node, that wait for it.

    Args:
        nodes: The nodes of the plan.
    """
    if _is_enough("nodes", nodes, NODES):
        gc.collect()
        _trim()(0)


def _is_enough(what: str, more: int, limit: int) -> bool:
    """Return whether so much waits that memory is worth giving back; then nothing waits."""
    _waiting[what] += more
    if _waiting[what] < limit:
        return False
    _waiting[what] = 0
    return True


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return the function of the C library that gives memory back to the system, if it has one."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda left: None
    return trim
