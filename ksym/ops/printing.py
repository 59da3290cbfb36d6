"""Printing and checking values while a graph runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym.errors import ArgumentError, DTypeError, ExecutionError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample

__all__ = ["check_value", "print_value"]

_numbers = itertools.count()


class _Effect(Operator):
    """An operator that returns its first operand, and does something when it is computed."""

    pure = False
    effect = True
    runs = "host"

    def known(self, *operands: Tensor, message: str | None, number: int) -> np.ndarray | None:
        return None

    def gradient(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        return [g, *(None for _ in node.inputs[1:])]


class _PrintValue(_Effect):
    def call(self, x: Any, message: str | None = None) -> Tensor:
        result: Tensor = super().call(x, message=message)
        return result

    def prepare(
        self, x: Any, message: str | None = None, number: int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not isinstance(message, str | None):
            raise ArgumentError(
                f"the message is {message!r}, not a text", remedy='write print_value(x, "x is")'
            )
        # A graph that is read from a file has its numbers.
        number = next(_numbers) if number is None else number
        return [as_tensor(x)], {"message": message, "number": number}

    def infer(self, x: Tensor, *before: Tensor, message: str | None, number: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, *before: Any, message: str | None, number: int) -> Any:
        print(*([] if message is None else [message]), x)
        return x

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


class _CheckValue(_Effect):
    def call(self, x: Any, condition: Any, message: str | None = None) -> Tensor:
        result: Tensor = super().call(x, condition, message=message)
        return result

    def prepare(
        self, x: Any, condition: Any, message: str | None = None, number: int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not isinstance(message, str | None):
            raise ArgumentError(
                f"the message is {message!r}, not a text",
                remedy='write check_value(x, condition, "x is positive")',
            )
        # As for printing.
        number = next(_numbers) if number is None else number
        return [as_tensor(x), as_tensor(condition)], {"message": message, "number": number}

    def infer(
        self, x: Tensor, condition: Tensor, *before: Tensor, message: str | None, number: int
    ) -> Spec:
        if condition.dtype != "bool":
            raise DTypeError(
                f"the condition is of {condition.dtype}, not of booleans",
                remedy="compare, as in check_value(x, x > 0)",
            )
        return x.spec

    def numpy(self, x: Any, condition: Any, *before: Any, message: str | None, number: int) -> Any:
        wrong = np.size(condition) - np.count_nonzero(condition)
        if wrong:
            details = [f"value: {np.array2string(np.asarray(x), threshold=20)}"]
            if np.shape(condition):
                place = tuple(int(i) for i in np.argwhere(~np.asarray(condition))[0])
                details.insert(0, f"false for {wrong} of {np.size(condition)}, first at {place}")
            raise ExecutionError(message or "the condition is false", details=details)
        return x

    def sample(self, draw: Draw) -> Sample:
        x = draw.array(draw.shape(min_side=0))
        return Sample(x, np.ones(x.shape, "bool"))


check_value = _CheckValue(
    "check_value",
    doc="""Return x, and fail where a condition on it is false when it is computed.

    A call that fails raises an `ExecutionError` with the message and the value, and changes no
    variable.  As with any operator, nothing is computed that no result needs: use what is returned.
    The gradient flows to x, and is not checked.

    Args:
        x: A tensor of any shape and dtype.
        condition: A tensor of booleans of any shape; all elements have to be true.
        message: The text of the error; by default that the condition is false.

    Raises:
        ArgumentError: The message is not a text.
        DTypeError: The condition is not of booleans.

    >>> import ksym
    >>> x = ksym.placeholder((2,))
    >>> root = ksym.function([x], ksym.sqrt(check_value(x, x >= 0.0, "x is not negative")))
    >>> root([4, 9])
    array([2., 3.], dtype=float32)
    """,
)
