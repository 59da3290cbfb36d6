"""Saving residuals: a loop keeps intermediate results that a later loop would compute again.

The gradient of a loop computes each step again, from the states before it (rematerialisation).
Where that takes a matrix product, it is faster to stack the result of the product, and of the nodes
that depend on it, in the first loop, and to read it as a sequence in the second.  The stacks take
memory for all steps, which stays below `Costs.loop_memory`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.loops.transform import Results, byte_count, is_static, over_loops
from ksym.compiler.passes.declaration import graph_pass
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView


@graph_pass(sample=recurrence)
def save_residuals(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs whose loops do not repeat the matrix products of earlier ones."""
    order = topological_order(outputs)
    scans = [n for n in order if is_static(n)]
    used = {tensor for node in order for tensor in node.inputs} | set(outputs)
    loops = {n: ScanView.of(n, n.inputs, used) for n in scans}
    # For each loop that reads residuals the loop that saves them, and the pairs of equal tensors.
    read: dict[Node, tuple[Node, dict[Tensor, Tensor]]] = {}
    # For each loop that saves residuals the tensors of its body.
    saved: dict[Node, dict[Tensor, None]] = {}
    for later in scans:
        for earlier in {t.node: None for t in later.inputs if t.node in loops}:
            found = _residuals(earlier, loops[earlier], loops[later], costs)
            if found and later not in read:
                read[later] = earlier, found
                saved.setdefault(earlier, {}).update(dict.fromkeys(found.values()))
    if not read:
        return list(outputs)
    stacks: dict[Node, dict[Tensor, Tensor]] = {}

    def changed(node: Node, loop: ScanView, used: set[Tensor]) -> Results | None:
        if node not in read and node not in saved:
            return None
        count, results = len(loop.outputs), Results(loop)
        stacked = dict.fromkeys([*loop.outputs, *saved.get(node, ())])
        loop = replace(loop, outputs=tuple(stacked))
        if node in read:
            earlier, found = read[node]
            loop = loop.given({t: stacks[earlier][s] for t, s in found.items()}, {})
        made = scan_node.made(loop.without_unread())
        stacks[node] = dict(zip(stacked, made.stacked, strict=True))
        results.finals, results.histories = list(made.finals), list(made.histories)
        results.stacked = list(made.stacked[:count])
        return results

    return over_loops(outputs, changed)


def _residuals(
    node: Node, earlier: ScanView, later: ScanView, costs: Costs
) -> dict[Tensor, Tensor]:
    """Return the residuals: tensors of the later body, and the equal ones of the earlier body."""
    if earlier.lean or later.lean:
        return {}
    varying_parameters, fixed = _equal_parameters(node, earlier, later)
    equal, varying = {**varying_parameters, **fixed}, set(varying_parameters)
    nodes: dict[Hashable, Node] = {}
    for inner in topological_order(earlier.roots):
        if inner.operator.pure:
            nodes.setdefault(_key(inner, inner.inputs), inner)
    order = topological_order(later.roots)
    for inner in order:
        if inner.operator.pure and all(t in equal for t in inner.inputs):
            twin = nodes.get(_key(inner, [equal[t] for t in inner.inputs]))
            if twin is not None:
                equal.update(zip(inner.outputs, twin.outputs, strict=True))
                if not varying.isdisjoint(inner.inputs):
                    varying.update(inner.outputs)
    read = [t for n in order if n.outputs[0] not in equal for t in n.inputs]
    products: set[Node] = set()  # and what is made of them
    for inner in order:
        if inner.operator is ops.matmul or any(t.node in products for t in inner.inputs):
            products.add(inner)
    # What is the same at all steps is computed before the loops, see `hoist`.
    found = {
        tensor: equal[tensor]
        for tensor in dict.fromkeys([*read, *later.roots])
        if tensor in varying and tensor.node.inputs and tensor.node in products
    }
    fresh = sum(byte_count(t) for t in {*found.values()} - {*earlier.outputs})
    return found if fresh * earlier.length <= costs.loop_memory else {}


def _equal_parameters(
    node: Node, earlier: ScanView, later: ScanView
) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
    """Return the parameters of the later body that are equal to tensors of the earlier one.

    Returns:
        Those that are elements of the same sequences, and those that are equal at all steps.
    """
    per_step = dict(zip(earlier.sequences, earlier.elements, strict=True))
    results = earlier.results(node.outputs)
    per_step.update(zip(results.stacked, earlier.outputs, strict=True))
    per_step.update(zip(results.histories, earlier.before, strict=True))
    fixed = dict(zip(earlier.closed, earlier.rest, strict=True))
    through = zip(later.elements, later.sequences, strict=True)
    beside = zip(later.rest, later.closed, strict=True)
    return (
        {p: per_step[s] for p, s in through if s in per_step},
        {p: fixed[c] for p, c in beside if c in fixed},
    )


def _key(node: Node, operands: Sequence[Tensor]) -> Hashable:
    return (node.operator, tuple(sorted(node.attributes.items())), *operands)
