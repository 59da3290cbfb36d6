"""Convolutions over one to three spatial axes, channels first, and their gradients.

Three operators are closed under differentiation: `convolution`, its transpose, and
`convolution_gradient`, which is MXNet's own backward kernel.  Writing ``y = conv(x, w)`` as the
trilinear form ``<g, conv(x, w)>``, the derivative by any of g, x and w is one of the three again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.movement import pad_value
from ksym.ops.registry import (
    Draw,
    Emitter,
    Operator,
    Sample,
    known_dimensions,
    promoted,
    shape_operand,
)
from ksym.ops.windows import (
    canonical_padding,
    check_fits,
    explicit_padding,
    output_sides,
    per_axis,
)
from ksym.shapes import Shape


def _attributes(
    x: Tensor, strides: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    axes = x.rank - 2
    if not 1 <= axes <= 3:
        raise ShapeError(
            f"a convolution has 1 to 3 spatial axes, not {axes}",
            remedy="give a tensor (batch, channels, spatial axes...)",
        )
    return {
        "strides": per_axis(strides, axes, "strides"),
        "padding": canonical_padding(padding, axes),
        "dilation": per_axis(dilation, axes, "dilation"),
        "groups": int(groups),
    }


def _geometry(attributes: Any) -> tuple[Any, Any, Any]:
    return attributes["strides"], attributes["dilation"], attributes["padding"]


class _Native:
    """The native form of a convolution whose shapes are known."""

    def __init__(self, x: Shape, w: Shape, attributes: Any, bias: bool = False):
        strides, dilation, padding = _geometry(attributes)
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
            "num_group": attributes["groups"],
            "no_bias": not bias,
        }

    def padded(self, emit: Emitter, x: Any) -> Any:
        return x if self.symmetric else pad_value(emit, x, self.pairs)

    def padded_shape(self, shape: Shape) -> Shape:
        if self.symmetric:
            return shape
        return tuple(int(d or 0) + b + a for d, (b, a) in zip(shape, self.pairs, strict=True))

    def cropped(self, emit: Emitter, value: Any, shape: Shape) -> Any:
        if self.symmetric:
            return value
        begin = tuple(b for b, _ in self.pairs)
        end = tuple(b + int(d or 0) for (b, _), d in zip(self.pairs, shape, strict=True))
        return emit("slice", value, begin=begin, end=end)


def _correlate(x: Any, w: Any, attributes: Any) -> Any:
    """The meaning in NumPy: for each offset inside of the window a product over channels."""
    strides, dilation, padding = _geometry(attributes)
    groups = attributes["groups"]
    window = w.shape[2:]
    sides: Any = output_sides(x.shape[2:], window, strides, dilation, padding)
    x = np.pad(
        x, [(0, 0), (0, 0), *explicit_padding(x.shape[2:], window, strides, dilation, padding)]
    )
    n, filters = x.shape[0], w.shape[0]
    x = x.reshape(n, groups, -1, *x.shape[2:])
    w = w.reshape(groups, filters // groups, *w.shape[1:])
    y: Any = np.zeros((n, groups, filters // groups, *sides), np.result_type(x, w))
    for offset in np.ndindex(*window):
        cut = tuple(
            slice(o * d, o * d + (side - 1) * s + 1, s)
            for o, d, s, side in zip(offset, dilation, strides, sides, strict=True)
        )
        y += np.einsum("ngc...,gfc->ngf...", x[(..., *cut)], w[(..., *offset)])
    return y.reshape(n, filters, *sides)


def _correlate_transposed(g: Any, w: Any, x_shape: Any, attributes: Any) -> tuple[Any, Any]:
    """Return the gradient of `_correlate` by x, and a function of x that gives that by w."""
    strides, dilation, padding = _geometry(attributes)
    groups = attributes["groups"]
    window = w.shape[2:]
    pairs = explicit_padding(x_shape[2:], window, strides, dilation, padding)
    sides = g.shape[2:]
    n, filters = g.shape[0], w.shape[0]
    g = g.reshape(n, groups, -1, *sides)
    w = w.reshape(groups, filters // groups, *w.shape[1:])
    padded = [d + b + a for d, (b, a) in zip(x_shape[2:], pairs, strict=True)]
    dx: Any = np.zeros((n, groups, w.shape[2], *padded), np.result_type(g, w))

    def cut(offset: Any) -> tuple[slice, ...]:
        return tuple(
            slice(o * d, o * d + (side - 1) * s + 1, s)
            for o, d, s, side in zip(offset, dilation, strides, sides, strict=True)
        )

    for offset in np.ndindex(*window):
        dx[(..., *cut(offset))] += np.einsum("ngf...,gfc->ngc...", g, w[(..., *offset)])
    inside = tuple(slice(b, b + d) for d, (b, _) in zip(x_shape[2:], pairs, strict=True))
    dx = dx.reshape(n, -1, *padded)[(..., *inside)]

    def by_kernel(x: Any) -> Any:
        x = np.pad(x, [(0, 0), (0, 0), *pairs]).reshape(n, groups, -1, *padded)
        dw: Any = np.zeros(w.shape, dx.dtype)
        for offset in np.ndindex(*window):
            view = x[(..., *cut(offset))].reshape(n, groups, w.shape[2], -1)
            dw[(..., *offset)] = np.einsum(
                "ngcp,ngfp->gfc", view, g.reshape(n, groups, -1, view.shape[-1])
            )
        return dw.reshape(filters, *dw.shape[2:])

    return dx, by_kernel


def _sample(draw: Draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    axes = draw.integer(1, 3)
    groups = draw.integer(1, 2)
    channels = groups * draw.integer(1, 2)
    filters = groups * draw.integer(1, 2)
    window = [draw.integer(1, 3 if axes < 3 else 2) for _ in range(axes)]
    strides = tuple(draw.integer(1, 2) for _ in range(axes))
    dilation = tuple(1 if s > 1 else draw.integer(1, 2) for s in strides)
    extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    sides = [e + draw.integer(0, 3 if axes < 3 else 1) for e in extent]
    x = draw.array((draw.integer(1, 2), channels, *sides))
    w = draw.array((filters, channels // groups, *window))
    explicit = tuple((draw.integer(0, 1), draw.integer(0, 1)) for _ in range(axes))
    padding = draw.choose(("valid", "same", explicit))
    attributes = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return x, w, attributes


class _Convolution(Operator):
    half = False
    linear_in = (0, 1)

    def prepare(
        self,
        x: Any,
        w: Any,
        bias: Any = None,
        strides: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        groups: int = 1,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(x, w) if bias is None else promoted(x, w, bias)
        return operands, _attributes(operands[0], strides, padding, dilation, groups)

    def infer(self, x: Tensor, w: Tensor, *bias: Tensor, **attributes: Any) -> Spec:
        if w.rank != x.rank:
            raise ShapeError(f"the kernel has rank {w.rank}, the input rank {x.rank}")
        groups = attributes["groups"]
        channels, expected = x.shape[1], w.shape[1]
        if channels is not None and expected is not None and channels != expected * groups:
            raise ShapeError(
                f"the input has {channels} channels, the kernel takes {expected} in each of "
                f"{groups} group(s)",
                remedy="check the data format: channels are expected on axis 1",
            )
        if w.shape[0] is not None and w.shape[0] % groups:
            raise ShapeError(f"{w.shape[0]} filters cannot be shared among {groups} groups")
        for vector in bias:
            if vector.rank != 1 or not shapes.compatible(vector.shape, w.shape[:1]):
                raise ShapeError(f"the bias has shape {vector.shape} for {w.shape[0]} filters")
        strides, dilation, padding = _geometry(attributes)
        sides = output_sides(x.shape[2:], w.shape[2:], strides, dilation, padding)
        return Spec((x.shape[0], w.shape[0], *sides), x.dtype)

    def numpy(self, x: Any, w: Any, *bias: Any, **attributes: Any) -> Any:
        y = _correlate(x, w, attributes)
        return y + bias[0].reshape(-1, *(1,) * (x.ndim - 2)) if bias else y

    def check(self, node: Node) -> None:
        check_fits(node, node.inputs[0].shape[2:], node.inputs[1].shape[2:])

    def lower(self, emit: Emitter, node: Node, x: Any, w: Any, *bias: Any) -> Any:
        source, kernel = node.inputs[:2]
        native = _Native(source.shape, kernel.shape, node.attributes, bool(bias))
        return emit("Convolution", native.padded(emit, x), w, *bias, **native.attributes)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return list(convolution_gradient.make([g, *node.inputs], node.attributes))

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = _sample(draw)
        bias = [draw.array(w.shape[:1])] if draw.choose((True, False)) else []
        return Sample(x, w, *bias, attributes=attributes)


convolution = _Convolution(
    "convolution",
    doc="""Correlate x with a kernel, as neural networks call convolution (it is not flipped).

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        w: (filters, channels / groups, one size for each spatial axis).
        bias: What to add to each filter's results, if anything.
        strides: How far the window moves, an int or one for each spatial axis.
        padding: ``"valid"``, ``"same"`` (as TensorFlow pads), or (before, after) for each axis.
        dilation: The distance between neighbours in the window.
        groups: How many groups the channels are split into; as many as there are channels gives a
            depthwise convolution.

    Raises:
        ShapeError: Ranks or channels do not fit; at the call, a window that is larger than the
            padded input.
    """,
)


class _ConvolutionGradient(Operator):
    half = False
    linear_in = (0,)

    def prepare(
        self, g: Tensor, x: Tensor, w: Tensor, *bias: Tensor, **attributes: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(g, x, w, *bias)
        given = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1, **attributes}
        return operands, _attributes(operands[1], **given)

    def infer(self, g: Tensor, *operands: Tensor, **attributes: Any) -> tuple[Spec, ...]:
        return tuple(operand.spec for operand in operands)

    def numpy(self, g: Any, x: Any, w: Any, *bias: Any, **attributes: Any) -> Any:
        dx, by_kernel = _correlate_transposed(g, w, x.shape, attributes)
        over = tuple(a for a in range(g.ndim) if a != 1)
        return (dx, by_kernel(x), g.sum(axis=over))[: 2 + len(bias)]

    def lower(self, emit: Emitter, node: Node, g: Any, x: Any, *others: Any) -> Any:
        _, source, kernel, *bias = node.inputs
        native = _Native(source.shape, kernel.shape, node.attributes, bool(bias))
        x = native.padded(emit, x)
        # The same call as in the forward pass, so the emitter gives the node it has already.
        forward = emit("Convolution", x, *others, **native.attributes)
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
        return native.cropped(emit, dx, source.shape), *rest

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
        x, w, attributes = _sample(draw)
        g = draw.array(_correlate(x, w, attributes).shape)
        bias = [draw.array(w.shape[:1])] if draw.choose((True, False)) else []
        return Sample(g, x, w, *bias, attributes=attributes)


convolution_gradient = _ConvolutionGradient(
    "convolution_gradient",
    doc="""The gradients of a `convolution` by its input, its kernel, and its bias if it has one.

    Args:
        g: The gradient of the result.
        x: The input.
        w: The kernel.
        bias: The bias, if there is one.
        attributes: Those of the convolution.
    """,
)


class _ConvolutionTranspose(Operator):
    half = False
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
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, w = promoted(x, w)
        return [x, w, shape_operand(sides)], _attributes(x, strides, padding, dilation, groups)

    def infer(self, x: Tensor, w: Tensor, sides: Tensor, **attributes: Any) -> Spec:
        if w.rank != x.rank:
            raise ShapeError(f"the kernel has rank {w.rank}, the input rank {x.rank}")
        target = tuple(known_dimensions(sides))
        if len(target) != x.rank - 2:
            raise ShapeError(f"{len(target)} output sizes for {x.rank - 2} spatial axes")
        if None not in (x.shape[1], w.shape[0]) and x.shape[1] != w.shape[0]:
            raise ShapeError(
                f"the input has {x.shape[1]} channels, the kernel takes {w.shape[0]}",
                remedy="check the data format: channels are expected on axis 1",
            )
        strides, dilation, padding = _geometry(attributes)
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
        return _correlate_transposed(x, w, shape, attributes)[0]

    def lower(self, emit: Emitter, node: Node, x: Any, w: Any, sides: Any) -> Any:
        out, kernel = node.outputs[0], node.inputs[1]
        native = _Native(out.shape, kernel.shape, node.attributes)
        padded = native.padded_shape(out.shape)
        if out.rank == 5:
            return self._by_gradient(emit, native, x, w, padded, node)
        options = dict(native.attributes, num_filter=out.shape[1])
        # How far the result reaches beyond what the last window covers.
        options["adj"] = tuple(
            int(side or 0) + 2 * pad - ((int(positions or 0) - 1) * stride + (k - 1) * dilate + 1)
            for side, pad, positions, stride, k, dilate in zip(
                padded[2:],
                options["pad"],
                node.inputs[0].shape[2:],
                options["stride"],
                options["kernel"],
                options["dilate"],
                strict=True,
            )
        )
        return native.cropped(emit, emit("Deconvolution", x, w, **options), out.shape)

    def _by_gradient(
        self, emit: Emitter, native: _Native, x: Any, w: Any, padded: Shape, node: Node
    ) -> Any:
        """As a gradient at any input: not every `Deconvolution` kernel does three axes."""
        out, kernel = node.outputs[0], node.inputs[1]
        anywhere = emit("_zeros", shape=padded, dtype=out.dtype)
        forward = emit("Convolution", anywhere, w, **native.attributes)
        result, _ = emit.backward(
            "_backward_Convolution",
            x,
            anywhere,
            w,
            of=forward,
            results=[Spec(padded, out.dtype), kernel.spec],
            **native.attributes,
        )
        return native.cropped(emit, result, out.shape)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, w, _ = node.inputs
        # <g, convT(x, w)> = <x, conv(g, w)>: x takes the place of the gradient.
        _, for_w = convolution_gradient.make([x, g, w], node.attributes)
        return [convolution.make([g, w], node.attributes), for_w, None]

    def sample(self, draw: Draw) -> Sample:
        x, w, attributes = _sample(draw)
        y = _correlate(x, w, attributes)
        return Sample(
            draw.array(y.shape), w, np.array(x.shape[2:], dtype="int64"), attributes=attributes
        )


convolution_transpose = _ConvolutionTranspose(
    "convolution_transpose",
    doc="""The transpose of a `convolution`: what its gradient does to the input.

    Args:
        x: (batch, filters, spatial axes).
        w: (filters, channels / groups, one size for each spatial axis), as for the convolution.
        sides: The spatial sizes of the result; several fit when strides are larger than one.
        strides: Those of the convolution.
        padding: That of the convolution.
        dilation: That of the convolution.
        groups: Those of the convolution.

    Returns:
        (batch, channels, sides...).

    Raises:
        ShapeError: The sizes do not belong to a convolution from sides to those of x.
    """,
)


def depthwise_kernel(kernel: Tensor) -> Tensor:
    """Return a kernel (window..., channels, multiplier) as one for groups of one channel each."""
    spatial = kernel.rank - 2
    order = (spatial, spatial + 1, *range(spatial))
    moved = ops.transpose(kernel, order)
    sides = ops.shape_of(moved)
    window = [sides[2 + i] if d is None else d for i, d in enumerate(moved.shape[2:])]
    return ops.reshape(moved, [-1, 1, *window])
