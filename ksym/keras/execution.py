"""Functions, gradients, evaluation, and the order of updates and results."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ksym import autodiff, ops
from ksym.errors import InputError
from ksym.function import Function, evaluate
from ksym.function import function as compile_function
from ksym.graph import Tensor, substitute, topological_order
from ksym.keras import ranges
from ksym.keras.tensors import as_scalar, as_tensor, dense, is_placeholder
from ksym.variables import Update, Variable, in_dtype_of

_context = threading.local()


@contextmanager
def control_dependencies(control_inputs: Any) -> Iterator[None]:
    """Compute the results of `identity` inside of the context after updates.

    Keras's metrics rely on the order: their results read the state that the same call has updated.
    """
    items = control_inputs if isinstance(control_inputs, list | tuple) else [control_inputs]
    before: tuple[Update, ...] = getattr(_context, "updates", ())
    _context.updates = before + tuple(item for item in items if isinstance(item, Update))
    try:
        yield
    finally:
        _context.updates = before


def mark(tensor: Tensor) -> None:
    """Note on a tensor the updates whose new values it reads."""
    updates: tuple[Update, ...] = getattr(_context, "updates", ())
    if updates:
        tensor._after = updates  # type: ignore[attr-defined]


def increment(variable: Variable, amount: Any) -> Update:
    """Return an update by an amount, which can be joined with others of the same variable."""
    amount = in_dtype_of(variable, dense(amount))
    result = variable.assign_add(amount)
    result.amount = amount  # type: ignore[attr-defined]
    return result


def _join(updates: Sequence[Any]) -> list[Update]:
    """Join updates, so that each variable has one.

    A layer that is used twice (batch normalisation) adds to the same variable twice: both amounts
    are added.  Of other updates of one variable the first is kept, as by Keras on Theano.
    """
    joined: dict[Variable, Update] = {}
    seen: set[int] = set()
    for item in updates:
        if not isinstance(item, Update):
            if not (isinstance(item, tuple | list) and len(item) == 2):
                continue  # layers may add anything (0, None) as an update
            item = Update(item[0], item[1])
        if id(item) in seen:
            continue
        seen.add(id(item))
        first = joined.get(item.variable)
        if first is None:
            joined[item.variable] = item
        elif hasattr(first, "amount") and hasattr(item, "amount"):
            joined[item.variable] = increment(item.variable, first.amount + item.amount)
    return list(joined.values())


class KerasFunction:
    """A function as Keras calls it: it takes one list of values and returns a list of values.

    Values of rank 0 are returned as NumPy's scalars, as by TensorFlow's backend: users round them,
    which arrays of rank 0 refuse.
    """

    def __init__(
        self,
        compiled: Function,
        inputs: Sequence[Tensor],
        outputs: Sequence[Any],
        results: Sequence[Tensor],
        expected: Sequence[tuple[int, ranges.Expected]],
        remake: Callable[[Sequence[Tensor]], KerasFunction],
    ):
        self.compiled = compiled
        self.inputs = inputs
        self.outputs = outputs
        self._expected = expected
        self._remake = remake
        self._partial: dict[tuple[int, ...], KerasFunction] = {}
        self._scalars = [i for i, output in enumerate(results) if output.rank == 0]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Compute the outputs, and carry out the updates.

        Inputs that the outputs and updates do not need may be left out at the end, or be None.

        Raises:
            TypeError: The values are not a list.
            InputError: There are too many values, or one is missing that is needed.
        """
        if not isinstance(inputs, list | tuple):
            raise TypeError("`inputs` should be a list or tuple.")
        # Models may be trained on variables and computed tensors: their value is computed first.
        try:
            given = [x if type(x) is np.ndarray else _given(x) for x in inputs]
        except _NoValueError:
            return self._without_some(inputs)
        if len(given) < len(self.inputs):
            return self._without_some(given)
        ranges.check(self._expected, given)
        values = self.compiled(*given)
        for position in self._scalars:
            values[position] = values[position][()]
        return values

    def _without_some(self, given: Sequence[Any]) -> list[Any]:
        """Compute the outputs where not every input has a value."""
        if len(given) > len(self.inputs):
            return self.compiled(*given)  # which refuses so many
        positions = tuple(i for i, x in enumerate(given) if x is not None)
        if positions not in self._partial:
            self._partial[positions] = self._remake([self.inputs[i] for i in positions])
        return self._partial[positions]([given[i] for i in positions])


class _NoValueError(Exception):
    """An input is None."""


def _given(value: Any) -> Any:
    if value is None:
        raise _NoValueError
    return evaluate(value) if isinstance(value, Tensor) else dense(value)


def function(
    inputs: Sequence[Tensor],
    outputs: Sequence[Any],
    updates: Sequence[Any] | None = None,
    **kwargs: Any,
) -> KerasFunction:
    """Return a function of a list of values.

    Outputs made under `control_dependencies` read the new values of variables, all others the
    values from before the call; both are parts of one graph.

    Raises:
        ValueError: A keyword argument is not known.
    """
    for what, given in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"`{what}` to K.function should be a list or tuple: write [x] for x.")
    name = kwargs.pop("name", None)
    if kwargs:
        raise ValueError(f"Invalid argument {sorted(kwargs)[0]!r} passed to K.function")
    return make(list(inputs), list(outputs), list(updates or []), name)


