"""Normalisation of each sample by its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import Draw, Operator, Sample, promoted
from ksym.ops.windows import check_floats


class _LayerNorm(Operator):
    half = False

    def prepare(
        self, x: Any, gamma: Any, beta: Any, axis: Any = -1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(x, gamma, beta)
        axes = shapes.axes(axis, operands[0].rank)
        return operands, {"axis": axes, "epsilon": float(epsilon)}

    def infer(
        self, x: Tensor, gamma: Tensor, beta: Tensor, axis: tuple[int, ...], epsilon: float
    ) -> Spec:
        check_floats(x, gamma, beta)
        sides = tuple(x.shape[a] for a in axis)
        if 0 in sides:
            raise ShapeError(f"there are no elements along axes {axis} of shape {x.shape}")
        for tensor in (gamma, beta):
            if not shapes.compatible(tensor.shape, sides):
                raise ShapeError(f"the axes {axis} have sizes {sides}, not {tensor.shape}")
        return x.spec

    def numpy(self, x: Any, gamma: Any, beta: Any, axis: tuple[int, ...], epsilon: float) -> Any:
        shape = [side if a in axis else 1 for a, side in enumerate(x.shape)]
        mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
        normal = (x - mean) / np.sqrt(var + epsilon)
        return normal * gamma.reshape(shape) + beta.reshape(shape)

    def differentiable_form(self, node: Node) -> list[Tensor]:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        x, gamma, beta = node.inputs
        axis = node.attributes["axis"]
        distance = x - ops.mean(x, axis, keepdims=True)
        var = ops.mean(ops.square(distance), axis, keepdims=True)
        normal = distance / ops.sqrt(var + node.attributes["epsilon"])
        places = tuple(slice(None) if a in axis else None for a in range(x.rank))
        return normal * gamma[places] + beta[places] if places else normal * gamma + beta

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.choose((-1, tuple(range(draw.integer(0, len(shape) - 1), len(shape)))))
        sides = [shape[a] for a in shapes.axes(axis, len(shape))]
        operands = [draw.array(shape), draw.array(sides, 0.5, 1.5), draw.array(sides)]
        return Sample(*operands, attributes={"axis": axis, "epsilon": 0.1})


layer_norm = _LayerNorm(
    "layer_norm",
    doc="""Normalise over axes of each sample (Ba, Kiros and Hinton, arXiv:1607.06450).

    Args:
        x: A tensor.
        gamma: What to scale the elements along the axes by; of the sizes of these axes.
        beta: What to add to them afterwards; of the same shape.
        axis: An axis or several.
        epsilon: Added to the variance.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: gamma or beta has another shape, or there is nothing along the axes.
    """,
)
