"""What the functions on images have in common: checks, batches, sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.tensor import Tensor, made

Graph = ksym.Tensor


def check_rank(images: Tensor) -> None:
    """Raise ValueError unless it is an image or a batch of images."""
    if images.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). "
            f"Received input with shape: images.shape={images.shape}"
        )


def check_float(images: Tensor) -> None:
    """Raise ValueError unless the elements are floats."""
    if not dtypes.is_float(images.dtype):
        raise ValueError(
            f"Invalid images dtype: expected float dtype. Received: images.dtype={images.dtype}"
        )


def check_choice(name: str, value: Any, options: Any, kind: str = "one") -> None:
    """Raise ValueError unless the value of an argument is among its options."""
    if value not in options:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected of {kind} {options}. "
            f"Received: {name}={value}"
        )


def over_batch(
    images: Tensor, compute: Callable[[Graph], Graph], dtype: str | None = None
) -> Tensor:
    """Apply a function of batches to a batch, or to one image."""
    graph = images.graph if dtype is None else images.graph_in(dtype)
    if images.ndim == 3:
        return made(ksym.squeeze(compute(ksym.expand_dims(graph, 0)), 0), dtype or images.dtype)
    return made(compute(graph), dtype or images.dtype)


def sides(x: Graph, axes: Sequence[int]) -> list[int]:
    """Return the sizes of axes.

    Raises:
        ValueError: One is not known.
    """
    found = [x.shape[a] for a in axes]
    if None in found:
        raise ValueError(f"the sizes of images have to be known when they are traced: {x.shape}")
    return [int(s) for s in found if s is not None]
