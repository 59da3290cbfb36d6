"""Planning: which nodes become one native graph together, and which run on their own.

Most graphs are one native graph.  Loops, branches and operators that MXNet does not have run on
their own (`Operator.runs`); the native nodes around them are put into as few graphs as their order
allows, and nothing else is slower for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ksym import ops
from ksym.graph import Node, Tensor, topological_order


class Part(NamedTuple):
    """What runs in one go.

    Attributes:
        inputs: The tensors of earlier parts that it reads.
        outputs: The tensors it computes for others.
        node: The node that runs on its own; None for a native graph.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    node: Node | None


def is_leaf(node: Node) -> bool:
    """Whether a node's value is there before anything runs, so that every part can read it."""
    return node.operator in (ops.placeholder, ops.variable_leaf, ops.constant)


def _is_native(node: Node) -> bool:
    return node.operator.runs == "native"


def partition(outputs: Sequence[Tensor]) -> list[Part]:
    """Return the parts that compute outputs, in the order in which they run.

    A native node is computed as early as its operands allow.
    """
    order = topological_order(outputs)
    level: dict[Node, int] = {}
    for node in order:
        level[node] = max(
            (level[t.node] + (not _is_native(t.node)) for t in node.inputs), default=0
        )
    last = max(level.values(), default=0)
    reads: list[dict[Tensor, None]] = [{} for _ in range(last + 1)]
    crossing: dict[Tensor, None] = {}
    for node in order:
        for tensor in node.inputs:
            if is_leaf(tensor.node):
                continue
            apart = level[tensor.node] != level[node] or not _is_native(tensor.node)
            if _is_native(node) and apart:
                reads[level[node]][tensor] = None
            if apart or not _is_native(node):
                crossing[tensor] = None
    crossing.update(dict.fromkeys(outputs))
    made: list[list[Tensor]] = [[] for _ in range(last + 1)]
    alone: list[list[Node]] = [[] for _ in range(last + 1)]
    for tensor in crossing:
        if _is_native(tensor.node):
            made[level[tensor.node]].append(tensor)
    for node in order:
        if not _is_native(node):
            alone[level[node]].append(node)
    parts = []
    for at in range(last + 1):
        if made[at]:
            parts.append(Part(tuple(reads[at]), tuple(made[at]), None))
        parts.extend(
            Part(node.inputs, tuple(t for t in node.outputs if t in crossing), node)
            for node in alone[at]
        )
    return parts
