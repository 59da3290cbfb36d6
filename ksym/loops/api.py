"""The functions for loops and branches that users call; their bodies are traced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from ksym import dtypes, graph, ops
from ksym.errors import DTypeError, GraphError, KsymError, ShapeError
from ksym.graph import Tensor
from ksym.loops.body import Body
from ksym.loops.checkpoints import scan_in_blocks
from ksym.loops.cond import cond_node
from ksym.loops.recognition import kernel_for
from ksym.loops.scan import scan_node
from ksym.loops.tracing import branches, closure, drawn_ahead
from ksym.loops.view import ScanResults, ScanView, parted
from ksym.loops.while_ import while_node
from ksym.operator.operands import as_tensor, cast_to, promoted
from ksym.operator.operands import condition as as_condition
from ksym.ops.leaves import placeholder
from ksym.origin import current_origin
from ksym.variables import Update, Variable, collect

Tensors = Tensor | Sequence[Tensor]


class Scanned(NamedTuple):
    """The results of `scan`.

    Attributes:
        outputs: The outputs of all steps, stacked along a new first axis.
        states: The states after the last step.
        updates: Updates of the variables that the body assigned to, to be given to `function`.
    """

    outputs: Any
    states: Any
    updates: list[Update]


def _listed(value: Any) -> tuple[list[Any], bool]:
    """Return a value as a list, and whether it was a single tensor."""
    if isinstance(value, list | tuple):
        return list(value), False
    return [value], True


def _initial(states: Sequence[Any], *others: Sequence[Any]) -> list[Tensor]:
    """Return initial states as tensors.

    A float that is given as a number is of the dtype in which it meets the floats that the loop is
    given as tensors, the other states among them; of float32 at least.
    """
    given = [t for group in (states, *others) for t in group if isinstance(t, Tensor)]
    floats = {t.dtype for t in given if dtypes.is_float(t.dtype)}
    dtype = dtypes.promote(dtypes.DEFAULT_FLOAT, *sorted(floats))
    result = [as_tensor(s) for s in states]
    return [
        as_tensor(s, dtype)
        if dtypes.is_float(t.dtype) and not isinstance(s, np.ndarray | np.generic)
        else t
        for s, t in zip(states, result, strict=True)
    ]


def _giving_way(value: Any, other: Any) -> Tensor:
    """Return a branch's result as a tensor, a number in the dtype of the other branch's tensor."""
    if isinstance(value, Tensor) or not isinstance(other, Tensor):
        return as_tensor(value)
    return promoted(other, value)[1]


def _packed(values: Sequence[Tensor], single: bool) -> Any:
    return values[0] if single else list(values)


def _number_of(parameters: Sequence[Tensor]) -> int:
    """Return the number of the first node of a body: nodes made before it have smaller ones."""
    return placeholder(()).node.number if not parameters else min(p.node.number for p in parameters)


def scan(
    body: Callable[..., Any],
    sequences: Tensors = (),
    states: Any = (),
    constants: Tensors = (),
    *,
    steps: Any = None,
    reverse: bool = False,
    checkpoint_every: int | None = None,
) -> Scanned:
    """Apply a body step by step, to the elements of sequences and the states of the step before.

    Args:
        body: Called once, as ``body(*elements, *states, *constants)``; returns
            ``(outputs, states)`` or ``(outputs, states, updates)``, each of the first two a tensor
            or a sequence of them.  It may use any other tensors too.
        sequences: Tensors of equal lengths; a step gets one element along their first axis.
        states: The initial states: tensors, or numbers.
        constants: Tensors that the body gets as they are.
        steps: The number of steps, an int or a scalar computed from shapes; by default the length
            of the sequences.
        reverse: Go from the last element to the first; outputs stay with their elements.
        checkpoint_every: The number of steps after which states are kept for the gradient; those
            between are computed again.  This takes less memory for long sequences, and more time.

    Returns:
        A `Scanned`: outputs stacked along a new first axis, the states after the last step, and
        the updates of variables that the body assigned to: such a variable is a state of the
        loop.  Random numbers of the body are drawn anew for each step.

    Raises:
        ShapeError: Sequences differ in length, or a state changes its shape.
        DTypeError: A state changes its dtype.
        GraphError: There is neither a sequence nor a number of steps, the body does not return
            what it should, or checkpoint_every is not a positive integer.

    >>> x = placeholder((None,))
    >>> scan(lambda e, s: (s + e, s + e), x, 0.0).outputs.spec
    Spec(shape=(None,), dtype='float32')
    """
    try:
        return _scan(body, sequences, states, constants, steps, reverse, checkpoint_every)
    except KsymError as error:
        raise error.located("scan", origin=current_origin()) from None


def _scan(
    body: Callable[..., Any],
    sequences: Any,
    states: Any,
    constants: Any,
    steps: Any,
    reverse: bool,
    every: int | None,
) -> Scanned:
    if every is not None and (not isinstance(every, int) or every < 1):
        raise GraphError(f"checkpoint_every is {every!r}", remedy="give 1 or more steps, or None")
    iteration = _iteration(sequences, steps)
    initial, single_state = _listed(states)
    initial = _initial(initial, iteration.sequences, _listed(constants)[0])
    traced = _traced(body, iteration, initial, _listed(constants)[0])
    made = _made(replace(traced.loop, reverse=bool(reverse)), iteration.whole, every)
    finals, assigned = parted(made.finals, len(initial))
    return Scanned(
        _packed(made.stacked, traced.single_output) if made.stacked else [],
        _packed(finals, single_state) if initial else [],
        [Update(v, value) for v, value in zip(traced.assigned, assigned, strict=True)],
    )


class _Iteration(NamedTuple):
    """The sequences of a loop and its number of steps.

    Attributes:
        sequences: The sequences.
        steps: The number of steps.
        whole: Whether there is known to be one step for each element.
    """

    sequences: list[Tensor]
    steps: Tensor
    whole: bool


def _iteration(sequences: Any, steps: Any) -> _Iteration:
    """Check the sequences and steps that a user gives, and return them as tensors."""
    through = [as_tensor(x) for x in _listed(sequences)[0]]
    for x in through:
        if not x.rank:
            raise ShapeError(
                f"the sequence {x!r} is a scalar: there is nothing to go through",
                remedy="give a value that changes from step to step as a state, one that stays the "
                "same as a constant",
            )
    lengths = {x.shape[0] for x in through if x.shape[0] is not None}
    if len(lengths) > 1:
        raise ShapeError(
            f"the sequences have lengths {' and '.join(map(str, sorted(lengths)))}",
            remedy="cut them to one length, such as x[:n]",
        )
    whole = steps is None
    if steps is None:
        if not through:
            raise GraphError("there is no sequence to go through", remedy="give steps")
        steps = next(iter(lengths)) if lengths else ops.shape_of(through[0])[0]
    steps = as_tensor(steps)
    if dtypes.kind(steps.dtype) != 1:
        raise DTypeError(f"the number of steps is an integer, not {steps.spec}")
    return _Iteration(through, cast_to(steps, "int64"), whole)


class _Traced(NamedTuple):
    """A loop whose body was traced.

    Attributes:
        loop: The loop.
        assigned: The variables that the body assigned to: they are its last states.
        single_output: Whether the body returned a tensor as its outputs, and no sequence.
    """

    loop: ScanView
    assigned: list[Variable]
    single_output: bool


def _traced(
    body: Callable[..., Any], iteration: _Iteration, initial: list[Tensor], constants: Sequence[Any]
) -> _Traced:
    """Trace a body, and separate it from the tensors that it closes over."""
    elements = [placeholder(x.shape[1:], x.dtype) for x in iteration.sequences]
    before = [placeholder(s.shape, s.dtype) for s in initial]
    for tensor in elements:
        tensor.loop = "an element that `scan` gave to its body"
    for tensor in before:
        tensor.loop = "a state that `scan` gave to its body"
    since = _number_of([*elements, *before])
    result = body(*elements, *before, *(as_tensor(c) for c in constants))
    returned, single_output, updates = _returned(result, initial)
    assigned: list[Variable] = [update.variable for update in updates]
    own = [placeholder(v.shape, v.dtype, name=v.name) for v in assigned]
    given: dict[Tensor, Tensor] = dict(zip(assigned, own, strict=True))
    roots = graph.replace(returned, given)
    initial, before = [*initial, *assigned], [*before, *own]
    shaped_like = [ops.zeros(ops.shape_of(x)[1:], x.dtype) for x in iteration.sequences]
    alike = dict(zip([*elements, *before], [*shaped_like, *initial], strict=True))
    drawn, each, roots = drawn_ahead(alike, roots, since, iteration.steps)
    elements = [*elements, *each]
    closed, rest, roots = closure([*elements, *before], roots, since)
    new, outputs = parted(roots, len(before))
    loop = ScanView(
        steps=iteration.steps,
        sequences=(*iteration.sequences, *drawn),
        elements=tuple(elements),
        initial=tuple(initial),
        before=tuple(before),
        closed=tuple(closed),
        rest=tuple(rest),
        new=new,
        outputs=outputs,
    )
    return _Traced(loop, assigned, single_output)


def _returned(result: Any, initial: Sequence[Tensor]) -> tuple[list[Tensor], bool, list[Update]]:
    """Check the results of a body, and return them as tensors.

    Returns:
        The new states, the new values of variables and the outputs; whether there is a single
        output, not in a sequence; the updates.
    """
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise GraphError(
            f"the body returned {result!r}", remedy="return (outputs, states), or add updates"
        )
    outputs, single_output = _listed(result[0])
    new, _ = _listed(result[1])
    if len(new) != len(initial):
        raise GraphError(
            f"the body returned {len(new)} states for {len(initial)}",
            remedy="return (outputs, states), with a new value for each state",
        )
    new = [as_tensor(n, s.dtype) for n, s in zip(new, initial, strict=True)]
    updates = collect(result[2] if len(result) == 3 else None)
    tensors = [*new, *(u.value for u in updates), *(as_tensor(o) for o in outputs)]
    return tensors, single_output, updates


def _made(loop: ScanView, whole: bool, every: int | None) -> ScanResults[Tensor]:
    """Return the results of a loop, computed by blocks of steps, by a kernel, or by a scan."""
    if every is not None:
        return scan_in_blocks(loop, every)
    return kernel_for(loop, whole) or scan_node.made(loop)


def cond(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Compute one of two branches; a scalar that is known only at the call selects it.

    Args:
        condition: A scalar tensor; anything but zero is true.
        then: Called once, without arguments; returns a tensor or a sequence of them.
        otherwise: Likewise, with results of the same shapes and dtypes.

    Returns:
        The results of the branch that is taken; the other one is not computed.

    Raises:
        ShapeError: The condition is not a scalar, or the results of the branches differ in number,
            shape or dtype.
    """
    try:
        predicate = as_condition(condition)
        for branch in (then, otherwise):
            if not callable(branch):
                raise GraphError(
                    f"a branch is a function, not {branch!r}",
                    remedy="write lambda: in front of it, or choose elements by ksym.where",
                )
        since = _number_of([])
        first, single = _listed(then())
        second, _ = _listed(otherwise())
        results = list(zip_longest(first, second))
        first, second = (
            [_giving_way(*pair) for pair in results[: len(first)]],
            [_giving_way(b, a) for a, b in results[: len(second)]],
        )
        outer, inner, traced = branches(first, second, since)
        return _packed(
            cond_node.make(
                [predicate, *outer],
                {
                    "then": Body(inner, traced[: len(first)]),
                    "otherwise": Body(inner, traced[len(first) :]),
                },
            ),
            single,
        )
    except KsymError as error:
        raise error.located("cond", origin=current_origin()) from None


