"""Dead code elimination in loops: remove states, outputs and sequences that nothing reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.loops.transform import Results, over_loops
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.passes.fold import fold
from ksym.compiler.passes.merge import merge
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.specialize import specialize, split
from ksym.graph import Node, Tensor, same
from ksym.loops.body import live_states
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView


@graph_pass(sample=recurrence)
def prune_loops(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Tensor]:
    """Return outputs whose loops are simplified, and have no dead code."""
    return over_loops(outputs, functools.partial(_pruned, costs=costs))


def _pruned(node: Node, loop: ScanView, used: set[Tensor], costs: Costs) -> Results | None:
    roots, rest = split(specialize(loop.roots, {}))
    if rest is not None:
        return None
    # These passes find equal tensors; all passes run when the body is compiled.
    simple = loop.with_roots(merge(simplify(fold(roots, costs), costs)))
    given = loop.results(node.outputs)
    outputs = [j for j, t in enumerate(given.stacked) if t in used]
    asked = {i for i, t in enumerate(given.finals) if t in used or loop.kept[i]}
    wanted = [*(simple.new[i] for i in sorted(asked)), *(simple.outputs[j] for j in outputs)]
    live = {*live_states(loop.before, simple.new, wanted), *asked}
    constant = {i for i in live if simple.new[i] is loop.before[i] and not loop.kept[i]}
    changing = sorted(live - constant)
    stacked = list(dict.fromkeys(simple.outputs[j] for j in outputs))
    smaller = replace(
        simple.with_states(changing),
        closed=(*loop.closed, *(loop.initial[i] for i in constant)),
        rest=(*loop.rest, *(loop.before[i] for i in constant)),
        outputs=tuple(stacked),
    ).without_unread()
    if same(smaller.roots, loop.roots) and len(smaller.roots) == len(loop.roots):
        return None
    made, results = scan_node.made(smaller), Results(loop)
    for i in constant:
        results.finals[i] = loop.initial[i]
    for position, i in enumerate(changing):
        results.finals[i] = made.finals[position]
        results.histories[i] = made.histories[position]
    for j in outputs:
        results.stacked[j] = made.stacked[stacked.index(simple.outputs[j])]
    return results
