"""Running communications with the other ranks of a job."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ksym.compiler.plan import CollectiveWork, Part
from ksym.errors import KsymError
from ksym.ops.collective import all_reduce, is_compressible
from ksym.parallel import engine
from ksym.parallel.engine import Memory
from ksym.runtime import device, loading
from ksym.runtime.arrays import Arrays, DeviceArray, is_direct


class CollectiveRun:
    """A part that all ranks take part in.

    Sums go from the memory of the operands to that of the results, where the host can access it, or
    the engine can access that of a GPU.
    """

    calls = None

    def __init__(self, part: Part, work: CollectiveWork, arrays: Arrays):
        self._node = node = work.node
        count = node.attributes["count"]
        self._operands = [arrays[tensor] for tensor in node.inputs[:count]]
        # All of them, since the other ranks send all.
        self._results = [DeviceArray.empty(tensor.spec) for tensor in node.outputs]
        self.outputs = [self._results[tensor.index] for tensor in part.outputs]
        self._reduce: Callable[[], None] | None = None
        if node.operator is all_reduce:
            self._reduce = self._direct() if is_direct() else self._on_device()

    def _direct(self) -> Callable[[], None]:
        """Return a function that reduces memory of the host."""
        sources, targets, compressible = [], [], []
        flags = is_compressible(self._node)
        for operand, result, flag in zip(self._operands, self._results, flags, strict=True):
            if operand.view is not None and result.view is not None:  # it has elements
                sources.append(operand.view)
                targets.append(result.view)
                compressible.append(flag)
        reduce = engine.current().reduction(sources, targets, compressible)

        def run() -> None:
            for array in self._operands:
                array.settle()
            reduce()

        return run

    def _on_device(self) -> Callable[[], None] | None:
        """Return a function that reduces memory of GPUs; None if the engine does not reach it."""
        if device.get_device().kind != "gpu":
            return None
        operands = [array for array in self._operands if 0 not in array.spec.shape]
        results = [array for array in self._results if 0 not in array.spec.shape]
        reduce = engine.current().device_reduction(
            [_memory(array) for array in operands], [_memory(array) for array in results]
        )
        if reduce is None:
            return None

        def run() -> None:
            with loading.running:
                for operand, result in zip(operands, results, strict=True):
                    operand.native.wait()
                    result.native.wait_for_readers()
            reduce()

        return run

    def run(self) -> None:
        """Communicate."""
        node = self._node
        try:
            if self._reduce is not None:
                self._reduce()
                return
            values = [array.read() for array in self._operands]
            found = node.operator.numpy(*values, **node.attributes)
        except KsymError as error:
            raise error.located(
                node.operator.name, [t.spec for t in node.inputs], node.origin
            ) from None
        for array, value in zip(
            self._results, found if len(self._results) > 1 else (found,), strict=True
        ):
            array.write(np.asarray(value))


def _memory(array: DeviceArray) -> Memory:
    return Memory(array.native.address(), math.prod(array.native.shape), array.spec.dtype)
