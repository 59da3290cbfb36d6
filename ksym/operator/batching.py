"""What batching rules are given: an operand of a node in a loop's body, for all steps at once."""

from __future__ import annotations

from typing import NamedTuple

from ksym.graph import Tensor


class Stacked(NamedTuple):
    """A body's tensor seen from outside: a stack of one for each step, or the same at all.

    Attributes:
        tensor: The tensor, or the stack of it along a new first axis.
        varies: Whether it is a stack.
    """

    tensor: Tensor
    varies: bool
