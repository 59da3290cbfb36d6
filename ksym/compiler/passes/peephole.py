"""Peephole rules: replace a node, given the node, its operands, and the readers of these.

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
"""The replacement of a node: that of its one result, or of each of its results; None to keep it."""


class Readers:
    """The readers of each tensor of a graph.

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
        """Return the number of times that a tensor is an operand or an output."""
        return self._counts[tensor]


class Site(NamedTuple):
    """A node that may be replaced.

    There are two graphs, the old one and the new one that is built from it.  A rule matches the
    operands in the new graph, where they may be replaced already.  Their readers are known in the
    old graph only, since they are not yet in the new one.

    Attributes:
        node: The node in the old graph.
        inputs: Its operands in the new graph, to match and to build on.
        readers: The readers of the old graph's tensors, such as those of `node.inputs`.
    """

    node: Node
    inputs: Sequence[Tensor]
    readers: Readers

    def is_only_use(self, position: int) -> bool:
        """Return whether this node is the only reader of an operand, and reads it once."""
        return self.readers.count(self.node.inputs[position]) == 1


class Rule(NamedTuple):
    """A peephole rule.

    Attributes:
        operator: The operator of the nodes that it is for.
        replacement: Returns the replacement of such a node.
    """

    operator: Operator
    replacement: Callable[[Site], Replacement]


def peephole(operator: Operator) -> Callable[[Callable[[Site], Replacement]], Rule]:
    """Declare a function as the rule for nodes of an operator."""
    return lambda replacement: Rule(operator, replacement)


def apply_rules(
    outputs: Sequence[Tensor], *rules: Rule, order: Sequence[Node] | None = None
) -> list[Tensor]:
    """Return outputs with each node replaced as the rule for its operator says.

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
