"""A `scan` with its operands beside its body's parameters, as gradients and passes see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ksym.graph import Node, Tensor, replace, topological_order
from ksym.loops.body import Body
from ksym.loops.scan import scan_node
from ksym.ops.leaves import placeholder


@dataclass(frozen=True)
class ScanView:
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
    def of(cls, node: Node, inputs: Sequence[Tensor], used: Collection[Tensor]) -> ScanView:
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

    def with_roots(self, roots: Sequence[Tensor]) -> ScanView:
        """Return the loop with other tensors in the place of its roots."""
        count = len(self.new)
        return dataclasses.replace(self, new=tuple(roots[:count]), outputs=tuple(roots[count:]))

    def without_unread(self) -> ScanView:
        """Return the loop without the sequences and closed tensors that its body does not read."""
        read = {t.node for t in self.roots} | set(topological_order(self.roots))
        through = [i for i, t in enumerate(self.elements) if t.node in read]
        beside = [i for i, t in enumerate(self.rest) if t.node in read]
        return dataclasses.replace(
            self,
            sequences=tuple(self.sequences[i] for i in through),
            elements=tuple(self.elements[i] for i in through),
            closed=tuple(self.closed[i] for i in beside),
            rest=tuple(self.rest[i] for i in beside),
        )

    def given(self, stacks: dict[Tensor, Tensor], same_at_all: dict[Tensor, Tensor]) -> ScanView:
        """Return the loop with some of its body's tensors computed outside.

        Args:
            stacks: For each of them that differs from step to step its values at all of them.
            same_at_all: The others, and what they are.
        """
        inside = {t: placeholder(t.shape, t.dtype) for t in (*stacks, *same_at_all)}
        loop = self.with_roots(replace(self.roots, inside))
        return dataclasses.replace(
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