def while_loop(
    condition: Callable[..., Any],
    body: Callable[..., Any],
    states: Any,
    *,
    max_steps: int | None = None,
) -> Any:
    """Apply a body to states as long as a condition on them holds.

    Args:
        condition: Called once, as ``condition(*states)``; returns a scalar tensor.
        body: Called once, as ``body(*states)``; returns the new states.
        states: The initial ones: a tensor, a number, or a sequence of them.
        max_steps: The largest number of steps; the call fails if the loop has not ended then.

    Returns:
        The states at the end.  Gradients flow through all steps that were taken.

    Raises:
        ShapeError: A state changes its shape, or the condition is not a scalar.
        DTypeError: A state changes its dtype.
        GraphError: max_steps is negative, or the body returns more or fewer states.
        ExecutionError: At the call, the loop has not ended after max_steps.
    """
    try:
        if max_steps is not None and max_steps < 0:
            raise GraphError(f"max_steps is {max_steps}", remedy="give 0 or more, or None")
        initial, single = _listed(states)
        initial = _initial(initial)
        carried = [placeholder(s.shape, s.dtype) for s in initial]
        for tensor in carried:
            tensor.loop = "a state that `while_loop` gave to its body"
        since = _number_of(carried)
        test = as_condition(condition(*carried))
        new, _ = _listed(body(*carried))
        if len(new) != len(initial):
            raise GraphError(
                f"the body returned {len(new)} states for {len(initial)}",
                remedy="return a new value for each state",
            )
        new = [as_tensor(n, s.dtype) for n, s in zip(new, initial, strict=True)]
        outer, inner, traced = closure(carried, [*new, test], since)
        results = while_node.make(
            [*initial, *outer],
            {
                "body": Body([*carried, *inner], traced[:-1]),
                "test": Body([*carried, *inner], traced[-1:]),
                "states": len(initial),
                "limit": max_steps,
            },
        )
        return _packed(results[: len(initial)], single)
    except KsymError as error:
        raise error.located("while_loop", origin=current_origin()) from None


