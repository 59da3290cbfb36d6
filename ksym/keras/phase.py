"""The learning phase, and choosing by it or by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.keras.config import floatx
from ksym.keras.tensors import as_tensor, as_tensors, dense
from ksym.loops.api import cond
from ksym.operator.operands import condition as as_condition
from ksym.operator.operands import is_settled
from ksym.origin import current_origin


class _Phase:
    """The learning phase: 0 or 1 once it was set, else one symbolic scalar for the process."""

    def __init__(self) -> None:
        # Compiled anew for each of its two values, so that a training step holds nothing of the
        # inference branch, and the other way round.
        self._symbol = ops.placeholder(
            (), "bool", name="keras_learning_phase", default=False, static=True
        )
        self.clear()

    def clear(self) -> None:
        # The same symbol again: models made before contain it, and can be trained further.
        self.value: Any = self._symbol


PHASE = _Phase()


def learning_phase() -> Any:
    """Return the learning phase: an int if it was set, else a symbolic scalar, 0 by default."""
    return PHASE.value


def set_learning_phase(value: int) -> None:
    """Fix the learning phase.

    Raises:
        ValueError: It is neither 0 nor 1.
    """
    if value not in (0, 1):
        raise ValueError("Expected learning phase to be 0 or 1.")
    PHASE.value = int(value)


def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Return x in training, else alt; either may be a function that makes it."""
    dynamic = training is None
    if dynamic:
        training = learning_phase()
    if not isinstance(training, Tensor):
        chosen = x if training in (1, True) else alt
        return chosen() if callable(chosen) else chosen
    result = switch(training, x, alt)
    if dynamic:
        result._uses_learning_phase = True  # type: ignore[attr-defined]
    return result


def in_test_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Return x outside of training, else alt."""
    return in_train_phase(alt, x, training)


def _is_static(condition: Tensor) -> bool:
    """Return whether the choice falls before the call, so that only one branch gets compiled."""
    return is_settled(condition) or condition.node.attributes.get("static", False)


def _branch(expression: Any) -> Any:
    """Return what an expression gives, numbers so that they give way to the other branch."""
    value = dense(expression())
    if isinstance(value, Tensor | list | tuple):
        return as_tensor(value)
    # NumPy's values keep their dtype where both branches are numbers, Python's become float32.
    return float(value) if np.ndim(value) == 0 and floatx() == "float32" else as_tensor(value)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Tensor:
    """Choose by a condition: one for everything, or one for each element or leading slice.

    With two functions and a scalar condition, only the result of the chosen function is computed.
    """
    if isinstance(condition, bool | np.bool_):
        condition = as_condition(bool(condition))  # an error that names ksym.equal
    condition = ops.as_tensor(condition)
    lazy = callable(then_expression) and callable(else_expression)
    if lazy and condition.rank == 0 and not _is_static(condition):
        return cond(condition, lambda: _branch(then_expression), lambda: _branch(else_expression))
    x, y = as_tensors(
        *(choice() if callable(choice) else choice for choice in (then_expression, else_expression))
    )
    rank = max(x.rank, y.rank)
    if condition.rank > rank:
        raise ValueError(
            "Rank of `condition` should be less than or equal to rank of `then_expression` and "
            f"`else_expression`. ndim(condition)={condition.rank}, ndim(then_expression)={rank}"
        )
    if not condition.rank:
        if x.rank != y.rank:
            raise ShapeError(
                f"one choice is {x.spec}, the other {y.spec}: the ranks differ"
            ).located("switch", origin=current_origin())
        return ops.choose(condition, x, y)
    while condition.rank < rank:
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, x, y)
