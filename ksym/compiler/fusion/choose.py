"""Finding elementwise work within a graph that is faster as kernels of its own.

A native operator costs some microseconds and a pass over memory; a kernel does many of them in one
pass, but what it reads and writes has to be in memory, and a kernel in the middle divides a native
graph in two.  So regions are found as if everything elementwise were fused, and every product were
a call of BLAS, and those that do not pay are given back, until all that are left do.  What things
cost is an argument, `ksym.compiler.costs.Costs`.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from ksym import ops, shapes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import (
    can_compile,
    data,
    is_collected,
    is_number,
    is_view,
    shape_over,
    summands,
)
from ksym.compiler.fusion.products import is_product
from ksym.compiler.fusion.schedule import (
    Region,
    is_made_whole,
    is_native,
    levels,
    schedule_late,
    views_for,
)
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.given import is_leaf
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    return [ops.tanh(placeholder((64, 64)) * 2.0 + 1.0)]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return bool(fuse_loops(outputs))


@planning_pass(
    sample=_sample,
    fires=_fires,
    rounding="exponentials and their like are not the kernels'",
)
def fuse_loops(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Region]:
    """Return the nodes of each kernel or product that pays.

    Args:
        outputs: The graph, of known shapes.
        costs: What things cost.
    """
    order = topological_order(outputs)
    asked = set(outputs)
    candidates = _candidates(order, costs)
    kept: list[Region] = []
    for _ in range(costs.fusing_rounds):
        candidates = _without_torn(candidates)
        views = views_for(order, candidates, asked)
        candidates -= views
        late = _latest_levels(order, candidates, views)
        regions = _regions(order, late, candidates, costs.instructions)
        losing = _losing(regions, late, _Use(order, asked, candidates, views), order, costs)
        kept = [region for region in regions if losing.isdisjoint(region)]
        left = {node for region in regions for node in region} - losing
        if left == candidates:
            break
        candidates = left
    return _within_limit(kept, costs.instructions_in_all)


class _Use:
    """Who reads what.

    Attributes:
        users: The nodes that read each node's results.
        asked: The tensors that are wanted.
        candidates: The nodes that kernels compute, and products.
        views: Those that kernels look through.
        between: The nodes for which something native waits that something native comes before.
    """

    def __init__(
        self,
        order: Sequence[Node],
        asked: Collection[Tensor],
        candidates: Collection[Node],
        views: Collection[Node],
    ):
        self.users: dict[Node, list[Node]] = defaultdict(list)
        for node in order:
            for tensor in node.inputs:
                self.users[tensor.node].append(node)
        self.asked = asked
        self.candidates = candidates
        self.views = views
        fed: set[Node] = set()
        for node in order:
            if any(self._carries(t.node, fed) for t in node.inputs):
                fed.add(node)
        feeding: set[Node] = set()
        for node in reversed(order):
            if any(self._carries(user, feeding) for user in self.users[node]):
                feeding.add(node)
        self.between = fed & feeding

    def _carries(self, node: Node, marked: Collection[Node]) -> bool:
        """Whether a node is in a native graph, or between one and another.

        What runs alone divides native graphs anyway.
        """
        return self.is_native(node) or (
            node in marked and (node in self.candidates or node in self.views)
        )

    def is_native(self, node: Node) -> bool:
        """Whether a node is computed in a native graph."""
        apart = node in self.candidates or node in self.views or is_leaf(node)
        return is_native(node) and not apart

    def divides(self, region: Region) -> bool:
        """Whether native nodes wait for a kernel that waits for native nodes."""
        return not self.between.isdisjoint(region)

    def is_written(self, node: Node, region: Region) -> bool:
        """Whether a node's result is wanted outside of its kernel."""
        return node.outputs[0] in self.asked or any(u not in region for u in self.users[node])


def _candidates(order: Sequence[Node], costs: Costs) -> set[Node]:
    """Find what a kernel or BLAS could compute: elementwise work, what is made of it, and views.

    oneDNN leaves its results in a layout of its own: a kernel would have such arrays brought into
    order first, and back into blocks afterwards.
    """
    in_blocks = _in_blocks(order)
    return {
        node
        for node in order
        if node not in in_blocks
        and 0 not in node.outputs[0].shape
        and (can_compile(node, costs) or is_made_whole(node) or is_view(node))
        and node.outputs[0].dtype in formulas.DTYPES
        and not (node.operator.combination and node.inputs[0].node in in_blocks)
        and summands(node) <= costs.summands
    }


def _in_blocks(order: Sequence[Node]) -> set[Node]:
    """Nodes whose results oneDNN may leave in its own layout."""
    found: set[Node] = set()
    for node in order:
        if node.operator.own_layout or (
            node.operator.keeps_layout
            and any(tensor.node in found and tensor.rank > 2 for tensor in node.inputs)
        ):
            found.add(node)
    return found


def _without_torn(candidates: set[Node]) -> set[Node]:
    """Leave out joins of anything but elementwise results of one shape."""
    return {
        node
        for node in candidates
        if node.operator is not ops.concatenate or _collects(node, candidates)
    }


def _collects(node: Node, candidates: Collection[Node]) -> bool:
    """Whether what a join or reduction is made of are elementwise results of one shape."""
    return all(
        t.node in candidates
        and not is_made_whole(t.node)
        and t.node.operator is not ops.broadcast_to
        and t.shape == node.inputs[0].shape
        for t in node.inputs
    )