def map_fn(function: Callable[..., Any], sequences: Tensors) -> Any:
    """Apply a function to the elements of sequences, and stack its results.

    Args:
        function: Called once, as ``function(*elements)``; returns a tensor or a sequence.
        sequences: A tensor or several of equal lengths.
    """
    return scan(lambda *elements: (function(*elements), ()), sequences).outputs


def foldl(function: Callable[..., Tensor], sequences: Tensors, initial: Any) -> Tensor:
    """Combine elements from the first to the last: ``function(accumulated, *elements)``.

    Args:
        function: Called once; returns the new accumulated tensor.
        sequences: A tensor or several of equal lengths.
        initial: The first value of ``accumulated``.
    """
    return _fold(function, sequences, initial, reverse=False)


def foldr(function: Callable[..., Tensor], sequences: Tensors, initial: Any) -> Tensor:
    """Combine elements from the last to the first: ``function(accumulated, *elements)``.

    Args:
        function: Called once; returns the new accumulated tensor.
        sequences: A tensor or several of equal lengths.
        initial: The first value of ``accumulated``.
    """
    return _fold(function, sequences, initial, reverse=True)


def _fold(
    function: Callable[..., Tensor], sequences: Tensors, initial: Any, reverse: bool
) -> Tensor:
    def body(*arguments: Tensor) -> Any:
        *elements, accumulated = arguments
        return (), function(accumulated, *elements)

    return scan(body, sequences, initial, reverse=reverse).states
