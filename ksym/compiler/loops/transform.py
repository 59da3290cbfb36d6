"""Rewriting of loops: apply a function to each loop of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ksym import shapes
from ksym.compiler.specialize import specialize
from ksym.graph import Node, Tensor, rewrite, same, topological_order
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView


class Results:
    """The replacements of a loop's results; those that nothing reads may be None."""

    def __init__(self, loop: ScanView):
        self.finals: list[Tensor | None] = [None] * len(loop.new)
        self.stacked: list[Tensor | None] = [None] * len(loop.outputs)
        self.histories: list[Tensor | None] = [None] * len(loop.new)

    def for_node(self, node: Node) -> list[Tensor]:
        """Return a tensor for each result of the node."""
        found = [*self.finals, *self.stacked, *self.histories]
        return [o if f is None else f for o, f in zip(node.outputs, found, strict=True)]


def byte_count(tensor: Tensor) -> int:
    """Return the number of bytes of a tensor."""
    return (shapes.size(tensor.shape) or 0) * np.dtype(tensor.dtype).itemsize


def is_static(node: Node) -> bool:
    """Return whether a node is a loop whose number of steps and sizes are known before it runs."""
    if node.operator is not scan_node or node.inputs[0].value is None:
        return False
    inside = topological_order(node.attributes["body"].outputs)
    return all(shapes.is_known(tensor.shape) for n in inside for tensor in n.outputs)


def over_loops(
    outputs: Sequence[Tensor], transform: Callable[[Node, ScanView, set[Tensor]], Results | None]
) -> list[Tensor]:
    """Return outputs with their loops replaced.

    Args:
        outputs: Tensors of a graph of known shapes.
        transform: Called with a node, its loop, and the tensors that anything reads; returns the
            replacements of the results, or None to keep the loop.
    """
    order = topological_order(outputs)
    used = {tensor for node in order for tensor in node.inputs} | set(outputs)

    def replaced(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not is_static(node):
            return None
        loop = ScanView.of(node, inputs, used)
        found = transform(node, loop, used) if loop.length else None
        return None if found is None else found.for_node(node)

    if not any(node.operator is scan_node for node in order):
        return list(outputs)
    found = rewrite(outputs, replaced, order=order)
    return list(outputs) if same(found, outputs) else specialize(found, {})
