"""Layout optimisation: push transpositions toward the outputs, so that adjoining ones cancel.

Keras's channels-last layers transpose to channels first for each kernel and back after it.  This
pass does not apply a transposition at once, but keeps it as a pending order of a tensor's axes.
Operators that can work on the axes in any order (elementwise ones, reductions, ...) pass the
pending order on to their result.  A further transposition is composed with it, which often leaves
nothing.  It is applied only for an operator that depends on the order of axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, same, topological_order
from ksym.ops.leaves import is_constant, placeholder
from ksym.origin import origin_of

Order = tuple[int, ...]


class _Pending:
    """A tensor that is ``transpose(base, order)``, not applied yet; order None is the identity."""

    __slots__ = ("base", "order")

    def __init__(self, base: Tensor, order: Order | None = None):
        self.base = base
        self.order = None if order == tuple(range(base.rank)) else order


def _sample() -> list[Tensor]:
    first = ops.transpose(placeholder((2, 3, 4)), (0, 2, 1))
    return [ops.transpose(ops.exp(first), (0, 2, 1))]


@graph_pass(sample=_sample, rounding="reductions sum up the same numbers in another order")
def push_transpositions(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which transpositions are applied as late as possible, or cancelled."""
    order = topological_order(outputs)
    if not any(node.operator is ops.transpose for node in order):
        return list(outputs)
    state: dict[Tensor, _Pending] = {}
    transposed: dict[tuple[Tensor, Order], Tensor] = {}

    def applied(tensor: Tensor) -> Tensor:
        pending = state[tensor]
        if pending.order is None:
            return pending.base
        key = (pending.base, pending.order)
        if key not in transposed:
            transposed[key] = ops.transpose(pending.base, pending.order)
        return transposed[key]

    for node in order:
        with origin_of(node):
            if node.operator is ops.transpose:
                state[node.outputs[0]] = _composed(state[node.inputs[0]], node.attributes["axes"])
                continue
            pushed = _pushed(node, [state[tensor] for tensor in node.inputs])
            if pushed is not None:
                state[node.outputs[0]] = pushed
                continue
            inputs = [applied(tensor) for tensor in node.inputs]
            results: Sequence[Tensor] = node.outputs
            if not same(inputs, node.inputs):
                made = node.operator.make(inputs, node.attributes)
                results = (made,) if isinstance(made, Tensor) else made
        for old, new in zip(node.outputs, results, strict=True):
            state[old] = _Pending(new)
    return [applied(tensor) for tensor in outputs]


def _composed(inner: _Pending, axes: Order) -> _Pending:
    order = axes if inner.order is None else tuple(inner.order[a] for a in axes)
    return _Pending(inner.base, order)


def _pushed(node: Node, operands: Sequence[_Pending]) -> _Pending | None:
    """Return the result of a node with the pending order of its operands, if that is possible."""
    orders = {pending.order for pending in operands if pending.order is not None}
    if len(orders) != 1 or len(node.outputs) != 1:
        return None
    (order,) = orders
    if not node.operator.elementwise:
        if any(pending.order is None for pending in operands):
            return None
        found = node.operator.permuted(node, [pending.base for pending in operands], order)
        return None if found is None else _Pending(*found)
    if len(order) != node.outputs[0].rank:
        return None
    bases = []
    for pending in operands:
        base = pending.base
        if pending.order is None:
            # Not for a mask, which meets gradients that are in order still.
            moved = _reordered(base, order, broadcast=node.outputs[0].dtype != "bool")
            if moved is None:
                return None
            base = moved
        bases.append(base)
    return _Pending(node.operator.make(bases, node.attributes), order)


def _reordered(tensor: Tensor, order: Order, broadcast: bool) -> Tensor | None:
    """Return the tensor that becomes the given one when its axes are put in order.

    None if that would move elements: then it is better to apply the transposition.

    Args:
        tensor: The tensor.
        order: The order.
        broadcast: Whether a tensor that is broadcast may be broadcast in another order.
    """
    if tensor.rank == 0:
        return tensor
    shape = (1,) * (len(order) - tensor.rank) + shapes.known(tensor.shape)
    axes = shapes.inverse(order)
    back = tuple(shape[axis] for axis in axes)
    longer = [axis for axis in axes if shape[axis] != 1]
    if longer == sorted(longer):
        return ops.reshape(tensor, back)
    if broadcast and tensor.node.operator is ops.broadcast_to:
        source = _reordered(tensor.node.inputs[0], order, broadcast=False)
        return None if source is None else ops.broadcast_to(source, back)
    if is_constant(tensor) and tensor.value is not None:
        value = tensor.value.reshape(shape).transpose(axes)
        return ops.constant(value)
    return None
