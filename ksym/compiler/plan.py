"""Planning: which nodes become one native graph together, and which run on their own.

Most graphs are one native graph.  Loops, branches and operators that MXNet does not have run on
their own (`Operator.runs`), and so do fused loops; the native nodes around them are put into as few
graphs as their order allows, and nothing else is slower for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ksym import ops
from ksym.compiler.loops import Loop, data, describe
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


def levels(order: Sequence[Node], fused: Collection[Node] = ()) -> dict[Node, int]:
    """Return the level of each node: how many times what it needs changes over to a native graph.

    On a level a native graph runs first, then the loops that read it, then what runs alone; what
    reads these comes on the next level.  A node is computed as early as its operands allow.

    Args:
        order: All nodes in a topological order.
        fused: Those that are computed by loops.
    """
    level: dict[Node, int] = {}
    for node in order:
        in_loop = node in fused
        level[node] = max(
            (level[t.node] + _rises(t.node, t.node in fused, in_loop) for t in node.inputs),
            default=0,
        )
    return level


def _rises(source: Node, source_fused: bool, fused: bool) -> bool:
    """Whether a node is on a higher level than one that it reads."""
    return not is_native(source) or (source_fused and not fused)


def partition(outputs: Sequence[Tensor], regions: Sequence[Region] = ()) -> list[Part]:
    """Return the parts that compute outputs, in the order in which they run.

    Args:
        outputs: What to compute.
        regions: Elementwise nodes that are loops; no path leads out of one and back into it.
    """
    order = topological_order(outputs)
    region_of = {node: region for region in regions for node in region}
    level = _levels_with(order, region_of)
    last = max(level.values(), default=0)
    reads: list[dict[Tensor, None]] = [{} for _ in range(last + 1)]
    crossing = dict.fromkeys(outputs)
    for node in order:
        native = _is_in_graph(node, region_of)
        for tensor in node.inputs if node not in region_of else data(node):
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
        for region in _in_order(loops[at], region_of):
            results = [t for node in region for t in node.outputs if t in crossing]
            loop = describe(region, results)
            parts.append(Part(loop.operands, tuple(results), loop))
        parts.extend(
            Part(node.inputs, tuple(t for t in node.outputs if t in crossing), node)
            for node in alone[at]
        )
    return parts


def _is_in_graph(node: Node, fused: Collection[Node]) -> bool:
    return is_native(node) and node not in fused


def _levels_with(order: Sequence[Node], region_of: Mapping[Node, Region]) -> dict[Node, int]:
    """As `levels`, where all nodes of a region are on one level."""
    level = levels(order, region_of)
    while True:
        highest: dict[Region, int] = {}
        for node, region in region_of.items():
            highest[region] = max(highest.get(region, 0), level[node])
        raised = {n: highest[r] for n, r in region_of.items() if level[n] < highest[r]}
        if not raised:
            return level
        level.update(raised)
        for node in order:
            fused = node in region_of
            for tensor in node.inputs:
                rise = _rises(tensor.node, tensor.node in region_of, fused)
                level[node] = max(level[node], level[tensor.node] + rise)


def _in_order(regions: Sequence[Region], region_of: Mapping[Node, Region]) -> list[Region]:
    """Sort the regions of a level so that each comes after those that it reads."""
    waiting = {
        region: {region_of[t.node] for n in region for t in data(n) if t.node in region_of}
        - {region}
        for region in regions
    }
    done: list[Region] = []
    while waiting:
        ready = [region for region, needed in waiting.items() if not needed & waiting.keys()]
        done += ready
        for region in ready:
            del waiting[region]
    return done
