"""Pickling of graphs, however deep.

Pickle would follow each tensor to its node, from there to the node's operands, and so on: it would
recurse as deep as the graph is.  So nodes are not pickled one by one.  The first tensor that a
pickler meets puts all nodes that it depends on into a `Batch`, which is pickled as a flat list in
topological order, with operands as positions in that list; all tensors of these nodes that follow
in the same pickle refer to that batch.  So what was one node stays one node.

Variables and streams of random numbers are objects of their own in a pickle: tensors and functions
that are pickled together share them afterwards, as they did before.  Attributes that others set on
tensors, such as Keras's history of layers, are left out.
"""

from __future__ import annotations

import copyreg
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from ksym.graph import Node, Spec, Tensor, collection_paused
from ksym.origin import Origin

Reference = tuple[int, int] | Tensor
"""An operand: the position of its node in a batch and its number there, or a tensor elsewhere."""

Record = tuple[Any, tuple[Reference, ...], Mapping[str, Any], tuple[Any, ...], tuple[Any, ...]]
"""A node: its operator, operands and attributes; shape, dtype and `loop` of each result; origin."""


class Batch:
    """Nodes that are pickled together, in topological order, and the position of each.

    A batch lives as long as the pickler that has seen it, which keeps what it refers to.  So it is
    by the lifetime of batches that a node knows whether this pickle holds it already.
    """

    __slots__ = ("__weakref__", "nodes", "positions")

    def __init__(self, nodes: Sequence[Node]):
        self.nodes = nodes
        self.positions = {node: position for position, node in enumerate(nodes)}

    def __reduce__(self) -> Any:
        return _loaded, ([self._record(node) for node in self.nodes],)

    def _record(self, node: Node) -> Record:
        operands = tuple(
            (self.positions[t.node], t.index) if t.node in self.positions else t
            for t in node.inputs
        )
        results = tuple((tuple(t.shape), str(t.dtype), t.loop) for t in node.outputs)
        return node.operator, operands, node.attributes, results, tuple(node.origin)


class _Batches(threading.local):
    """The batches of the picklers that are at work on this thread, by the numbers of nodes."""

    def __init__(self) -> None:
        self.by_node: weakref.WeakValueDictionary[int, Batch] = weakref.WeakValueDictionary()


_batches = _Batches()


def _batch_of(node: Node) -> Batch:
    """Return the batch that a node is in, or a new one for it and all nodes before it."""
    found = _batches.by_node.get(node.number)
    if found is not None:
        return found
    seen = {node}
    stack = [node]
    while stack:
        for tensor in stack.pop().inputs:
            source = tensor.node
            if source in seen or source.number in _batches.by_node or type(tensor) is not Tensor:
                continue
            seen.add(source)
            stack.append(source)
    batch = Batch(sorted(seen, key=lambda node: node.number))
    _batches.by_node.update({node.number: batch for node in seen})
    return batch


def _reduce_tensor(tensor: Tensor) -> Any:
    batch = _batch_of(tensor.node)
    return _result, (batch, batch.positions[tensor.node], tensor.index)


def _reduce_node(node: Node) -> Any:
    leaf = node.outputs[0]
    if type(leaf) is not Tensor:  # a variable, which is pickled with its value
        return _node_of, (leaf,)
    batch = _batch_of(node)
    return _node, (batch, batch.positions[node])


def _result(nodes: Sequence[Node], position: int, index: int) -> Tensor:
    return nodes[position].outputs[index]


def _node(nodes: Sequence[Node], position: int) -> Node:
    return nodes[position]


def _node_of(tensor: Tensor) -> Node:
    return tensor.node


def _loaded(records: Sequence[Record]) -> list[Node]:
    """Return the nodes of a batch."""
    nodes: list[Node] = []
    with collection_paused():
        for operator, references, attributes, results, origin in records:
            operands = [
                t if isinstance(t, Tensor) else nodes[t[0]].outputs[t[1]] for t in references
            ]
            specs = [Spec(shape, dtype) for shape, dtype, _ in results]
            node = Node(operator, operands, attributes, specs, Origin(*origin))
            operator.track_values(node)
            for tensor, (_, _, loop) in zip(node.outputs, results, strict=True):
                if loop:
                    tensor.loop = loop
            nodes.append(node)
    return nodes


copyreg.pickle(Tensor, _reduce_tensor)
copyreg.pickle(Node, _reduce_node)
