"""Running fused loops with NumPy, a block of each array at a time.

A block is small enough for the intermediate results to stay in the cache, and large enough for
NumPy's vectorised functions to run at full speed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ksym.compiler.fusion.kernel import Kernel
from ksym.graph import Tensor
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray

BLOCK = 32768
"""Elements in a block: 128 KiB of float32, of which a core's second cache holds several."""


BLOCKS_PER_THREAD = 4
"""Below so many blocks for each, starting threads costs more than it saves."""


class FusedLoop:
    """A loop over fixed arrays, ready to run.

    All arrays must be in memory that the host can touch (`DeviceArray.view`).

    Args:
        loop: What to do.
        arrays: The array of each tensor that it reads or writes.
    """

    def __init__(self, loop: Kernel, arrays: Mapping[Tensor, DeviceArray]):
        self._read = [arrays[view.tensor] for view in loop.reads]
        operands = [_flat(array) for array in self._read]
        at_once = _written_at_once(loop)
        direct: dict[int, np.ndarray] = {}
        late: list[tuple[int, np.ndarray]] = []
        for register, view, _ in loop.writes:
            target = _flat(arrays[view.tensor])
            if register in at_once:
                direct[register] = target
            else:
                late.append((register, target))
        starts = range(0, math.prod(loop.shape), BLOCK)
        # Each thread has blocks and buffers of its own.
        threads = min(loading.available_processors(), max(1, len(starts) // BLOCKS_PER_THREAD))
        self._shares = [
            _calls(loop, operands, direct, late, starts[k::threads]) for k in range(threads)
        ]

    def run(self) -> None:
        """Compute the results."""
        for array in self._read:
            array.settle()
        if len(self._shares) == 1:
            _work(self._shares[0])
        else:
            list(_workers().map(_work, self._shares))


BlockCall = tuple[Callable[..., Any], tuple[np.ndarray, ...], np.ndarray]


def _flat(array: DeviceArray) -> np.ndarray:
    assert array.view is not None
    return array.view.reshape(-1) if array.view.ndim else array.view


@functools.cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(loading.available_processors(), "ksym")


def _work(calls: Sequence[BlockCall]) -> None:
    with np.errstate(all="ignore"):
        for function, operands, out in calls:
            function(*operands, out=out)


def _calls(
    loop: Kernel,
    operands: Sequence[np.ndarray],
    direct: Mapping[int, np.ndarray],
    late: Sequence[tuple[int, np.ndarray]],
    starts: Sequence[int],
) -> list[BlockCall]:
    """Return the calls of NumPy that do some blocks of a loop."""
    places = _places(loop)
    size = math.prod(loop.shape)
    dtype = loop.dtype_of(loop.writes[0].register)
    buffers = [np.empty(BLOCK, dtype) for _ in range(max(places, default=-1) + 1)]
    calls: list[BlockCall] = []
    for start in starts:
        block = slice(start, min(start + BLOCK, size))
        values: list[np.ndarray] = [x[block] if x.ndim else x for x in operands]
        for step, place in zip(loop.instructions, places, strict=True):
            register = len(values)
            if register in direct:
                out = direct[register][block]
            else:
                out = buffers[place][: block.stop - start]
            assert step.operator.ufunc is not None
            calls.append((step.operator.ufunc, tuple(values[i] for i in step.operands), out))
            values.append(out)
        # At the end of the block, when its old values have been read by all.
        calls.extend((np.positive, (values[register],), target[block]) for register, target in late)
    return calls


def _last_uses(loop: Kernel) -> dict[int, int]:
    """Return for each register that is read the last step that reads it."""
    return {
        operand: number
        for number, step in enumerate(loop.instructions)
        for operand in step.operands
    }


def _written_at_once(loop: Kernel) -> set[int]:
    """Return the results that may go where they belong as soon as they are computed.

    That is so where no later step reads the variable's old value.
    """
    last_use = _last_uses(loop)
    first = len(loop.reads)
    read = [view.tensor for view in loop.reads]
    registers = [write.register for write in loop.writes]
    direct = set()
    for register, view, _ in loop.writes:
        old = read.index(view.tensor) if view.tensor in read else None
        unread = old is None or last_use.get(old, -1) <= register - first
        # One register for two variables, or one that is an operand, is copied at the end.
        alone = registers.count(register) == 1 and old not in registers
        if register >= first and unread and alone:
            direct.add(register)
    return direct


def _places(loop: Kernel) -> list[int]:
    """Return in which buffer each step's result lies; buffers are used again."""
    last_use = _last_uses(loop)
    first = len(loop.reads)
    kept = {write.register for write in loop.writes}
    free: list[int] = []
    places: list[int] = []
    count = 0
    for number, step in enumerate(loop.instructions):
        # A result may take the place of an operand: elementwise functions work in place.
        free.extend(
            places[operand - first]
            for operand in set(step.operands)
            if operand >= first and last_use[operand] == number and operand not in kept
        )
        if not free:
            free.append(count)
            count += 1
        places.append(free.pop())
    return places
