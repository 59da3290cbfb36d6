"""Loops as passes see them, and leaving out of them what nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ksym import shapes
from ksym.compiler.fold import fold
from ksym.compiler.merge import merge
from ksym.compiler.simplify import simplify
from ksym.compiler.specialize import specialize, split
from ksym.graph import Node, Tensor, rewrite, same, topological_order
from ksym.ops.bodies import Body, live_states
from ksym.ops.control import scan_node
from ksym.ops.leaves import placeholder

MEMORY = 2**28
"""How many bytes a pass may have a loop stack that nobody asked for."""


@dataclass(frozen=True)
class Loop:
    """A `scan` of known shapes, its operands beside the body's parameters.

    Attributes:
        steps: The number of steps as an operand.
        reverse: Whether they go from the last to the first.
        lean: Whether its memory comes first.
        sequences: What it goes through.
        elements: The parameter for an element of each.
        initial: What the states start from.
        before: The parameter for each state.
        closed: What is the same at all steps.
        rest: The parameter for each of these.
        new: What the states become at a step.
        outputs: What a step gives besides.
        kept: For each state whether its values before each step are wanted.
    """

    steps: Tensor
    reverse: bool
    lean: bool
    sequences: tuple[Tensor, ...]
    elements: tuple[Tensor, ...]
    initial: tuple[Tensor, ...]
    before: tuple[Tensor, ...]
    closed: tuple[Tensor, ...]
    rest: tuple[Tensor, ...]
    new: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kept: tuple[bool, ...]

    @classmethod
    def of(cls, node: Node, inputs: Sequence[Tensor], used: Collection[Tensor]) -> Loop:
        """Return the loop of a node.

        Args:
            node: A node of a scan.
            inputs: Its operands.
            used: The tensors of the graph that anything reads.
        """
        body: Body = node.attributes["body"]
        first, count = node.attributes["sequences"], node.attributes["states"]
        last = first + count
        steps, *operands = inputs
        histories = node.outputs[len(body.outputs) :]
        return cls(
            steps,
            node.attributes["reverse"],
            node.attributes["lean"],
            tuple(operands[:first]),
            body.inputs[:first],
            tuple(operands[first:last]),
            body.inputs[first:last],
            tuple(operands[last:]),
            body.inputs[last:],
            body.outputs[:count],
            body.outputs[count:],
            tuple(t in used for t in histories),
        )

    @property
    def length(self) -> int:
        """The number of steps."""
        assert self.steps.value is not None
        return int(self.steps.value)

    @property
    def roots(self) -> list[Tensor]:
        """All that a step computes."""
        return [*self.new, *self.outputs]

    def with_roots(self, roots: Sequence[Tensor]) -> Loop:
        """Return the loop with other tensors in the place of its roots."""
        count = len(self.new)
        return replace(self, new=tuple(roots[:count]), outputs=tuple(roots[count:]))

    def without_unread(self) -> Loop:
        """Return the loop without the sequences and closed tensors that its body does not read."""
        read = {t.node for t in self.roots} | set(topological_order(self.roots))
        through = [i for i, t in enumerate(self.elements) if t.node in read]
        beside = [i for i, t in enumerate(self.rest) if t.node in read]
        return replace(
            self,
            sequences=tuple(self.sequences[i] for i in through),
            elements=tuple(self.elements[i] for i in through),
            closed=tuple(self.closed[i] for i in beside),
            rest=tuple(self.rest[i] for i in beside),
        )

    def given(self, stacks: dict[Tensor, Tensor], same_at_all: dict[Tensor, Tensor]) -> Loop:
        """Return the loop with some of its body's tensors computed outside.

        Args:
            stacks: For each of them that differs from step to step its values at all of them.
            same_at_all: The others, and what they are.
        """
        inside = {t: placeholder(t.shape, t.dtype) for t in (*stacks, *same_at_all)}
        loop = self.with_roots(rewrite(self.roots, lambda node, inputs: None, given=inside))
        return replace(
            loop,
            sequences=(*self.sequences, *stacks.values()),
            elements=(*self.elements, *(inside[t] for t in stacks)),
            closed=(*self.closed, *same_at_all.values()),
            rest=(*self.rest, *(inside[t] for t in same_at_all)),
        )

    def made(self) -> Made:
        """Return the results of a node for this loop."""
        count = len(self.new)
        if not self.roots:
            return Made((), (), ())
        results = scan_node.make(
            [self.steps, *self.sequences, *self.initial, *self.closed],
            {
                "body": Body([*self.elements, *self.before, *self.rest], self.roots),
                "sequences": len(self.sequences),
                "states": count,
                "reverse": self.reverse,
                "lean": self.lean,
            },
        )
        last = count + len(self.outputs)
        return Made(results[:count], results[count:last], results[last:])


class Made(NamedTuple):
    """The results of a loop: states at the end, outputs of all steps, states before each step."""

    finals: Sequence[Tensor]
    stacked: Sequence[Tensor]
    histories: Sequence[Tensor]


class Results:
    """What the results of a loop are replaced by; what nobody reads need not be."""

    def __init__(self, loop: Loop):
        self.finals: list[Tensor | None] = [None] * len(loop.new)
        self.stacked: list[Tensor | None] = [None] * len(loop.outputs)
        self.histories: list[Tensor | None] = [None] * len(loop.new)

    def for_node(self, node: Node) -> list[Tensor]:
        """Return a tensor for each result of the node."""
        found = [*self.finals, *self.stacked, *self.histories]
        return [o if f is None else f for o, f in zip(node.outputs, found, strict=True)]


def size(tensor: Tensor) -> int:
    """How many bytes a tensor takes."""
    return (shapes.size(tensor.shape) or 0) * np.dtype(tensor.dtype).itemsize


def is_settled(node: Node) -> bool:
    """Whether a node is a loop of which all is known before it runs: its steps, and all sizes."""
    if node.operator is not scan_node or node.inputs[0].value is None:
        return False
    inside = topological_order(node.attributes["body"].outputs)
    return all(shapes.is_known(tensor.shape) for n in inside for tensor in n.outputs)


def over_loops(
    outputs: Sequence[Tensor], transform: Callable[[Node, Loop, set[Tensor]], Results | None]
) -> list[Tensor]:
    """Return outputs with their loops replaced.

    Args:
        outputs: Tensors of a graph of known shapes.
        transform: Called with a node, its loop, and the tensors that anything reads; returns what
            to replace its results by, or None to leave it.
    """
    order = topological_order(outputs)
    used = {tensor for node in order for tensor in node.inputs} | set(outputs)

    def replaced(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        if not is_settled(node):
            return None
        loop = Loop.of(node, inputs, used)
        found = transform(node, loop, used) if loop.length else None
        return None if found is None else found.for_node(node)

    if not any(node.operator is scan_node for node in order):
        return list(outputs)
    found = rewrite(outputs, replaced, order=order)
    return list(outputs) if same(found, outputs) else specialize(found, {})


def tighten(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs whose loops are simplified, and compute nothing that nobody reads."""
    return over_loops(outputs, _tightened)


