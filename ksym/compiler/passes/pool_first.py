"""Exchange of ReLU and max pooling: apply ReLU to the result of the pooling.

The maximum of rectified elements is the rectified maximum; for windows of two by two, ReLU then has
a quarter of the elements.  The same holds for gradients: a gradient goes to the largest element of
a window if that is positive, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.autodiff import gradients
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.passes.peephole import Readers, Site, apply_rules, peephole
from ksym.graph import Node, Tensor
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    x = placeholder((1, 2, 4, 4))
    y = ops.max_pool(ops.relu(x), 2)
    return [y, *gradients(ops.sum_(ops.square(y)), [x])]


@graph_pass(sample=_sample)
def pool_first(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which max_pool(relu(x)) is relu(max_pool(x)), and so are gradients."""
    return apply_rules(outputs, _pooled, _masked)


@peephole(ops.max_pool)
def _pooled(site: Site) -> Tensor | None:
    if not _moves(site.node.inputs[0], site.readers):
        return None
    (x,) = site.inputs[0].node.inputs
    return ops.relu(ops.max_pool.make([x], site.node.attributes))


@peephole(ops.relu_gradient)
def _masked(site: Site) -> Tensor | None:
    if not _moves(site.node.inputs[1], site.readers):
        return None
    carried = site.inputs[0].node
    (x,), g = site.inputs[1].node.inputs, carried.inputs[0]
    pooled = ops.relu(ops.max_pool.make([x], carried.attributes))
    return ops.max_pool_gradient.make([ops.relu_gradient(g, pooled), x], carried.attributes)


def _moves(rectified: Tensor, readers: Readers) -> bool:
    """Return whether only its pooling, and the gradients of both, read a ReLU's result."""
    if rectified.node.operator is not ops.relu or rectified in readers.outputs:
        return False
    for reader in readers.nodes(rectified):
        if reader.operator is ops.max_pool_gradient:
            masks = readers.nodes(reader.outputs[0])
            if len(masks) != 1 or not all(_is_masked(mask, rectified) for mask in masks):
                return False
        elif reader.operator is not ops.max_pool and not _is_masked(reader, rectified):
            return False
    return True


def _is_masked(node: Node, rectified: Tensor) -> bool:
    """Return whether a node is the gradient of a ReLU, applied to that of its pooling."""
    if node.operator is not ops.relu_gradient or node.inputs[1] is not rectified:
        return False
    carried = node.inputs[0].node
    return carried.operator is ops.max_pool_gradient and carried.inputs[1] is rectified
