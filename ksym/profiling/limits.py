"""The limits of the machine: the fastest arithmetic, and the fastest traffic with memory."""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import numpy as np

from ksym import ops, shapes
from ksym.compiler.compile import compile_graph
from ksym.compiler.mode import Mode
from ksym.compiler.plan import FrozenGraph
from ksym.graph import Tensor
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.program import Program, target

_SIDE = 1024
_ELEMENTS = 1 << 24


class Limits(NamedTuple):
    """What the device does at most, with the threads in use.

    Attributes:
        flops: Floating-point operations in a second, in float32.
        bandwidth: Bytes read and written in a second.
    """

    flops: float
    bandwidth: float

    def seconds(self, flops: float, traffic: float) -> float:
        """Return the time that some work takes at least."""
        return max(flops / self.flops, traffic / self.bandwidth)


@functools.cache
def limits() -> Limits:
    """Return the limits, measured once in a process: in half a second.

    They are those of a product of matrices of 1024 x 1024, and of adding a number to each of
    16 million elements.
    """
    a = ops.placeholder((_SIDE, _SIDE))
    x = ops.placeholder((_ELEMENTS,))
    product = _seconds(ops.matmul(a, a), a)
    sweep = _seconds(x + 1.0, x)
    return Limits(2.0 * _SIDE**3 / product, 8.0 * _ELEMENTS / sweep)


def _seconds(result: Tensor, x: Tensor) -> float:
    """Return the time of a graph of one input, the shortest of some runs."""
    array = DeviceArray.of(np.ones(shapes.known(x.shape), x.dtype))
    program = Program(compile_graph(FrozenGraph([result], (), Mode(), target()), {}), {x: array})
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        program.run()
        for out in program.outputs:
            out.wait()
        taken.append(time.perf_counter() - start)
    return min(taken)
