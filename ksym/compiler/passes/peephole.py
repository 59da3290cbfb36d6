"""Peephole rules: replacing a node by looking at it, its operands, and who else reads them.

A rule is a function of a `Site`, declared with the operator of the nodes that it is called for; a
pass is one or more of them, applied in one walk from the leaves to the outputs:

    @peephole(ops.exp)
    def exp_of_log(site):
        inner = site.inputs[0].node
        return inner.inputs[0] if inner.operator is ops.log and site.is_only_use(0) else None

    @graph_pass(sample=...)
    def cancel_logarithms(outputs):
        return apply_rules(outputs, exp_of_log)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from ksym.graph import Node, Tensor, count_uses, rewrite, topological_order
from ksym.operator.declaration import Operator

Replacement = Tensor | Sequence[Tensor] | None
"""What a node is replaced by: its one result, each of its results; or None to keep it."""


class Readers:
    """Who reads the tensors of a graph.

    Args:
        order: The nodes of the graph.
        outputs: Its outputs.
    """

    def __init__(self, order: Sequence[Node], outputs: Sequence[Tensor]):
        self._order = order
        self.outputs = frozenset(outputs)
        self._counts = count_uses(order, outputs)

    @cached_property
    def _nodes(self) -> dict[Tensor, set[Node]]:
        found: dict[Tensor, set[Node]] = defaultdict(set)
        for node in self._order:
            for tensor in node.inputs:
                found[tensor].add(node)
        return found

    def nodes(self, tensor: Tensor) -> set[Node]:
        """Return the nodes that read a tensor."""
        return self._nodes.get(tensor, set())

    def count(self, tensor: Tensor) -> int:
        """Return how often a tensor is an operand, or an output."""
        return self._counts[tensor]


class Site(NamedTuple):
    """A node that may be replaced.

    There are two graphs: the one as it was, and the one that is being made of it.  What operands
    are made of is seen in the new one, where they may have been replaced already.  Who reads them
    is known of the old one only: in the new one their readers are not there yet.

    Attributes:
        node: The node as it was.
        inputs: Its operands as they are by now, to match and to build on.
        readers: Who reads the tensors of the graph as it was, such as those of `node.inputs`.
    """

    node: Node
    inputs: Sequence[Tensor]
    readers: Readers

    def is_only_use(self, position: int) -> bool:
        """Whether nothing but this node reads an operand, and this node reads it once."""
        return self.readers.count(self.node.inputs[position]) == 1


class Rule(NamedTuple):
    """A peephole rule.

    Attributes:
        operator: The operator of the nodes that it is for.
        replacement: Returns what such a node is replaced by.
    """

    operator: Operator
    replacement: Callable[[Site], Replacement]


def peephole(operator: Operator) -> Callable[[Callable[[Site], Replacement]], Rule]:
    """Declare a function as the rule for nodes of an operator."""
    return lambda replacement: Rule(operator, replacement)


def apply_rules(
    outputs: Sequence[Tensor], *rules: Rule, order: Sequence[Node] | None = None
) -> list[Tensor]:
    """Return outputs with each node replaced by what the rule for its operator gives.

    Args:
        outputs: The graph.
        rules: At most one for an operator.
        order: A topological order to follow, for rules that need one node before another.
    """
    if order is None:
        order = topological_order(outputs)
    by_operator = {rule.operator: rule.replacement for rule in rules}
    if not any(node.operator in by_operator for node in order):
        return list(outputs)
    readers = Readers(order, outputs)

    def replaced(node: Node, inputs: Sequence[Tensor]) -> Replacement:
        rule = by_operator.get(node.operator)
        return None if rule is None else rule(Site(node, inputs, readers))

    return rewrite(outputs, replaced, order=order)
