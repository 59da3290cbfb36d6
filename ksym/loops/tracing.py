"""Closures: separate the nodes of a traced body from the outer tensors that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ksym import ops
from ksym.graph import Node, Tensor, replace, topological_order
from ksym.ops.collective import refuse_collectives
from ksym.ops.given import is_drawn_ahead
from ksym.ops.leaves import is_constant, placeholder, variable_leaf


def drawn_ahead(
    alike: Mapping[Tensor, Tensor], outputs: Sequence[Tensor], since: int, steps: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Draw the random numbers of all steps before the loop.

    The gradient of a loop computes its steps again, and needs the same numbers.

    Args:
        alike: For each parameter of the body an outer tensor of its shape.
        outputs: The outputs of the body.
        since: The number of the first node that was made while the body was traced.
        steps: The number of steps.

    Returns:
        Sequences of random numbers, a placeholder for an element of each, and the outputs in terms
        of these.
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
    """Separate a traced body from the outer tensors that it closes over.

    Nodes of the body that depend on outer tensors only are moved outside, and computed once.
    Random tensors that were made while it was traced stay inside: each step draws its own.

    Args:
        parameters: The body's own placeholders.
        outputs: The outputs of the body.
        since: The number of the first node that was made while the body was traced.

    Returns:
        The outer tensors, a placeholder for each, and the outputs in terms of these.
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
    refuse_collectives(replaced)
    return list(outer), list(outer.values()), replaced


def branches(
    first: Sequence[Tensor], second: Sequence[Tensor], since: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Separate two traced branches from the outer tensors that they close over.

    Branches have no parameters.  So all nodes that were made while a branch was traced belong to
    it, even if they could be computed outside.  Only random numbers are drawn outside, for both
    branches, since the gradient computes the branch again and needs the same numbers.
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
    refuse_collectives(replaced)
    return list(outer), list(outer.values()), replaced
