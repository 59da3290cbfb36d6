"""Hoisting: move nodes that depend on no state before their loop, for all steps at once.

This is loop-invariant code motion, extended to nodes that differ from step to step but need no
state.  The standard case is the product of an element with a weight: over the whole sequence it is
one product of many rows.  The loop reads hoisted results as a sequence, so they take memory for all
steps.  Therefore a node is hoisted only if it is a product or depends on one, if it is an output,
or if it is no larger than the elements that the loop then need not read; and all hoisted results
together stay below `Costs.loop_memory`.
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
    refused: set[Tensor] = set()
    while True:
        values = _stateless(loop, order, refused)
        read = [t for n in order if n.outputs[0] not in values for t in n.inputs]
        border = dict.fromkeys(t for t in (*read, *loop.roots) if t in values and t.node.inputs)
        parts = {t: topological_order([t]) for t in border if values[t].varies}
        unread = {*loop.elements}.difference(read)
        losses = [
            t for t, part in parts.items() if t not in loop.outputs and not _pays(t, part, unread)
        ]
        computed = {n.outputs[0] for part in parts.values() for n in part if n.inputs}
        memory = sum(byte_count(values[t].tensor) for t in computed)
        if not losses and memory > costs.loop_memory:
            losses = [max(parts, key=byte_count)]
        if not losses:
            return {t: values[t] for t in border}
        refused.update(losses)


def _stateless(
    loop: ScanView, order: Sequence[Node], refused: set[Tensor]
) -> dict[Tensor, Stacked]:
    """Return all tensors that can be computed without the states, over all steps."""
    values = of_parameters(loop)
    for node in order:
        first = node.outputs[0]
        if first not in values and first not in refused and all(t in values for t in node.inputs):
            made = over_steps(node, [values[t] for t in node.inputs], loop.length)
            if made is not None:
                values[first] = made
    return values


def _pays(tensor: Tensor, part: Sequence[Node], unread: Set[Tensor]) -> bool:
    """Return whether hoisting a tensor pays.

    Args:
        tensor: The tensor.
        part: The nodes that compute it.
        unread: The elements of sequences that the rest of the body does not read.
    """
    if any(node.operator is ops.matmul for node in part):
        return True
    return byte_count(tensor) <= sum(
        byte_count(n.outputs[0]) for n in part if n.outputs[0] in unread
    )
