"""Checking the indices that a call is given, such as class numbers and words.

A native graph cannot raise an error, and takes an index that is out of range for another one.  So
arguments are checked before a call: labels of a cross entropy, and the indices of `gather`, where
the argument is the index itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.errors import InputError
from ksym.graph import Node, Tensor
from ksym.keras.tensors import is_placeholder
from ksym.origin import Origin

_SAME_VALUES = {"cast", "expand_dims", "copy", "reshape", "squeeze", "transpose"}


class Expected(NamedTuple):
    """The values that a placeholder may be given: whole numbers below a count."""

    source: Tensor
    limit: int
    things: str
    origin: Origin


def expect(result: Tensor, indices: Tensor, count: int | None, things: str) -> None:
    """Note on a result that its operand holds indices below a count."""
    source = indices
    while source.node.operator.name in _SAME_VALUES:
        source = source.node.inputs[0]
    if count is not None and is_placeholder(source):
        note = Expected(source, count, things, result.node.origin)
        result._expected = note  # type: ignore[attr-defined]


def collect(order: Iterable[Node], inputs: Sequence[Tensor]) -> list[tuple[int, Expected]]:
    """Return by position the expected values of the inputs of a function that runs these nodes."""
    noted = [x._expected for node in order for x in node.outputs if hasattr(x, "_expected")]
    positions = {tensor: position for position, tensor in enumerate(inputs)}
    return [(positions[note.source], note) for note in noted if note.source in positions]


def check(expected: Sequence[tuple[int, Expected]], values: Sequence[Any]) -> None:
    """Check the values that a function is called with.

    Raises:
        InputError: An index is out of range.
    """
    for position, note in expected:
        if position >= len(values):
            continue  # too few values: the function says so
        array: Any = np.asarray(values[position])
        if array.size == 0 or array.dtype.kind not in "iuf":
            continue
        low, high = array.min(), array.max()
        if not (low > -1 and high < note.limit):
            wrong = low if not low > -1 else high
            raise InputError(
                f"{note.source.name} holds {wrong}, but there are {note.limit} {note.things}: "
                f"0 to {note.limit - 1}"
            ).located(origin=note.origin)
