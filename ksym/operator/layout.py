"""The layout of tensors in memory, for operators whose results are views of their operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Layout(NamedTuple):
    """The places of a tensor's elements in an array.

    Attributes:
        shape: The shape of the tensor.
        offset: The place of the first element.
        strides: The distance between elements along each axis; zero along axes of size one.
    """

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array that is stored row by row; zero along axes of size one."""
    strides, product = [], 1
    for size in reversed(shape):
        strides.append(0 if size == 1 else product)
        product *= size
    return tuple(reversed(strides))
