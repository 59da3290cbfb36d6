"""Algebraic simplification: applying the identities that operators declare.

Linearity is one of them.  The gradient of a choice whose condition becomes known only at the call
(the learning phase) is zero for the branch not taken, and so is everything that carries it further
back.  In gradients this holds whatever the other operands are, NaN and infinity included, so it is
applied to nodes made for gradients only.
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
    """Return outputs with each node replaced by what its operator says is simpler and equal."""
    found: dict[Node, Sequence[Tensor] | None] = {}
    zeros: dict[Spec, Tensor] = {}

    def zero(spec: Spec) -> Tensor:
        if spec not in zeros:
            zeros[spec] = ops.zeros(shapes.known(spec.shape), spec.dtype)
        return zeros[spec]

    def vanished(node: Node) -> Sequence[Tensor] | None:
        """Zeros for a node that carries a gradient of zero."""
        if node.origin.gradient and any(map(ops.is_zero, _linear(node))):
            return [zero(tensor.spec) for tensor in node.outputs]
        return None

    def once(node: Node) -> Sequence[Tensor] | None:
        # Remembered, so that all results of a node come from the same new nodes.
        if node not in found:
            made = vanished(node) or node.operator.simplify(node)
            found[node] = (made,) if isinstance(made, Tensor) else made
        return found[node]

    def settled(tensor: Tensor) -> Tensor:
        for _ in range(costs.simplifying_rounds):
            made = once(tensor.node)
            if made is None:
                break
            tensor = made[tensor.index]
        return tensor

    def simpler(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not same(inputs, node.inputs):
            node = node.operator.remake(node, inputs)
        return [settled(tensor) for tensor in node.outputs]

    return rewrite(outputs, simpler)


def _linear(node: Node) -> list[Tensor]:
    """The operands that a node is linear in."""
    return [node.inputs[i] for i in node.operator.linear_in]
