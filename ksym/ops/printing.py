"""Printing values while a graph runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym.errors import ArgumentError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample

__all__ = ["print_value"]

_numbers = itertools.count()


class _PrintValue(Operator):
    pure = False
    effect = True
    runs = "host"

    def prepare(
        self, x: Any, message: str | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not isinstance(message, str | None):
            raise ArgumentError(
                f"the message is {message!r}, not a text", remedy='write print_value(x, "x is")'
            )
        return [as_tensor(x)], {"message": message, "number": next(_numbers)}

    def infer(self, x: Tensor, *before: Tensor, message: str | None, number: int) -> Spec:
        return x.spec

    def known(
        self, x: Tensor, *before: Tensor, message: str | None, number: int
    ) -> np.ndarray | None:
        return None

    def numpy(self, x: Any, *before: Any, message: str | None, number: int) -> Any:
        print(*([] if message is None else [message]), x)
        return x

    def gradient(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        return [g, *(None for _ in node.inputs[1:])]

    def sample(self, draw: Draw) -> Sample:
        return Sample(draw.array(draw.shape(min_side=0)), attributes={"message": "x"})


print_value = _PrintValue(
    "print_value",
    doc="""Return x, and print a message and its value whenever it is computed.

    What several of them print comes in the order in which they were made, and in a loop step by
    step.  As with any operator, nothing is computed that no result needs: use what is returned.
    The gradient flows through it and prints nothing, also where a loop computes its body again.

    Args:
        x: A tensor of any shape and dtype.
        message: What is printed before the value; None for the value alone.

    Raises:
        ArgumentError: The message is not a text.

    >>> import ksym
    >>> x = ksym.placeholder((2,))
    >>> y = ksym.function([x], ksym.print_value(x * 2.0, "twice x:") + 1.0)([1, 2])
    twice x: [2. 4.]
    """,
)
