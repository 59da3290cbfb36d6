"""Finding elementwise work within a graph that is faster as loops of its own.

A native operator costs some microseconds and a pass over memory; a loop does many of them in one
pass, but what it reads and writes has to be in memory, and a loop in the middle divides a native
graph in two.  So regions are found as if everything elementwise were fused, and those that do not
pay are given back, until all that are left do.  Costs were measured (see docs/mxnet.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from ksym import ops, shapes
from ksym.compiler.loops import can_compile, data, is_number
from ksym.compiler.plan import Region, is_native, levels
from ksym.graph import Node, Tensor, topological_order

NATIVE_OPERATOR = 2.0, 0.6e-3
"""What a native elementwise operator costs in microseconds, and for each element besides."""

LOOP, STEP, STREAM = 3.0, 0.06e-3, 0.05e-3
"""What a loop costs, and for each element each of its steps, and each array it reads or writes."""

NATIVE_GRAPH = 30.0
"""What it costs to divide a native graph in two."""

STEPS = 64
"""The longest loop: beyond it compiling takes long, and registers run out."""

STEPS_IN_ALL = 2048
"""How much is compiled for one graph at most."""

ROUNDS = 8
"""How often regions are sought anew after some were given back."""


def fuse_loops(outputs: Sequence[Tensor]) -> list[Region]:
    """Return the nodes of each loop that pays."""
    order = topological_order(outputs)
    candidates = {node for node in order if _is_candidate(node)} - _in_blocks(order)
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in order:
        for tensor in node.inputs:
            users[tensor.node].append(node)
    asked = set(outputs)
    kept: list[Region] = []
    for _ in range(ROUNDS):
        late = _latest_levels(order, candidates)
        kept = _regions(order, late, candidates)
        gains = {region: _gain(region, users, asked) for region in kept}
        losing = {region for region, gain in gains.items() if gain <= 0}
        # Loops on one level divide a native graph together, if native nodes wait for them.
        dividing: dict[int, list[Region]] = defaultdict(list)
        for region in kept:
            if any(is_native(u) and u not in candidates for n in region for u in users[n]):
                dividing[late[next(iter(region))]].append(region)
        for regions in dividing.values():
            if sum(max(gains[region], 0.0) for region in regions) <= NATIVE_GRAPH:
                losing.update(regions)
        if not losing:
            break
        kept = [region for region in kept if region not in losing]
        candidates = {node for region in kept for node in region}
    return _within_limit(kept)


def _is_candidate(node: Node) -> bool:
    """Whether a loop could compute a node."""
    return 0 not in node.outputs[0].shape and can_compile(node)


def _in_blocks(order: Sequence[Node]) -> set[Node]:
    """Nodes whose results oneDNN leaves in a layout of its own.

    A loop would have such arrays brought into order first, and back into blocks afterwards.
    """
    keeping = (ops.add, ops.relu, ops.relu_gradient)
    found: set[Node] = set()
    for node in order:
        if node.operator.own_layout or (
            node.operator in keeping
            and any(tensor.node in found and tensor.rank > 2 for tensor in node.inputs)
        ):
            found.add(node)
    return found


def _latest_levels(order: Sequence[Node], candidates: Collection[Node]) -> dict[Node, int]:
    """At which level each node runs, candidates as late as those who read them allow.

    So what only a loop reads is computed in that loop, and not kept in memory for it.
    """
    late = levels(order, candidates)
    allowed: dict[Node, int] = {}
    for node in reversed(order):
        if node in candidates:
            late[node] = max(late[node], allowed.get(node, 0))
        bound = late[node] - (node not in candidates)
        for tensor in node.inputs:
            allowed[tensor.node] = min(allowed.get(tensor.node, bound), bound)
    return late


def _regions(
    order: Sequence[Node], late: Mapping[Node, int], candidates: Collection[Node]
) -> list[Region]:
    """Group candidates of one level and shape that read each other, or the same array."""
    groups: dict[tuple[int, shapes.Shape], list[Node]] = defaultdict(list)
    for node in order:
        if node in candidates:
            groups[late[node], node.outputs[0].shape].append(node)
    return [
        frozenset(part[start : start + STEPS])
        for nodes in groups.values()
        for part in _connected(nodes)
        for start in range(0, len(part), STEPS)
    ]


def _connected(nodes: Sequence[Node]) -> list[list[Node]]:
    """Divide nodes into groups that share no array of their shape."""
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


def _gain(region: Region, users: Mapping[Node, list[Node]], asked: Collection[Tensor]) -> float:
    """How many microseconds a loop saves, but for what dividing a native graph costs."""
    size = shapes.size(next(iter(region)).outputs[0].shape) or 0
    fixed, each = NATIVE_OPERATOR
    read = {t for n in region for t in data(n) if t.node not in region and not is_number(t)}
    written = [
        n
        for n in region
        if n.outputs[0] in asked or any(user not in region for user in users[n])
    ]
    native = sum(fixed + each * size for _ in region)
    streams = len(written) + sum(1.0 for t in read if t.rank)
    return native - LOOP - size * (STEP * len(region) + STREAM * streams)


def _within_limit(regions: Iterable[Region]) -> list[Region]:
    """As many loops as may be compiled for one graph."""
    kept, steps = [], 0
    for region in sorted(regions, key=len, reverse=True):
        steps += len(region)
        if steps <= STEPS_IN_ALL:
            kept.append(region)
    return kept
