"""Scaling a factor of a matrix product instead of the product: a peephole rule for small factors.

A gradient by a weight is a product of two thin matrices, and an optimizer scales it by its learning
rate: a pass over the weight that becomes one over a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.graph import Node, Tensor, count_uses, rewrite, topological_order


def scale_factors(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which products that are only ever scaled have a factor scaled instead."""
    order = topological_order(outputs)
    if not any(node.operator is ops.matmul for node in order):
        return list(outputs)
    uses = count_uses(order, outputs)

    def scale(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node.operator is not ops.multiply:
            return None
        for position in (0, 1):
            product, scalar = inputs[position], inputs[1 - position]
            if (
                product.node.operator is ops.matmul
                and scalar.rank == 0
                and uses[node.inputs[position]] == 1
            ):
                return _scaled(product.node, scalar)
        return None

    return rewrite(outputs, scale, order=order)


def _scaled(product: Node, scalar: Tensor) -> Tensor | None:
    factors = list(product.inputs)
    sizes = [shapes.size(factor.shape) or 0 for factor in factors]
    smaller = sizes.index(min(sizes))
    if sizes[smaller] >= (shapes.size(product.outputs[0].shape) or 0):
        return None
    factors[smaller] = ops.multiply(scalar, factors[smaller])
    return ops.matmul.make(factors, product.attributes)
