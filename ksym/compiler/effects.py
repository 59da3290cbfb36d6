"""Keeping effects in their order: nodes that print do it in the order in which they were made.

The schedule knows only which node reads which.  So a node with an effect reads the one before it,
as an operand that it ignores; and so does a loop or branch with effects inside.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from ksym.graph import Node, Tensor, rewrite, topological_order
from ksym.loops.body import Body, bodies_of, effects_in
from ksym.ops.leaves import placeholder


def in_order(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which each node with an effect reads the one that was made before it."""
    order = topological_order(outputs)
    numbers = {node: number for node in order if (number := _number(node)) is not None}
    if len(numbers) < 2:
        return list(outputs)
    before: dict[Node, Node] = {}
    chain = sorted(numbers, key=lambda node: numbers[node])
    for first, second in itertools.pairwise(chain):
        # By givens one may read another that was made later: that order stays.
        if not _depends(first, second, before):
            before[second] = first
    made: dict[Node, Tensor] = {}

    def reading(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if node not in numbers:
            return None
        last = made.get(before[node]) if node in before else None
        remade = _with_operand(node, inputs, last)
        made[node] = remade[0]
        return remade

    return rewrite(outputs, reading, order=_sorted(order, before))


def _number(node: Node) -> int | None:
    """Return the number of a node's effect, of several inside of it the first; None without one."""
    if node.operator.effect:
        return int(node.attributes["number"])
    inside = effects_in([t for body in bodies_of(node).values() for t in body.outputs])
    return min((int(n.attributes["number"]) for n in inside), default=None)


def _depends(node: Node, on: Node, before: Mapping[Node, Node]) -> bool:
    """Return whether a node reads another one, or waits for it."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current not in seen:
            seen.add(current)
            stack += [tensor.node for tensor in current.inputs]
            stack += [before[current]] if current in before else []
    return False


def _sorted(order: Collection[Node], before: Mapping[Node, Node]) -> list[Node]:
    """Return nodes in a topological order in which each also comes after the one before it."""
    result: list[Node] = []
    done: set[Node] = set()
    for root in order:
        stack = [root]
        while stack:
            node = stack[-1]
            read = [tensor.node for tensor in node.inputs]
            read += [before[node]] if node in before else []
            waiting = [other for other in read if other not in done]
            if node in done or not waiting:
                stack.pop()
                if node not in done:
                    done.add(node)
                    result.append(node)
            else:
                stack += waiting
    return result


def _with_operand(node: Node, inputs: Sequence[Tensor], extra: Tensor | None) -> Sequence[Tensor]:
    """Return the outputs of a node that has another operand, which its bodies ignore."""
    if extra is None:
        made = node.operator.make(inputs, node.attributes)
    else:
        bodies = {
            key: Body([*body.inputs, placeholder(extra.shape, extra.dtype)], body.outputs)
            for key, body in bodies_of(node).items()
        }
        made = node.operator.make([*inputs, extra], {**node.attributes, **bodies})
    return (made,) if isinstance(made, Tensor) else made
