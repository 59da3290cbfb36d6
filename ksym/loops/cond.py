"""The branch as an operator: its node, and its gradient, which is a branch too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.autodiff import gradients
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor, topological_order
from ksym.loops.body import (
    Body,
    float_positions,
    refuse_random,
    silenced,
    specialized_or_failed,
)
from ksym.operator.declaration import Operator
from ksym.operator.operands import is_settled
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import is_failed, placeholder


def _is_plain(node: Node) -> bool:
    """Whether a node of a branch can be a part of the graph around it as it is."""
    known = all(shapes.is_known(t.shape) for t in node.outputs)
    return known and not is_failed(node.outputs[0]) and not node.operator.is_composed(node)


def _either(predicate: Tensor, a: Tensor, b: Tensor) -> shapes.Shape:
    """Return what is known of the shape of a result, which is that of one of two tensors."""
    if is_failed(a) or is_failed(b):
        return b.shape if is_failed(a) else a.shape
    if predicate.value is None and not predicate.node.attributes.get("static", False):
        return shapes.merge(a.shape, b.shape)  # the branch taken is checked when it has run
    # The other branch will be gone by then.
    return tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True))


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
            bodies = {
                key: specialized_or_failed(self, attributes[key], specs)
                for key in ("then", "otherwise")
            }
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
            # What is not taken is not checked.
            is_chosen = is_settled(predicate) or is_failed(a) or is_failed(b)
            fits = a.rank == b.rank if is_chosen else shapes.compatible(a.shape, b.shape)
            if a.dtype != b.dtype or not fits:
                raise ShapeError(
                    f"result {i} is {a.spec} in one branch and {b.spec} in the other",
                    remedy="cast or broadcast them to the same dtype and shape",
                )
            specs.append(Spec(_either(predicate, a, b), a.dtype))
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
            results = silenced(body(rest))
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

    def is_composed(self, node: Node) -> bool:
        return is_settled(node.inputs[0])

    def expand(self, node: Node) -> Sequence[Tensor]:
        """Return the results of the branch whose condition is known before anything runs."""
        predicate, *closed = node.inputs
        assert predicate.value is not None
        return self._branch(node, bool(predicate.value.item()))(closed)

    def _branch(self, node: Node, taken: bool) -> Body:
        body: Body = node.attributes["then" if taken else "otherwise"]
        return body

    def simplify(self, node: Node) -> Sequence[Tensor] | None:
        predicate, *closed = node.inputs
        if not is_settled(predicate):
            return None
        assert predicate.value is not None
        found = self._branch(node, bool(predicate.value.item()))(closed)
        # What would have to be expanded first stays in the branch.
        return found if all(map(_is_plain, topological_order(found, until=closed))) else None

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
