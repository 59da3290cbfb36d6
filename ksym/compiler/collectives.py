"""Communications of a graph: joined into few, and in an order that is the same on all ranks.

Each rank compiles its own graph, in which numbers that depend on the rank are constants.  So what
is done here follows from which communication depends on which, and from the order of the graph,
before any pass has looked at a constant; and the passes keep all of them, as the last is a root and
each reads the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym.graph import Node, Tensor, same, topological_order
from ksym.ops.collective import Collective, all_reduce, is_compressible
from ksym.origin import origin_of


def in_one_order(outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Join sums that do not depend on each other, and order all communications.

    A communication is as late as those that depend on it allow: a sum of gradients and that of the
    loss, which nothing waits for, become one message.

    Returns:
        The outputs, and the result of the last communication, if there is one.
    """
    order = topological_order(outputs)
    found = [node for node in order if isinstance(node.operator, Collective)]
    if not found:
        return list(outputs), []
    heights = _heights(order)
    steps: list[list[Node]] = []
    for height in sorted({heights[node] for node in found}, reverse=True):
        level = [node for node in found if heights[node] == height]
        sums = [node for node in level if node.operator is all_reduce]
        steps += [sums] if sums else []
        steps += [[node] for node in level if node not in sums]
    done: dict[Tensor, Tensor] = {}
    last: list[Tensor] = []
    for step in steps:
        operands = [x for node in step for x in node.inputs[: node.attributes["count"]]]
        given = _rebuilt(operands, done)
        attributes = {**step[0].attributes, "count": len(operands)}
        if step[0].operator is all_reduce:
            attributes["compressible"] = tuple(c for node in step for c in is_compressible(node))
        with origin_of(step[0]):
            results = step[0].operator.make([*given, *last], attributes)
        results = (results,) if isinstance(results, Tensor) else results
        done.update(zip([t for node in step for t in node.outputs], results, strict=True))
        last = [results[0]]
    return _rebuilt(outputs, done), last


def _heights(order: Sequence[Node]) -> dict[Node, int]:
    """Return for each communication how many follow that depend on it, one after the other."""
    heights: dict[Node, int] = {}
    for node in reversed(order):
        own = heights.setdefault(node, 0)
        below = own + isinstance(node.operator, Collective)
        for tensor in node.inputs:
            heights[tensor.node] = max(heights.get(tensor.node, 0), below)
    return heights


def _rebuilt(outputs: Sequence[Tensor], done: dict[Tensor, Tensor]) -> list[Tensor]:
    """Return outputs rebuilt on what has been, and add to that.

    No node is rebuilt twice: one that prints would print twice.
    """
    for node in topological_order(outputs, until=done):
        inputs = [done[tensor] for tensor in node.inputs]
        results: Sequence[Tensor] = node.outputs
        if not same(inputs, node.inputs):
            with origin_of(node):
                results = node.operator.remake(node, inputs).outputs
        done.update(zip(node.outputs, results, strict=True))
    return [done[tensor] for tensor in outputs]
