"""The transposes of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import known_dimensions, promoted, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.convolution import (
    NativeConvolution,
    check_kernel,
    convolution,
    convolution_attributes,
    convolution_gradient,
    geometry,
    groups_of,
    kernel_flops,
)
from ksym.ops.nn.correlation import convolution_sample, correlate, correlate_transposed
from ksym.ops.nn.windows import (
    BothFormats,
    check_format,
    check_positive,
    explicit_padding,
    onnx_padding,
    output_sides,
)
from ksym.shapes import Shape

__all__ = ["convolution_transpose"]


class _ConvolutionTranspose(BothFormats):
    half = False
    own_layout = True
    linear_in = (0, 1)
    static_operands = (2,)

    def prepare(
        self,
        x: Any,
        w: Any,
        sides: Any,
        strides: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        groups: int = 1,
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        x, w = promoted(x, w)
        groups = check_positive(groups, "groups")
        if isinstance(sides, np.ndarray) and sides.ndim != 1:
            raise ShapeError(f"the output sizes {sides!r} are not a vector")
        return [x, w, shape_operand(sides)], convolution_attributes(
            x, w, strides, padding, dilation, groups
        )

    def flops(self, node: Node) -> float:
        return kernel_flops(node.inputs[0], node.inputs[1])

    def infer(self, x: Tensor, w: Tensor, sides: Tensor, **attributes: Any) -> Spec:
        check_kernel(x, w)
        target = tuple(known_dimensions(sides))
        if len(target) != x.rank - 2:
            raise ShapeError(f"{len(target)} output sizes for {x.rank - 2} spatial axes")
        if any(side is not None and side < 0 for side in target):
            raise ShapeError(f"the output sizes {target} are negative")
        if None not in (x.shape[1], w.shape[0]) and x.shape[1] != w.shape[0]:
            raise ShapeError(
                f"the input has {x.shape[1]} channels, the kernel takes {w.shape[0]}",
                remedy="check the data format: channels are expected on axis 1",
            )
        if w.shape[0] is not None and w.shape[0] % attributes["groups"]:
            raise ShapeError(f"{w.shape[0]} filters cannot be shared among {attributes['groups']}")
        strides, dilation, padding = geometry(attributes)
        reached = output_sides(target, w.shape[2:], strides, dilation, padding)
        for axis, (side, back) in enumerate(zip(x.shape[2:], reached, strict=True)):
            if side is not None and back is not None and side != back:
                raise ShapeError(
                    f"an output of size {target[axis]} on spatial axis {axis} would come from "
                    f"{back} positions, not from {side}"
                )
        channels = w.shape[1] * attributes["groups"] if w.shape[1] is not None else None
        return Spec((x.shape[0], channels, *target), x.dtype)

    def numpy(self, x: Any, w: Any, sides: Any, **attributes: Any) -> Any:
        shape = (x.shape[0], w.shape[1] * attributes["groups"], *(int(s) for s in sides))
        return correlate_transposed(x, w, shape, attributes)[0]

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, w: Any, sides: Any) -> Any:
        out, source, kernel = node.outputs[0], *node.inputs[:2]
        strides, dilation, padding = geometry(node.attributes)
        window = tuple(int(d or 0) for d in kernel.shape[2:])
        pairs = explicit_padding(out.shape[2:], window, strides, dilation, padding)
        beyond = [
            int(side or 0) + before + after - ((int(n or 0) - 1) * s + (k - 1) * d + 1)
            for side, (before, after), n, s, k, d in zip(
                out.shape[2:], pairs, source.shape[2:], strides, window, dilation, strict=True
            )
        ]
        return emit(
            "ConvTranspose",
            x,
            w,
            strides=strides,
            dilations=dilation,
            kernel_shape=window,
            group=groups_of(source.shape, node.attributes),
            output_padding=beyond if any(beyond) else None,
            **onnx_padding(tuple(pairs)),
        )

    def lower(self, emit: Emitter, node: Node, x: Any, w: Any, sides: Any) -> Any:
        out, source, kernel = node.outputs[0], *node.inputs[:2]
        if 0 in source.shape:  # nothing to add up
            return emit.constant(np.zeros(shapes.known(out.shape), out.dtype))
        native = NativeConvolution(out.shape, kernel.shape, node.attributes)
        padded = native.padded_shape(out.shape)
        if out.rank == 5 or max(node.attributes["dilation"]) > 1:
            return self._by_gradient(emit, native, x, w, padded, node)
        options = dict(native.attributes, num_filter=out.shape[1])
        # The number of elements of the result beyond the last window.
        options["adj"] = tuple(
            int(side or 0) + 2 * pad - ((int(positions or 0) - 1) * stride + (k - 1) * dilate + 1)
            for side, pad, positions, stride, k, dilate in zip(
                padded[2:],
                options["pad"],
                source.shape[2:],
                options["stride"],
                options["kernel"],
                options["dilate"],
                strict=True,
            )
        )
        y = emit("Deconvolution", x, w, **options)
        emit.made_in_blocks(y, native.block)
        return native.cropped(emit, y, out.spec)

    def _by_gradient(
        self, emit: Emitter, native: NativeConvolution, x: Any, w: Any, padded: Shape, node: Node
    ) -> Any:
        """Emit the transpose as a gradient of the convolution at any input.

        `Deconvolution` lacks three axes on some of its paths, and misplaces dilated kernels.
        """
        out, kernel = node.outputs[0], node.inputs[1]
        anywhere = emit("_zeros", shape=padded, dtype=out.dtype)
        forward = native.forward(emit, anywhere, w)
        result, _ = emit.backward(
            "_backward_Convolution",
            x,
            anywhere,
            w,
            of=forward,
            results=[Spec(padded, out.dtype), kernel.spec],
            **native.attributes,
        )
        emit.made_in_blocks(result, native.block)
        return native.cropped(emit, result, out.spec)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, w, _ = node.inputs
        # <g, convT(x, w)> = <x, conv(g, w)>: x takes the place of the gradient.
        _, for_w = convolution_gradient.make([x, g, w], node.attributes)
        return [convolution.make([g, w], node.attributes), for_w, None]

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = convolution_sample(draw)
        y = correlate(x, w, attributes)
        return Sample(
            draw.array(y.shape), w, np.array(x.shape[2:], dtype="int64"), attributes=attributes
        )


convolution_transpose = _ConvolutionTranspose(
    "convolution_transpose",
    doc="""Apply the transpose of a `convolution`: its gradient by the input.

    Args:
        x: (batch, filters, spatial axes).
        w: (filters, channels / groups, one size for each spatial axis), as for the convolution.
        sides: The spatial sizes of the result; several fit when strides are larger than one.
        strides: Those of the convolution.
        padding: That of the convolution.
        dilation: That of the convolution.
        groups: Those of the convolution.
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Returns:
        (batch, channels, sides...).

    Raises:
        ShapeError: The sizes do not belong to a convolution from sides to those of x.
    """,
)
