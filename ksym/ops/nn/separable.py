"""Convolutions of each channel on its own, composed of convolutions in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.operands import promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.convolution import check_kernel, convolution, convolution_attributes
from ksym.ops.nn.correlation import convolution_sample, correlate
from ksym.ops.nn.windows import BothFormats, check_format, output_sides

__all__ = ["depthwise_convolution", "separable_convolution"]


class _Depthwise(BothFormats):
    linear_in = (0, 1)

    def prepare(
        self,
        x: Any,
        w: Any,
        strides: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        x, w = promoted(x, w)
        return [x, w], convolution_attributes(x, w, strides, padding, dilation, None)

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {name: value for name, value in attributes.items() if name != "groups"}

    def infer(self, x: Tensor, w: Tensor, **attributes: Any) -> Spec:
        check_kernel(x, w)
        if not shapes.compatible(x.shape[1:2], w.shape[:1]):
            raise ShapeError(
                f"the input has {x.shape[1]} channels, the kernel takes {w.shape[0]}",
                remedy="check the data format: channels are expected on axis 1",
            )
        if 0 in w.shape:
            raise ShapeError(f"a kernel of shape {w.shape} has no elements")
        sides = output_sides(
            x.shape[2:],
            w.shape[2:],
            attributes["strides"],
            attributes["dilation"],
            attributes["padding"],
        )
        filters = shapes.elementwise(lambda c, m: c * m, *w.shape[:2])
        return Spec((x.shape[0], filters, *sides), x.dtype)

    def numpy(self, x: Any, w: Any, **attributes: Any) -> Any:
        given = {**attributes, "groups": 1}
        parts = [correlate(x[:, c : c + 1], w[c][:, None], given) for c in range(x.shape[1])]
        return np.concatenate(parts, axis=1)

    def differentiable_form(self, node: Node) -> list[Tensor]:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        x, w = node.inputs
        sides = ops.shape_of(w)
        kernel = ops.reshape(w, [sides[0] * sides[1], 1, *(sides[a] for a in range(2, w.rank))])
        return convolution.make([x, kernel], node.attributes)

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = convolution_sample(draw)
        del attributes["groups"]
        kernel = draw.array((x.shape[1], draw.integer(1, 2), *w.shape[2:]))
        return Sample(x, kernel, attributes=attributes)


depthwise_convolution = _Depthwise(
    "depthwise_convolution",
    doc="""Convolve each channel of x with kernels of its own.

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        w: (channels, multiplier, one size for each spatial axis); the results of the first channel
            come first.
        strides: As for `convolution`.
        padding: As for `convolution`.
        dilation: As for `convolution`.
        data_format: As for `convolution`.

    Returns:
        (batch, channels * multiplier, spatial axes...).

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes do not fit.
    """,
)


class _Separable(BothFormats):
    linear_in = (0, 1, 2)

    def prepare(
        self,
        x: Any,
        depthwise: Any,
        pointwise: Any,
        strides: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        x, depthwise, pointwise = promoted(x, depthwise, pointwise)
        attributes = convolution_attributes(x, depthwise, strides, padding, dilation, None)
        return [x, depthwise, pointwise], attributes

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {name: value for name, value in attributes.items() if name != "groups"}

    def infer(self, x: Tensor, depthwise: Tensor, pointwise: Tensor, **attributes: Any) -> Spec:
        between = depthwise_convolution.infer(x, depthwise, **attributes)
        if pointwise.rank != 2 or not shapes.compatible(pointwise.shape[1:], between.shape[1:2]):
            raise ShapeError(
                f"{between.shape[1]} channels cannot be mixed by a matrix of {pointwise.shape}"
            )
        return Spec((between.shape[0], pointwise.shape[0], *between.shape[2:]), x.dtype)

    def numpy(self, x: Any, depthwise: Any, pointwise: Any, **attributes: Any) -> Any:
        between = depthwise_convolution.numpy(x, depthwise, **attributes)
        return np.einsum("nc...,fc->nf...", between, pointwise)

    def differentiable_form(self, node: Node) -> list[Tensor]:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        x, depthwise, pointwise = node.inputs
        between = depthwise_convolution.make([x, depthwise], node.attributes)
        return convolution(between, pointwise[(..., *[None] * (x.rank - 2))])

    def sample(self, draw: Draw) -> Sample:
        sample = depthwise_convolution.sample(draw)
        x, depthwise = sample.operands
        pointwise = draw.array((draw.integer(1, 3), depthwise.shape[0] * depthwise.shape[1]))
        return Sample(x, depthwise, pointwise, attributes=sample.attributes)


separable_convolution = _Separable(
    "separable_convolution",
    doc="""Convolve each channel on its own, then mix the channels at each place.

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        depthwise: The kernel of `depthwise_convolution`.
        pointwise: (filters, channels * multiplier), the weights of the mixture.
        strides: As for `convolution`.
        padding: As for `convolution`.
        dilation: As for `convolution`.
        data_format: As for `convolution`.

    Returns:
        (batch, filters, spatial axes...).

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes do not fit.
    """,
)
