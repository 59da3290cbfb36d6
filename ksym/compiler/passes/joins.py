"""Concatenation of the gradients of adjoining slices, instead of their sum.

The gradient of a slice is zero outside of it, and the gradients of all slices of a tensor are added
up.  If the slices adjoin each other and cover the tensor, the sum is one concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops, shapes
from ksym.autodiff import gradients
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, count_uses, rewrite, topological_order
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    x = placeholder((2, 3))
    return gradients(ops.sum_(ops.exp(x[:, :1])) + ops.sum_(ops.sin(x[:, 1:])), [x])


@graph_pass(sample=_sample)
def concatenate_slice_gradients(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which sums of gradients of adjoining slices are concatenations."""
    order = topological_order(outputs)
    uses = count_uses(order, outputs)
    # For each sum of gradients of slices, the nodes of these gradients.
    terms: dict[Tensor, list[Node]] = {}
    inner: set[Tensor] = set()
    for node in order:
        result = node.outputs[0]
        if node.operator is ops.slice_gradient:
            terms[result] = [node]
        elif node.operator is ops.add and all(t in terms and uses[t] == 1 for t in node.inputs):
            terms[result] = [part for t in node.inputs for part in terms[t]]
            inner.update(node.inputs)
    sums = {t.node: terms[t] for t in terms.keys() - inner if len(terms[t]) > 1}
    axes = {node: _axis(parts) for node, parts in sums.items()}
    given: dict[Node, Tensor] = {}

    def join(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node.operator is ops.slice_gradient:
            given[node] = inputs[0]
        axis = axes.get(node)
        if axis is None:
            return None
        parts = sorted(sums[node], key=lambda part: _ranges(part)[axis].start)
        return ops.concatenate([given[part] for part in parts], axis=axis)

    return rewrite(outputs, join, order=order)


def _ranges(part: Node) -> list[range]:
    """Return the range of a slice along each axis."""
    shape = shapes.known(part.outputs[0].shape)
    bounds = ops.slice_bounds(part, 2)
    return [range(*bound.indices(side)) for side, bound in zip(shape, bounds, strict=True)]


def _axis(parts: Sequence[Node]) -> int | None:
    """Return the axis along which slices adjoin and cover the tensor; None if there is none."""
    shape = shapes.known(parts[0].outputs[0].shape)
    ranges = [_ranges(part) for part in parts]
    partial = {
        axis
        for taken in ranges
        for axis, (side, along) in enumerate(zip(shape, taken, strict=True))
        if along != range(side)
    }
    if len(partial) != 1:
        return None
    (axis,) = partial
    end = 0
    for along in sorted((taken[axis] for taken in ranges), key=lambda along: along.start):
        if along.step != 1 or along.start != end or not along:
            return None
        end = along.stop
    return axis if end == shape[axis] else None
