"""Functions of Keras's module image that convolve images with a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.backend.config import standardize_data_format

import ksym
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.pixels import check_rank, over_batch
from keras_ksym.src.tensor import Tensor, floating, made, tensor
from ksym.networks.layout import channels_first

__all__ = ["gaussian_blur", "sobel_edges"]

Graph = ksym.Tensor


def _bell(size: int, sigma: Graph) -> Graph:
    x = ksym.constant(np.arange(size) - (size - 1) / 2, sigma.dtype)
    weights = ksym.exp(-0.5 * ksym.square(x / sigma))
    return weights / ksym.sum(weights)


def _filtered(x: Graph, kernel: Graph, layout: str) -> Graph:
    """Convolve each channel of images with one kernel (height, width)."""

    def compute(moved: Graph) -> Graph:
        channels = moved.shape[1]
        native = ksym.tile(ksym.expand_dims(kernel, (0, 1)), (channels, 1, 1, 1))
        return ksym.depthwise_convolution(moved, native, 1, "same")

    return channels_first(x, compute, layout)


def blurred(x: Graph, sizes: Any, sigma: Graph, layout: str) -> Graph:
    kernel = ksym.outer(_bell(int(sizes[1]), sigma[1]), _bell(int(sizes[0]), sigma[0]))
    return _filtered(x, kernel, layout)


@operation
def gaussian_blur(
    images: Operand,
    kernel_size: Any = (3, 3),
    sigma: Operand = (1.0, 1.0),
    data_format: str | None = None,
) -> Tensor:
    """Blur images by a bell of a width in each direction."""
    check_rank(images)
    layout = standardize_data_format(data_format)
    dtype, _ = floating(images)
    widths = tensor(sigma).graph_in(dtype)
    result = over_batch(images, lambda x: blurred(x, kernel_size, widths, layout), dtype)
    return Tensor(result.graph_in(images.dtype), images.dtype)


@operation
def sobel_edges(images: Operand, data_format: str | None = None) -> Tensor:
    """Return the changes of brightness down and across, on a new last axis."""
    layout = standardize_data_format(data_format)
    dtype, graph = floating(images)
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    edges = [
        _filtered(graph, ksym.constant(kernel, graph.dtype), layout)
        for kernel in (across.T, across)
    ]
    return made(ksym.stack(edges, -1), dtype)
