"""Scheduling: assign each node a level, on which it runs.

**Levels.**  A graph runs level by level.  On each level there run, in this order:

1. the native nodes of the level, as one native graph of MXNet,
2. the kernels and products of the level, each after those that it reads,
3. the nodes that run on their own: loops, branches, operators that are computed on the host.

The fewer levels there are, the fewer native graphs: entering one costs `Costs.native_graph`.

**Reads that rise.**  A read *rises* if the reader must be on a higher level than the node that it
reads; otherwise both may be on the same level.

| reader                 | what it reads                                           | rises |
|------------------------|---------------------------------------------------------|-------|
| any node               | the result of a native node                             | no    |
| any node               | the result of a node that runs on its own               | yes   |
| node of no kernel      | the result of a kernel or product                       | yes   |
| kernel, product        | an elementwise result of a kernel, as it is             | no    |
| kernel, product        | the result of a kernel or product, through a view       | yes   |
| kernel, product        | a reduction, concatenation or product (*made whole*)    | yes   |

A result is *made whole* if none of its elements is final before its kernel or product has ended.
A view is a slice, transposition or the like: a kernel *looks through* it and reads the elements
where they lie in the array below (`views_for`), so the node of the view itself is not computed.

A decomposed softmax between two convolutions, for example:

               level 0             level 1            level 2

    native     convolution                            convolution
                    |                                      ^
                    v                                      | rises
    kernels        exp ---> sum --- rises ---> divide -----+
                    |                            ^
                    +------- does not rise ------+

The kernel of level 0 computes `exp` and `sum` in one pass.  `divide` reads `exp` as it is, but it
reads `sum` too, which is made whole; so it is on level 1.

**The invariant: kernels of one level read each other's results as they are, and no others.**  Along
such reads shapes can only grow, by broadcasting.  So all elementwise nodes of one level and one
shape that share an array can become one kernel: no path leads out of it and back into it through
another kernel, and the kernels of a level can always be sorted.

**Dividing a native graph.**  A kernel is *between* native nodes if it waits for one and another one
waits for it.  These two are then on different levels: the kernel *divides* their native graph in
two.  A kernel divides nothing if it reads only leaves, or if only outputs need its results.

**First and last levels.**  `levels` puts each node on the first level that its operands allow.
`schedule_late` then moves it to the last level that its readers allow.  So a node that only the
backward pass reads is computed there, by the kernel that reads it; and a kernel for which only late
nodes wait does not divide the native graph of earlier ones.  `levels_with` does both for chosen
regions, and puts all nodes of a region on one level.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from ksym import ops
from ksym.compiler.fusion.kernel import data, is_collected, is_view, source_of
from ksym.compiler.fusion.products import is_product, is_seen
from ksym.graph import Node, Tensor
from ksym.ops.given import is_leaf

Region = frozenset[Node]
"""The nodes of one kernel, or the node of one product."""


def schedule_late(
    order: Sequence[Node],
    level: dict[Node, int],
    fused: Collection[Node] | Mapping[Node, Region],
    views: Collection[Node],
) -> None:
    """Move each node to the last level that its readers allow; change `level` in place.

    Native nodes move only to levels that have native nodes already, so no native graph is added.

    Args:
        order: All nodes in a topological order, without `views`.
        level: The level of each node.
        fused: The nodes of kernels and products; as a mapping, with the region of each: then all
            nodes of a region stay on one level.
        views: The nodes that kernels look through.
    """
    region_of = fused if isinstance(fused, Mapping) else {}
    readers: dict[Node | Region, set[tuple[Node | Region, bool]]] = {}
    read: dict[Node | Region, Counter[Node | Region]] = {}
    waiting: dict[Node | Region, int] = {}
    for node in order:
        unit = region_of.get(node, node)
        readers.setdefault(unit, set())
        reads = read.setdefault(unit, Counter())
        waiting.setdefault(unit, 0)
        for tensor, rises in reads_of(node, fused, views):
            source = region_of.get(tensor.node, tensor.node)
            if source is not unit and (unit, rises) not in readers[source]:
                readers[source].add((unit, rises))
                reads[source] += 1
                waiting[source] += 1
    # Kernels that no native node waits for come after all native graphs, however many in a row.
    last = max(level.values(), default=0) + len(readers)
    occupied = sorted({level[n] for n in order if is_in_graph(n, fused) and not is_leaf(n)})
    ready = [unit for unit, count in waiting.items() if not count]
    while ready:
        unit = ready.pop()
        nodes = unit if isinstance(unit, frozenset) else (unit,)
        first = _first(unit)
        bound = min((level[_first(u)] - rises for u, rises in readers[unit]), default=last)
        if is_in_graph(first, fused) and not is_leaf(first):
            below = bisect_right(occupied, bound)
            bound = occupied[below - 1] if below else 0
        level.update(dict.fromkeys(nodes, max(level[first], bound)))
        for source, times in read[unit].items():
            waiting[source] -= times
            if not waiting[source]:
                ready.append(source)


def _first(unit: Node | Region) -> Node:
    return next(iter(unit)) if isinstance(unit, frozenset) else unit


def is_native(node: Node) -> bool:
    """Return whether a node is computed by MXNet's operators, unless a kernel computes it."""
    return node.operator.runs == "native"


def levels(
    order: Sequence[Node], fused: Collection[Node] = (), views: Collection[Node] = ()
) -> dict[Node, int]:
    """Return the first level for each node that its operands allow.

    It is the largest number of rising reads on a path that ends at the node.

    Args:
        order: All nodes in a topological order, without `views`.
        fused: The nodes of kernels and products.
        views: The nodes that kernels look through.
    """
    level: dict[Node, int] = {}
    for node in order:
        level[node] = max(
            (level[t.node] + rises for t, rises in reads_of(node, fused, views)), default=0
        )
    return level


def reads_of(
    node: Node, fused: Collection[Node], views: Collection[Node]
) -> Iterator[tuple[Tensor, bool]]:
    """Yield each tensor whose array a node reads, and whether this read rises.

    The table of reads that rise is in the module's docstring.
    """
    in_kernel = node in fused
    for tensor in data(node) if in_kernel else node.inputs:
        source = source_of(tensor, views) if in_kernel else tensor
        from_kernel = source.node in fused
        through_view = source is not tensor or is_view(node)
        as_it_is = in_kernel and not through_view and not is_made_whole(source.node)
        yield source, not is_native(source.node) or (from_kernel and not as_it_is)


def is_made_whole(node: Node) -> bool:
    """Return whether no element of a result is final before its kernel or product has ended."""
    return is_collected(node) or is_product(node)


def views_for(
    order: Sequence[Node], fused: Collection[Node], outputs: Collection[Tensor]
) -> set[Node]:
    """Return the nodes that are views, and that only kernels and products read: these look through.

    Args:
        order: All nodes in a topological order.
        fused: The nodes of kernels and products.
        outputs: The tensors to compute, which need arrays of their own.
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
    """Return whether a node is computed in a native graph."""
    return is_native(node) and node not in fused


def levels_with(
    order: Sequence[Node], region_of: Mapping[Node, Region], views: Collection[Node]
) -> dict[Node, int]:
    """Return the level of each node for chosen regions, after `schedule_late`.

    Levels are numbered without gaps.

    Args:
        order: All nodes in a topological order, without `views`.
        region_of: The region of each node that is in one; its nodes are put on one level.
        views: The nodes that kernels look through.
    """
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
            for tensor, rises in reads_of(node, region_of, views):
                level[node] = max(level[node], level[tensor.node] + rises)
