"""Loops and branches as operators: bodies, `scan`'s node, and their gradients.

A body is a graph with parameters.  Its node's operands are what the body is applied to, and what
it closes over; both are found by `ksym.control`, which is what users call.  The gradient of a loop
is a loop of the same kind over the body's own gradient, so that gradients of any order exist; it
computes the body's steps anew from the states that the forward loop keeps, and keeps nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import GradientError, ShapeError
from ksym.graph import Node, Spec, Tensor, topological_order
from ksym.ops.bodies import Body, check_counts, constants_inlined, settled
from ksym.ops.leaves import placeholder
from ksym.ops.registry import Operator
from ksym.ops.sampling import Draw, Sample


class _Scan(Operator):
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
            body = settled(body.sharpened(specs), count, carried)
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
        _refuse_random(node, node.attributes["body"])
        return [None, *_scan_gradient(node, arriving)]

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


def _floats(tensors: Sequence[Tensor]) -> list[int]:
    return [i for i, tensor in enumerate(tensors) if dtypes.is_float(tensor.dtype)]


def _refuse_random(node: Node, *bodies: Body) -> None:
    """Refuse the gradient of a body that draws random numbers, for it would draw others.

    Raises:
        GradientError: It does.  (Most were drawn before, see `ksym.closures`.)
    """
    for body in bodies:
        for inside in topological_order(body.outputs, until=body.inputs):
            parts = [a for a in inside.attributes.values() if isinstance(a, Body)]
            _refuse_random(node, *parts)
            if not inside.operator.pure and inside.inputs and not parts:
                raise GradientError(
                    f"the gradient computes the body anew, and its {inside.operator.name} would "
                    "draw other numbers",
                    remedy="draw them outside, and go through them as a sequence",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)


def _scan_gradient(node: Node, arriving: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the gradients for a scan's operands but the first, as a scan the other way."""
    attributes = node.attributes
    body: Body = attributes["body"]
    count, carried = attributes["sequences"], attributes["states"]
    steps, *operands = node.inputs
    outputs = len(body.outputs) - carried
    histories = node.outputs[carried + outputs :]
    sequences, closed = operands[:count], operands[count + carried :]
    states = _floats(body.outputs[:carried])
    by_state = arriving[:carried]
    by_output = [
        (i, g) for i, g in enumerate(arriving[carried : carried + outputs]) if g is not None
    ]
    by_history = [(i, g) for i, g in enumerate(arriving[carried + outputs :]) if g is not None]
    smooth_sequences, smooth_closed = _floats(sequences), _floats(closed)

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
    # Imported here because gradients are built on top of the operators.
    from ksym.autodiff import gradients

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


scan_node = _Scan(
    "scan",
    doc="""The node that `ksym.scan` makes; call that.

    Args:
        operands: The number of steps, sequences, initial states, and what the body closes over.
        attributes: The `Body`, how many of its parameters are elements of sequences and how many
            are states, whether the steps go from the last to the first, and whether the loop is
            lean (by default not): whether memory counts for more than time in it.
    """,
)


