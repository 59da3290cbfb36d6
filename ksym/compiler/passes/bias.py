"""Operator fusion: convolutions add their bias, and sum its gradient, themselves.

oneDNN keeps a convolution's result in blocks; an addition by another kernel would have it copied
out of them and back.
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
    """Return outputs in which biases are operands of their convolutions, in both directions."""
    order = topological_order(outputs)
    if not any(node.operator is ops.convolution for node in order):
        return list(outputs)
    by_gradient = {
        node.inputs[0]: node
        for node in order
        if node.operator is ops.convolution_gradient and len(node.inputs) == 3
    }
    sums = {node for node in order if _sums_channels(node) and node.inputs[0] in by_gradient}
    # What depends on a sum comes last, so that its convolution has been rewritten before it; a
    # convolution that depends on one is left as it is.
    late: set[Node] = set()
    for node in order:
        if node in sums or any(tensor.node in late for tensor in node.inputs):
            late.add(node)
    biased = {by_gradient[node.inputs[0]] for node in sums} - late
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
        # The gradient does not depend on the bias, but it needs its forward node, which would
        # be computed once more with another one.
        bias = added.get((x, w), ops.zeros(w.shape[:1], w.dtype))
        dx, dw, db = ops.convolution_gradient.make([g, x, w, bias], site.node.attributes)
        summed[site.node.inputs[0]] = db
        return dx, dw

    @peephole(ops.sum_)
    def that_sum(site: Site) -> Tensor | None:
        g = site.node.inputs[0]
        if site.node not in sums or g not in summed:
            return None
        return ops.reshape(summed[g], site.node.outputs[0].shape)

    ordered = [*(node for node in order if node not in late), *(n for n in order if n in late)]
    return apply_rules(outputs, with_bias, with_sum, that_sum, order=ordered)


def _sums_channels(node: Node) -> bool:
    """Whether a node sums over everything but the channels on axis 1."""
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
    """Whether a tensor holds one number for each channel, placed to broadcast along the others."""
    wanted = (product.shape[1], *(1,) * (product.rank - 2))
    return bias.shape in (wanted, (1, *wanted))
