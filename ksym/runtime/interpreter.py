"""The interpreter: run a graph node by node through MXNet's imperative operators.

Slow, and independent of everything the compiler and native graphs do: the debugging mode, and the
oracle that tests hold compiled graphs against.  It uses the same lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym import shapes
from ksym.compiler.codegen.nnvm import GraphEmitter, NativeGraph, lower_node
from ksym.compiler.plan import Part
from ksym.errors import ExecutionError, KsymError
from ksym.graph import Node, Spec, Tensor, topological_order
from ksym.operator.emitter import Emitter, smallest
from ksym.runtime import device, loading
from ksym.runtime.arrays import DeviceArray, is_direct
from ksym.runtime.capi import Executor, NDArray, invoke, train_mode
from ksym.runtime.native import draw, unfit

STATEFUL = {"RNN"}
"""Operators with hidden state that their gradient kernels read."""


class _Stateful(NamedTuple):
    """An application of a stateful operator."""

    operator: str
    inputs: Sequence[Any]
    results: Sequence[Any]


class EagerEmitter(Emitter):
    """The emitter that computes each native operator at once; its values are NDArrays."""

    def __init__(self, leaves: Callable[[Node], Any]):
        self._leaves = leaves
        self._forward: dict[int, _Stateful] = {}

    def __call__(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        results = self._invoke(operator, inputs, attributes)
        if len(results) < outputs:
            # The imperative interface does not return hidden results.
            results = self._through_graph(operator, inputs, outputs, attributes)
        if operator in STATEFUL:
            self._forward[id(results[0])] = _Stateful(operator, inputs, results)
        return results[0] if outputs == 1 else tuple(results[:outputs])

    def backward(
        self, operator: str, *inputs: Any, of: Any, results: Sequence[Spec], **attributes: Any
    ) -> Any:
        forward = self._forward.get(id(of))
        if forward is not None:
            return self._with_forward(operator, inputs, forward, results, attributes)
        arrays = [DeviceArray.empty(spec).native for spec in results]
        self._invoke(operator, inputs, attributes, arrays)
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def _invoke(
        self,
        operator: str,
        inputs: Sequence[Any],
        attributes: Mapping[str, Any],
        into: Sequence[NDArray] = (),
    ) -> list[NDArray]:
        if not inputs and "ctx" not in attributes:
            attributes = {**attributes, "ctx": device.context()}
        return invoke(operator, inputs, attributes, into)

    def _through_graph(
        self, operator: str, inputs: Sequence[Any], outputs: int, attributes: Mapping[str, Any]
    ) -> list[Any]:
        emit, names, entries = _graph_of(inputs)
        return _run(emit.finish(emit(operator, *entries, outputs=outputs, **attributes)), names)

    def _with_forward(
        self,
        operator: str,
        inputs: Sequence[Any],
        forward: _Stateful,
        results: Sequence[Spec],
        attributes: Mapping[str, Any],
    ) -> tuple[Any, ...]:
        """Apply a gradient kernel in one graph with the operator whose state it needs."""
        values = [value for value in inputs if all(value is not r for r in forward.results)]
        emit, names, entries = _graph_of(values)
        entry = {id(value): e for value, e in zip(values, entries, strict=True)}
        made = emit(
            forward.operator,
            *(entry[id(value)] for value in forward.inputs),
            outputs=len(forward.results),
            **attributes,
        )
        entry.update({id(r): e for r, e in zip(forward.results, made, strict=True)})
        heads = emit.backward(
            operator,
            *(entry[id(value)] for value in inputs),
            of=made[0],
            results=results,
            **attributes,
        )
        return tuple(_run(emit.finish(heads), names))

    def emitted(self, operator: str, *inputs: Any, **attributes: Any) -> Any:
        return None  # nothing is looked up: each operator is computed

    def in_own_layout(self, x: Any) -> bool:
        return False  # no kernel is chosen by it: this is the oracle

    def blocks(self, x: Any) -> frozenset[int]:
        return frozenset()

    def in_blocks(self, x: Any, spec: Spec) -> Any:
        return x

    def made_in_blocks(self, x: Any, channels: int) -> None:
        """Nothing is noted."""

    def require(self, problem: str, flags: Callable[[], Any]) -> None:
        if not is_direct():
            flag = DeviceArray(smallest(self, flags()), Spec((), "float32"))
            if not flag.read():
                raise unfit(problem)

    def constant(self, array: np.ndarray) -> Any:
        return DeviceArray.of(np.array(array)).native

    def leaf(self, node: Node) -> Any:
        return self._leaves(node)

    def draw(self, node: Node) -> Any:
        return DeviceArray.of(draw(node)).native

    def scratch(self, spec: Spec, purpose: str) -> Any:
        return DeviceArray.of(np.zeros(shapes.known(spec.shape), spec.dtype)).native


def _graph_of(values: Sequence[Any]) -> tuple[GraphEmitter, dict[str, Any], list[Any]]:
    """Return an emitter with an input for each value: the values by name, and the inputs."""
    emit = GraphEmitter()
    names, entries = {}, []
    for value in values:
        name, entry = emit.input("operand")
        names[name] = value
        entries.append(entry)
    return emit, names, entries


def _run(graph: NativeGraph, values: Mapping[str, Any]) -> list[Any]:
    """Run a graph once and return its results."""
    executor = Executor(graph.to_json(), values, device.context())
    executor.forward(training=True)
    return executor.outputs


def interpret(
    outputs: Sequence[Tensor],
    arrays: Mapping[Tensor, DeviceArray],
    given: Sequence[Tensor] = (),
) -> list[DeviceArray]:
    """Compute outputs one node at a time.

    Args:
        outputs: Tensors of a graph of known shapes.
        arrays: The array of each placeholder, variable and given tensor.
        given: Tensors that are computed elsewhere.

    Raises:
        ExecutionError: An operator fails; the message names it and where it was made.
        AssertionError: A result has another shape or dtype than inferred: a defect of ksym.
    """
    emit = EagerEmitter(lambda node: arrays[node.outputs[0]].native)
    values: dict[Tensor, Any] = {tensor: arrays[tensor].native for tensor in given}
    order = topological_order(outputs, until=values)
    last_use = {tensor: node for node in order for tensor in node.inputs}
    kept = set(outputs)
    with loading.running, loading.numpy_shapes(), train_mode():
        for node in order:
            operands = [values[tensor] for tensor in node.inputs]
            try:
                results = _computed(emit, node, operands)
            except (loading.NativeError, ExecutionError) as error:
                if isinstance(error, loading.NativeError):
                    error = ExecutionError(f"MXNet failed: {first_line(error)}")
                specs = [t.spec for t in node.inputs]
                raise error.located(node.operator.name, specs, node.origin) from None
            for tensor, result in zip(node.outputs, results, strict=True):
                found = Spec(result.shape, result.dtype)
                if found != tensor.spec:
                    raise AssertionError(
                        f"{node.operator.name} gave {found}, inferred was {tensor.spec}"
                    )
                values[tensor] = result
            for tensor in node.inputs:
                if last_use[tensor] is node and tensor not in kept:
                    values.pop(tensor, None)
        return [DeviceArray(values[tensor], tensor.spec) for tensor in outputs]


def _computed(emit: EagerEmitter, node: Node, operands: Sequence[Any]) -> Sequence[Any]:
    """Return the results of a node, after they are computed.

    An asynchronous engine may report an error of another operator here, one that wrote the same
    working memory and was not waited for; it reports it once.
    """
    for last in (False, True):
        try:
            results = lower_node(emit, node, operands)
            for result in results:
                result.wait()
        except loading.NativeError:
            if last or loading.engine() is not loading.Engine.ASYNCHRONOUS:
                raise
            loading.forget_failures()
        else:
            break
    return results


def first_line(error: Exception) -> str:
    """Return the line of one of MXNet's messages that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Error:" in line or "Check failed" in line:
            return line
    return lines[-1] if lines else "no message"


def blame(part: Part, arrays: Mapping[Tensor, DeviceArray], error: Exception) -> KsymError:
    """Return an error that names the operator behind a failure of a native graph."""
    try:
        interpret(part.outputs, arrays, part.inputs)
    except KsymError as found:
        found.breaks = True
        return found
    return unexplained(error)


def unexplained(error: Exception) -> KsymError:
    """Return an error for a failure that no operator repeats on its own."""
    result = ExecutionError(
        f"MXNet failed to run the graph: {first_line(error)}",
        details=["each operator runs well on its own"],
        remedy='run with mode="interpret" meanwhile, and report it',
    )
    result.breaks = True
    return result