class _Cond(Operator):
    """Operands: a scalar condition, and what the two bodies close over, which both take."""

    pure = False
    runs = "cond"

    def prepare(self, *operands: Any, **attributes: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [ops.as_tensor(operand) for operand in operands], attributes

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        predicate, *closed = operands
        specs = [t.spec for t in closed]
        with self.named(operands):
            bodies = {key: attributes[key].sharpened(specs) for key in ("then", "otherwise")}
        return super().make([predicate, *closed], {**attributes, **bodies})

    def infer(
        self, predicate: Tensor, *closed: Tensor, then: Body, otherwise: Body
    ) -> tuple[Spec, ...]:
        if predicate.rank:
            raise ShapeError(
                f"the condition is {predicate.spec}, not a scalar",
                remedy="use ksym.where to choose element by element",
            )
        if len(then.outputs) != len(otherwise.outputs):
            raise ShapeError(
                f"one branch gives {len(then.outputs)} tensors, the other {len(otherwise.outputs)}"
            )
        specs = []
        for i, (a, b) in enumerate(zip(then.outputs, otherwise.outputs, strict=True)):
            if a.dtype != b.dtype or not shapes.compatible(a.shape, b.shape):
                raise ShapeError(
                    f"result {i} is {a.spec} in one branch and {b.spec} in the other",
                    remedy="cast or broadcast them to the same dtype and shape",
                )
            specs.append(Spec(shapes.merge(a.shape, b.shape), a.dtype))
        return tuple(specs)

    def numpy(self, predicate: Any, *closed: Any, then: Body, otherwise: Body) -> Any:
        results = (then if predicate else otherwise).numpy(closed)
        return tuple(results) if len(results) > 1 else results[0]

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        from ksym.autodiff import gradients

        _refuse_random(node, node.attributes["then"], node.attributes["otherwise"])
        predicate, *closed = node.inputs
        smooth = _floats(closed)
        seeds = [(i, g) for i, g in enumerate(arriving) if g is not None]
        bodies = {}
        for key in ("then", "otherwise"):
            body: Body = node.attributes[key]
            rest = [placeholder(t.shape, t.dtype) for t in closed]
            gs = [placeholder(g.shape, g.dtype) for _, g in seeds]
            results = body(rest)
            found = gradients(
                [results[i] for i, _ in seeds],
                [rest[i] for i in smooth],
                output_gradients=gs,
                disconnected="zero",
            )
            bodies[key] = Body([*rest, *gs], found)
        gradient: list[Tensor | None] = [None] * len(node.inputs)
        if smooth:
            made = self.make([predicate, *closed, *(g for _, g in seeds)], bodies)
            for i, result in zip(smooth, made, strict=True):
                gradient[1 + i] = result
        return gradient

    def simplify(self, node: Node) -> Sequence[Tensor] | None:
        predicate, *closed = node.inputs
        if predicate.value is None:
            return None
        chosen = node.attributes["then" if predicate.value.item() else "otherwise"]
        return chosen(closed)

    def sample(self, draw: Draw) -> Sample:
        shape, dtype = draw.shape(), draw.dtype("float")
        x, y = placeholder(shape, dtype), placeholder(shape, dtype)
        return Sample(
            np.array(draw.choose((True, False))),
            draw.array(shape),
            draw.array(shape),
            attributes={
                "then": Body([x, y], [ops.tanh(x) * y, x]),
                "otherwise": Body([x, y], [x * x - y, y]),
            },
        )


cond_node = _Cond(
    "cond",
    doc="""The node that `ksym.cond` makes; call that.

    Args:
        operands: The condition, and what the branches close over.
        attributes: The `Body` of each branch, ``then`` and ``otherwise``.
    """,
)


class _While(Operator):
    """Operands: states, and what the two bodies close over.

    Results: the states at the end, the number of steps, and the states before each step, of which
    there are as many as steps: their number is known only when the loop has ended.
    """

    pure = False
    runs = "while"

    def prepare(self, *operands: Any, **attributes: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [ops.as_tensor(operand) for operand in operands], attributes

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        specs = [t.spec for t in operands]
        with self.named(operands):
            check_counts(attributes["body"], operands, 0, attributes["states"])
            if len(attributes["body"].outputs) != attributes["states"]:
                raise ShapeError("the body gives another number of states than it takes")
            body = settled(attributes["body"].sharpened(specs), 0, attributes["states"])
            test = attributes["test"].sharpened([t.spec for t in body.inputs])
        return super().make(operands, {**attributes, "body": body, "test": test})

    def infer(
        self, *operands: Tensor, body: Body, test: Body, states: int, limit: int | None
    ) -> tuple[Spec, ...]:
        if test.outputs[0].rank:
            raise ShapeError(
                f"the condition is {test.outputs[0].spec}, not a scalar",
                remedy="reduce it with ksym.all or ksym.any",
            )
        carried = [t.spec for t in body.inputs[:states]]
        return (*carried, Spec((), "int64"), *(Spec((None, *s.shape), s.dtype) for s in carried))

    def numpy(self, *arrays: Any, body: Body, test: Body, states: int, limit: int | None) -> Any:
        current, closed = [np.asarray(a) for a in arrays[:states]], arrays[states:]
        before: list[list[Any]] = []
        while test.numpy([*current, *closed])[0]:
            before.append(current)
            current = body.numpy([*current, *closed])
        histories = [
            np.array([step[i] for step in before], t.dtype).reshape(len(before), *t.shape)
            for i, t in enumerate(body.inputs[:states])
        ]
        return (*current, np.int64(len(before)), *histories)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        # Seen from behind, it is a scan over as many steps as it took.
        _refuse_random(node, node.attributes["body"])
        states = node.attributes["states"]
        histories = node.outputs[states + 1 :]
        steps = ops.shape_of(histories[0])[0] if histories else ops.constant(0)
        body: Body = node.attributes["body"]
        stand_in = _Behind(node, steps, body, states)
        arriving = (*arriving[:states], *arriving[states + 1 :])
        return _scan_gradient(stand_in, arriving)  # type: ignore[arg-type]

    def sample(self, draw: Draw) -> Sample:
        shape, dtype = draw.shape(max_rank=1), draw.dtype("float")
        count, x, w = placeholder((), "int64"), placeholder(shape, dtype), placeholder(shape, dtype)
        steps = draw.integer(0, 3)
        return Sample(
            np.array(0),
            draw.array(shape),
            draw.array(shape),
            attributes={
                "body": Body([count, x, w], [count + 1, ops.tanh(x * w)]),
                "test": Body([count, x, w], [count < steps]),
                "states": 2,
                "limit": None,
            },
        )


class _Behind:
    """A finished while loop in the form of the scan it turned out to be."""

    def __init__(self, node: Node, steps: Tensor, body: Body, states: int):
        self.inputs = (steps, *node.inputs)
        self.outputs = (*node.outputs[:states], *node.outputs[states + 1 :])
        self.attributes = {
            "body": body,
            "sequences": 0,
            "states": states,
            "reverse": False,
            "lean": False,
        }


while_node = _While(
    "while_loop",
    doc="""The node that `ksym.while_loop` makes; call that.

    Args:
        operands: The initial states, and what the bodies close over.
        attributes: The `Body` and the ``test`` that it goes on by, how many states there are, and
            after how many steps to give up (None: never).
    """,
)
