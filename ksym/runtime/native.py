"""Running native graphs: bind a graph of MXNet to arrays, with memory planned once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ksym import shapes
from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.errors import ExecutionError
from ksym.graph import Node, Spec, Tensor
from ksym.runtime import device, loading
from ksym.runtime.arrays import DeviceArray, is_direct
from ksym.runtime.binding import bound
from ksym.runtime.capi import Executor

NODE_BYTES = 5 << 10
"""The bytes that MXNet takes for a node of a graph that is bound, measured for a small network."""

RECURRENT_SHARE = 14
"""The bytes that a recurrent kernel keeps for its gradient, for each byte of its largest operand.

Measured for an LSTM of 64 units over 55 steps, whose other arrays take 4 MiB: 10 MiB in all.
"""


class Executable:
    """A native graph that is bound to arrays.

    All its arrays are fixed: a call writes the inputs and runs the graph; the results stay in their
    arrays until the next call.

    Args:
        graph: The graph.
        leaves: The array of each placeholder, variable, random and given tensor.
        shared: Another executable, which never runs at the same time: both use one working memory.

    Attributes:
        outputs: The arrays of the results.
        nbytes: The bytes that it takes, about, as if no working memory was shared.

    Raises:
        NativeError: MXNet refuses the graph.
    """

    def __init__(
        self,
        graph: NativeGraph,
        leaves: Mapping[Tensor, DeviceArray],
        shared: Executable | None = None,
    ):
        arrays = {name: leaves[tensor] for tensor, name in graph.leaves.items()}
        for name, value in graph.constants.items():
            arrays[name] = DeviceArray.of(value)
        for name, spec in graph.scratch.items():
            arrays[name] = DeviceArray.of(np.zeros(shapes.known(spec.shape), spec.dtype))
        context, native = device.context(), {n: array.native for n, array in arrays.items()}

        def bind() -> tuple[Executor, list[DeviceArray]]:
            with loading.numpy_shapes():
                same = None if shared is None else shared._executor
                executor = Executor(graph.to_json(), native, context, same)
                return executor, [
                    DeviceArray(head, Spec(head.shape, head.dtype), graph.in_blocks)
                    for head in executor.outputs
                ]

        with loading.running:  # a fork waits: a child would have MXNet's locks as they are now
            self._executor, heads = bound(bind)
        self.outputs: list[DeviceArray] = [heads[position] for position in graph.positions]
        self._requirements = [(heads[each.head], each) for each in graph.requirements]
        self._arrays = arrays
        makers = dict.fromkeys(graph.makers[n["name"]] for n in graph.nodes if n["op"] == "RNN")
        recurrent = sum(max(_nbytes(t.spec) for t in (*n.inputs, *n.outputs)) for n in makers)
        computed = dict.fromkeys(graph.makers.values())
        self.nbytes = (
            NODE_BYTES * len(graph.nodes)
            + RECURRENT_SHARE * recurrent
            + sum(_nbytes(tensor.spec) for node in computed for tensor in node.outputs)
            + sum(arrays[name].nbytes for name in (*graph.constants, *graph.scratch))
        )
        self._forward = loading.library().MXExecutorForward
        self._arguments = self._executor.handle, graph.training
        waits = is_direct() and loading.engine() is loading.Engine.AWAITED
        self._awaited = self._executor.outputs if waits else ()
        # The first run of an average pooling prints a line that means nothing.
        self._silent = not any(
            node["op"] == "Pooling" and node["attrs"]["pool_type"] == "avg" for node in graph.nodes
        )

    def memory(self) -> int:
        """Return the bytes of the working memory, in whole MiB."""
        return self._executor.memory()

    def watch(self, callback: Callable[[str], None]) -> None:
        """Call a function with the name of each native node's result as soon as it is computed."""
        self._executor.watch(callback)

    def check(self) -> None:
        """Look at the conditions whose violation the kernels of the last run did not report.

        Raises:
            ExecutionError: One is violated; the operator is named.
        """
        for array, (_, node, problem) in self._requirements:
            if not array.read():
                operands = [tensor.spec for tensor in node.inputs]
                raise unfit(problem).located(node.operator.name, operands, node.origin)

    def run(self) -> None:
        """Compute the outputs from the contents of the leaves' arrays."""
        printing = contextlib.nullcontext() if self._silent else loading.quietly()
        with loading.running, printing:
            loading.check(self._forward(*self._arguments))
            for array in self._awaited:
                array.wait()
        self._silent = True


def _nbytes(spec: Spec) -> int:
    return (shapes.size(spec.shape) or 0) * np.dtype(spec.dtype).itemsize


def unfit(problem: str) -> ExecutionError:
    """Return the error for operands that a kernel cannot compute, which it does not report."""
    return ExecutionError(f"MXNet failed: {problem}")


def draw(node: Node) -> np.ndarray:
    """Return the next random numbers of a random node."""
    parameters: dict[str, Any] = {**node.attributes}
    stream, dtype = parameters.pop("stream"), parameters.pop("dtype")
    kind: str = node.operator.kind  # type: ignore[attr-defined]
    value: np.ndarray = stream.draw(kind, node.outputs[0].shape, dtype, **parameters)
    return value


def draw_ahead(node: Node) -> None:
    """Begin to draw the random numbers that a random node will be asked for next."""
    parameters: dict[str, Any] = {**node.attributes}
    stream, dtype = parameters.pop("stream"), parameters.pop("dtype")
    kind: str = node.operator.kind  # type: ignore[attr-defined]
    stream.draw_ahead(kind, node.outputs[0].shape, dtype, **parameters)
