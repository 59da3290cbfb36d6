"""Loop fusion: choose the nodes that kernels compute, by a cost model.

A native operator costs some microseconds and a pass over memory.  A kernel computes many operators
in one pass; but the arrays it reads and writes have to be in memory, and a kernel between native
nodes divides their native graph in two.  So the search starts with every node that a kernel or a
call of BLAS could compute, groups these into regions, and removes the regions that cost more than
they save, until each one that is left pays.  The costs are an argument,
`ksym.compiler.costs.Costs`; levels are explained in `ksym.compiler.fusion.schedule`.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

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
        costs: The costs that decide.
    """
    order = topological_order(outputs)
    wanted = set(outputs)
    candidates = _candidates(order, costs)
    kept: list[Region] = []
    for _ in range(costs.fusing_rounds):
        candidates = _without_mixed_joins(candidates)
        views = views_for(order, candidates, wanted)
        candidates -= views
        level = _latest_levels(order, candidates, views)
        regions = _regions(order, level, candidates, costs.instructions)
        uses = _Uses(order, wanted, candidates, views)
        unprofitable = _unprofitable(regions, level, uses, order, costs)
        kept = [region for region in regions if unprofitable.isdisjoint(region)]
        left = {node for region in regions for node in region} - unprofitable
        if left == candidates:
            break
        candidates = left
    return _within_limit(kept, costs.instructions_in_all)


class _Uses:
    """The uses of each node's results, and the nodes that are between native ones.

    Attributes:
        users: For each node the nodes that read its results.
        wanted: The outputs of the graph.
        candidates: The nodes that kernels compute, and products.
        views: The nodes that kernels look through.
        between: The nodes that wait for a native node, and that another native node waits for.
    """

    def __init__(
        self,
        order: Sequence[Node],
        wanted: Collection[Tensor],
        candidates: Collection[Node],
        views: Collection[Node],
    ):
        self.users: dict[Node, list[Node]] = defaultdict(list)
        for node in order:
            for tensor in node.inputs:
                self.users[tensor.node].append(node)
        self.wanted = wanted
        self.candidates = candidates
        self.views = views
        after: set[Node] = set()
        for node in order:
            if any(self._hands_on(t.node, after) for t in node.inputs):
                after.add(node)
        before: set[Node] = set()
        for node in reversed(order):
            if any(self._hands_on(user, before) for user in self.users[node]):
                before.add(node)
        self.between = after & before

    def _hands_on(self, node: Node, marked: Collection[Node]) -> bool:
        """Return whether a node marks its neighbours: native nodes do, and marked nodes of kernels.

        A node that runs on its own does not: it divides native graphs anyway.
        """
        return self.is_native(node) or (
            node in marked and (node in self.candidates or node in self.views)
        )

    def is_native(self, node: Node) -> bool:
        """Return whether a node is computed in a native graph."""
        apart = node in self.candidates or node in self.views or is_leaf(node)
        return is_native(node) and not apart

    def divides(self, region: Region) -> bool:
        """Return whether a kernel is between native nodes."""
        return not self.between.isdisjoint(region)

    def is_written(self, node: Node, region: Region) -> bool:
        """Return whether a node's result is read outside of its kernel, so that it is written."""
        return node.outputs[0] in self.wanted or any(u not in region for u in self.users[node])


def _candidates(order: Sequence[Node], costs: Costs) -> set[Node]:
    """Return the nodes that a kernel or BLAS could compute, if cost did not matter.

    These are elementwise nodes, reductions, concatenations, products and views.  Results that
    oneDNN leaves in a layout of its own are excluded: such an array would be converted for the
    kernel, and converted back behind it.  So are sums of them, but not their extrema, for which
    MXNet takes twenty times as long as a kernel.
    """
    in_blocks = _in_blocks(order)
    return {
        node
        for node in order
        if node not in in_blocks
        and 0 not in node.outputs[0].shape
        and (can_compile(node, costs) or is_made_whole(node) or is_view(node))
        and node.outputs[0].dtype in formulas.DTYPES
        and not (node.operator is ops.sum_ and node.inputs[0].node in in_blocks)
        and summands(node) <= costs.summands
    }


def _in_blocks(order: Sequence[Node]) -> set[Node]:
    """Return the nodes whose results oneDNN may leave in its own layout."""
    found: set[Node] = set()
    for node in order:
        if node.operator.makes_blocks(node) or (
            node.operator.keeps_layout and _reads_blocks(node, found)
        ):
            found.add(node)
    return found


