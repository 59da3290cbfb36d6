"""Constant folding: compute nodes that depend on constants only."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ksym import ops, shapes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, rewrite
from ksym.ops.leaves import constant, is_constant, placeholder


def _sample() -> list[Tensor]:
    return [placeholder((2,)) * ops.exp(constant(np.ones(2, "float32")))]


@graph_pass(sample=_sample, rounding="NumPy computes what a kernel would have computed")
def fold(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs in which small results of constants are constants."""
    return rewrite(outputs, functools.partial(_computed, limit=costs.folded_elements))


def _computed(node: Node, inputs: Sequence[Tensor], limit: int) -> Tensor | None:
    if not inputs or not node.operator.pure or len(node.outputs) != 1:
        return None
    if not all(map(is_constant, inputs)):
        return None
    output = node.outputs[0]
    elements = shapes.size(output.shape)
    if elements is None or elements > limit:
        return None
    try:
        with np.errstate(all="ignore"):
            value = node.operator.numpy(*(tensor.value for tensor in inputs), **node.attributes)
    except np.linalg.LinAlgError:
        return None  # it fails when it runs, if it does
    return constant(np.asarray(value).astype(output.dtype))
