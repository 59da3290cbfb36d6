"""Running communications with the other ranks of a job."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ksym.compiler.plan import CollectiveWork, Part
from ksym.errors import KsymError
from ksym.ops.collective import all_reduce
from ksym.parallel import engine
from ksym.runtime.arrays import Arrays, DeviceArray


class CollectiveRun:
    """A part that all ranks take part in.

    Sums go from the memory of the operands to that of the results, where the host can access it.
    """

    calls = None

    def __init__(self, part: Part, work: CollectiveWork, arrays: Arrays):
        self._node = node = work.node
        count = node.attributes["count"]
        self._operands = [arrays[tensor] for tensor in node.inputs[:count]]
        # All of them, since the other ranks send all.
        self._results = [DeviceArray.empty(tensor.spec) for tensor in node.outputs]
        self.outputs = [self._results[tensor.index] for tensor in part.outputs]
        self._reduce = self._direct() if node.operator is all_reduce else None

    def _direct(self) -> Callable[[], None] | None:
        """Return a function that reduces memory to memory; None if the host cannot access it."""
        pairs = list(zip(self._operands, self._results, strict=True))
        pairs = [(a, b) for a, b in pairs if 0 not in a.spec.shape]
        views = [(a.view, b.view) for a, b in pairs if a.view is not None and b.view is not None]
        if len(views) < len(pairs):
            return None
        return engine.current().reduction([a for a, _ in views], [b for _, b in views])

    def run(self) -> None:
        """Communicate."""
        node = self._node
        try:
            if self._reduce is not None:
                for array in self._operands:
                    array.settle()
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
