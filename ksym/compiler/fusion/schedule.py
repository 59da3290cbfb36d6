"""Scheduling: on which level each node runs, that is after how many changes to a native graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ksym import ops
from ksym.compiler.fusion.kernel import data, is_collected, is_view, source_of
from ksym.compiler.fusion.products import is_product, is_seen
from ksym.graph import Node, Tensor
from ksym.ops.given import is_leaf

Region = frozenset[Node]
"""The nodes of a fused loop, or a product that is computed between loops."""


def schedule_late(
    order: Sequence[Node],
    level: dict[Node, int],
    fused: Collection[Node] | Mapping[Node, Region],
    views: Collection[Node],
) -> None:
    """Move all nodes to the last level that those who read them allow.

    So what has to wait for a loop does not divide a native graph of nodes that could wait too.
    Native nodes stay on levels that have some.

    Args:
        order: All nodes in a topological order, but for those of views.
        level: The level of each, which is changed.
        fused: Those that are computed by loops, and products; or for each of them its region.
        views: Those that loops look through.
    """
    region_of = fused if isinstance(fused, Mapping) else {}
    readers: dict[Node | Region, set[tuple[Node | Region, bool]]] = {}
    waiting: dict[Node | Region, int] = {}
    for node in order:
        unit = region_of.get(node, node)
        readers.setdefault(unit, set())
        waiting.setdefault(unit, 0)
        for tensor, rise in reads_of(node, fused, views):
            source = region_of.get(tensor.node, tensor.node)
            if source is not unit and (unit, rise) not in readers[source]:
                readers[source].add((unit, rise))
                waiting[source] += 1
    read: dict[Node | Region, set[Node | Region]] = {unit: set() for unit in readers}
    for source, units in readers.items():
        for unit, _ in units:
            read[unit].add(source)
    # Loops that nothing native waits for come after all native graphs, however many in a row.
    last = max(level.values(), default=0) + len(readers)
    occupied = sorted({level[n] for n in order if is_in_graph(n, fused) and not is_leaf(n)})
    ready = [unit for unit, count in waiting.items() if not count]
    while ready:
        unit = ready.pop()
        nodes = unit if isinstance(unit, frozenset) else (unit,)
        first = _first(unit)
        bound = min((level[_first(u)] - rise for u, rise in readers[unit]), default=last)
        if is_in_graph(first, fused) and not is_leaf(first):
            bound = max((at for at in occupied if at <= bound), default=0)
        level.update(dict.fromkeys(nodes, max(level[first], bound)))
        for source in read[unit]:
            waiting[source] -= sum(u == unit for u, _ in readers[source])
            if not waiting[source]:
                ready.append(source)


def _first(unit: Node | Region) -> Node:
    return next(iter(unit)) if isinstance(unit, frozenset) else unit


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
        fused: Those that are computed by loops, and products among these.
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
        seen = source is not tensor or is_view(node)
        changes = not in_loop or seen or is_made_whole(source.node)
        yield source, not is_native(source.node) or (from_loop and changes)


def is_made_whole(node: Node) -> bool:
    """Whether none of a node's elements is there before the loop, or the product, has ended."""
    return is_collected(node) or is_product(node)


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
        elif node in fused and is_product(node):
            needed.update(tensor.node for tensor in node.inputs if not is_seen(tensor))
        elif node not in fused or node.operator is ops.concatenate:
            needed.update(tensor.node for tensor in node.inputs)
    return views


def is_in_graph(node: Node, fused: Collection[Node]) -> bool:
    """Whether a node is computed in a native graph."""
    return is_native(node) and node not in fused


def levels_with(
    order: Sequence[Node], region_of: Mapping[Node, Region], views: Collection[Node]
) -> dict[Node, int]:
    """As `levels`, where all nodes of a region are on one level, and what is native has fallen."""
    level = levels(order, region_of, views)
    while True:
        highest: dict[Region, int] = {}
        for node, region in region_of.items():
            highest[region] = max(highest.get(region, 0), level[node])
        raised = {n: highest[r] for n, r in region_of.items() if level[n] < highest[r]}
        if not raised:
            schedule_late(order, level, region_of, views)
            used = {each: rank for rank, each in enumerate(sorted({*level.values()}))}
            return {node: used[each] for node, each in level.items()}
        level.update(raised)
        for node in order:
            for tensor, rise in reads_of(node, region_of, views):
                level[node] = max(level[node], level[tensor.node] + rise)
