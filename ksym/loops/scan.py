"""The loop of a known number of steps as an operator: its node, and its gradient.

A node's operands are what its body is applied to, and what that closes over; both are found by
`ksym.loops.api`, which is what users call.  The gradient of a loop is a loop of the same kind over
the body's own gradient, so that gradients of any order exist; it computes the body's steps anew
from the states that the forward loop keeps, and keeps nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    unify_state_shapes,
)
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder


class _ScanOperator(Operator):
    """Operands: the number of steps, sequences, states, what the body closes over.

    The body takes an element of each sequence, the states, and the rest; it gives new states and
    outputs.  Results: the states at the end, the outputs of all steps, and the states before each
    step (which the gradient needs; a result nobody reads is not kept).
    """

    pure = False
    runs = "scan"
    static_operands = (0,)

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        steps, *rest = operands
        count, carried = attributes["sequences"], attributes["states"]
        with self.named(operands):
            check_counts(attributes["body"], rest, count, carried)
            body, rest = constants_inlined(attributes["body"], rest, count + carried)
            specs = [t.spec for t in rest]
            for i, sequence in enumerate(rest[:count]):
                if not sequence.rank:
                    raise ShapeError("a sequence is a scalar: there is nothing to go through")
                specs[i] = Spec(sequence.shape[1:], sequence.dtype)
            body = unify_state_shapes(body.specialized(specs), count, carried)
        return super().make([steps, *rest], {"lean": False, **attributes, "body": body})

    def infer(
        self, steps: Tensor, *operands: Tensor, body: Body, sequences: int, states: int, **_: Any
    ) -> tuple[Spec, ...]:
        if steps.rank or dtypes.kind(steps.dtype) != 1:
            raise ShapeError(f"the number of steps is an integer scalar, not {steps.spec}")
        length = None if steps.value is None else steps.value.item()
        length = length if isinstance(length, int) else None
        if length is not None and length < 0:
            raise ShapeError(f"there cannot be {length} steps")
        for tensor in operands[:sequences]:
            (length,) = shapes.merge((length,), tensor.shape[:1])
        carried = [t.spec for t in body.inputs[sequences : sequences + states]]
        outputs = [t.spec for t in body.outputs[states:]]
        stacked = [Spec((length, *s.shape), s.dtype) for s in [*outputs, *carried]]
        return (*carried, *stacked)

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
        current = [np.asarray(a) for a in arrays[sequences : sequences + states]]
        length = int(steps)
        kept = [*body.outputs[states:], *body.inputs[sequences : sequences + states]]
        collected: list[Any] = [
            np.zeros((length, *shapes.known(tensor.shape)), tensor.dtype) for tensor in kept
        ]
        order = range(length)
        for step in reversed(order) if reverse else order:
            values = [*(a[step] for a in arrays[:sequences]), *current]
            new = body.numpy([*values, *arrays[sequences + states :]])
            for place, value in zip(collected, [*new[states:], *current], strict=True):
                place[step] = value
            current = new[:states]
        return (*current, *collected)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        refuse_random(node, node.attributes["body"])
        return [None, *scan_gradient(node, arriving)]

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


def scan_gradient(node: Node, arriving: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the gradients for a scan's operands but the first, as a scan the other way."""
    attributes = node.attributes
    body: Body = attributes["body"]
    count, carried = attributes["sequences"], attributes["states"]
    steps, *operands = node.inputs
    outputs = len(body.outputs) - carried
    histories = node.outputs[carried + outputs :]
    sequences, closed = operands[:count], operands[count + carried :]
    states = float_positions(body.outputs[:carried])
    by_state = arriving[:carried]
    by_output = [
        (i, g) for i, g in enumerate(arriving[carried : carried + outputs]) if g is not None
    ]
    by_history = [(i, g) for i, g in enumerate(arriving[carried + outputs :]) if g is not None]
    smooth_sequences, smooth_closed = float_positions(sequences), float_positions(closed)

    def like(tensor: Tensor) -> Tensor:
        return placeholder(tensor.shape, tensor.dtype)

    elements = [like(t) for t in body.inputs[:count]]
    before = [like(t) for t in body.inputs[count : count + carried]]
    g_outputs = [like(body.outputs[carried + i]) for i, _ in by_output]
    g_histories = [like(body.inputs[count + i]) for i, _ in by_history]
    g_states = [like(body.inputs[count + i]) for i in states]
    totals = [like(closed[i]) for i in smooth_closed]
    rest = [like(t) for t in closed]
    forward = body([*elements, *before, *rest])
    wrt = [
        *(elements[i] for i in smooth_sequences),
        *(before[i] for i in states),
        *(rest[i] for i in smooth_closed),
    ]
    seeds = [*g_states, *g_outputs]
    losses = [*(forward[i] for i in states), *(forward[carried + i] for i, _ in by_output)]
    found = gradients(losses, wrt, output_gradients=seeds, disconnected="zero") if wrt else []
    for_elements = found[: len(smooth_sequences)]
    for_states = found[len(smooth_sequences) : len(smooth_sequences) + len(states)]
    for_closed = found[len(smooth_sequences) + len(states) :]
    for (i, _), g in zip(by_history, g_histories, strict=True):
        if i in states:
            for_states[states.index(i)] = for_states[states.index(i)] + g
    backward = Body(
        [*elements, *before, *g_outputs, *g_histories, *g_states, *totals, *rest],
        [*for_states, *(t + g for t, g in zip(totals, for_closed, strict=True)), *for_elements],
    )
    initial = [
        ops.zeros_like(node.outputs[i]) if (arrived := by_state[i]) is None else arrived
        for i in states
    ]
    results = scan_node.make(
        [
            steps,
            *sequences,
            *histories,
            *(g for _, g in by_output),
            *(g for _, g in by_history),
            *initial,
            *(ops.zeros_like(closed[i]) for i in smooth_closed),
            *closed,
        ],
        {
            "body": backward,
            "sequences": count + carried + len(by_output) + len(by_history),
            "states": len(states) + len(smooth_closed),
            "reverse": not attributes["reverse"],
            "lean": attributes["lean"],
        },
    )
    gradient: list[Tensor | None] = [None] * len(operands)
    for position, i in enumerate(states):
        gradient[count + i] = results[position]
    for position, i in enumerate(smooth_closed):
        gradient[count + carried + i] = results[len(states) + position]
    for position, i in enumerate(smooth_sequences):
        gradient[i] = results[len(states) + len(smooth_closed) + position]
    return gradient


scan_node = _ScanOperator(
    "scan",
    doc="""The node that `ksym.scan` makes; call that.

    Args:
        operands: The number of steps, sequences, initial states, and what the body closes over.
        attributes: The `Body`, how many of its parameters are elements of sequences and how many
            are states, whether the steps go from the last to the first, and whether the loop is
            lean (by default not): whether memory counts for more than time in it.
    """,
)
