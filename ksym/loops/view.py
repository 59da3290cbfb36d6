"""The signature of a `scan`: the order of its operands, parameters and results, by names.

A node's operands are the number of steps, the sequences, the initial states, and the tensors that
the body closes over.  The body's parameters are an element of each sequence, the states, and a
parameter for each tensor that it closes over; its outputs are the new states, then the outputs of
the step.  The node's results are the states at the end, the outputs of all steps, and the states
before each step.  Only this file counts them; all others use the named fields of `ScanView` and
`ScanResults`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from ksym.graph import Node, Tensor, replace, topological_order
from ksym.loops.body import Body
from ksym.ops.leaves import placeholder

T = TypeVar("T")


def parted(items: Sequence[T], *counts: int) -> list[tuple[T, ...]]:
    """Split a sequence into parts of `counts` items, and a last part of all others.

    >>> parted("abcde", 1, 2)
    [('a',), ('b', 'c'), ('d', 'e')]
    """
    return [tuple(items[i:j]) for i, j in pairwise((0, *accumulate(counts), len(items)))]


class ScanResults(NamedTuple, Generic[T]):
    """The results of a scan by their kinds, or one item (such as a gradient) for each of them.

    Attributes:
        finals: The states after the last step.
        stacked: The outputs of all steps.
        histories: The states before each step.
    """

    finals: Sequence[T]
    stacked: Sequence[T]
    histories: Sequence[T] = ()


@dataclass(frozen=True, kw_only=True)
class ScanView:
    """A `scan` with names for its operands, its body's parameters and outputs.

    `scan_node.made` makes a node from it.

    Attributes:
        steps: The number of steps, an integer scalar.
        reverse: Whether the steps go from the last element to the first.
        lean: Whether memory counts for more than time.
        sequences: The tensors of which each step reads one element along the first axis.
        elements: The parameter for an element of each sequence.
        initial: The initial states.
        before: The parameter for each state.
        closed: The tensors that are the same at all steps: the body closes over them.
        rest: The parameter for each of these.
        new: The states after a step.
        outputs: The outputs of a step.
        kept: For each state whether its values before each step are read; empty for a loop that
            has no node yet.
    """

    steps: Tensor
    reverse: bool = False
    lean: bool = False
    sequences: tuple[Tensor, ...]
    elements: tuple[Tensor, ...]
    initial: tuple[Tensor, ...]
    before: tuple[Tensor, ...]
    closed: tuple[Tensor, ...]
    rest: tuple[Tensor, ...]
    new: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kept: tuple[bool, ...] = ()

    @classmethod
    def of(
        cls,
        node: Node,
        inputs: Sequence[Tensor] | None = None,
        used: Collection[Tensor] | None = None,
    ) -> ScanView:
        """Return the loop of a node.

        Args:
            node: A node of a scan.
            inputs: Its operands, if they were replaced.
            used: The tensors of the graph that are read; by default all.
        """
        loop = cls.of_operands(node.inputs if inputs is None else inputs, node.attributes)
        histories = loop.results(node.outputs).histories
        kept = tuple(used is None or t in used for t in histories)
        return dataclasses.replace(loop, kept=kept)

    @classmethod
    def of_operands(cls, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> ScanView:
        """Return the loop of a node with these operands and attributes."""
        body: Body = attributes["body"]
        sequences, states = attributes["sequences"], attributes["states"]
        (steps,), through, initial, closed = parted(operands, 1, sequences, states)
        elements, before, rest = parted(body.inputs, sequences, states)
        new, outputs = parted(body.outputs, states)
        return cls(
            steps=steps,
            reverse=attributes["reverse"],
            lean=attributes["lean"],
            sequences=through,
            elements=elements,
            initial=initial,
            before=before,
            closed=closed,
            rest=rest,
            new=new,
            outputs=outputs,
        )

    @property
    def operands(self) -> list[Tensor]:
        """The operands of its node."""
        return [self.steps, *self.sequences, *self.initial, *self.closed]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of its node, with a new `Body` at each call."""
        return {
            "body": Body([*self.elements, *self.before, *self.rest], self.roots),
            "sequences": len(self.sequences),
            "states": len(self.initial),
            "reverse": self.reverse,
            "lean": self.lean,
        }

    def results(self, results: Sequence[T]) -> ScanResults[T]:
        """Return the results of its node, or an item for each of them, by their kinds."""
        return ScanResults(*parted(results, len(self.new), len(self.outputs)))

    @property
    def length(self) -> int:
        """The number of steps."""
        assert self.steps.value is not None
        return int(self.steps.value)

    @property
    def roots(self) -> list[Tensor]:
        """The new states and the outputs of a step."""
        return [*self.new, *self.outputs]

    def with_roots(self, roots: Sequence[Tensor]) -> ScanView:
        """Return the loop with other tensors in the place of its roots."""
        new, outputs = parted(roots, len(self.new))
        return dataclasses.replace(self, new=new, outputs=outputs)

    def starting_from(self, initial: Sequence[Tensor]) -> ScanView:
        """Return the loop with other initial states."""
        return dataclasses.replace(self, initial=tuple(initial))

    def with_states(self, positions: Sequence[int]) -> ScanView:
        """Return the loop with some of its states only; its roots must not read the others."""
        return dataclasses.replace(
            self,
            initial=tuple(self.initial[i] for i in positions),
            before=tuple(self.before[i] for i in positions),
            new=tuple(self.new[i] for i in positions),
            kept=tuple(self.kept[i] for i in positions),
        )

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
            stacks: For each tensor that differs from step to step, the stack of its values.
            same_at_all: For each tensor that is the same at all steps, its value.
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