def _reads_blocks(node: Node, in_blocks: Collection[Node]) -> bool:
    """Return whether an operand of a node may be in oneDNN's layout; matrices never are."""
    return any(tensor.node in in_blocks and tensor.rank > 2 for tensor in node.inputs)


def _without_mixed_joins(candidates: set[Node]) -> set[Node]:
    """Leave out concatenations of anything but elementwise results of one shape."""
    return {
        node
        for node in candidates
        if node.operator is not ops.concatenate or _has_elementwise_operands(node, candidates)
    }


def _has_elementwise_operands(node: Node, candidates: Collection[Node]) -> bool:
    """Return whether all operands are elementwise results of candidates, and of one shape."""
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
    """Return the last level for each node that its readers allow.

    So a node that only one kernel reads is computed in that kernel, without an array of its own.
    """
    order = [node for node in order if node not in views]
    level = levels(order, candidates, views)
    schedule_late(order, level, candidates, views)
    return level


def _regions(
    order: Sequence[Node], level: Mapping[Node, int], candidates: Collection[Node], longest: int
) -> list[Region]:
    """Group candidates of one level and shape that share arrays, at most `longest` in a group."""
    groups: dict[tuple[int, shapes.Shape], list[Node]] = defaultdict(list)
    found: list[list[Node]] = []
    collections = []
    for node in order:
        if node not in candidates:
            continue
        if is_collected(node) and _has_elementwise_operands(node, candidates):
            collections.append(node)
        elif is_made_whole(node):
            found.append([node])
        else:
            groups[level[node], node.outputs[0].shape].append(node)
    found += [
        part[start : start + longest]
        for nodes in groups.values()
        for part in _connected(nodes)
        for start in range(0, len(part), longest)
    ]
    place = {node: number for number, nodes in enumerate(found) for node in nodes}
    for node in collections:
        places = {place[tensor.node] for tensor in node.inputs}
        if len(places) == 1:
            found[places.pop()].append(node)
    return [frozenset(nodes) for nodes in found]


def _connected(nodes: Sequence[Node]) -> list[list[Node]]:
    """Return the connected components of nodes of one shape that share arrays of that shape."""
    # A disjoint-set forest.
    parent = {node: node for node in nodes}

    def root(node: Node) -> Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first_with: dict[Tensor, Node] = {}
    for node in nodes:
        for tensor in (*data(node), *node.outputs):
            if tensor.shape == node.outputs[0].shape:
                parent[root(node)] = root(first_with.setdefault(tensor, node))
    groups: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        groups[root(node)].append(node)
    return list(groups.values())


def _unprofitable(
    regions: Sequence[Region],
    level: Mapping[Node, int],
    uses: _Uses,
    order: Sequence[Node],
    costs: Costs,
) -> set[Node]:
    """Return the nodes of kernels that cost more than they save.

    If a kernel costs more only because it divides a native graph, these are its nodes that divide
    it: the others may still pay in a kernel of their own.
    """
    gains = {region: _gain(region, uses, costs) for region in regions}
    unprofitable = {node for region, gain in gains.items() if gain <= 0 for node in region}
    # All kernels between the same two native graphs divide one graph together, and pay for it once.
    graphs = sorted({level[node] for node in order if uses.is_native(node)})
    dividing: dict[int, list[Region]] = defaultdict(list)
    for region in regions:
        if uses.divides(region):
            dividing[bisect_right(graphs, _level_of(region, level))].append(region)
    places = [
        _Place(
            together,
            sum(max(gains[region], 0.0) for region in together) - costs.native_graph,
            {_level_of(region, level) for region in together},
        )
        for together in dividing.values()
    ]
    for place in _places_that_do_not_pay(places, _repeated(order, level, uses, costs)):
        unprofitable.update(uses.between.intersection(itertools.chain(*place.regions)))
    return unprofitable


class _Place(NamedTuple):
    """A place where kernels divide a native graph.

    Attributes:
        regions: The kernels.
        gain: The microseconds that they save, less the cost of dividing.
        levels: The levels that they are on.
    """

    regions: Sequence[Region]
    gain: float
    levels: Collection[int]


class _Repeated(NamedTuple):
    """An operator that is computed again if a native graph is divided between two levels.

    Attributes:
        levels: The levels from the operator to the gradient kernel that repeats it.
        price: The microseconds that it takes.
    """

    levels: range
    price: float


