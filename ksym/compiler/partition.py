"""Partitioning: cut a graph into pieces that run one after the other.

Most graphs are one native graph.  Loops, branches and operators that MXNet does not have are pieces
of their own (`Operator.runs`), and so is each kernel and each product.  The native nodes around
them are put into one native graph for each level, and into as few levels as their order allows
(`ksym.compiler.fusion.schedule`).
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from ksym.compiler.fusion.kernel import Kernel, describe
from ksym.compiler.fusion.products import Product, is_product, product_of
from ksym.compiler.fusion.schedule import (
    Region,
    is_in_graph,
    is_native,
    levels_with,
    reads_of,
    views_for,
)
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.given import is_drawn, is_leaf


class Piece(NamedTuple):
    """The nodes that run together: a native graph, a kernel, a product, or one node.

    Attributes:
        inputs: The tensors that it reads: those of other pieces, and leaves whose arrays it needs.
        outputs: The tensors that it computes for other pieces, or as outputs of the graph.
        nodes: Its nodes.
        work: The kernel, the product, or the node that runs on its own; copies of leaves; None for
            a native graph.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    work: Node | Kernel | Product | Copies | None


class Copies(NamedTuple):
    """Copies of leaves that are outputs, since the memory of a leaf changes with the next call."""


def partition(outputs: Sequence[Tensor], regions: Sequence[Region] = ()) -> list[Piece]:
    """Return the pieces that compute outputs, in the order in which they run.

    Args:
        outputs: The tensors to compute.
        regions: The nodes of each kernel or product; no path leads out of one and back into it.
    """
    order = topological_order(outputs)
    region_of = {node: region for region in regions for node in region}
    views = views_for(order, region_of, outputs) if regions else set()
    order = [node for node in order if node not in views]
    level = levels_with(order, region_of, views)
    levels = [_Level() for _ in range(max(level.values(), default=0) + 1)]
    crossing = dict.fromkeys(outputs)
    for node in order:
        native, own = is_in_graph(node, region_of), levels[level[node]]
        if native and not is_leaf(node):
            own.natives.append(node)
        elif not is_native(node):
            own.alone.append(node)
        for tensor, _ in reads_of(node, region_of, views):
            crosses = _crosses(tensor.node, node, region_of, level)
            if crosses:
                crossing[tensor] = None
            if native and (crosses or is_drawn(tensor.node)):
                own.reads[tensor] = None
    for tensor in crossing:
        if is_in_graph(tensor.node, region_of):
            own = levels[level[tensor.node]]
            own.results.append(tensor)
            if is_drawn(tensor.node):
                own.reads[tensor] = None
    for region in regions:
        levels[level[next(iter(region))]].regions.append(region)
    return [piece for each in levels for piece in each.pieces(crossing, region_of, views)]


def _crosses(
    source: Node, reader: Node, region_of: Mapping[Node, Region], level: Mapping[Node, int]
) -> bool:
    """Return whether a node reads a result of another piece; leaves are in no piece."""
    if is_leaf(source):
        return False
    if is_in_graph(source, region_of) and is_in_graph(reader, region_of):
        return level[source] != level[reader]
    return reader not in region_of or region_of[reader] != region_of.get(source)


class _Level:
    """The nodes of one level: a native graph, then kernels and products, then nodes on their own.

    Attributes:
        reads: The tensors that the native graph reads.
        results: The tensors that the native graph computes for other pieces.
        natives: The nodes of the native graph.
        regions: The nodes of each kernel or product.
        alone: The nodes that run on their own.
    """

    def __init__(self) -> None:
        self.reads: dict[Tensor, None] = {}
        self.results: list[Tensor] = []
        self.natives: list[Node] = []
        self.regions: list[Region] = []
        self.alone: list[Node] = []

    def pieces(
        self,
        crossing: Collection[Tensor],
        region_of: Mapping[Node, Region],
        views: Collection[Node],
    ) -> Iterator[Piece]:
        """Yield the pieces of the level in the order in which they run.

        Args:
            crossing: The tensors that are read outside of the piece that computes them.
            region_of: The region of each node that is in one.
            views: The nodes that kernels look through.
        """
        if self.results:
            yield Piece(tuple(self.reads), tuple(self.results), tuple(self.natives), None)
        for region in _in_order(self.regions, region_of, views):
            # In the order of their making, so that the same program has the same plan every time.
            nodes = tuple(sorted(region, key=operator.attrgetter("number")))
            results = tuple(t for node in nodes for t in node.outputs if t in crossing)
            work: Kernel | Product
            if any(map(is_product, region)):
                work = product_of(results[0].node, views)
            else:
                work = describe(region, results, views=views)
            yield Piece(tuple(work.operands), results, nodes, work)
        for node in self.alone:
            wanted = tuple(tensor for tensor in node.outputs if tensor in crossing)
            yield Piece(node.inputs, wanted, (node,), node)


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
