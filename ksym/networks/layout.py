"""Layouts of images and kernels in Keras, and those of ksym's operators.

ksym's operators have channels first, as MXNet's kernels do.  For channels last the input is
transposed before the operator and the result after it; between two layers the compiler cancels
the transpositions.
"""

from __future__ import annotations

from collections.abc import Callable

from ksym import ops
from ksym.graph import Tensor


def channels_first(x: Tensor, compute: Callable[[Tensor], Tensor], data_format: str) -> Tensor:
    """Apply a function of channels-first tensors to a tensor of either format."""
    if data_format == "channels_first":
        return compute(x)
    rank = x.rank
    y = compute(ops.transpose(x, (0, rank - 1, *range(1, rank - 1))))
    return ops.transpose(y, (0, *range(2, rank), 1))


def native_kernel(kernel: Tensor) -> Tensor:
    """Return a kernel (window..., channels, filters) as (filters, channels, window...)."""
    spatial = kernel.rank - 2
    return ops.transpose(kernel, (spatial + 1, spatial, *range(spatial)))


def native_depthwise_kernel(kernel: Tensor) -> Tensor:
    """Return a kernel (window..., channels, multiplier) as (channels, multiplier, window...)."""
    spatial = kernel.rank - 2
    return ops.transpose(kernel, (spatial, spatial + 1, *range(spatial)))
