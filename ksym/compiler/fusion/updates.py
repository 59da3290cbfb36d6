"""Fusion of updates: compute the elementwise end of each update in a kernel, in place.

An optimizer is a chain of elementwise operators on arrays of a weight's shape.  As a native
operator each of them is a pass over memory, and the new value is copied into the variable
afterwards.  A kernel computes all of them while an element is in registers, and writes the result
into the variable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel, can_compile, data, describe
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, topological_order
from ksym.variables import Variable


def _sample() -> list[Tensor]:
    w = Variable(np.ones((2, 3), "float32"))
    return [w - ops.square(w) * 0.1]


def _fires(outputs: Sequence[Tensor]) -> bool:
    variables = [n.outputs[0] for n in topological_order(outputs)]
    updates = zip((v for v in variables if isinstance(v, Variable)), outputs, strict=True)
    return bool(fuse_updates([], dict(updates))[0])


@planning_pass(sample=_sample, fires=_fires)
def fuse_updates(
    outputs: Sequence[Tensor], updates: Mapping[Variable, Tensor], costs: Costs = DEFAULT
) -> tuple[list[Kernel], dict[Variable, Tensor]]:
    """Return the kernels that compute updates, and the updates that are left to native graphs.

    Args:
        outputs: The outputs of the graph.
        updates: The new value of each variable.
        costs: The costs that decide what a kernel computes.
    """
    order = topological_order([*outputs, *updates.values()])
    uses = Counter(tensor for node in order for tensor in node.inputs)
    asked = set(outputs)
    fused: dict[Variable, set[Node]] = {}
    for variable, value in updates.items():
        if variable.rank and 0 not in variable.shape and value not in asked:
            inside = _elementwise_end(variable, value, asked, costs)
            if inside:
                fused[variable] = inside
    fused = _without_outside_readers(fused, uses)
    kernels = [
        describe(set().union(*(fused[v] for v in group)), [], {v: updates[v] for v in group})
        for group in _independent(_connected(fused), fused)
    ]
    done = {variable for kernel in kernels for variable in kernel.results}
    return kernels, {v: t for v, t in updates.items() if v not in done}


def _elementwise_end(
    variable: Variable, value: Tensor, asked: set[Tensor], costs: Costs
) -> set[Node]:
    """Return the nodes before an update that can be instructions of its kernel."""
    inside: set[Node] = set()
    stack = [value.node]
    while stack:
        node = stack.pop()
        if (
            node not in inside
            and node.outputs[0].shape == variable.shape
            and node.outputs[0] not in asked
            and can_compile(node, costs)
        ):
            inside.add(node)
            stack.extend(tensor.node for tensor in data(node))
    return inside


def _without_outside_readers(
    fused: dict[Variable, set[Node]], uses: Counter[Tensor]
) -> dict[Variable, set[Node]]:
    """Leave out the nodes that nodes outside of the kernels read too."""
    union: set[Node] = set().union(*fused.values())
    while True:
        read = Counter(tensor for node in union for tensor in node.inputs)
        shared = {n for n in union if uses[n.outputs[0]] > read[n.outputs[0]]}
        if not shared:
            return {v: nodes & union for v, nodes in fused.items() if nodes & union}
        union -= shared


def _connected(fused: dict[Variable, set[Node]]) -> list[list[Variable]]:
    """Group variables whose kernels share instructions."""
    groups: list[tuple[list[Variable], set[Node]]] = []
    for variable, nodes in fused.items():
        disjoint = []
        variables, union = [variable], set(nodes)
        for group, others in groups:
            if others & union:
                variables, union = [*group, *variables], others | union
            else:
                disjoint.append((group, others))
        groups = [*disjoint, (variables, union)]
    return [variables for variables, _ in groups]


def _independent(
    groups: Sequence[list[Variable]], fused: Mapping[Variable, set[Node]]
) -> list[list[Variable]]:
    """Return groups of variables of which none reads a variable that another one writes.

    All updates read the values from before the call.  Groups of one shape that read each other's
    variables become one, since a kernel reads an element before it writes it.  Of two groups
    of different shapes, the one that reads is left to the native graph.
    """
    kept = list(groups)
    while True:
        writer = {variable: group for group in kept for variable in group}
        clash = next(
            (
                (group, writer[tensor])
                for group in kept
                for variable in group
                for node in fused[variable]
                for tensor in node.inputs
                if isinstance(tensor, Variable) and writer.get(tensor, group) is not group
            ),
            None,
        )
        if clash is None:
            return kept
        reading, writing = clash
        kept.remove(reading)
        if reading[0].shape == writing[0].shape:
            kept[kept.index(writing)] = [*writing, *reading]
