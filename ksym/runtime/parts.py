"""Parts of a program that are computed at one go: native graphs, kernels, single operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.costs import Costs
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.plan import Copies, Part
from ksym.graph import Tensor
from ksym.ops.leaves import is_constant
from ksym.runtime.arrays import DeviceArray, storage_of
from ksym.runtime.calls import Call, Tape, copy_call, kernel_calls, product_call
from ksym.runtime.interpreter import blame, interpret
from ksym.runtime.loading import NativeError
from ksym.runtime.native import Executable
from ksym.runtime.runnable import Runnable
from ksym.variables import Variable


class KnownArrays(dict[Tensor, DeviceArray]):
    """The arrays of tensors; those of variables and constants are added when they are needed."""

    def __missing__(self, tensor: Tensor) -> DeviceArray:
        if isinstance(tensor, Variable):
            array = storage_of(tensor)
        elif is_constant(tensor):
            array = DeviceArray.of(np.asarray(tensor.value))
        else:
            raise KeyError(tensor)
        self[tensor] = array
        return array


class NativeRun:
    """A part that is a native graph of MXNet."""

    calls = None

    def __init__(
        self, part: Part, graph: NativeGraph, arrays: KnownArrays, shared: Executable | None
    ):
        self._part = part
        self._arrays = arrays
        try:
            self.executable = Executable(graph, arrays, shared)
        except NativeError as error:
            raise blame(part, arrays, error) from None
        self.outputs: Sequence[DeviceArray] = self.executable.outputs
        self._is_checked = bool(graph.requirements)

    @property
    def hidden_bytes(self) -> int:
        """The bytes that it takes besides the arrays of the program, about."""
        return self.executable.nbytes

    def run(self) -> None:
        """Compute the outputs."""
        try:
            self.executable.run()
        except NativeError as error:
            raise blame(self._part, self._arrays, error) from None
        if self._is_checked:
            self.executable.check()


class StepByStepRun:
    """A part that is interpreted node by node."""

    calls = None

    def __init__(self, part: Part, arrays: KnownArrays):
        self._part = part
        self._arrays = arrays
        # Copies, since the interpreter returns the array of a leaf itself.
        self.outputs: Sequence[DeviceArray] = [DeviceArray.empty(t.spec) for t in part.outputs]

    def run(self) -> None:
        """Compute the outputs."""
        found = interpret(self._part.outputs, self._arrays, self._part.inputs)
        for kept, array in zip(self.outputs, found, strict=True):
            kept.copy_from(array)


class CompiledRun:
    """A part that is calls of compiled code, which join those of neighbouring parts on a tape."""

    def __init__(self, part: Part, arrays: KnownArrays, costs: Costs):
        made = {tensor: DeviceArray.empty(tensor.spec) for tensor in part.outputs}
        self.outputs: Sequence[DeviceArray] = list(made.values())
        self.calls: list[Call] = []
        if isinstance(part.work, Copies):
            for tensor, array in made.items():
                self.calls += copy_call(array, arrays[tensor])
            return
        arrays.update(made)
        if isinstance(part.work, Kernel):
            self.calls = kernel_calls(part.work, arrays, costs)
        else:
            assert isinstance(part.work, Product)
            self.calls = [product_call(part.work, arrays, costs)]

    def run(self) -> None:
        """Compute the outputs."""
        Tape(self.calls).run()


def joined(parts: Sequence[Runnable]) -> tuple[list[Callable[[], None]], list[Call] | None]:
    """Put the calls of neighbouring compiled parts on one tape.

    Returns:
        The functions to run, in their order; and the calls of all parts, None if a part has none.
    """
    runs: list[Callable[[], None]] = []
    pending: list[Call] = []
    everything: list[Call] | None = []
    for part in parts:
        if part.calls is not None:
            pending += part.calls
            if everything is not None:
                everything += part.calls
            continue
        everything = None
        if pending:
            runs.append(Tape(pending).run)
            pending = []
        runs.append(part.run)
    if pending:
        runs.append(Tape(pending).run)
    return runs, everything