Change = Callable[
    [Sequence[Tensor], Mapping[Variable, Tensor], Mapping[Variable, Tensor]],
    tuple[Sequence[Tensor], Mapping[Variable, Tensor]],
]
"""A function of results, new values and amounts that returns other results and new values."""


def make(
    inputs: Sequence[Tensor],
    outputs: Sequence[Any],
    updates: Sequence[Any],
    name: str | None,
    change: Change | None = None,
) -> KerasFunction:
    """Return a function, as `function` does.

    Args:
        inputs: As for `function`.
        outputs: As for `function`.
        updates: As for `function`.
        name: Its name for messages.
        change: Makes other results and new values of those that are asked for, if it is given.
    """
    pending = list(updates)
    results: list[Tensor] = []
    for output in outputs:
        if isinstance(output, Update):
            pending.append(output)
            results.append(output.value)
            continue
        output = as_tensor(output)
        after: tuple[Update, ...] = getattr(output, "_after", ())
        pending.extend(after)
        results.append(output)
    joined = _join(pending)
    values: Mapping[Variable, Tensor] = {update.variable: update.value for update in joined}
    if change is not None:
        amounts = {u.variable: u.amount for u in joined if hasattr(u, "amount")}
        changed, values = change(results, values, amounts)
        results = list(changed)
        joined = [Update(variable, value) for variable, value in values.items()]
    order = topological_order([*results, *values.values()], until=inputs)
    results = [_after_updates(result, values) for result in results]
    read = {*results, *values.values(), *(x for node in order for x in node.inputs)}
    compiled = compile_function(inputs, results, joined, name=name, on_unused_input="ignore")
    return KerasFunction(
        compiled,
        inputs,
        outputs,
        results,
        ranges.collect(order, inputs),
        functools.partial(_with_some, inputs, read, outputs, updates, name),
    )


def _with_some(
    inputs: Sequence[Tensor],
    read: Collection[Tensor],
    outputs: Sequence[Any],
    updates: Sequence[Any],
    name: str | None,
    given: Sequence[Tensor],
) -> KerasFunction:
    """Return a function of some of the inputs.

    Raises:
        InputError: Another one is a placeholder, and among the tensors that are read.
    """
    for tensor in inputs:
        lacking = is_placeholder(tensor) and tensor.node.attributes["default"] is None
        if lacking and tensor in read and tensor not in given:
            raise InputError(
                f"{name or 'K.function'} is called without a value for its input {tensor.name}, "
                "from which it computes its results",
                details=[f"inputs: {', '.join(x.name for x in inputs)}"],
                remedy="give a value for each input; None, only for one that no result needs",
            ).located(origin=tensor.node.origin)
    return function(given, outputs, updates, name=name)


def _after_updates(output: Tensor, values: Mapping[Variable, Tensor]) -> Tensor:
    after: tuple[Update, ...] = getattr(output, "_after", ())
    wanted: dict[Tensor, Tensor] = {
        u.variable: values[u.variable] for u in after if u.variable in values
    }
    if not wanted:
        return output
    return substitute([output], wanted)[0]


def gradients(loss: Any, variables: Any) -> list[Tensor | None]:
    """Return the gradient for each variable, None where there is none.

    For None Keras's optimizers raise an error without a reason.  So a warning gives the reason, if
    an operator without a gradient is on every path from a variable to the loss.
    """
    targets = [variables] if isinstance(variables, Tensor) else list(variables)
    result: Sequence[Tensor | None] = autodiff.gradients(loss, targets, disconnected="none")
    missing = [target for target, found in zip(targets, result, strict=True) if found is None]
    used = set(topological_order([loss])) if missing else set()
    reasons: dict[str, list[str]] = {}
    for target in missing:
        if target.node in used:
            reasons.setdefault(autodiff.explain_gradient(loss, target), []).append(target.name)
    for reason, names in reasons.items():
        warnings.warn(f"no gradient for {', '.join(names)}: {reason}", stacklevel=2)
    return list(result)


def stop_gradient(variables: Any) -> Any:
    """Return a tensor, or several, through which no gradient flows."""
    if isinstance(variables, list | tuple):
        return [ops.stop_gradient(x) for x in variables]
    return ops.stop_gradient(variables)


def eval(x: Any) -> Any:  # noqa: A001 - Keras's name
    """Return the value of a tensor; of an update, carry it out and return the new value."""
    if isinstance(x, list | tuple):
        return [eval(item) for item in x]
    if isinstance(x, Variable):
        return as_scalar(x.get_value())
    if isinstance(x, Tensor):
        return function([], [x])([])[0]
    if isinstance(x, Update):
        return as_scalar(evaluate(x))
    return as_scalar(np.asarray(dense(x)))


def print_tensor(x: Any, message: str = "") -> Tensor:
    """Return x; functions that compute the result print the message and the value of x.

    It is printed whenever it is computed, in loops at each step, in the order of the program.
    """
    x = as_tensor(x)
    result: Tensor = ops.print_value(x, message)
    result._uses_learning_phase = x._uses_learning_phase  # type: ignore[attr-defined]
    return result
