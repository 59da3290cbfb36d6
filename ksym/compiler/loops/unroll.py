"""Loop unrolling: the steps of short loops one after the other, in one native graph.

Where kernels cannot be compiled, on a GPU, a loop would call MXNet for each step, and for each
slice and state of it besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.loops.transform import Results, byte_count, over_loops
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, replace, same, topological_order
from ksym.loops.view import ScanView
from ksym.ops.given import is_drawn, is_leaf


def _fires(outputs: Sequence[Tensor]) -> bool:
    return not same(unroll(outputs), outputs)


@planning_pass(sample=recurrence, fires=_fires)
def unroll(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs whose loops of few nodes and steps are written out, inner loops first.

    Args:
        outputs: Tensors of a graph of known shapes.
        costs: Its `unrolled_nodes` says how many nodes all loops together may become, and its
            `loop_memory` how many bytes the results of those of one loop may take.
    """
    left = costs.unrolled_nodes

    def unrolled(node: Node, loop: ScanView, used: set[Tensor]) -> Results | None:
        nonlocal left
        if loop.lean:  # native graphs would keep what its gradient computes again to save memory
            return None
        smaller = loop.with_roots(over_loops(loop.roots, unrolled))
        size = _size(smaller.roots) * loop.length
        memory = sum(byte_count(t) for each in _inside(smaller.roots) for t in each.outputs)
        if size > left or memory * loop.length > costs.loop_memory:
            return None
        if not _is_native(smaller.roots):
            return None
        left -= size
        return _written_out(node, smaller, used)

    return over_loops(outputs, unrolled)


def _inside(roots: Sequence[Tensor]) -> list[Node]:
    return [node for node in topological_order(roots) if node.inputs]


def _size(roots: Sequence[Tensor]) -> int:
    """Return the number of nodes of a step, and one for what it passes on."""
    return len(_inside(roots)) + 1


def _is_native(roots: Sequence[Tensor]) -> bool:
    """Return whether a step draws nothing, and is computed by native operators only."""
    return all(
        (node.operator.pure and node.operator.runs == "native")
        or (is_leaf(node) and not is_drawn(node))
        for node in topological_order(roots)
    )


def _written_out(node: Node, loop: ScanView, used: set[Tensor]) -> Results:
    """Return the results of a loop as graphs of all its steps."""
    elements = [ops.unstack(sequence) for sequence in loop.sequences]
    same_at_all = dict(zip(loop.rest, loop.closed, strict=True))
    states: Sequence[Tensor] = loop.initial
    before: list[Sequence[Tensor]] = []
    made: list[Sequence[Tensor]] = []
    order = range(loop.length)
    for step in reversed(order) if loop.reverse else order:
        given = {
            **same_at_all,
            **dict(zip(loop.elements, (each[step] for each in elements), strict=True)),
            **dict(zip(loop.before, states, strict=True)),
        }
        before.append(states)
        roots = replace(loop.roots, given)
        states = roots[: len(states)]
        made.append(roots[len(states) :])
    if loop.reverse:
        before.reverse()
        made.reverse()
    given_results, results = loop.results(node.outputs), Results(loop)
    results.finals = list(states)
    for j, tensor in enumerate(given_results.stacked):
        if tensor in used:
            results.stacked[j] = ops.stack([each[j] for each in made])
    for i, tensor in enumerate(given_results.histories):
        if tensor in used:
            results.histories[i] = ops.stack([each[i] for each in before])
    return results
