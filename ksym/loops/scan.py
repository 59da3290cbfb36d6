"""The loop of a known number of steps as an operator: its node, and its gradient.

A node's operands are those of its body, and the tensors that the body closes over; the functions
that users call (`ksym.loops.api`) find them.  The gradient of a loop is a loop of the same kind
over the gradient of the body, so that there are gradients of every order.  It computes the steps of
the body again, from the states that the forward loop keeps; the forward loop keeps nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.autodiff import gradients
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.loops.body import (
    Body,
    check_counts,
    constants_inlined,
    float_positions,
    refuse_random,
    silenced,
    specialized_or_failed,
    unify_state_shapes,
)
from ksym.loops.view import ScanResults, ScanView, parted
from ksym.operator.declaration import Operator
from ksym.operator.operands import is_settled
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder


class _ScanOperator(Operator):
    """The loop; its operands, body and results are those of `ksym.loops.view`.

    The gradient needs the states before each step; a result that nothing reads is not kept.
    """

    internal = "the function `scan` makes it"
    pure = False
    runs = "scan"
    static_operands = (0,)

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        steps, *rest = operands
        count, carried = attributes["sequences"], attributes["states"]
        with self.named(operands):
            check_counts(attributes["body"], rest, count, carried)
            body, rest = constants_inlined(attributes["body"], rest, count + carried)
            sequences, others = parted(rest, count)
            if not all(x.rank for x in sequences):
                raise ShapeError("a sequence is a scalar: there is nothing to go through")
            specs = [*(Spec(x.shape[1:], x.dtype) for x in sequences), *(t.spec for t in others)]
            runs = is_settled(steps) and steps.value.any()  # type: ignore[union-attr]
            body = (
                body.specialized(specs)
                if runs
                else specialized_or_failed(self, body, specs, count, carried)
            )
            body = unify_state_shapes(body, count, carried)
        return super().make([steps, *rest], {"lean": False, **attributes, "body": body})

    def made(self, loop: ScanView) -> ScanResults[Tensor]:
        """Make the node of a loop and return its results; a loop without results needs no node."""
        if not loop.roots:
            return ScanResults((), ())
        return loop.results(self.make(loop.operands, loop.attributes))

    def infer(self, *operands: Tensor, **attributes: Any) -> tuple[Spec, ...]:
        loop = ScanView.of_operands(operands, attributes)
        steps = loop.steps
        if steps.rank or dtypes.kind(steps.dtype) != 1:
            raise ShapeError(f"the number of steps is an integer scalar, not {steps.spec}")
        length = None if steps.value is None else steps.value.item()
        length = length if isinstance(length, int) else None
        if length is not None and length < 0:
            raise ShapeError(f"there cannot be {length} steps")
        for tensor in loop.sequences:
            (length,) = shapes.merge((length,), tensor.shape[:1])
        stacked = [Spec((length, *t.shape), t.dtype) for t in (*loop.outputs, *loop.before)]
        return (*(t.spec for t in loop.before), *stacked)

    def numpy(
        self,
        steps: Any,
        *arrays: Any,
        body: Body,
        sequences: int,
        states: int,
        reverse: bool,
        lean: bool,
    ) -> Any:
        through, initial, closed = parted(arrays, sequences, states)
        _, before, _ = parted(body.inputs, sequences, states)
        _, outputs = parted(body.outputs, states)
        current: Sequence[Any] = [np.asarray(a) for a in initial]
        length = int(steps)
        collected: list[Any] = [
            np.zeros((length, *shapes.known(t.shape)), t.dtype) for t in (*outputs, *before)
        ]
        order = range(length)
        for step in reversed(order) if reverse else order:
            found = body.numpy([*(a[step] for a in through), *current, *closed])
            new, given = parted(found, states)
            for place, value in zip(collected, [*given, *current], strict=True):
                place[step] = value
            current = new
        return (*current, *collected)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        refuse_random(node, node.attributes["body"])
        loop = ScanView.of(node)
        found = scan_gradient(loop, loop.results(node.outputs), loop.results(arriving))
        return [None, *found]

    def sample(self, draw: Draw) -> Sample:
        steps, width = draw.integer(1, 3), draw.integer(1, 3)
        x, h, w = (placeholder(s, draw.dtype("float")) for s in ((width,), (width,), (width,)))
        new = ops.tanh(h * w + x)
        body = Body([x, h, w], [new, new * x])
        attributes = {
            "body": body,
            "sequences": 1,
            "states": 1,
            "reverse": draw.choose((True, False)),
        }
        return Sample(
            np.array(steps),
            draw.array((steps, width)),
            draw.array((width,)),
            draw.array((width,)),
            attributes=attributes,
        )

    def prepare(self, *operands: Any, **attributes: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [ops.as_tensor(operand) for operand in operands], attributes


def scan_gradient(
    loop: ScanView, results: ScanResults[Tensor], arriving: ScanResults[Tensor | None]
) -> list[Tensor | None]:
    """Return the gradients of a loop by its operands (but the number of steps): the backward loop.

    The backward loop takes the steps in the opposite order.  Its sequences are those of the loop
    and its histories, so that each step can compute the body again.  Its states are the gradients
    by the states, and the sums so far of the gradients by the tensors that the body closes over.

    Args:
        loop: The loop.
        results: Its results.
        arriving: The gradient that arrives at each result, None if there is none.
    """
    new, outputs = parted(silenced(loop.roots), len(loop.new))
    loop = dataclasses.replace(loop, new=new, outputs=outputs)
    through, carried, beside = map(float_positions, (loop.sequences, loop.new, loop.closed))
    by_output = _arrived(arriving.stacked)
    by_history = _arrived(arriving.histories)
    g_outputs = _parameters_for(_picked(loop.outputs, by_output))
    g_histories = _parameters_for(_picked(loop.before, by_history))
    g_states = _parameters_for(_picked(loop.before, carried))
    totals = _parameters_for(_picked(loop.closed, beside))
    wrt = _picked(loop.elements, through) + _picked(loop.before, carried)
    wrt += _picked(loop.rest, beside)
    losses = [*_picked(loop.new, carried), *_picked(loop.outputs, by_output)]
    seeds = [*g_states, *g_outputs]
    found = gradients(losses, wrt, output_gradients=seeds, disconnected="zero") if wrt else []
    for_elements, for_before, for_rest = parted(found, len(through), len(carried))
    for_states = dict(zip(carried, for_before, strict=True))
    for i, g in zip(by_history, g_histories, strict=True):
        if i in for_states:
            for_states[i] = for_states[i] + g
    sums = [t + g for t, g in zip(totals, for_rest, strict=True)]
    by_final = _arrived(arriving.finals)
    initial = [by_final[i] if i in by_final else ops.zeros_like(results.finals[i]) for i in carried]
    nothing = [ops.zeros_like(t) for t in _picked(loop.closed, beside)]
    backward = ScanView(
        steps=loop.steps,
        reverse=not loop.reverse,
        lean=loop.lean,
        sequences=(
            *loop.sequences,
            *results.histories,
            *by_output.values(),
            *by_history.values(),
        ),
        elements=(*loop.elements, *loop.before, *g_outputs, *g_histories),
        initial=(*initial, *nothing),
        before=(*g_states, *totals),
        closed=loop.closed,
        rest=loop.rest,
        new=(*for_states.values(), *sums),
        outputs=for_elements,
    )
    made = scan_node.made(backward)
    by_state, by_closed = parted(made.finals, len(carried))
    return [
        *_placed(made.stacked, through, len(loop.sequences)),
        *_placed(by_state, carried, len(loop.initial)),
        *_placed(by_closed, beside, len(loop.closed)),
    ]


def _arrived(gradients: Sequence[Tensor | None]) -> dict[int, Tensor]:
    """Return the gradients that are not None, by their positions."""
    return {i: g for i, g in enumerate(gradients) if g is not None}


def _picked(tensors: Sequence[Tensor], positions: Iterable[int]) -> list[Tensor]:
    """Return the tensors at some positions."""
    return [tensors[i] for i in positions]


def _parameters_for(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return a parameter of a body for each tensor, of its shape and dtype."""
    return [placeholder(t.shape, t.dtype) for t in tensors]


def _placed(found: Sequence[Tensor], positions: Sequence[int], count: int) -> list[Tensor | None]:
    """Return a list of `count` places with tensors at given positions, None elsewhere."""
    places: list[Tensor | None] = [None] * count
    for position, tensor in zip(positions, found, strict=True):
        places[position] = tensor
    return places


scan_node = _ScanOperator(
    "scan",
    doc="""The node that `ksym.scan` makes; call that.

    Args:
        operands: The number of steps, the sequences, the initial states, and the tensors that the
            body closes over.
        attributes: The ``body``; the numbers of ``sequences`` and ``states``; ``reverse``, whether
            the steps go from the last element to the first; ``lean``, whether memory counts for
            more than time (by default not).
    """,
)
