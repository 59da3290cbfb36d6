"""Algebraic simplification: apply the identities that operators declare.

One of them is linearity: a node that is linear in an operand of zeros is zero.  A choice whose
condition is known only at the call (the learning phase) has gradient zero for the branch that is
not taken, and so have all nodes that carry this gradient further back.  In gradients this holds
whatever the other operands are, NaN and infinity included; so it is applied only to nodes that were
made for gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Spec, Tensor, rewrite, same
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    return [ops.exp(placeholder((2,)) * 1.0)]


@graph_pass(sample=_sample, rounding="an identity may put a sum or a product in another order")
def simplify(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs with each node replaced by the simpler equal that its operator declares."""
    found: dict[Node, Sequence[Tensor] | None] = {}
    zeros: dict[Spec, Tensor] = {}

    def zero(spec: Spec) -> Tensor:
        if spec not in zeros:
            zeros[spec] = ops.zeros(shapes.known(spec.shape), spec.dtype)
        return zeros[spec]

    def vanished(node: Node) -> Sequence[Tensor] | None:
        """Return zeros for a node that carries a gradient of zero."""
        if node.origin.gradient and any(map(ops.is_zero, _linear(node))):
            return [zero(tensor.spec) for tensor in node.outputs]
        return None

    def once(node: Node) -> Sequence[Tensor] | None:
        # Remembered, so that all results of a node come from the same new nodes.
        if node not in found:
            made = vanished(node) or node.operator.simplify(node)
            found[node] = (made,) if isinstance(made, Tensor) else made
        return found[node]

    def simplest(tensor: Tensor) -> Tensor:
        for _ in range(costs.simplifying_rounds):
            made = once(tensor.node)
            if made is None:
                break
            tensor = made[tensor.index]
        return tensor

    def simpler(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not same(inputs, node.inputs):
            node = node.operator.remake(node, inputs)
        return [simplest(tensor) for tensor in node.outputs]

    return rewrite(outputs, simpler)


def _linear(node: Node) -> list[Tensor]:
    """Return the operands that a node is linear in."""
    return [node.inputs[i] for i in node.operator.linear_in]
