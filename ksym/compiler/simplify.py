"""Applying the identities that operators declare."""

from __future__ import annotations

from collections.abc import Sequence

from ksym.graph import Node, Tensor, rewrite, same

ROUNDS = 32
"""An end to identities that would undo each other."""


def simplify(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs with each node replaced by what its operator says is simpler and equal."""
    finished: set[Node] = set()

    def simpler(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        tensors: Sequence[Tensor] = node.outputs
        if not same(inputs, node.inputs):
            made = node.operator.make(inputs, node.attributes)
            tensors = (made,) if isinstance(made, Tensor) else made
        for _ in range(ROUNDS):
            current = tensors[0].node
            if current in finished:
                break
            found = current.operator.simplify(current)
            if found is None:
                finished.add(current)
                break
            tensors = (found,) if isinstance(found, Tensor) else found
        return tensors

    return rewrite(outputs, simpler)
