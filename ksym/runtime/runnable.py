"""What every part of a plan is once it is bound to arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ksym.compiler.plan import Plan
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.calls import Call


class Runnable(Protocol):
    """A part, or a whole plan, that is ready to run over fixed arrays."""

    @property
    def outputs(self) -> Sequence[DeviceArray]:
        """The arrays of the results, as the last run left them."""

    @property
    def calls(self) -> list[Call] | None:
        """All that it does, where it consists of compiled code; else None."""

    def run(self) -> None:
        """Compute the outputs from what the arrays of the inputs hold."""


Bind = Callable[[Plan, Arrays], Runnable]
"""Returns a plan that is bound to the arrays of its inputs."""
