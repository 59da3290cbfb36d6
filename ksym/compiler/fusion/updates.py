"""Fusion of updates: compute the elementwise end of each update in a kernel, in place.

An optimizer is a chain of elementwise operators on arrays of a weight's shape.  As a native
operator each of them is a pass over memory, and the new value is copied into the variable
afterwards.  A kernel computes all of them while an element is in registers, and writes the result
into the variable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

import numpy as np

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel, can_compile, data, describe
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, topological_order
from ksym.variables import Variable

T = TypeVar("T")


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
    inside = _without_outside_readers(_elementwise_ends(outputs, updates, costs), order)
    kernels = [
        describe(
            set(group.nodes), [], {variable: updates[variable] for variable in group.variables}
        )
        for group in _independent(_connected(inside, updates))
    ]
    done = {variable for kernel in kernels for variable in kernel.results}
    return kernels, {v: t for v, t in updates.items() if v not in done}


def _elementwise_ends(
    outputs: Sequence[Tensor], updates: Mapping[Variable, Tensor], costs: Costs
) -> set[Node]:
    """Return the nodes before updates that can be instructions of their kernels."""
    asked = set(outputs)
    inside: set[Node] = set()
    stack = [
        value.node
        for variable, value in updates.items()
        if variable.rank and 0 not in variable.shape and value.shape == variable.shape
    ]
    seen = set(stack)
    while stack:
        node = stack.pop()
        (first, *rest) = node.outputs
        if rest or first in asked or not can_compile(node, costs):
            continue
        inside.add(node)
        for tensor in data(node):
            if tensor.shape == first.shape and tensor.node not in seen:
                seen.add(tensor.node)
                stack.append(tensor.node)
    return inside


def _without_outside_readers(inside: set[Node], order: Sequence[Node]) -> set[Node]:
    """Leave to the native graph what something outside of the kernels reads too."""
    kept = set(inside)
    for node in reversed(order):  # each after all who read it
        if node not in kept:
            kept.difference_update(tensor.node for tensor in node.inputs)
    return kept


class _Group(NamedTuple):
    """Updates that one kernel does.

    Attributes:
        variables: The variables that are updated.
        nodes: The nodes that compute their new values.
        reads: The variables that these read, in front those that are not looked at yet.
    """

    variables: deque[Variable]
    nodes: deque[Node]
    reads: deque[Variable]

    def with_rest(self, other: _Group) -> _Group:
        """Return both as one, this one first; neither is to be used any more."""
        return _Group(
            _concatenated(self.variables, other.variables),
            _concatenated(self.nodes, other.nodes),
            _concatenated(self.reads, other.reads),
        )


def _concatenated(first: deque[T], second: deque[T]) -> deque[T]:
    """Move the shorter of two into the other, so that n joins move no more than n log n items."""
    if len(first) >= len(second):
        first.extend(second)
        return first
    second.extendleft(reversed(first))
    return second


def _root(number: int, joined_to: dict[int, int]) -> int:
    """The group that one has become part of, through all joins; later on it is found sooner."""
    while (parent := joined_to.get(number)) is not None:
        joined_to[number] = joined_to.get(parent, parent)
        number = parent
    return number


def _connected(inside: set[Node], updates: Mapping[Variable, Tensor]) -> list[_Group]:
    """Group updates whose kernels share instructions."""
    groups: dict[int, _Group] = {}  # those joined last come last
    joined_to: dict[int, int] = {}
    owner: dict[Node, int] = {}

    for number, (variable, value) in enumerate(updates.items()):
        if value.node not in inside:
            continue
        group = _Group(deque([variable]), deque(), deque())
        shared = set()
        stack = [value.node]
        while stack:
            node = stack.pop()
            if node in owner:
                shared.add(_root(owner[node], joined_to))
                continue
            owner[node] = number
            group.nodes.append(node)
            group.reads.extend(t for t in node.inputs if isinstance(t, Variable))
            stack.extend(t.node for t in data(node) if t.node in inside)
        for other in sorted(shared - {number}):
            group = groups.pop(other).with_rest(group)
            joined_to[other] = number
        groups[number] = group
    return list(groups.values())


def _independent(groups: Sequence[_Group]) -> list[_Group]:
    """Return groups none of which reads a variable that another one writes.

    All updates read the values from before the call.  Groups of one shape that read each other's
    variables become one, since a kernel reads an element before it writes it.  Of two groups
    of different shapes, the one that reads is left to the native graph.
    """
    places = dict(enumerate(groups))
    moved: dict[int, int] = {}
    writer = {variable: place for place, group in places.items() for variable in group.variables}

    def place_of(variable: Variable) -> int | None:
        """The place of the group that writes a variable, None if no kernel does."""
        if variable not in writer:
            return None
        place = _root(writer[variable], moved)
        return place if place in places else None

    waiting = list(places)  # a heap: the first group that reads what another one writes is next
    while waiting:
        place = heappop(waiting)
        while place in places and places[place].reads:
            writing = place_of(places[place].reads.popleft())
            if writing is None or writing == place:
                continue
            group = places.pop(place)
            if group.variables[0].shape == places[writing].variables[0].shape:
                places[writing] = places[writing].with_rest(group)
                moved[place] = writing
                heappush(waiting, writing)
    return list(places.values())
