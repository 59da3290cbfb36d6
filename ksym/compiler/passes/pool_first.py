"""Rectifying what is left after pooling, instead of all that is pooled: a peephole rule.

The largest of rectified elements is the largest element, rectified; of windows of two by two that
is a quarter of the work.  It is so for the gradient too: it goes to the largest element of a window
where that is positive, and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ksym import ops
from ksym.autodiff import gradients
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, rewrite, topological_order
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    x = placeholder((1, 2, 4, 4))
    y = ops.max_pool(ops.relu(x), 2)
    return [y, *gradients(ops.sum_(ops.square(y)), [x])]


@graph_pass(sample=_sample)
def pool_first(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which max_pool(relu(x)) is relu(max_pool(x)), and so are gradients."""
    order = topological_order(outputs)
    if not any(node.operator is ops.max_pool for node in order):
        return list(outputs)
    users: dict[Tensor, set[Node]] = defaultdict(set)
    for node in order:
        for tensor in node.inputs:
            users[tensor].add(node)
    asked = set(outputs)

    def moves(rectified: Tensor) -> bool:
        """Whether nobody needs an activation but its pooling, and the gradients of both."""
        return (
            rectified.node.operator is ops.relu
            and rectified not in asked
            and all(
                user.operator in (ops.max_pool, ops.max_pool_gradient)
                or _is_masked(user, rectified)
                for user in users[rectified]
            )
            and all(
                len(users[user.outputs[0]]) == 1
                and all(_is_masked(mask, rectified) for mask in users[user.outputs[0]])
                for user in users[rectified]
                if user.operator is ops.max_pool_gradient
            )
        )

    def pool(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node.operator is ops.max_pool and moves(node.inputs[0]):
            (x,) = inputs[0].node.inputs
            return ops.relu(ops.max_pool.make([x], node.attributes))
        if node.operator is ops.relu_gradient and moves(node.inputs[1]):
            carried = inputs[0].node
            (x,), g = inputs[1].node.inputs, carried.inputs[0]
            pooled = ops.relu(ops.max_pool.make([x], carried.attributes))
            masked = ops.relu_gradient(g, pooled)
            return ops.max_pool_gradient.make([masked, x], carried.attributes)
        return None

    return rewrite(outputs, pool, order=order)


def _is_masked(node: Node, rectified: Tensor) -> bool:
    """Whether a node is the gradient of an activation, of what pooling gives of its gradient."""
    if node.operator is not ops.relu_gradient or node.inputs[1] is not rectified:
        return False
    carried = node.inputs[0].node
    return carried.operator is ops.max_pool_gradient and carried.inputs[1] is rectified
