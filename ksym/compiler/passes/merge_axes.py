"""Legalisation: replace nodes that have more axes than MXNet's kernels take."""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, rewrite, same, topological_order
from ksym.ops import ranks
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    return [ops.exp(placeholder((2, 1, 2, 1, 2, 1, 2)))]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return not same(merge_axes(outputs), outputs)


@planning_pass(
    sample=_sample,
    fires=_fires,
    optional=False,
)
def merge_axes(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs computed by nodes of few axes, as operators' `merge_axes` declare."""
    order = topological_order(outputs)
    return rewrite(outputs, _merged, order=order) if any(map(_is_wide, order)) else list(outputs)


def _is_wide(node: Node) -> bool:
    return any(len(tensor.shape) > ranks.MOST for tensor in (*node.inputs, *node.outputs))


def _merged(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    if not _is_wide(node) or all(0 in tensor.shape for tensor in node.outputs):
        return None
    if not same(inputs, node.inputs):
        node = node.operator.remake(node, inputs)
    operator = node.operator
    made = ranks.elementwise(node) if operator.elementwise else operator.merge_axes(node)
    return node.outputs if made is None else made
