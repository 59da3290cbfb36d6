"""Sinking: move nodes that no later step needs behind their loop, for all steps at once.

This is code motion out of a loop, downward.  The standard case is the gradient of a weight: each
step multiplies two matrices and adds their product to a state that nothing else reads.  If the loop
stacks the two matrices instead, the sum over all steps is one product of many rows.  Outputs are
sunk in the same way.

The stacks take memory for all steps.  So a node is sunk only if a step stacks no more bytes for it
than it saves: those of the state that it would have added to, or of the output that it would have
stacked.  All that is computed over all steps stays below `Costs.loop_memory`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from ksym import dtypes, ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.loops.over_steps import Whole, of_parameters
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.loops.transform import Results, byte_count, over_loops
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Tensor, replace, topological_order
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView


@graph_pass(sample=recurrence, rounding="a gradient is summed up over all steps at once")
def sink(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs in which nodes of loops that no later step needs are computed behind them."""
    return over_loops(outputs, lambda node, loop, used: _sunk(loop, costs))


def _sunk(loop: ScanView, costs: Costs) -> Results | None:
    if loop.lean:
        return None
    found = _SunkNodes(loop, costs.loop_memory)
    if not found.totals and not found.outputs:
        return None
    carried = [i for i in range(len(loop.new)) if i not in found.totals]
    left = [j for j in range(len(loop.outputs)) if j not in found.outputs]
    stacked = list(dict.fromkeys(loop.outputs[j] for j in left))
    stacked += [t for t in found.stacks if t not in stacked and t not in loop.before]
    smaller = dataclasses.replace(loop.with_states(carried), outputs=tuple(stacked))
    made, results = scan_node.made(smaller.without_unread()), Results(loop)
    there = dict(zip(stacked, made.stacked, strict=True))
    there.update(zip(smaller.before, made.histories, strict=True))
    given = {slot: there[t] for t, slot in found.stacks.items()}

    def outside(tensor: Tensor) -> Tensor:
        return replace([tensor], given)[0]

    for position, i in enumerate(carried):
        results.finals[i] = made.finals[position]
        results.histories[i] = made.histories[position]
    for j in left:
        results.stacked[j] = there[loop.outputs[j]]
    for i, total in found.totals.items():
        results.finals[i] = loop.initial[i] + outside(total)
    for j, stack in found.outputs.items():
        results.stacked[j] = outside(stack)
    return results


class _SunkNodes:
    """The nodes of a loop that pay when they are sunk.

    Attributes:
        totals: For each state that is only added to, the sum of its terms over all steps.
        outputs: For each output that is sunk, its stack.
        stacks: For each tensor of the body that these need a stack of, the placeholder for it.

    Args:
        loop: The loop.
        memory: The largest number of bytes that all that is computed after it may take.
    """

    def __init__(self, loop: ScanView, memory: int):
        self.totals: dict[int, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}
        self.stacks: dict[Tensor, Tensor] = {}
        added = _only_added(loop)
        carried = [i for i in range(len(loop.new)) if i not in added]
        inside = set(topological_order([loop.new[i] for i in carried]))
        inside |= {loop.before[i].node for i in carried}
        values = of_parameters(loop)
        self._loop = loop
        self._whole = Whole(loop.length, values, inside)
        # A tensor that the loop stacks anyway costs nothing more.
        self._free = {loop.before[i] for i in carried if loop.kept[i]}
        self._free.update(t for t in loop.outputs if t.node in inside)
        self._memory_left = memory
        for i, term in sorted(added.items(), key=lambda pair: -byte_count(pair[1])):
            total = self._whole.total(term)
            if self._takes(total, byte_count(term), term):
                self.totals[i] = total
        for j, output in enumerate(loop.outputs):
            if output.node not in inside and output not in values:
                stack, varies = self._whole.of(output)
                if varies and self._takes(stack, byte_count(output), output):
                    self.outputs[j] = stack

    def _takes(self, tensor: Tensor, saved: int, instead_of: Tensor) -> bool:
        """Decide whether to compute a tensor after the loop; if so, add the stacks that it needs.

        Args:
            tensor: The tensor, computed from stacks.
            saved: The number of bytes that a step need not write then.
            instead_of: The tensor of the body that it replaces.
        """
        slots = {slot: t for t, slot in self._whole.stacks.items()}
        order = topological_order([tensor], [*slots, *self._loop.sequences, *self._loop.closed])
        read = {tensor, *(t for node in order for t in node.inputs)}
        needed = {t: slot for slot, t in slots.items() if slot in read}
        fresh = [t for t in needed if t not in self._free]
        computed = [n.outputs[0] for n in order if n.operator is not ops.reshape]
        memory = sum(map(byte_count, [*computed, *(needed[t] for t in fresh)]))
        if sum(map(byte_count, fresh)) > saved or instead_of in needed:
            return False
        if memory > self._memory_left:
            return False
        self._memory_left -= memory
        self._free.update(fresh)
        self.stacks.update(needed)
        return True


def _only_added(loop: ScanView) -> dict[int, Tensor]:
    """Return the states that each step only adds a term to, and this term."""
    read = Counter(t for node in topological_order(loop.roots) for t in node.inputs)
    read.update(loop.roots)
    found = {}
    for i, (before, new) in enumerate(zip(loop.before, loop.new, strict=True)):
        node = new.node
        if (
            node.operator is ops.add
            and before in node.inputs
            and dtypes.is_float(before.dtype)
            and read[before] == read[new] == 1
            and not loop.kept[i]
        ):
            term = node.inputs[1 - node.inputs.index(before)]
            if term.shape == before.shape:
                found[i] = term
    return found
