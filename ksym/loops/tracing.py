"""Separating what functions made while they were traced from what they close over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ksym import ops
from ksym.graph import Node, Tensor, replace, topological_order
from ksym.ops.given import is_drawn_ahead
from ksym.ops.leaves import is_constant, placeholder, variable_leaf


def drawn_ahead(
    alike: Mapping[Tensor, Tensor], outputs: Sequence[Tensor], since: int, steps: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Draw the random numbers of all steps before the loop.

    The gradient of a loop computes its steps anew, and has to see the same numbers.

    Args:
        alike: For each parameter of the body an outer tensor of its shape.
        outputs: What the body computes.
        since: The node number from which on nodes were made while it was traced.
        steps: How many steps there are.

    Returns:
        Sequences of random numbers, a placeholder for an element of each, and outputs in terms of
        these.
    """
    sequences: list[Tensor] = []
    elements: dict[Tensor, Tensor] = {}
    for node in topological_order(outputs, until=alike):
        if is_drawn_ahead(node) and node.number >= since:
            tensor = node.outputs[0]
            (size,) = replace(node.inputs, alike)
            whole = ops.concatenate([ops.reshape(steps, (1,)), size], axis=0)
            sequences.append(node.operator.make([whole], node.attributes))
            elements[tensor] = placeholder(tensor.shape, tensor.dtype)
    replaced = replace(outputs, elements)
    return sequences, list(elements.values()), replaced


def closure(
    parameters: Sequence[Tensor], outputs: Sequence[Tensor], since: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Separate a traced body from what it closes over.

    What the body computes from outside only is computed outside, once.  Random tensors made while
    it was traced stay inside: each step draws its own.

    Args:
        parameters: The body's own placeholders.
        outputs: What it computes.
        since: The node number from which on nodes were made while it was traced.

    Returns:
        The outer tensors, a placeholder for each, and outputs in terms of these.
    """
    inside: set[Node] = {p.node for p in parameters}
    outer: dict[Tensor, Tensor] = {}

    def captured(tensor: Tensor) -> None:
        if tensor not in outer and not is_constant(tensor):
            outer[tensor] = placeholder(tensor.shape, tensor.dtype, name=tensor.name)

    for node in topological_order(outputs, until=parameters):
        own = not node.operator.pure and node.number >= since and bool(node.inputs)
        if own or any(t.node in inside for t in node.inputs):
            inside.add(node)
            for tensor in node.inputs:
                if tensor.node not in inside:
                    captured(tensor)
    for tensor in outputs:
        if tensor.node not in inside:
            captured(tensor)
    replaced = replace(outputs, outer)
    return list(outer), list(outer.values()), replaced


def branches(
    first: Sequence[Tensor], second: Sequence[Tensor], since: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Separate what was made while branches were traced from what they close over.

    Branches have no parameters that could tell what depends on them: what was made for one belongs
    to it, whether or not it could be computed outside.  Only random numbers are drawn outside, for
    both, since the gradient computes the branch anew and has to see the same.
    """
    outer: dict[Tensor, Tensor] = {}
    outputs = [*first, *second]

    def captured(tensor: Tensor) -> None:
        if tensor not in outer and not is_constant(tensor):
            outer[tensor] = placeholder(tensor.shape, tensor.dtype, name=tensor.name)

    def is_outside(node: Node) -> bool:
        return node.number < since or node.operator is variable_leaf or is_drawn_ahead(node)

    for node in topological_order(outputs):
        if not is_outside(node):
            for tensor in node.inputs:
                if is_outside(tensor.node):
                    captured(tensor)
    for tensor in outputs:
        if is_outside(tensor.node):
            captured(tensor)
    replaced = replace(outputs, outer)
    return list(outer), list(outer.values()), replaced
