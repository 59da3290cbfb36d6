"""Padding of channels: convolutions get as many filters and channels as fill oneDNN's blocks.

oneDNN has fast kernels for channels that fill blocks, and slow ones for other numbers: 25 instead
of 70 GFLOP/s for 12 filters, 10 for one.  So filters of zeros are added, and the channels that they
give are cut off; and channels of zeros are added to the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ksym import ops, shapes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.passes.peephole import Site, apply_rules, peephole
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.leaves import placeholder
from ksym.ops.nn.convolution import kernel_flops

FILTERS, CHANNELS = 0, 1
"""The axes of a kernel; in data, the axis of both is `CHANNELS`."""


def _sample() -> list[Tensor]:
    x, w, bias = map(placeholder, ((8, 20, 12, 12), (12, 20, 3, 3), (12,)))
    y = ops.convolution(x, w, bias)
    return [y, *ops.convolution_gradient(placeholder((8, 12, 10, 10)), x, w, bias)]


@graph_pass(sample=_sample, rounding="oneDNN has other kernels for these numbers of channels")
def pad_channels(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs in which convolutions have channels and filters of zeros where that pays.

    Args:
        outputs: The graph.
        costs: Says from which work on it pays, and of which number theirs becomes a multiple.
    """
    order = topological_order(outputs)
    if not any(node.operator is ops.convolution for node in order):
        return list(outputs)
    differentiated = {
        node.inputs[1:3] for node in order if node.operator is ops.convolution_gradient
    }
    made: dict[tuple[Tensor, int, int], Tensor] = {}

    def padded(x: Tensor, axis: int, more: int) -> Tensor:
        """Pad an axis with zeros; the forward node and its gradient share the result."""
        if not more:
            return x
        if (x, axis, more) not in made:
            pairs = tuple((0, more if a == axis else 0) for a in range(x.rank))
            made[x, axis, more] = ops.pad(x, pairs)
        return made[x, axis, more]

    def operands(
        x: Tensor, w: Tensor, bias: Sequence[Tensor], more: tuple[int, int]
    ) -> list[Tensor]:
        filters, channels = more
        return [
            padded(x, CHANNELS, channels),
            padded(padded(w, FILTERS, filters), CHANNELS, channels),
            *(padded(vector, 0, filters) for vector in bias),
        ]

    @peephole(ops.convolution)
    def filled(site: Site) -> Tensor | None:
        x, w, *bias = site.inputs
        more = _missing(site.node, tuple(site.node.inputs[:2]) in differentiated, costs)
        if more is None:
            return None
        y = ops.convolution.make(operands(x, w, bias, more), site.node.attributes)
        return cut(y, site.node.outputs[0])

    @peephole(ops.convolution_gradient)
    def filled_gradient(site: Site) -> Sequence[Tensor] | None:
        g, x, w, *bias = site.inputs
        more = _missing(site.node, True, costs)
        if more is None:
            return None
        given = [padded(g, CHANNELS, more[0]), *operands(x, w, bias, more)]
        found = ops.convolution_gradient.make(given, site.node.attributes)
        return [cut(new, old) for new, old in zip(found, site.node.outputs, strict=True)]

    return apply_rules(outputs, filled, filled_gradient, order=order)


def cut(padded: Tensor, wanted: Tensor) -> Tensor:
    """Return the first elements along each axis, as many as a tensor of the same rank has."""
    if padded.shape == wanted.shape:
        return padded
    return padded[tuple(slice(side) for side in shapes.known(wanted.shape))]


def _missing(node: Node, differentiated: bool, costs: Costs) -> tuple[int, int] | None:
    """Return how many filters and channels of zeros a convolution gets; None for none.

    Args:
        node: A convolution, or its gradient.
        differentiated: Whether its gradient is computed too.
        costs: The costs.
    """
    first = 1 if node.operator is ops.convolution_gradient else 0
    x, w = node.inputs[first : first + 2]
    if x.dtype != "float32" or node.attributes["groups"] != 1 or 0 in (*x.shape, *w.shape):
        return None
    filters, channels, *window = shapes.known(w.shape)
    # One by one, a convolution is a product of matrices, which takes any number.
    if math.prod(window) == 1:
        return None
    y = node.inputs[0] if first else node.outputs[0]
    if kernel_flops(y, w) < costs.padded_work:
        return None
    few = costs.few_channels if differentiated else costs.block_of_channels
    more = _beyond(filters, costs), 0 if channels <= few else _beyond(channels, costs)
    return more if any(more) else None


def _beyond(count: int, costs: Costs) -> int:
    """Return how many channels to add: none where they fill half of a block."""
    block = costs.block_of_channels
    return -count % block if count % (block // 2) else 0
