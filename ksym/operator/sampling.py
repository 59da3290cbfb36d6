"""The samples that operators are tested with: the interface to draw them, and one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

KINDS = ("float", "integer", "bool")
"""All kinds of dtypes, as `Draw.dtype` takes them."""


class Draw(Protocol):
    """The source of random choices that `sample` draws test operands from."""

    def shape(
        self, min_rank: int = 0, max_rank: int | None = None, min_side: int = 1
    ) -> tuple[int, ...]:
        """Return a shape; with a min_side of 0 now and then one without elements.

        Without a max_rank it has up to three axes, and now and then more than most of MXNet's
        kernels take: up to eight, of sizes up to 2.
        """

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""

    def choose(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""

    def dtype(self, *kinds: str) -> str:
        """Return a dtype of one of the kinds ``"bool"``, ``"integer"`` and ``"float"``.

        For one sample all floats are of one dtype, float64 where gradients are checked.
        """

    def array(
        self,
        shape: Sequence[int],
        low: float = -2.0,
        high: float = 2.0,
        *,
        dtype: str | None = None,
        apart: float = 0.0,
        kinks: Sequence[float] = (),
    ) -> np.ndarray:
        """Return an array with elements from low to high.

        Args:
            shape: Its shape.
            low: The smallest element; zero at least where the dtype has no negative numbers.
            high: The largest element.
            dtype: Its dtype; by default the float dtype of this sample.
            apart: Keep elements at least this far from each other and from zero, for operators
                with a kink or a tie.
            kinks: Other places from which elements are kept away where gradients are checked.
        """


class Sample:
    """The operands and attributes of one test case."""

    def __init__(
        self,
        *operands: np.ndarray,
        attributes: Mapping[str, Any] | None = None,
        differentiate: Sequence[int] | None = None,
    ):
        """Make a test case.

        Args:
            operands: The arrays to apply the operator to.
            attributes: The keyword arguments of the call.
            differentiate: Positions of the operands to check gradients for; None for all floats.
        """
        self.operands = operands
        self.attributes = dict(attributes or {})
        if differentiate is None:
            differentiate = [i for i, a in enumerate(operands) if a.dtype.kind == "f"]
        self.differentiate = tuple(differentiate)
