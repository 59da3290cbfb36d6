"""Operator fusion: fold a batch normalisation of given mean and variance into its convolution.

In predictions, batch normalisation scales and shifts each channel by numbers that do not depend on
the batch.  The convolution before it does both, with scaled weights and another bias.  Weights are
small; the result, which is large, is read and written once less.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.passes.peephole import Site, apply_rules, peephole
from ksym.graph import Tensor
from ksym.ops.leaves import placeholder

CHANNELS = 1
"""The axis of a convolution's channels; in its weights it is the first."""


def _sample() -> list[Tensor]:
    y = ops.convolution(placeholder((1, 2, 4, 4)), placeholder((3, 2, 3, 3)))
    mean, gamma, beta = (placeholder((3,)) for _ in range(3))
    return [ops.normalize(y, mean, ops.exp(mean), gamma, beta, axis=CHANNELS)]


@graph_pass(sample=_sample, rounding="weights are scaled instead of results")
def fold_normalization(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which normalisations are folded into the weights of their convolutions."""
    return apply_rules(outputs, _normalized)


@peephole(ops.normalize)
def _normalized(site: Site) -> Tensor | None:
    convolution, (_, mean, var, gamma, beta) = site.inputs[0].node, site.inputs
    if (
        site.node.attributes["axis"] != CHANNELS
        or convolution.operator is not ops.convolution
        or not site.is_only_use(0)  # its gradient reads the result, as moments do
    ):
        return None
    x, w, *bias = convolution.inputs
    scale = gamma / ops.sqrt(var + site.node.attributes["epsilon"])
    scaled = w * ops.reshape(scale, (-1, *(1,) * (w.rank - 1)))
    shift = beta - (mean - bias[0] if bias else mean) * scale
    return ops.convolution.make([x, scaled, shift], convolution.attributes)
