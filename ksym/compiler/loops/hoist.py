"""Hoisting: move nodes that depend on no state before their loop, for all steps at once.

This is loop-invariant code motion, extended to nodes that differ from step to step but need no
state.  The standard case is the product of an element with a weight: over the whole sequence it is
one product of many rows.  The loop reads hoisted results as a sequence, so they take memory for all
steps.  Therefore a node is hoisted only if it is a product or depends on one, if it is an output,
or if it is no larger than the elements that the loop then need not read; and all hoisted results
together stay below `Costs.loop_memory`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.loops.over_steps import of_parameters, over_steps
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.loops.transform import Results, byte_count, over_loops
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView
from ksym.operator.batching import Stacked


@graph_pass(sample=recurrence, rounding="a product of many rows is summed up in other blocks")
def hoist(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs in which nodes of loops that need no state are computed before the loops."""
    return over_loops(outputs, lambda node, loop, used: _hoisted(loop, costs))


def _hoisted(loop: ScanView, costs: Costs) -> Results | None:
    if loop.lean:
        return None
    hoisted = _profitable(loop, costs)
    if not hoisted:
        return None
    results = Results(loop)
    left = []
    for j, output in enumerate(loop.outputs):
        if output in hoisted:
            value, varies = hoisted[output]
            stacked = (loop.length, *output.shape)
            results.stacked[j] = value if varies else ops.broadcast_to(value, stacked)
        else:
            left.append(j)
    smaller = replace(loop, outputs=tuple(loop.outputs[j] for j in left)).given(
        {t: value.tensor for t, value in hoisted.items() if value.varies},
        {t: value.tensor for t, value in hoisted.items() if not value.varies},
    )
    made = scan_node.made(smaller.without_unread())
    results.finals, results.histories = list(made.finals), list(made.histories)
    for position, j in enumerate(left):
        results.stacked[j] = made.stacked[position]
    return results


def _profitable(loop: ScanView, costs: Costs) -> dict[Tensor, Stacked]:
    """Return the hoisted tensors that the rest of the body reads, over all steps."""
    order = topological_order(loop.roots)
    selection = _Selection(loop, order)
    while True:
        border = selection.border()
        varying = [t for t in border if selection.values[t].varies]
        computed = {n.outputs[0] for n in topological_order(varying) if n.inputs}
        memory = sum(byte_count(selection.values[t].tensor) for t in computed)
        if memory <= costs.loop_memory:
            return {t: selection.values[t] for t in border}
        selection.refuse([max(varying, key=byte_count)])


class _Selection:
    """The nodes of a loop's body that are hoisted; at first all that need no state and pay.

    Refusing one tensor leaves in the body what is made of it, and has the loop read what it is made
    of, which may not pay then.  So each is looked at again only when the loop reads more.

    Attributes:
        values: The hoisted tensors, over all steps.

    Args:
        loop: The loop.
        order: The nodes of its body.
    """

    def __init__(self, loop: ScanView, order: Sequence[Node]):
        self.values = _stateless(loop, order)
        self._loop = loop
        self._order = order
        self._outputs = frozenset(loop.outputs)
        self._elements = frozenset(loop.elements)
        self._users: dict[Tensor, list[Node]] = defaultdict(list)
        self._products: set[Tensor] = set()  # and what is made of them
        made_of = {element: frozenset((element,)) for element in loop.elements}
        for node in order:
            (first, *_) = node.outputs
            for tensor in node.inputs:
                self._users[tensor].append(node)
            if node.operator is ops.matmul or not self._products.isdisjoint(node.inputs):
                self._products.add(first)
            if node.inputs:
                parts = {made_of.get(t, frozenset()) for t in node.inputs}
                # One set for all that is made of the same elements.
                made_of[first] = parts.pop() if len(parts) == 1 else frozenset().union(*parts)
        self._made_of = made_of
        left = [n for n in order if n.outputs[0] not in self.values]
        self._read = {t for n in left for t in n.inputs}
        self.refuse([t for t in self.border() if not self._pays(t)])

    def border(self) -> list[Tensor]:
        """Return the hoisted tensors that are read in the loop, or are its results."""
        read = [t for n in self._order if n.outputs[0] not in self.values for t in n.inputs]
        roots = dict.fromkeys((*read, *self._loop.roots))
        return [t for t in roots if t in self.values and t.node.inputs]

    def refuse(self, tensors: Sequence[Tensor]) -> None:
        """Leave tensors in the body, what is made of them, and what does not pay any more."""
        pending = list(tensors)
        while pending:
            tensor = pending.pop()
            if tensor not in self.values:
                continue
            del self.values[tensor]
            pending += [n.outputs[0] for n in self._users[tensor]]
            for read in tensor.node.inputs:
                if read in self._read:
                    continue
                self._read.add(read)
                if read in self._elements:  # it spares nothing any more
                    pending += [t for t in self.border() if not self._pays(t)]
                elif read in self.values and read.node.inputs and not self._pays(read):
                    pending.append(read)

    def _pays(self, tensor: Tensor) -> bool:
        if not self.values[tensor].varies or tensor in self._outputs or tensor in self._products:
            return True
        spared = self._made_of.get(tensor, frozenset()) - self._read
        return byte_count(tensor) <= sum(map(byte_count, spared))


def _stateless(loop: ScanView, order: Sequence[Node]) -> dict[Tensor, Stacked]:
    """Return all tensors that can be computed without the states, over all steps."""
    values = of_parameters(loop)
    for node in order:
        first = node.outputs[0]
        if first not in values and all(t in values for t in node.inputs):
            made = over_steps(node, [values[t] for t in node.inputs], loop.length)
            if made is not None:
                values[first] = made
    return values
