"""Masks drawn on the host: comparisons of random integers, for devices that they are copied to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ksym import ops
from ksym.compiler.passes.declaration import planning_pass
from ksym.compiler.passes.peephole import Replacement, Site, apply_rules, peephole
from ksym.graph import FrozenArray, Tensor, same
from ksym.ops.leaves import is_constant, placeholder


def _sample() -> list[Tensor]:
    always = ops.random_integers((3, 4), 0, 1, "int32") >= np.int32(0)  # so that values are known
    return [placeholder((3, 4)) * ops.cast(always, "float32")]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return not same(draw_masks(outputs), outputs)


@peephole(ops.greater_equal)
def _compared(site: Site) -> Replacement:
    drawn, bound = site.inputs
    node = drawn.node
    if node.operator is not ops.random_integers or not site.is_only_use(0):
        return None
    if bound.value is None or not is_constant(bound) or bound.rank:
        return None
    if {drawn.dtype, bound.dtype} != {"int32"}:
        return None
    attributes = {**node.attributes, "dtype": "bool", "bound": FrozenArray(bound.value)}
    return ops.random_mask.make(node.inputs, attributes)


@planning_pass(sample=_sample, fires=_fires)
def draw_masks(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs in which dropout's masks are drawn as such: a byte each, instead of four."""
    return apply_rules(outputs, _compared)
