"""Convolutions, poolings and windows of Keras's module nn, in both layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src.backend.common.backend_utils import (
    check_conv_input_channels,
    check_conv_transpose_input_channels,
    compute_conv_transpose_padding_args_for_jax,
)
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, named_operation, operation
from keras_ksym.src.tensor import Tensor, floating, made, promoted
from ksym.networks.layout import channels_first, native_depthwise_kernel, native_kernel

__all__ = [
    *("adaptive_average_pool", "adaptive_max_pool", "average_pool", "conv", "conv_transpose"),
    *("depth_to_space", "depthwise_conv", "fold", "max_pool", "separable_conv"),
    *("space_to_depth", "unfold"),
]

Graph = ksym.Tensor
Sizes = int | Sequence[int]


def _sizes(value: Any, count: int) -> tuple[int, ...]:
    """Return a setting for each spatial axis."""
    return (int(value),) * count if np.ndim(value) == 0 else tuple(int(v) for v in value)


def _operands(x: Tensor, *kernels: Tensor) -> tuple[str, list[Graph]]:
    """Return the dtype of a convolution, and its operands: those that are no floats become them."""
    dtype, graphs = promoted(x, *kernels)
    if dtypes.is_float(dtype):
        return dtype, graphs
    wide = "float64" if dtype.endswith(("32", "64")) else "float32"
    return dtype, [ksym.cast(graph, wide) for graph in graphs]


def _filled(graph: Graph, x: Tensor) -> Graph:
    if 0 in graph.shape and 0 not in x.shape:
        raise ValueError(
            "The convolution operation resulted in an empty output. This can happen if the input "
            "is too small for the given kernel size, strides, dilation rate, and padding mode. "
            "Please check the input shape and convolution parameters."
        )
    return graph


@operation
def conv(
    inputs: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve, in as many groups of channels as the kernel's channels go into the input's."""
    layout = standardize_data_format(data_format)
    count = inputs.ndim - 2
    channels = inputs.shape[-1 if layout == "channels_last" else 1]
    depth = kernel.shape[-2]
    if channels is None or depth is None or channels % depth:
        raise ValueError(
            "The number of input channels must be evenly divisible by kernel's in_channels. "
            f"Received input channels {channels} and kernel in_channels {depth}. "
        )
    dtype, (x, weights) = _operands(inputs, kernel)
    native = native_kernel(weights)

    def compute(moved: Graph) -> Graph:
        return ksym.convolution(
            moved,
            native,
            strides=_sizes(strides, count),
            padding=padding.lower(),
            dilation=_sizes(dilation_rate, count),
            groups=channels // depth,
        )

    return made(
        _filled(channels_first(x, compute, layout), inputs),
        kernel.dtype if dtypes.is_float(kernel.dtype) else dtype,
    )


def _depthwise(
    x: Graph, kernel: Graph, strides: Any, padding: str, layout: str, dilation: Any
) -> Graph:
    count = x.rank - 2
    native = native_depthwise_kernel(kernel)
    return ksym.depthwise_convolution(
        x,
        native,
        _sizes(strides, count),
        padding.lower(),
        _sizes(dilation, count),
        data_format=layout,
    )


