"""Operator fusion: convolutions add their bias, and compute its gradient, themselves.

oneDNN keeps the result of a convolution in its own layout; an addition by another operator would
convert it and back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.autodiff import gradients
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.passes.peephole import Site, apply_rules, peephole
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    x, w, bias = map(placeholder, ((1, 2, 4, 4), (3, 2, 3, 3), (3, 1, 1)))
    y = ops.convolution(x, w) + bias
    return [y, *gradients(ops.sum_(ops.square(y)), [x, w, bias])]


@graph_pass(sample=_sample, rounding="oneDNN adds the bias to its sums, and sums its gradient")
def fuse_bias(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which biases are operands of convolutions, and of their gradients."""
    order = topological_order(outputs)
    if not any(node.operator is ops.convolution for node in order):
        return list(outputs)
    by_gradient = {
        node.inputs[0]: node
        for node in order
        if node.operator is ops.convolution_gradient and len(node.inputs) == 3
    }
    sums = {node for node in order if _sums_channels(node) and node.inputs[0] in by_gradient}
    # Nodes that depend on a sum are rewritten last, after the convolution of the sum; a convolution
    # that depends on a sum itself is left as it is.
    after_sums: set[Node] = set()
    for node in order:
        if node in sums or any(tensor.node in after_sums for tensor in node.inputs):
            after_sums.add(node)
    biased = {by_gradient[node.inputs[0]] for node in sums} - after_sums
    summed: dict[Tensor, Tensor] = {}
    added: dict[tuple[Tensor, ...], Tensor] = {}

    @peephole(ops.add)
    def with_bias(site: Site) -> Tensor | None:
        result = _with_bias(site)
        if result is not None:
            *operands, vector = result.node.inputs
            added[tuple(operands)] = vector
        return result

    @peephole(ops.convolution_gradient)
    def with_sum(site: Site) -> Sequence[Tensor] | None:
        if site.node not in biased:
            return None
        g, x, w = site.inputs
        # The gradient does not depend on the bias; but with another bias its forward node would be
        # another one, and computed once more.
        bias = added.get((x, w), ops.zeros(w.shape[:1], w.dtype))
        dx, dw, db = ops.convolution_gradient.make([g, x, w, bias], site.node.attributes)
        summed[site.node.inputs[0]] = db
        return dx, dw

    @peephole(ops.sum_)
    def sum_of_gradient(site: Site) -> Tensor | None:
        g = site.node.inputs[0]
        if site.node not in sums or g not in summed:
            return None
        return ops.reshape(summed[g], site.node.outputs[0].shape)

    ordered = sorted(order, key=after_sums.__contains__)
    return apply_rules(outputs, with_bias, with_sum, sum_of_gradient, order=ordered)


def _sums_channels(node: Node) -> bool:
    """Return whether a node sums over all axes but axis 1, that of the channels."""
    rank = node.inputs[0].rank if node.inputs else 0
    every_other = (0, *range(2, rank))
    return node.operator is ops.sum_ and rank > 2 and node.attributes["axis"] == every_other


def _with_bias(site: Site) -> Tensor | None:
    for position in (0, 1):
        product, bias = site.inputs[position], site.inputs[1 - position]
        convolution = product.node
        if (
            convolution.operator is ops.convolution
            and len(convolution.inputs) == 2
            and site.is_only_use(position)
            and _is_per_channel(bias, product)
        ):
            vector = ops.reshape(bias, product.shape[1:2])
            return ops.convolution.make([*convolution.inputs, vector], convolution.attributes)
    return None


def _is_per_channel(bias: Tensor, product: Tensor) -> bool:
    """Return whether a tensor has one element for each channel, and broadcasts along the rest."""
    wanted = (product.shape[1], *(1,) * (product.rank - 2))
    return bias.shape in (wanted, (1, *wanted))