def _places_that_do_not_pay(
    places: Sequence[_Place], repeated: Sequence[_Repeated]
) -> list[_Place]:
    """Return the places whose kernels save less than what dividing a graph there costs.

    An operator is computed again once, in however many places its graph is divided.  So the places
    that have any computed again pay for these together, or are left out together.
    """
    cuts = {
        number: [each for each in repeated if any(at in each.levels for at in place.levels)]
        for number, place in enumerate(places)
    }
    lost = {
        number
        for number, place in enumerate(places)
        if place.gain <= 0 or any(each.price == math.inf for each in cuts[number])
    }
    paying = [number for number in cuts if number not in lost and cuts[number]]
    price = sum(each.price for each in {each for number in paying for each in cuts[number]})
    if sum(places[number].gain for number in paying) <= price:
        lost.update(paying)
    return [places[number] for number in sorted(lost)]


def _level_of(region: Region, level: Mapping[Node, int]) -> int:
    """Return the level of a kernel: a reduction in it may be scheduled later than its elements."""
    return min(level[node] for node in region)


def _repeated(
    order: Sequence[Node], level: Mapping[Node, int], uses: _Uses, costs: Costs
) -> list[_Repeated]:
    """Return the operators that gradient kernels repeat, with the levels between the two.

    The price of one in oneDNN's layout is infinite: the arrays would be put in order for another
    graph, and the kernels for arrays in order are slower.
    """
    in_blocks = _in_blocks(order)
    found = []
    for node in order:
        if not node.operator.repeats:
            continue
        for other in {user for tensor in node.inputs for user in uses.users[tensor.node]}:
            if other.operator.name in node.operator.repeats:
                elements = max(shapes.size(tensor.shape) or 0 for tensor in other.inputs)
                work = costs.native_flop * other.operator.flops(other)
                price = costs.native_operator + max(costs.repeated_element * elements, work)
                if other in in_blocks:
                    price = math.inf
                found.append(_Repeated(range(level[other], level[node]), price))
    return found


def _gain(region: Region, uses: _Uses, costs: Costs) -> float:
    """Return the microseconds that a kernel saves, without the cost of dividing a native graph."""
    read = {t for n in region for t in data(n) if t.node not in region and not is_number(t)}
    looked_through = {tensor.node for tensor in read} & set(uses.views)
    if any(map(is_product, region)):
        saved = sum(_native_time(node, costs) for node in looked_through)
        return costs.native_operator - costs.kernel + saved
    saved = sum(_native_time(node, costs) for node in (*region, *looked_through))
    streams = sum(size_of(node) for node in region if uses.is_written(node, region))
    streams += sum(shapes.size(tensor.shape) or 0 for tensor in read)
    instructions = sum(size_of(node) for node in region)
    return saved - costs.kernel - costs.instruction * instructions - costs.stream * streams


def _native_time(node: Node, costs: Costs) -> float:
    """Return the microseconds that a node takes as a native operator."""
    return costs.native_operator + costs.native_element * size_of(node)


def size_of(node: Node) -> int:
    """Return the number of elements that a node works on."""
    return shapes.size(shape_over(node)) or 0


def _within_limit(regions: Iterable[Region], limit: int) -> list[Region]:
    """Return the regions of the longest structures, with at most `limit` instructions in all.

    Regions of one structure share their code, so its instructions count once.
    """
    alike: dict[Hashable, list[Region]] = defaultdict(list)
    for region in regions:
        alike[_structure(region)].append(region)
    kept, instructions = [], 0
    for same in sorted(alike.values(), key=lambda group: len(group[0]), reverse=True):
        instructions += len(same[0])
        if instructions <= limit:
            kept += same
    return kept


def _structure(region: Region) -> Hashable:
    """Return what the code of a region depends on, but for which of its results are written."""
    names: dict[Tensor, int] = {}

    def operand(tensor: Tensor) -> Hashable:
        # Some constants are written into the code.
        if is_number(tensor) and tensor.value is not None:
            return tensor.spec, tensor.value.item()
        return tensor.spec, names.setdefault(tensor, len(names))

    return tuple(
        (
            node.operator,
            *sorted(node.attributes.items()),
            *map(operand, (*node.inputs, *node.outputs)),
        )
        for node in sorted(region, key=attrgetter("number"))
    )
