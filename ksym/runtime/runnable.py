"""The interface of a part of a plan that is bound to arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ksym.compiler.plan import Plan
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.calls import Call


class Runnable(Protocol):
    """A part, or a whole plan, that is bound to fixed arrays."""

    @property
    def outputs(self) -> Sequence[DeviceArray]:
        """The arrays of the results, as the last run left them."""

    @property
    def calls(self) -> list[Call] | None:
        """The calls that it consists of; None if it is not compiled."""

    def run(self) -> None:
        """Compute the outputs from the contents of the inputs' arrays."""


Bind = Callable[[Plan, Arrays], Runnable]
"""A function that binds a plan to the arrays of its inputs."""
