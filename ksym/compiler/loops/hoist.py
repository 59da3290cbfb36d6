"""Hoisting: computing before a loop, for all its steps at once, what does not depend on its states.

This is loop-invariant code motion, widened to what differs from step to step but needs no state.
The product of an element with a weight is the standard case: over the whole sequence it is one
product of many rows.  What is computed ahead is gone through as a sequence, so it takes memory for
all steps.  That is spent on products; other work is done ahead where what comes of it is an output,
or no larger than the elements that the loop need not read then; and all of it stays below
`Costs.loop_memory`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
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
    """Return outputs whose loops leave to the graph around them what needs no state."""
    return over_loops(outputs, lambda node, loop, used: _hoisted(loop, costs))


def _hoisted(loop: ScanView, costs: Costs) -> Results | None:
    if loop.lean:
        return None
    ahead = _worth_it(loop, costs)
    if not ahead:
        return None
    results = Results(loop)
    left = []
    for j, output in enumerate(loop.outputs):
        if output in ahead:
            value, varies = ahead[output]
            stretched = (loop.length, *output.shape)
            results.stacked[j] = value if varies else ops.broadcast_to(value, stretched)
        else:
            left.append(j)
    smaller = replace(loop, outputs=tuple(loop.outputs[j] for j in left)).given(
        {t: value.tensor for t, value in ahead.items() if value.varies},
        {t: value.tensor for t, value in ahead.items() if not value.varies},
    )
    made = scan_node.made(smaller.without_unread())
    results.finals, results.histories = list(made.finals), list(made.histories)
    for position, j in enumerate(left):
        results.stacked[j] = made.stacked[position]
    return results


def _worth_it(loop: ScanView, costs: Costs) -> dict[Tensor, Stacked]:
    """Return the body's tensors that are computed ahead, for what is left in the body."""
    order = topological_order(loop.roots)
    refused: set[Tensor] = set()
    while True:
        values = _ahead(loop, order, refused)
        read = [t for n in order if n.outputs[0] not in values for t in n.inputs]
        border = dict.fromkeys(t for t in (*read, *loop.roots) if t in values and t.node.inputs)
        parts = {t: topological_order([t]) for t in border if values[t].varies}
        spared = {*loop.elements}.difference(read)
        poor = [
            t for t, part in parts.items() if t not in loop.outputs and not _pays(t, part, spared)
        ]
        computed = {n.outputs[0] for part in parts.values() for n in part if n.inputs}
        memory = sum(byte_count(values[t].tensor) for t in computed)
        if not poor and memory > costs.loop_memory:
            poor = [max(parts, key=byte_count)]
        if not poor:
            return {t: values[t] for t in border}
        refused.update(poor)


def _ahead(loop: ScanView, order: Sequence[Node], refused: set[Tensor]) -> dict[Tensor, Stacked]:
    """Return all that can be computed without the states, over all steps."""
    values = of_parameters(loop)
    for node in order:
        first = node.outputs[0]
        if first not in values and first not in refused and all(t in values for t in node.inputs):
            made = over_steps(node, [values[t] for t in node.inputs], loop.length)
            if made is not None:
                values[first] = made
    return values


def _pays(tensor: Tensor, part: Sequence[Node], spared: Set[Tensor]) -> bool:
    if any(node.operator is ops.matmul for node in part):
        return True
    return byte_count(tensor) <= sum(
        byte_count(n.outputs[0]) for n in part if n.outputs[0] in spared
    )
