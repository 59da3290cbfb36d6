"""Large products as products of rows with rows, for which oneDNN has the faster kernel.

oneDNN writes its kernels for the processor that it finds; OpenBLAS, as MXNet brings it, has none
for vectors of sixteen.  But MXNet asks oneDNN only for a matrix times a transposed one, so operands
of other products are transposed first, where that costs less than it saves.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.graph import Node, Tensor, rewrite, topological_order

PRODUCT = 4 << 20
"""How many multiplications pay for a native graph of their own."""

ELEMENT = 100
"""How many multiplications pay for transposing an element."""

ROWS = 1024
"""The most rows that are transposed: MXNet takes ten times as long for each element of more."""


def inner_products(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which large products of float32 are inner products."""
    order = topological_order(outputs)
    if not any(node.operator is ops.matmul for node in order):
        return list(outputs)

    def arrange(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node.operator is not ops.matmul or node.outputs[0].dtype != "float32":
            return None
        if any(tensor.rank != 2 for tensor in inputs):
            return None
        (rows, columns), flags = shapes.known(node.outputs[0].shape), node.attributes
        across = flags["transpose_a"], not flags["transpose_b"]
        turned = [tensor for tensor, turn in zip(inputs, across, strict=True) if turn]
        moved = sum(shapes.size(tensor.shape) or 0 for tensor in turned)
        inner = shapes.known(inputs[0].shape)[0 if flags["transpose_a"] else 1]
        if rows * columns * inner < PRODUCT + ELEMENT * moved:
            return None
        if any(shapes.known(tensor.shape)[0] > ROWS for tensor in turned):
            return None
        a, b = (
            ops.transpose(tensor, (1, 0)) if turn else tensor
            for tensor, turn in zip(inputs, across, strict=True)
        )
        return ops.inner_product(a, b)

    return rewrite(outputs, arrange, order=order)
