"""The operands of batching rules: tensors of a loop's body, for all steps at once."""

from __future__ import annotations

from typing import NamedTuple

from ksym.graph import Tensor


class Stacked(NamedTuple):
    """A tensor of a loop's body for all steps: a stack, or one tensor that is equal at each step.

    Attributes:
        tensor: The tensor, or the stack of it along a new first axis.
        varies: Whether it is a stack.
    """

    tensor: Tensor
    varies: bool