def _latest_levels(
    order: Sequence[Node], candidates: Collection[Node], views: Collection[Node]
) -> dict[Node, int]:
    """At which level each node runs: as late as those who read it allow.

    So what only a kernel reads is computed in that kernel, and not kept in memory for it.
    """
    order = [node for node in order if node not in views]
    late = levels(order, candidates, views)
    schedule_late(order, late, candidates, views)
    return late


def _regions(
    order: Sequence[Node], late: Mapping[Node, int], candidates: Collection[Node], longest: int
) -> list[Region]:
    """Group up to `longest` candidates of one level and shape that share an array."""
    groups: dict[tuple[int, shapes.Shape], list[Node]] = defaultdict(list)
    found: list[list[Node]] = []
    collected = []
    for node in order:
        if node not in candidates:
            continue
        if is_collected(node) and _collects(node, candidates):
            collected.append(node)
        elif is_made_whole(node):
            found.append([node])
        else:
            groups[late[node], node.outputs[0].shape].append(node)
    found += [
        part[start : start + longest]
        for nodes in groups.values()
        for part in _apart(nodes)
        for start in range(0, len(part), longest)
    ]
    place = {node: number for number, nodes in enumerate(found) for node in nodes}
    for node in collected:
        places = {place[tensor.node] for tensor in node.inputs}
        if len(places) == 1:
            found[places.pop()].append(node)
    return [frozenset(nodes) for nodes in found]


def _apart(nodes: Sequence[Node]) -> list[list[Node]]:
    """Divide nodes of one shape into groups that share no array of that shape."""
    leader = {node: node for node in nodes}

    def first(node: Node) -> Node:
        while leader[node] is not node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    seen: dict[Tensor, Node] = {}
    for node in nodes:
        for tensor in (*data(node), *node.outputs):
            if tensor.shape == node.outputs[0].shape:
                leader[first(node)] = first(seen.setdefault(tensor, node))
    groups: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        groups[first(node)].append(node)
    return list(groups.values())


def _losing(
    regions: Sequence[Region],
    late: Mapping[Node, int],
    use: _Use,
    order: Sequence[Node],
    costs: Costs,
) -> set[Node]:
    """The nodes of kernels that cost more than they save.

    Of a kernel that does so only by dividing a native graph, those that do divide it: the others
    may still pay in a kernel of their own.
    """
    gains = {region: _gain(region, use, costs) for region in regions}
    losing = {node for region, gain in gains.items() if gain <= 0 for node in region}
    # All kernels between two native graphs divide one together.
    graphs = sorted({late[node] for node in order if use.is_native(node)})
    dividing: dict[int, list[Region]] = defaultdict(list)
    for region in regions:
        if use.divides(region):
            dividing[bisect_right(graphs, _level(region, late))].append(region)
    whole = _spans(order, late, use)
    for together in dividing.values():
        gain = sum(max(gains[region], 0.0) for region in together)
        levels_of = {_level(region, late) for region in together}
        # Between an operator and a gradient kernel that repeats it, it would be computed twice.
        if gain <= costs.native_graph or any(
            level in span for span in whole for level in levels_of
        ):
            losing.update(use.between.intersection(itertools.chain(*together)))
    return losing


def _level(region: Region, late: Mapping[Node, int]) -> int:
    """The level of a kernel; what it collects could be read later than its elements."""
    return min(late[node] for node in region)


def _spans(order: Sequence[Node], late: Mapping[Node, int], use: _Use) -> list[range]:
    """The levels from each repeated operator to the one that repeats it."""
    return [
        range(late[other], late[node])
        for node in order
        if node.operator.repeats
        for tensor in node.inputs
        for other in use.users[tensor.node]
        if other.operator.name in node.operator.repeats
    ]


def _gain(region: Region, use: _Use, costs: Costs) -> float:
    """How many microseconds a kernel saves, but for what dividing a native graph costs."""
    read = {t for n in region for t in data(n) if t.node not in region and not is_number(t)}
    looked_through = {tensor.node for tensor in read} & set(use.views)
    if any(map(is_product, region)):
        spared = sum(_natively(node, costs) for node in looked_through)
        return costs.native_operator - costs.kernel + spared
    saved = sum(_natively(node, costs) for node in (*region, *looked_through))
    streams = sum(size_of(node) for node in region if use.is_written(node, region))
    streams += sum(shapes.size(tensor.shape) or 0 for tensor in read)
    instructions = sum(size_of(node) for node in region)
    return saved - costs.kernel - costs.instruction * instructions - costs.stream * streams


def _natively(node: Node, costs: Costs) -> float:
    """How many microseconds a native operator takes."""
    return costs.native_operator + costs.native_element * size_of(node)


def size_of(node: Node) -> int:
    """How many elements a node works on."""
    return shapes.size(shape_over(node)) or 0


def _within_limit(regions: Iterable[Region], limit: int) -> list[Region]:
    """As many kernels as may be compiled for one graph."""
    kept, instructions = [], 0
    for region in sorted(regions, key=len, reverse=True):
        instructions += len(region)
        if instructions <= limit:
            kept.append(region)
    return kept
