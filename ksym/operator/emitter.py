"""The target of lowering: an `Emitter` takes native operators by their MXNet names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ksym.graph import Node, Spec
from ksym.shapes import Shape

WHOLE_BLOCK, HALF_BLOCK = 16, 8
"""The numbers of channels in blocks of oneDNN's: the half where one is no multiple of the whole."""

Native = Any
"""A native array while a node is lowered: `lower` takes and returns such arrays."""


class Emitter(Protocol):
    """The target that `lower` writes native operators to: a graph in the making, or arrays."""

    def __call__(self, operator: str, *inputs: Native, outputs: int = 1, **attributes: Any) -> Any:
        """Apply a native operator by its MXNet name.

        Args:
            operator: The name in MXNet's registry.
            inputs: The native operands.
            outputs: The number of results to return, MXNet's hidden ones included.
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
            inputs: The arrays that the forward operator's FGradient passes to it.
            of: A result of the forward operator it belongs to.
            results: The shape and dtype of each of its results.
            attributes: Those of the forward operator.

        Returns:
            One value, or a tuple of them when there are several results.
        """

    def emitted(self, operator: str, *inputs: Native, **attributes: Any) -> Native | None:
        """Return the first result of an equal application that is emitted already, or None."""

    def in_own_layout(self, x: Native) -> bool:
        """Return whether oneDNN may have left a native value in a memory layout of its own."""

    def blocks(self, x: Native) -> frozenset[int]:
        """Return the numbers of channels that oneDNN's blocks of a native value may have."""

    def in_blocks(self, x: Native, spec: Spec) -> Native:
        """Return a value in oneDNN's blocks of channels, where its kernels run.

        Args:
            x: The value.
            spec: Its spec: float32, (batch, channels, height, width).
        """

    def made_in_blocks(self, x: Native, channels: int) -> None:
        """Note how many channels oneDNN's blocks of the result of a kernel have."""

    def require(self, problem: str, flags: Callable[[], Native]) -> None:
        """Have a call fail if a flag is zero, where the kernel does not report the problem itself.

        Kernels for GPUs do not read what LAPACK says of matrices that it cannot factorise.

        Args:
            problem: The problem that a zero stands for, as a clause.
            flags: Emits an array that has zeros where there is the problem.
        """

    def constant(self, array: np.ndarray) -> Native:
        """Return an array that is the same at every call."""

    def draw(self, node: Node) -> Native:
        """Return the value of a random node, drawn anew at every call."""

    def leaf(self, node: Node) -> Native:
        """Return the value of a placeholder or a variable at a call."""

    def scratch(self, spec: Spec, purpose: str) -> Native:
        """Return memory that an operator may write to, and that nothing reads."""


def block_of(*channels: int | None) -> int:
    """Return how many channels are in a block of arrays of these channels, for one kernel."""
    half = any(int(n or 0) % WHOLE_BLOCK == HALF_BLOCK for n in channels)
    return HALF_BLOCK if half else WHOLE_BLOCK


def smallest(emit: Emitter, flags: Native) -> Native:
    """Return a scalar that is zero if any of an array of flags is."""
    return emit("_np_min", emit("Cast", flags, dtype="float32"))


def in_order(emit: Emitter, x: Native, shape: Shape) -> Native:
    """Return a value of a shape with its elements in order, which may be in oneDNN's layout."""
    return emit("Reshape", x, shape=shape)


class OnnxEmitter(Protocol):
    """The target that `Operator.onnx` writes operators of ONNX to: a graph in the making.

    A graph is written for several combinations of sizes that are not known, and constants that
    differ from one to the other are computed from the sizes.  So sizes go into constants, and not
    into attributes, wherever ONNX takes them as an operand.
    """

    def __call__(
        self, operator: str, *inputs: Native | None, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Apply an operator of ONNX.

        Args:
            operator: Its name, such as ``"Gemm"``.
            inputs: The operands; None for one that is left out.
            outputs: The number of results to return.
            attributes: Its attributes; one that is None is left out.

        Returns:
            One value, or a tuple of them when outputs is larger than 1.
        """

    def constant(self, value: Any, dtype: str = "int64") -> Native:
        """Return an array that is the same at every call."""
