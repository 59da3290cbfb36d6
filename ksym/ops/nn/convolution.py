"""Convolutions over one to three spatial axes, and their gradients.

Three operators are closed under differentiation: `convolution`, its transpose (in
transposed.py), and `convolution_gradient`, which is MXNet's own backward kernel.  Writing
``y = conv(x, w)`` as the trilinear form ``<g, conv(x, w)>``, the derivative by any of g, x and w is
one of the three again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter, block_of
from ksym.operator.operands import promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.cropping import emit_range
from ksym.ops.arrays.padding import pad_value
from ksym.ops.nn.correlation import convolution_sample, correlate, correlate_transposed
from ksym.ops.nn.windows import (
    BothFormats,
    canonical_padding,
    check_floats,
    check_format,
    check_meets,
    check_positive,
    explicit_padding,
    named_padding,
    onnx_padding,
    output_sides,
    per_axis,
)
from ksym.shapes import Shape

__all__ = ["convolution"]

FAR = 1 << 20
"""A stride over all of any image."""


def convolution_attributes(
    x: Tensor, w: Tensor, strides: Any, padding: Any, dilation: Any, groups: Any
) -> dict[str, Any]:
    """Return the attributes of a convolution of x, or of its transpose, in the graph.

    Raises:
        ShapeError: An attribute has no meaning.
    """
    axes = x.rank - 2
    if not 1 <= axes <= 3:
        raise ShapeError(
            f"a convolution has 1 to 3 spatial axes, not {axes}",
            remedy="give a tensor (batch, channels, spatial axes...)",
        )
    dilation = per_axis(dilation, axes, "dilation")
    if w.rank == x.rank:  # others are refused by `infer`
        padding = named_padding(padding, w.shape[2:], dilation)
    return {
        "strides": per_axis(strides, axes, "strides"),
        "padding": canonical_padding(padding, axes, causal=True),
        "dilation": dilation,
        "groups": None if groups is None else check_positive(groups, "groups"),
    }


def geometry(attributes: Any) -> tuple[Any, Any, Any]:
    """Return the attributes that decide over the positions of the window."""
    return attributes["strides"], attributes["dilation"], attributes["padding"]


def groups_of(shape: Shape, attributes: Any) -> Any:
    """Return the number of groups: by default one for each channel."""
    groups = attributes["groups"]
    return shape[1] if groups is None else groups


class NativeConvolution:
    """The native form of a convolution whose shapes are known."""

    def __init__(self, x: Shape, w: Shape, attributes: Any, bias: bool = False):
        strides, dilation, padding = geometry(attributes)
        window = tuple(int(d or 0) for d in w[2:])
        pairs = explicit_padding(x[2:], window, strides, dilation, padding)
        # MXNet pads both ends alike; anything else is padded by an operator of its own.
        self.symmetric = all(before == after for before, after in pairs)
        self.pairs = [(0, 0), (0, 0), *pairs]
        self.attributes = {
            "kernel": window,
            "num_filter": w[0],
            "stride": strides,
            "dilate": dilation,
            "pad": tuple(b for b, _ in pairs) if self.symmetric else (0,) * len(pairs),
            "num_group": groups_of(x, attributes),
            "no_bias": not bias,
        }
        self.block = block_of(x[1], w[0])

    def apply(self, emit: Emitter, x: Any, *others: Any) -> Any:
        """Emit the convolution of a padded input."""
        y = emit("Convolution", x, *others, **self.attributes)
        emit.made_in_blocks(y, self.block)
        return y

    def forward(self, emit: Emitter, x: Any, *others: Any) -> Any:
        """Return a convolution of operands for a gradient kernel to depend on.

        The kernel reads nothing of it, but MXNet infers shapes from it, and computes it.  If it is
        not there already, one with a single position stands in, in 1 to 5% of the time.
        """
        found = emit.emitted("Convolution", x, *others, **self.attributes)
        if found is not None:
            return found
        far = tuple(FAR for _ in self.attributes["stride"])
        return emit("Convolution", x, *others, **{**self.attributes, "stride": far})

    def padded(self, emit: Emitter, x: Any, source: Tensor) -> Any:
        """Pad the input, where MXNet does not."""
        return x if self.symmetric else pad_value(emit, x, source, self.pairs)

    def padded_shape(self, shape: Shape) -> Shape:
        """Return the shape of the padded input."""
        if self.symmetric:
            return shape
        return tuple(int(d or 0) + b + a for d, (b, a) in zip(shape, self.pairs, strict=True))

    def cropped(self, emit: Emitter, value: Any, source: Spec) -> Any:
        """Cut off the padding."""
        if self.symmetric:
            return value
        begin = tuple(b for b, _ in self.pairs)
        end = tuple(b + int(d or 0) for (b, _), d in zip(self.pairs, source.shape, strict=True))
        whole = Spec(self.padded_shape(source.shape), source.dtype)
        return emit_range(emit, value, whole, begin, end)


def check_kernel(x: Tensor, w: Tensor) -> None:
    """Raise an error for a kernel that no convolution of x has.

    Raises:
        ShapeError: Its rank differs, or its window is empty.
        DTypeError: The operands are not floats.
    """
    check_floats(x, w)
    if w.rank != x.rank:
        raise ShapeError(f"the kernel has rank {w.rank}, the input rank {x.rank}")
    if 0 in w.shape[2:]:
        raise ShapeError(f"the window of a kernel of shape {w.shape} is empty")


def kernel_flops(windows: Tensor, w: Tensor) -> float:
    """Return the floating-point operations of a kernel at all places of windows, (N, F, ...)."""
    batch, _, *sides = windows.shape
    return 2.0 * (shapes.size((batch, *sides)) or 0) * (shapes.size(w.shape) or 0)


class _Convolution(BothFormats):
    half = False
    own_layout = True
    linear_in = (0, 1)

    def prepare(
        self,
        x: Any,
        w: Any,
        bias: Any = None,
        strides: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        groups: int | None = 1,
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        operands = promoted(x, w) if bias is None else promoted(x, w, bias)
        x, w = operands[:2]
        return operands, convolution_attributes(x, w, strides, padding, dilation, groups)

    def infer(self, x: Tensor, w: Tensor, *bias: Tensor, **attributes: Any) -> Spec:
        check_kernel(x, w)
        groups = groups_of(x.shape, attributes)
        channels, expected = x.shape[1], w.shape[1]
        if groups == 0:
            raise ShapeError("there are no channels, and so no groups")
        if None not in (channels, expected, groups) and channels != expected * groups:
            raise ShapeError(
                f"the input has {channels} channels, the kernel takes {expected} in each of "
                f"{groups} group(s)",
                remedy="check the data format: channels are expected on axis 1",
            )
        if None not in (w.shape[0], groups) and w.shape[0] % groups:
            raise ShapeError(f"{w.shape[0]} filters cannot be shared among {groups} groups")
        for vector in bias:
            if vector.rank != 1 or not shapes.compatible(vector.shape, w.shape[:1]):
                raise ShapeError(f"the bias has shape {vector.shape} for {w.shape[0]} filters")
        strides, dilation, padding = geometry(attributes)
        sides = output_sides(x.shape[2:], w.shape[2:], strides, dilation, padding)
        return Spec((x.shape[0], w.shape[0], *sides), x.dtype)

    def flops(self, node: Node) -> float:
        return kernel_flops(node.outputs[0], node.inputs[1])

    def numpy(self, x: Any, w: Any, *bias: Any, **attributes: Any) -> Any:
        y = correlate(x, w, attributes)
        return y + bias[0].reshape(-1, *(1,) * (x.ndim - 2)) if bias else y

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, w: Any, *bias: Any) -> Any:
        source, kernel = node.inputs[:2]
        strides, dilation, padding = geometry(node.attributes)
        if padding == "causal" or (padding == "same" and set(dilation) != {1}):
            window = tuple(int(d or 0) for d in kernel.shape[2:])
            padding = tuple(explicit_padding(source.shape[2:], window, strides, dilation, padding))
        options = {"strides": strides, "dilations": dilation, "kernel_shape": kernel.shape[2:]}
        groups = groups_of(source.shape, node.attributes)
        return emit("Conv", x, w, *bias, group=groups, **options, **onnx_padding(padding))

    def lower(self, emit: Emitter, node: Node, x: Any, w: Any, *bias: Any) -> Any:
        source, kernel = node.inputs[:2]
        if 0 in source.shape:  # nothing to add up
            y = emit.constant(np.zeros(shapes.known(node.outputs[0].shape), source.dtype))
            if not bias:
                return y
            along = (1, -1, *(1,) * (source.rank - 2))
            return emit("_npi_add", y, emit("_np_reshape", bias[0], newshape=along))
        native = NativeConvolution(source.shape, kernel.shape, node.attributes, bool(bias))
        return native.apply(emit, native.padded(emit, x, source), w, *bias)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return list(convolution_gradient.make([g, *node.inputs], node.attributes))

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = convolution_sample(draw)
        bias = [draw.array(w.shape[:1])] if draw.choose((True, False)) else []
        return Sample(x, w, *bias, attributes=attributes)


convolution = _Convolution(
    "convolution",
    doc="""Correlate x with a kernel, as neural networks call convolution (it is not flipped).

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        w: (filters, channels / groups, one size for each spatial axis).
        bias: A number added to the results of each filter, or None.
        strides: The distance between positions, an int or one for each spatial axis.
        padding: ``"valid"``, ``"same"`` (as TensorFlow pads), a number of elements for all sides,
            for each axis a number or (before, after), or for one axis ``"causal"``: no result
            depends on later elements.  ``"full"`` and ``"half"`` are Theano's: one element less
            than the window on both sides, and half of the window, rounded down.
        dilation: The distance between neighbours in the window.
        groups: The number of groups that the channels are split into; None gives each
            channel a group of its own.
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: Ranks or channels do not fit; at the call, a window that is larger than the
            padded input.
    """,
)


class _ConvolutionGradient(Operator):
    internal = "a part of the gradient of `convolution`"
    half = False
    own_layout = True
    linear_in = (0,)

    def prepare(
        self, g: Tensor, x: Tensor, w: Tensor, *bias: Tensor, **attributes: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(g, x, w, *bias)
        given = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1, **attributes}
        return operands, convolution_attributes(operands[1], operands[2], **given)

    def infer(self, g: Tensor, *operands: Tensor, **attributes: Any) -> tuple[Spec, ...]:
        y = convolution.infer(*operands, **attributes)
        check_meets(g, y.shape, y.dtype)
        return tuple(operand.spec for operand in operands)

    def flops(self, node: Node) -> float:
        g, _, w, *_ = node.inputs
        return 2.0 * kernel_flops(g, w)

    def numpy(self, g: Any, x: Any, w: Any, *bias: Any, **attributes: Any) -> Any:
        dx, by_kernel = correlate_transposed(g, w, x.shape, attributes)
        over = tuple(a for a in range(g.ndim) if a != 1)
        return (dx, by_kernel(x), g.sum(axis=over))[: 2 + len(bias)]

    def lower(self, emit: Emitter, node: Node, g: Any, x: Any, *others: Any) -> Any:
        arriving, source, kernel, *bias = node.inputs
        if 0 in arriving.shape or 0 in source.shape:
            nothing = [
                emit.constant(np.zeros(shapes.known(t.shape), t.dtype)) for t in (source, kernel)
            ]
            over = tuple(a for a in range(source.rank) if a != 1)
            return *nothing, *(emit("_np_sum", g, axis=over) for _ in bias)
        native = NativeConvolution(source.shape, kernel.shape, node.attributes, bool(bias))
        x = native.padded(emit, x, source)
        forward = native.forward(emit, x, *others)
        padded = Spec(native.padded_shape(source.shape), source.dtype)
        dx, *rest = emit.backward(
            "_backward_Convolution",
            g,
            x,
            *others,
            of=forward,
            results=[padded, kernel.spec, *(tensor.spec for tensor in bias)],
            **native.attributes,
        )
        emit.made_in_blocks(dx, native.block)
        return native.cropped(emit, dx, source.spec), *rest

    def gradient(self, node: Node, *by: Tensor | None) -> list[Tensor | None]:
        g, x, w, *bias = node.inputs
        by_x, by_w, *by_bias = by
        attributes = node.attributes
        for_g: list[Tensor] = []
        for_x = for_w = None
        if by_x is not None:
            for_g.append(convolution.make([by_x, w], attributes))
            _, for_w = convolution_gradient.make([g, by_x, w], attributes)
        if by_w is not None:
            for_g.append(convolution.make([x, by_w], attributes))
            for_x, _ = convolution_gradient.make([g, x, by_w], attributes)
        for part in by_bias:
            if part is not None:
                stretched = ops.reshape(part, [-1] + [1] * (g.rank - 2))
                for_g.append(ops.broadcast_to(stretched, ops.shape_of(g)))
        total = None
        for part in for_g:
            total = part if total is None else total + part
        return [total, for_x, for_w, *(ops.zeros_like(tensor) for tensor in bias)]

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = convolution_sample(draw)
        g = draw.array(correlate(x, w, attributes).shape)
        bias = [draw.array(w.shape[:1])] if draw.choose((True, False)) else []
        return Sample(g, x, w, *bias, attributes=attributes)


convolution_gradient = _ConvolutionGradient(
    "convolution_gradient",
    doc="""Return the gradients of a `convolution` by its input, its kernel, and its bias, if any.

    Args:
        g: The gradient of the result.
        x: The input.
        w: The kernel.
        bias: The bias, if there is one.
        attributes: Those of the convolution.
    """,
)
