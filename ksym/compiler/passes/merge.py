"""Common subexpression elimination (CSE): merge nodes that compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ksym import ops
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, rewrite, same
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    x = placeholder((2,))
    return [ops.exp(x) * ops.sin(ops.exp(x))]


@graph_pass(sample=_sample)
def merge(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which equal applications of pure operators happen once."""
    nodes: dict[Any, Node] = {}

    def once(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not node.operator.pure:
            return None
        key = (node.operator, tuple(sorted(node.attributes.items())), *inputs)
        first = nodes.get(key)
        if first is None:
            if not same(inputs, node.inputs):
                node = node.operator.remake(node, inputs)
            first = nodes[key] = node
        return first.outputs

    return rewrite(outputs, once)
