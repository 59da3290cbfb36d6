"""Normalisation of each sample by its own statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import cast_to, promoted, widened
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_floats, check_positive

__all__ = ["layer_norm", "rms_norm", "group_norm", "instance_norm"]


def _standardized(x: Tensor, over: Sequence[int], epsilon: float) -> Tensor:
    """Return x with mean 0 and variance 1 over axes."""
    distance = x - ops.mean(x, over, keepdims=True)
    return distance / ops.sqrt(ops.mean(ops.square(distance), over, keepdims=True) + epsilon)


def _beside(x: Tensor, vector: Tensor, axes: Sequence[int]) -> Tensor:
    """Reshape a tensor over some axes of x so that it broadcasts against x."""
    places = tuple(slice(None) if a in axes else None for a in range(x.rank))
    return vector[places] if places else vector


class _Norm(Operator):
    def differentiable_form(self, node: Node) -> list[Tensor]:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        operands = map(widened, node.inputs)
        return cast_to(self._composed(*operands, **node.attributes), node.outputs[0].dtype)

    def _composed(self, *operands: Tensor, **attributes: Any) -> Tensor:
        raise NotImplementedError(self.name)


class _LayerNorm(_Norm):
    def prepare(
        self, x: Any, gamma: Any, beta: Any, axis: Any = -1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(x, gamma, beta)
        axes = shapes.axes(axis, operands[0].rank)
        return operands, {"axis": axes, "epsilon": float(epsilon)}

    def infer(self, x: Tensor, *vectors: Tensor, axis: tuple[int, ...], epsilon: float) -> Spec:
        check_floats(x, *vectors)
        sides = tuple(x.shape[a] for a in axis)
        if 0 in sides:
            raise ShapeError(f"there are no elements along axes {axis} of shape {x.shape}")
        for tensor in vectors:
            if not shapes.compatible(tensor.shape, sides):
                raise ShapeError(f"the axes {axis} have sizes {sides}, not {tensor.shape}")
        return x.spec

    def numpy(self, x: Any, gamma: Any, beta: Any, axis: tuple[int, ...], epsilon: float) -> Any:
        shape = [side if a in axis else 1 for a, side in enumerate(x.shape)]
        mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
        normal = (x - mean) / np.sqrt(var + epsilon)
        return normal * gamma.reshape(shape) + beta.reshape(shape)

    def _composed(self, x: Tensor, *vectors: Tensor, axis: Any, epsilon: float) -> Tensor:  # type: ignore[override]
        gamma, beta = vectors
        normal = _standardized(x, axis, epsilon)
        return normal * _beside(x, gamma, axis) + _beside(x, beta, axis)

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
        gamma: The scale of the elements along the axes; of the sizes of these axes.
        beta: The shift, added afterwards; of the same shape.
        axis: An axis or several.
        epsilon: Added to the variance.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: gamma or beta has another shape, or there is nothing along the axes.
    """,
)


