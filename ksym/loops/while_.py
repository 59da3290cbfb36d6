"""The loop with a condition as an operator: its node, and its gradient, which is a `scan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.loops.body import (
    Body,
    check_counts,
    refuse_random,
    specialized_or_failed,
    unify_state_shapes,
)
from ksym.loops.scan import scan_gradient
from ksym.loops.view import ScanResults, ScanView, parted
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder


class _WhileOperator(Operator):
    """The loop with a condition.  Operands: states, and the tensors that the bodies close over.

    Results: the states at the end, the number of steps, and the states before each step.  How many
    steps there are is known only when the loop has ended.
    """

    internal = "the function `while_loop` makes it"
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
            states = attributes["states"]
            body = specialized_or_failed(self, attributes["body"], specs, 0, states)
            body = unify_state_shapes(body, 0, states)
            test = attributes["test"].specialized([t.spec for t in body.inputs])
        return super().make(operands, {**attributes, "body": body, "test": test})

    def infer(
        self, *operands: Tensor, body: Body, test: Body, states: int, limit: int | None
    ) -> tuple[Spec, ...]:
        if test.outputs[0].rank:
            raise ShapeError(
                f"the condition is {test.outputs[0].spec}, not a scalar",
                remedy="reduce it with ksym.all or ksym.any",
            )
        before, _ = parted(body.inputs, states)
        carried = [t.spec for t in before]
        return (*carried, Spec((), "int64"), *(Spec((None, *s.shape), s.dtype) for s in carried))

    def numpy(self, *arrays: Any, body: Body, test: Body, states: int, limit: int | None) -> Any:
        initial, closed = parted(arrays, states)
        before, _ = parted(body.inputs, states)
        current = [np.asarray(a) for a in initial]
        steps: list[list[Any]] = []
        while test.numpy([*current, *closed])[0]:
            steps.append(current)
            current = body.numpy([*current, *closed])
        histories = [
            np.array([step[i] for step in steps], t.dtype).reshape(len(steps), *t.shape)
            for i, t in enumerate(before)
        ]
        return (*current, np.int64(len(steps)), *histories)

    def gradient(self, node: Node, *arriving: Tensor | None) -> list[Tensor | None]:
        # A loop that has ended is a scan with the number of steps that it took.
        body: Body = node.attributes["body"]
        refuse_random(node, body)
        states = node.attributes["states"]
        initial, closed = parted(node.inputs, states)
        before, rest = parted(body.inputs, states)
        finals, _, histories = parted(node.outputs, states, 1)
        by_final, _, by_history = parted(arriving, states, 1)
        loop = ScanView(
            steps=ops.shape_of(histories[0])[0] if histories else ops.constant(0),
            sequences=(),
            elements=(),
            initial=initial,
            before=before,
            closed=closed,
            rest=rest,
            new=body.outputs,
            outputs=(),
        )
        results, given = ScanResults(finals, (), histories), ScanResults(by_final, (), by_history)
        return scan_gradient(loop, results, given)

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


while_node = _WhileOperator(
    "while_loop",
    doc="""The node that `ksym.while_loop` makes; call that.

    Args:
        operands: The initial states, and the tensors that the bodies close over.
        attributes: The ``body``; the ``test``, which is the body of the condition; the number of
            ``states``; and the ``limit``, the largest number of steps (None for no limit).
    """,
)