def _tightened(node: Node, loop: Loop, used: set[Tensor]) -> Results | None:
    roots, rest = split(specialize(loop.roots, {}))
    if rest is not None:
        return None
    # Enough to see what is the same; all passes run when the body is compiled.
    roots = merge(simplify(fold(roots)))
    count = len(loop.new)
    finals = [i for i in range(count) if node.outputs[i] in used]
    outputs = [j for j in range(len(loop.outputs)) if node.outputs[count + j] in used]
    asked = {*finals, *(i for i in range(count) if loop.kept[i])}
    wanted = [*(roots[i] for i in sorted(asked)), *(roots[count + j] for j in outputs)]
    live = {*live_states(loop.before, roots[:count], wanted), *asked}
    still = {i for i in live if roots[i] is loop.before[i] and not loop.kept[i]}
    moving = sorted(live - still)
    stacked = list(dict.fromkeys(roots[count + j] for j in outputs))
    smaller = replace(
        loop,
        initial=tuple(loop.initial[i] for i in moving),
        before=tuple(loop.before[i] for i in moving),
        closed=(*loop.closed, *(loop.initial[i] for i in still)),
        rest=(*loop.rest, *(loop.before[i] for i in still)),
        new=tuple(roots[i] for i in moving),
        outputs=tuple(stacked),
        kept=tuple(loop.kept[i] for i in moving),
    ).without_unread()
    if same(smaller.roots, loop.roots) and len(smaller.roots) == len(loop.roots):
        return None
    made, results = smaller.made(), Results(loop)
    for i in still:
        results.finals[i] = loop.initial[i]
    for position, i in enumerate(moving):
        results.finals[i] = made.finals[position]
        results.histories[i] = made.histories[position]
    for j in outputs:
        results.stacked[j] = made.stacked[stacked.index(roots[count + j])]
    return results