class _RMSNorm(_LayerNorm):
    def prepare(  # type: ignore[override]
        self, x: Any, gamma: Any, axis: Any = -1, epsilon: float = 1e-6
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(x, gamma)
        axes = shapes.axes(axis, operands[0].rank)
        return operands, {"axis": axes, "epsilon": float(epsilon)}

    def numpy(self, x: Any, gamma: Any, axis: tuple[int, ...], epsilon: float) -> Any:  # type: ignore[override]
        shape = [side if a in axis else 1 for a, side in enumerate(x.shape)]
        size = np.sqrt(np.square(x).mean(axis=axis, keepdims=True) + epsilon)
        return x / size * gamma.reshape(shape)

    def _composed(self, x: Tensor, *vectors: Tensor, axis: Any, epsilon: float) -> Tensor:  # type: ignore[override]
        (gamma,) = vectors
        power = ops.mean(ops.square(x), axis, keepdims=True)
        return x / ops.sqrt(power + epsilon) * _beside(x, gamma, axis)

    def sample(self, draw: Draw) -> Sample:
        sample = super().sample(draw)
        return Sample(*sample.operands[:2], attributes=sample.attributes)


rms_norm = _RMSNorm(
    "rms_norm",
    doc="""Divide by the root mean square over axes of each sample (Zhang and Sennrich, 2019).

    Args:
        x: A tensor.
        gamma: The scale of the elements along the axes; of the sizes of these axes.
        axis: An axis or several.
        epsilon: Added to the mean square.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: gamma has another shape, or there is nothing along the axes.
    """,
)


class _GroupNorm(_Norm):
    def prepare(
        self, x: Any, gamma: Any, beta: Any, groups: int, axis: int = 1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, gamma, beta = promoted(x, gamma, beta)
        attributes = {"axis": shapes.axis(axis, x.rank), "epsilon": float(epsilon)}
        return [x, gamma, beta], {"groups": check_positive(groups, "groups"), **attributes}

    def infer(
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        groups: int | None,
        axis: int,
        epsilon: float,
    ) -> Spec:
        check_floats(x, gamma, beta)
        if axis == 0:
            raise ShapeError("axis 0 is that of the samples, not of the channels")
        if 0 in x.shape[1:]:
            raise ShapeError(f"there are no elements in samples of shape {x.shape[1:]}")
        channels = x.shape[axis]
        for tensor in (gamma, beta):
            if not shapes.compatible(tensor.shape, (channels,)):
                raise ShapeError(f"a vector of {channels} channels is expected, not {tensor.shape}")
        if groups is not None and channels is not None and channels % groups:
            raise ShapeError(f"{channels} channels cannot be put into {groups} equal groups")
        return x.spec

    def numpy(
        self, x: Any, gamma: Any, beta: Any, groups: int | None, axis: int, epsilon: float
    ) -> Any:
        moved = np.moveaxis(x, axis, 1)
        groups = groups or moved.shape[1]
        size = int(np.prod(moved.shape[1:])) // groups
        rows = moved.reshape(len(x), groups, size)
        rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(
            rows.var(-1, keepdims=True) + epsilon
        )
        shape = (-1, *[1] * (x.ndim - 2))
        normal = rows.reshape(moved.shape) * gamma.reshape(shape) + beta.reshape(shape)
        return np.moveaxis(normal, 1, axis)

    def _composed(  # type: ignore[override]
        self, x: Tensor, gamma: Tensor, beta: Tensor, groups: Any, axis: int, epsilon: float
    ) -> Tensor:
        sides = [ops.shape_of(x)[a] if d is None else d for a, d in enumerate(x.shape)]
        groups = groups or sides[axis]
        grouped = [*sides[:axis], groups, sides[axis] // groups, *sides[axis + 1 :]]
        over = [a for a in range(1, x.rank + 1) if a != axis]
        rows = _standardized(ops.reshape(x, grouped), over, epsilon)
        normal = ops.reshape(rows, sides)
        return normal * _beside(x, gamma, [axis]) + _beside(x, beta, [axis])

    def sample(self, draw: Draw) -> Sample:
        groups = draw.integer(1, 3)
        shape = list(draw.shape(max_rank=3, min_rank=1, min_side=0))
        shape = [shape[0], *(max(side, 1) for side in shape[1:])]
        axis = draw.integer(1, len(shape))
        shape.insert(axis, groups * draw.integer(1, 2))
        vector = (shape[axis],)
        operands = [draw.array(shape), draw.array(vector, 0.5, 1.5), draw.array(vector)]
        return Sample(*operands, attributes={"groups": groups, "axis": axis, "epsilon": 0.1})


group_norm = _GroupNorm(
    "group_norm",
    doc="""Normalise groups of channels of each sample (Wu and He, arXiv:1803.08494).

    Args:
        x: A tensor whose first axis is that of the samples.
        gamma: The scale of each channel.
        beta: The shift of each channel, added afterwards.
        groups: Into how many equal groups of neighbours the channels are put; with 1 it is a
            `layer_norm` of whole samples.
        axis: The channel axis.
        epsilon: Added to the variance.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The channels do not make equal groups, gamma or beta is no vector over them, or
            samples have no elements.
    """,
)


class _InstanceNorm(_GroupNorm):
    def prepare(  # type: ignore[override]
        self, x: Any, gamma: Any, beta: Any, axis: int = 1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(x, gamma, beta, 1, axis, epsilon)
        return operands, {**attributes, "groups": None}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {name: value for name, value in attributes.items() if name != "groups"}

    def sample(self, draw: Draw) -> Sample:
        sample = super().sample(draw)
        kept = {name: value for name, value in sample.attributes.items() if name != "groups"}
        return Sample(*sample.operands, attributes=kept)


instance_norm = _InstanceNorm(
    "instance_norm",
    doc="""Normalise each channel of each sample (Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022).

    Args:
        x: A tensor whose first axis is that of the samples.
        gamma: The scale of each channel.
        beta: The shift of each channel, added afterwards.
        axis: The channel axis.
        epsilon: Added to the variance.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: gamma or beta is no vector over the channels, or samples have no elements.
    """,
)
