"""Max and average pooling over all spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_format
from ksym.ops.reductions.statistics import quiet

__all__ = ["global_max_pool", "global_average_pool"]


def _global_sample(draw: Draw) -> Sample:
    sides = draw.shape(min_rank=1)
    x = draw.array((*draw.shape(2, 2, min_side=0), *sides), apart=0.002)
    keepdims, data_format = draw.choose((True, False)), "channels_first"
    if draw.choose((True, False)):
        x, data_format = np.moveaxis(x, 1, -1), "channels_last"
    return Sample(x, attributes={"keepdims": keepdims, "data_format": data_format})


def _spatial_axes(rank: int, data_format: str) -> tuple[int, ...]:
    check_format(data_format)
    if rank < 3:
        raise ShapeError(f"a tensor of rank {rank} has no spatial axes")
    return tuple(range(2, rank) if data_format == "channels_first" else range(1, rank - 1))


def _global(reduce: Any) -> Any:
    def numpy(x: Any, keepdims: bool, data_format: str) -> Any:
        return reduce(x, axis=_spatial_axes(x.ndim, data_format), keepdims=keepdims)

    return numpy


@composite(numpy=_global(np.max), sample=_global_sample)
def global_max_pool(x: Any, keepdims: bool = False, data_format: str = "channels_first") -> Tensor:
    """Return the largest element of each channel.

    Args:
        x: (batch, channels, spatial axes...), or with the channels last.
        keepdims: Whether spatial axes stay, with size 1.
        data_format: ``"channels_first"`` or ``"channels_last"``.

    Raises:
        ShapeError: There are no spatial axes, or no elements.
    """
    x = as_tensor(x)
    return ops.max_(x, _spatial_axes(x.rank, data_format), keepdims=keepdims)


@composite(numpy=_global(quiet(np.mean)), sample=_global_sample)
def global_average_pool(
    x: Any, keepdims: bool = False, data_format: str = "channels_first"
) -> Tensor:
    """Return the mean of the elements of each channel.

    Args:
        x: (batch, channels, spatial axes...), or with the channels last.
        keepdims: Whether spatial axes stay, with size 1.
        data_format: ``"channels_first"`` or ``"channels_last"``.

    Raises:
        ShapeError: There are no spatial axes, or no elements.
    """
    x = as_tensor(x)
    axes = _spatial_axes(x.rank, data_format)
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"there is nothing to average along axes {axes} of shape {x.shape}")
    return ops.mean(x, axes, keepdims=keepdims)
