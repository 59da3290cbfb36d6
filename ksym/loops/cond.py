"""The branch as an operator: its node, and its gradient, which is a branch too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.autodiff import gradients
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.loops.body import Body, float_positions, refuse_random
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder


class _CondOperator(Operator):
    """The branch.  Operands: a scalar condition, and the tensors that the two bodies close over."""

    internal = "the function `cond` makes it"
    pure = False
    runs = "cond"

    def prepare(self, *operands: Any, **attributes: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [ops.as_tensor(operand) for operand in operands], attributes

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        predicate, *closed = operands
        specs = [t.spec for t in closed]
        with self.named(operands):
            bodies = {key: attributes[key].specialized(specs) for key in ("then", "otherwise")}
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
        refuse_random(node, node.attributes["then"], node.attributes["otherwise"])
        predicate, *closed = node.inputs
        smooth = float_positions(closed)
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


cond_node = _CondOperator(
    "cond",
    doc="""The node that `ksym.cond` makes; call that.

    Args:
        operands: The condition, and the tensors that the branches close over.
        attributes: The `Body` of each branch, ``then`` and ``otherwise``.
    """,
)
