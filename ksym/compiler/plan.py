"""Planning: which nodes become one native graph together, and which run on their own.

Most graphs are one native graph.  Loops, branches and operators that MXNet does not have run on
their own (`Operator.runs`), and so do fused loops; the native nodes around them are put into as few
graphs as their order allows, and nothing else is slower for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from ksym import ops
from ksym.compiler.loops import Loop, data, describe, is_collected, is_view, source_of
from ksym.graph import Node, Tensor, topological_order

Region = frozenset[Node]
"""The nodes of a fused loop."""


class Part(NamedTuple):
    """What runs in one go.

    Attributes:
        inputs: The tensors of earlier parts that it reads.
        outputs: The tensors it computes for others.
        work: The node that runs on its own, or the loop; None for a native graph.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    work: Node | Loop | None


def is_leaf(node: Node) -> bool:
    """Whether a node's value is there before anything runs, so that every part can read it."""
    return node.operator in (ops.placeholder, ops.variable_leaf, ops.constant)


def is_native(node: Node) -> bool:
    """Whether a node is computed by MXNet's operators."""
    return node.operator.runs == "native"


def levels(
    order: Sequence[Node], fused: Collection[Node] = (), views: Collection[Node] = ()
) -> dict[Node, int]:
    """Return the level of each node: how many times what it needs changes over to a native graph.

    On a level a native graph runs first, then the loops that read it, then what runs alone; what
    reads these comes on the next level.  A node is computed as early as its operands allow.

    Args:
        order: All nodes in a topological order, but for those of views.
        fused: Those that are computed by loops.
        views: Those that loops look through.
    """
    level: dict[Node, int] = {}
    for node in order:
        level[node] = max(
            (level[t.node] + rise for t, rise in reads_of(node, fused, views)), default=0
        )
    return level


def reads_of(
    node: Node, fused: Collection[Node], views: Collection[Node]
) -> Iterator[tuple[Tensor, bool]]:
    """Yield the tensors whose arrays a node reads, and whether it is on a higher level than each.

    Loops of one level read each other's results as they are, and no others: else a loop could
    depend on itself by way of another one.
    """
    in_loop = node in fused
    for tensor in data(node) if in_loop else node.inputs:
        source = source_of(tensor, views) if in_loop else tensor
        from_loop = source.node in fused
        changes = not in_loop or source is not tensor or is_collected(source.node)
        yield source, not is_native(source.node) or (from_loop and changes)


def views_for(
    order: Sequence[Node], fused: Collection[Node], outputs: Collection[Tensor]
) -> set[Node]:
    """Return the nodes that only loops read, and that these look through.

    Args:
        order: All nodes in a topological order.
        fused: Those that are computed by loops.
        outputs: What is computed.
    """
    views: set[Node] = set()
    needed = {tensor.node for tensor in outputs}
    for node in reversed(order):
        if node not in needed and is_view(node):
            views.add(node)
        elif node not in fused or is_collected(node):
            needed.update(tensor.node for tensor in node.inputs)
    return views


def partition(outputs: Sequence[Tensor], regions: Sequence[Region] = ()) -> list[Part]:
    """Return the parts that compute outputs, in the order in which they run.

    Args:
        outputs: What to compute.
        regions: The nodes of each loop; no path leads out of one and back into it.
    """
    order = topological_order(outputs)
    region_of = {node: region for region in regions for node in region}
    views = views_for(order, region_of, outputs) if regions else set()
    order = [node for node in order if node not in views]
    level = _levels_with(order, region_of, views)
    last = max(level.values(), default=0)
    reads: list[dict[Tensor, None]] = [{} for _ in range(last + 1)]
    crossing = dict.fromkeys(outputs)
    for node in order:
        native = _is_in_graph(node, region_of)
        for tensor, _ in reads_of(node, region_of, views):
            if is_leaf(tensor.node):
                continue
            if native and _is_in_graph(tensor.node, region_of):
                apart = level[tensor.node] != level[node]
            else:
                apart = node not in region_of or region_of[node] != region_of.get(tensor.node)
            if apart:
                crossing[tensor] = None
                if native:
                    reads[level[node]][tensor] = None
    made: list[list[Tensor]] = [[] for _ in range(last + 1)]
    for tensor in crossing:
        if _is_in_graph(tensor.node, region_of):
            made[level[tensor.node]].append(tensor)
    loops: list[list[Region]] = [[] for _ in range(last + 1)]
    for region in regions:
        loops[level[next(iter(region))]].append(region)
    alone: list[list[Node]] = [[] for _ in range(last + 1)]
    for node in order:
        if not is_native(node):
            alone[level[node]].append(node)
    parts = []
    for at in range(last + 1):
        if made[at]:
            parts.append(Part(tuple(reads[at]), tuple(made[at]), None))
        for region in _in_order(loops[at], region_of, views):
            results = [t for node in region for t in node.outputs if t in crossing]
            loop = describe(region, results, views=views)
            parts.append(Part(tuple(loop.operands), tuple(results), loop))
        parts.extend(
            Part(node.inputs, tuple(t for t in node.outputs if t in crossing), node)
            for node in alone[at]
        )
    return parts


def _is_in_graph(node: Node, fused: Collection[Node]) -> bool:
    return is_native(node) and node not in fused


def _levels_with(
    order: Sequence[Node], region_of: Mapping[Node, Region], views: Collection[Node]
) -> dict[Node, int]:
    """As `levels`, where all nodes of a region are on one level."""
    level = levels(order, region_of, views)
    while True:
        highest: dict[Region, int] = {}
        for node, region in region_of.items():
            highest[region] = max(highest.get(region, 0), level[node])
        raised = {n: highest[r] for n, r in region_of.items() if level[n] < highest[r]}
        if not raised:
            return level
        level.update(raised)
        for node in order:
            for tensor, rise in reads_of(node, region_of, views):
                level[node] = max(level[node], level[tensor.node] + rise)


def _in_order(
    regions: Sequence[Region], region_of: Mapping[Node, Region], views: Collection[Node]
) -> list[Region]:
    """Sort the regions of a level so that each comes after those that it reads."""
    waiting: dict[Region, set[Region]] = {}
    for region in regions:
        read = {t.node for node in region for t, _ in reads_of(node, region_of, views)}
        waiting[region] = {region_of[node] for node in read if node in region_of} - {region}
    done: list[Region] = []
    while waiting:
        ready = [region for region, needed in waiting.items() if not needed & waiting.keys()]
        done += ready
        for region in ready:
            del waiting[region]
    return done
