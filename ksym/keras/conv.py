"""Convolutions and poolings in both data formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.graph import Tensor
from ksym.keras import config
from ksym.keras.shape import temporal_padding
from ksym.keras.tensors import as_tensor, as_tensors, static_shape, whole
from ksym.networks.layout import channels_first, native_depthwise_kernel, native_kernel


def _convolve(
    x: Any,
    kernel: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation: Any,
) -> Tensor:
    data_format = config.data_format(data_format)
    kernel = native_kernel(as_tensor(kernel))

    def compute(moved: Tensor) -> Tensor:
        return ops.convolution(
            moved,
            kernel,
            strides=strides,
            padding=config.padding(padding),
            dilation=dilation,
        )

    return channels_first(as_tensor(x), compute, data_format)


def conv1d(
    x: Any,
    kernel: Any,
    strides: int = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int = 1,
) -> Tensor:
    """Convolve over one axis; causal padding looks at no later step."""
    data_format = config.data_format(data_format)
    x, kernel = as_tensors(x, kernel)
    if padding == "causal":
        if data_format != "channels_last":
            raise ValueError('causal padding is only valid with data_format "channels_last"')
        width = static_shape(kernel)[0]
        if width is None:
            raise ValueError("causal padding needs a kernel of static size")
        x = temporal_padding(x, (dilation_rate * (width - 1), 0))
        padding = "valid"
    return _convolve(x, kernel, _single(strides), padding, data_format, _single(dilation_rate))


def _single(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
) -> Tensor:
    """Convolve over two axes."""
    return _convolve(x, kernel, strides, padding, data_format, dilation_rate)


def conv3d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1, 1),
) -> Tensor:
    """Convolve over three axes."""
    return _convolve(x, kernel, strides, padding, data_format, dilation_rate)


def _transposed(
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation: Any,
) -> Tensor:
    data_format = config.data_format(data_format)
    # Keras's kernel is (window..., filters, channels): that of the convolution it transposes.
    kernel = native_kernel(as_tensor(kernel))
    shape = output_shape if isinstance(output_shape, Tensor) else whole(list(output_shape))
    rank = kernel.rank
    sides = shape[2:rank] if data_format == "channels_first" else shape[1 : rank - 1]

    def compute(moved: Tensor) -> Tensor:
        return ops.convolution_transpose(
            moved, kernel, sides, strides, config.padding(padding), dilation
        )

    return channels_first(as_tensor(x), compute, data_format)


def conv2d_transpose(
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
) -> Tensor:
    """Apply the transpose of a 2-D convolution."""
    return _transposed(x, kernel, output_shape, strides, padding, data_format, dilation_rate)


def conv3d_transpose(
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any = (1, 1, 1),
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Apply the transpose of a 3-D convolution."""
    return _transposed(x, kernel, output_shape, strides, padding, data_format, 1)


def _depthwise(
    x: Any, kernel: Any, strides: Any, padding: str, data_format: str | None, dilation: Any
) -> Tensor:
    data_format = config.data_format(data_format)
    x, kernel = as_tensors(x, kernel)
    return ops.depthwise_convolution(
        x,
        native_depthwise_kernel(kernel),
        strides,
        config.padding(padding),
        dilation,
        data_format=data_format,
    )


def depthwise_conv2d(
    x: Any,
    depthwise_kernel: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
) -> Tensor:
    """Convolve each channel on its own over two axes."""
    return _depthwise(x, depthwise_kernel, strides, padding, data_format, dilation_rate)


def separable_conv1d(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """1-D convolution of each channel, followed by a mixture of channels."""
    between = _depthwise(
        x, depthwise_kernel, _single(strides), padding, data_format, _single(dilation_rate)
    )
    return _convolve(between, pointwise_kernel, 1, "valid", data_format, 1)


def separable_conv2d(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
) -> Tensor:
    """2-D convolution of each channel, followed by a mixture of channels."""
    between = _depthwise(x, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return _convolve(between, pointwise_kernel, 1, "valid", data_format, 1)


def _pool(
    x: Any,
    pool_size: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str | None,
    pool_mode: str,
) -> Tensor:
    data_format = config.data_format(data_format)
    config.padding(padding)
    if pool_mode not in ("max", "avg"):
        raise ValueError(f"Invalid pool_mode: {pool_mode}")
    operator = ops.max_pool if pool_mode == "max" else ops.average_pool
    sizes = tuple(pool_size), tuple(strides)
    return operator(as_tensor(x), *sizes, padding, data_format=data_format)


def pool2d(
    x: Any,
    pool_size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Tensor:
    """Pool over windows of two axes."""
    return _pool(x, pool_size, strides, padding, data_format, pool_mode)


def pool3d(
    x: Any,
    pool_size: Sequence[int],
    strides: Sequence[int] = (1, 1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Tensor:
    """Pool over windows of three axes."""
    return _pool(x, pool_size, strides, padding, data_format, pool_mode)


def bias_add(x: Any, bias: Any, data_format: str | None = None) -> Tensor:
    """Add a vector over the channels, or a bias of the rank of a sample.

    Raises:
        ValueError: The bias has another rank, or the data format is not known.
    """
    data_format = config.data_format(data_format)
    x, bias = as_tensors(x, bias)
    if bias.rank not in (1, x.rank - 1):
        raise ValueError(
            f"Unexpected bias dimensions {bias.rank}, expect to be 1 or {x.rank} dimensions"
        )
    if data_format == "channels_first" and x.rank > 2:
        sides = static_shape(bias)
        if bias.rank == 1:
            bias = ops.reshape(bias, [-1] + [1] * (x.rank - 2))
        else:
            # Read in row-major order, as Keras does with every backend.
            bias = ops.reshape(bias, (sides[-1], *sides[:-1]))
    return x + bias


def local_conv1d(
    inputs: Any,
    kernel: Any,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    data_format: str | None = None,
) -> Tensor:
    """Convolve over one axis with a kernel of its own at each position."""
    return _local(inputs, kernel, kernel_size, strides, None, data_format)


def local_conv2d(
    inputs: Any,
    kernel: Any,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    output_shape: Sequence[int],
    data_format: str | None = None,
) -> Tensor:
    """Convolve over two axes with a kernel of its own at each position."""
    return _local(inputs, kernel, kernel_size, strides, output_shape, data_format)


def _local(
    inputs: Any,
    kernel: Any,
    window: Sequence[int],
    strides: Sequence[int],
    positions: Sequence[int] | None,
    data_format: str | None,
) -> Tensor:
    """Convolve with Keras's kernels (positions, features, filters), the positions in one axis.

    The features are in the order of the data format: channels first, or last.
    """
    data_format = config.data_format(data_format)
    x, kernel = as_tensors(inputs, kernel)
    count, features, filters = (int(side or 0) for side in static_shape(kernel))
    sides = [count] if positions is None else whole(list(positions))
    if data_format == "channels_last" or positions is None:
        # A vector of steps has its features last whatever the format says.
        elements = int(np.prod(window))
        kernel = ops.reshape(kernel, (count, elements, features // elements, filters))
        kernel = ops.transpose(kernel, (0, 2, 1, 3))
        data_format = "channels_last"
    native = ops.reshape(kernel, (*sides, features, filters))
    return channels_first(
        x,
        lambda moved: ops.local_convolution(moved, native, tuple(window), tuple(strides)),
        data_format,
    )