@operation
def depthwise_conv(
    inputs: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve each channel with kernels of its own."""
    layout = standardize_data_format(data_format)
    check_conv_input_channels(inputs, kernel, layout)
    dtype, (x, weights) = _operands(inputs, kernel)
    return made(_depthwise(x, weights, strides, padding, layout, dilation_rate), dtype)


@operation
def separable_conv(
    inputs: Operand,
    depthwise_kernel: Operand,
    pointwise_kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve each channel with kernels of its own, then mix the channels at each place."""
    layout = standardize_data_format(data_format)
    check_conv_input_channels(inputs, depthwise_kernel, layout)
    dtype, (x, depthwise, pointwise) = _operands(inputs, depthwise_kernel, pointwise_kernel)
    between = _depthwise(x, depthwise, strides, padding, layout, dilation_rate)
    native = native_kernel(pointwise)
    result = channels_first(between, lambda moved: ksym.convolution(moved, native), layout)
    return made(result, dtype)


@operation
def conv_transpose(
    inputs: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Apply the transpose of a convolution; the kernel is (window..., filters, channels)."""
    layout = standardize_data_format(data_format)
    check_conv_transpose_input_channels(inputs, kernel, layout)
    count = inputs.ndim - 2
    steps, dilation = _sizes(strides, count), _sizes(dilation_rate, count)
    pads = compute_conv_transpose_padding_args_for_jax(
        input_shape=inputs.shape,
        kernel_shape=kernel.shape,
        strides=steps,
        padding=padding,
        output_padding=output_padding,
        dilation_rate=dilation,
    )
    dtype, (x, weights) = _operands(inputs, kernel)
    native = native_kernel(weights)
    window = [(side - 1) * d for side, d in zip(kernel.shape[:-2], dilation, strict=True)]

    def compute(moved: Graph) -> Graph:
        shape = ksym.shape_of(moved)
        whole = [
            (shape[axis + 2] - 1) * step + wide + 1
            for axis, (step, wide) in enumerate(zip(steps, window, strict=True))
        ]
        result = ksym.convolution_transpose(moved, native, whole, steps, "valid", dilation)
        # Of the whole result Keras keeps what its padding says, or fills it up with zeros.
        more = [
            (max(left - wide, 0), max(right - wide, 0))
            for (left, right), wide in zip(pads, window, strict=True)
        ]
        result = ksym.pad(result, [[0, 0], [0, 0], *map(list, more)])
        cut = tuple(
            slice(max(wide - left, 0), -(wide - right) if wide > right else None)
            for (left, right), wide in zip(pads, window, strict=True)
        )
        return result[(slice(None), slice(None), *cut)]

    return made(channels_first(x, compute, layout), dtype)


def _pool(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    def body(
        inputs: Operand,
        pool_size: Sizes,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
    ) -> Tensor:
        if padding not in ("same", "valid"):
            raise ValueError(f"Invalid padding '{padding}', must be 'same' or 'valid'.")
        layout = standardize_data_format(data_format)
        count = inputs.ndim - 2
        window = _sizes(pool_size, count)
        steps = window if strides is None else _sizes(strides, count)
        exact = dtypes.is_float(inputs.dtype)
        graph = inputs.graph if exact else ksym.cast(inputs.graph, "float64")
        return made(compute(graph, window, steps, padding, data_format=layout), inputs.dtype)

    return named_operation(
        name, f"Return the {name.partition('_')[0]} of the elements under each window.", body
    )


max_pool = _pool("max_pool", ksym.max_pool)
average_pool = _pool("average_pool", ksym.average_pool)


def _windows(side: int, count: int) -> list[tuple[int, int]]:
    """Return the ranges of an axis that are pooled to a number of elements."""
    return [(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]


def _adaptive(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    def body(inputs: Operand, output_size: Sizes, data_format: str | None = None) -> Tensor:
        layout = standardize_data_format(data_format)
        count = inputs.ndim - 2
        dtype, graph = floating(inputs)
        first = 1 if layout == "channels_last" else 2
        for axis, wanted in enumerate(_sizes(output_size, count), first):
            side = graph.shape[axis]
            if side is None:
                raise ValueError(f"{name} needs sizes that are known when it is traced")
            before = (slice(None),) * axis
            parts = [
                compute(graph[(*before, slice(*ends))], axis, keepdims=True)
                for ends in _windows(side, wanted)
            ]
            graph = ksym.concatenate(parts, axis)
        return made(graph, dtype)

    return named_operation(
        name, "Pool each spatial axis to a number of elements, in windows as equal as can be.", body
    )


adaptive_average_pool = _adaptive("adaptive_average_pool", ksym.mean)
adaptive_max_pool = _adaptive("adaptive_max_pool", ksym.max)


@operation
def unfold(
    input: Operand,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Return the elements under a window at each of its positions, (samples, window, places)."""
    graph = _padded(input.graph, _sizes(padding, 2))
    rows, columns, shape = _places(graph, kernel_size, dilation, stride)
    n, channels = graph.shape[0], graph.shape[1]
    patches = graph[:, :, rows, columns]
    first = ksym.shape_of(graph)[0] if n is None else n
    return Tensor(ksym.reshape(patches, [first, (channels or 0) * shape[0], shape[1]]), input.dtype)


def _padded(x: Graph, pads: tuple[int, ...]) -> Graph:
    return ksym.pad(x, [[0, 0], [0, 0], *([p, p] for p in pads)]) if any(pads) else x


def _places(
    x: Graph, kernel_size: Any, dilation: Any, stride: Any
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return the rows and columns under a window at each of its positions."""
    along = []
    for side, width, step, move in zip(
        x.shape[2:], _sizes(kernel_size, 2), _sizes(dilation, 2), _sizes(stride, 2), strict=True
    ):
        if side is None:
            raise ValueError("unfold and fold need sizes that are known when they are traced")
        count = (side - (width - 1) * step - 1) // move + 1
        along.append(np.arange(width)[:, None] * step + np.arange(count)[None, :] * move)
    rows = along[0][:, None, :, None] + np.zeros_like(along[1])[None, :, None, :]
    columns = along[1][None, :, None, :] + np.zeros_like(along[0])[:, None, :, None]
    shape = (rows.shape[0] * rows.shape[1], rows.shape[2] * rows.shape[3])
    return rows.reshape(shape), columns.reshape(shape), shape


@operation
def fold(
    x: Operand,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Add up what `unfold` took apart."""
    height, width = _sizes(output_size, 2)
    pads = _sizes(padding, 2)
    graph = x.graph
    window = int(np.prod(_sizes(kernel_size, 2)))
    n = ksym.shape_of(graph)[0] if graph.shape[0] is None else graph.shape[0]
    channels = (graph.shape[1] or 0) // window
    whole = ksym.zeros([n, channels, height + 2 * pads[0], width + 2 * pads[1]], graph.dtype)
    rows, columns, shape = _places(whole, kernel_size, dilation, stride)
    parts = ksym.reshape(graph, [n, channels, *shape])
    result = ksym.index_add(whole, (slice(None), slice(None), rows, columns), parts)
    return made(result[:, :, pads[0] : pads[0] + height, pads[1] : pads[1] + width], x.dtype)


def _shape(x: Graph) -> list[Any]:
    sides = ksym.shape_of(x)
    return [sides[axis] if side is None else side for axis, side in enumerate(x.shape)]


@operation
def depth_to_space(x: Operand, block_size: int, data_format: str = "channels_last") -> Tensor:
    """Move blocks of channels into blocks of space."""
    graph, b = x.graph, block_size
    if data_format == "channels_last":
        n, h, w, c = _shape(graph)
        split = ksym.reshape(graph, [n, h, w, b, b, c // b**2])
        moved = ksym.transpose(split, (0, 1, 3, 2, 4, 5))
        return Tensor(ksym.reshape(moved, [n, h * b, w * b, c // b**2]), x.dtype)
    n, c, h, w = _shape(graph)
    split = ksym.reshape(graph, [n, c // b**2, b, b, h, w])
    moved = ksym.transpose(split, (0, 1, 4, 2, 5, 3))
    return Tensor(ksym.reshape(moved, [n, c // b**2, h * b, w * b]), x.dtype)


@operation
def space_to_depth(x: Operand, block_size: int, data_format: str = "channels_last") -> Tensor:
    """Move blocks of space into blocks of channels."""
    graph, b = x.graph, block_size
    if data_format == "channels_last":
        n, h, w, c = _shape(graph)
        split = ksym.reshape(graph, [n, h // b, b, w // b, b, c])
        moved = ksym.transpose(split, (0, 1, 3, 2, 4, 5))
        return Tensor(ksym.reshape(moved, [n, h // b, w // b, c * b**2]), x.dtype)
    n, c, h, w = _shape(graph)
    split = ksym.reshape(graph, [n, c, h // b, b, w // b, b])
    moved = ksym.transpose(split, (0, 1, 3, 5, 2, 4))
    return Tensor(ksym.reshape(moved, [n, c * b**2, h // b, w // b]), x.dtype)
