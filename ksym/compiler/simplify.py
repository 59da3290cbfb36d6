"""Applying the identities that operators declare.

Linearity is one of them.  The gradient of a choice whose condition becomes known only at the call
(the learning phase) is zero for the branch not taken, and so is everything that carries it further
back.  In gradients this holds whatever the other operands are, NaN and infinity included, so it is
applied to nodes made for gradients only.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.graph import Node, Spec, Tensor, rewrite, same

ROUNDS = 32
"""An end to identities that would undo each other."""


def simplify(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs with each node replaced by what its operator says is simpler and equal."""
    finished: set[Node] = set()
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

    def simpler(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not same(inputs, node.inputs):
            node = node.operator.remake(node, inputs)
        tensors: Sequence[Tensor] = node.outputs
        for _ in range(ROUNDS):
            current = tensors[0].node
            if current in finished:
                break
            found = vanished(current) or current.operator.simplify(current)
            if found is None:
                finished.add(current)
                break
            tensors = (found,) if isinstance(found, Tensor) else found
        return tensors

    return rewrite(outputs, simpler)


def _linear(node: Node) -> list[Tensor]:
    """The operands that a node is linear in."""
    return [node.inputs[i] for i in node.operator.linear_in]
