"""What operators are lowered to: an `Emitter` takes native operators by their MXNet names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ksym.graph import Node, Spec

Native = Any
"""A native array while a node is lowered: what `lower` receives and returns."""


class Emitter(Protocol):
    """Where `lower` writes native operators to: a graph under construction, or arrays at once."""

    def __call__(self, operator: str, *inputs: Native, outputs: int = 1, **attributes: Any) -> Any:
        """Apply a native operator by its MXNet name.

        Args:
            operator: The name in MXNet's registry.
            inputs: The native operands.
            outputs: How many results are wanted, MXNet's hidden ones included.
            attributes: The operator's parameters.

        Returns:
            One value, or a tuple of them when outputs is larger than 1.
        """

    def backward(
        self, operator: str, *inputs: Native, of: Native, results: Sequence[Spec], **attributes: Any
    ) -> Any:
        """Apply a native gradient kernel.

        Args:
            operator: Its name, such as ``"_backward_Convolution"``.
            inputs: What the forward operator's FGradient hands to it.
            of: A result of the forward operator it belongs to.
            results: The shape and dtype of each of its results.
            attributes: Those of the forward operator.

        Returns:
            One value, or a tuple of them when there are several results.
        """

    def constant(self, array: np.ndarray) -> Native:
        """Return a value that is the same at every call."""

    def draw(self, node: Node) -> Native:
        """Return the value of a random node, drawn anew at every call."""

    def leaf(self, node: Node) -> Native:
        """Return the value that the call gives to a placeholder or a variable."""

    def scratch(self, spec: Spec, purpose: str) -> Native:
        """Return memory that an operator may write to, and that nothing reads."""
