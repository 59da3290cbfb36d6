"""Planning: which nodes become one native graph together, and which run on their own.

Most graphs are one native graph.  Loops, branches and operators that MXNet does not have run on
their own (`Operator.runs`), and so do fused loops and the products among them; the native nodes
around them are put into as few graphs as their order allows, and nothing else is slower for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


class Part(NamedTuple):
    """What runs in one go.

    Attributes:
        inputs: The tensors of earlier parts that it reads.
        outputs: The tensors it computes for others.
        work: The node that runs on its own, the loop, or the product; None for a native graph.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    work: Node | Kernel | Product | None


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
    level = levels_with(order, region_of, views)
    last = max(level.values(), default=0)
    reads: list[dict[Tensor, None]] = [{} for _ in range(last + 1)]
    crossing = dict.fromkeys(outputs)
    for node in order:
        native = is_in_graph(node, region_of)
        for tensor, _ in reads_of(node, region_of, views):
            if is_leaf(tensor.node):
                if native and is_drawn(tensor.node):
                    reads[level[node]][tensor] = None
                continue
            if native and is_in_graph(tensor.node, region_of):
                apart = level[tensor.node] != level[node]
            else:
                apart = node not in region_of or region_of[node] != region_of.get(tensor.node)
            if apart:
                crossing[tensor] = None
                if native:
                    reads[level[node]][tensor] = None
    made: list[list[Tensor]] = [[] for _ in range(last + 1)]
    for tensor in crossing:
        if is_in_graph(tensor.node, region_of):
            made[level[tensor.node]].append(tensor)
            if is_drawn(tensor.node):
                reads[level[tensor.node]][tensor] = None
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
            work: Kernel | Product
            if any(map(is_product, region)):
                work = product_of(results[0].node, views)
            else:
                work = describe(region, results, views=views)
            parts.append(Part(tuple(work.operands), tuple(results), work))
        parts.extend(
            Part(node.inputs, tuple(t for t in node.outputs if t in crossing), node)
            for node in alone[at]
        )
    return parts


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
