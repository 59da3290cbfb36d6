"""Native graphs as they are exported: with the shape of each result, and what it was made for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ksym.compiler.codegen.nnvm import Entry, GraphEmitter, NativeGraph, lower_node
from ksym.export.inference import Sized, in_order
from ksym.graph import Node, Tensor
from ksym.shapes import known


class Lowered(NamedTuple):
    """A native graph at one point.

    Attributes:
        graph: The graph.
        shapes: The shape of each entry that is the value of a tensor.
        made_by: The node that each native node was made for, by its number.
        heads: The entries of the outputs.
    """

    graph: NativeGraph
    shapes: Mapping[Entry, Sequence[int]]
    made_by: Sequence[Node]
    heads: Sequence[Entry]


def lowered(sized: Sized) -> Lowered:
    """Return the native graph of a graph, and the shapes in it."""
    emit = GraphEmitter()
    entries: dict[Tensor, Entry] = {}
    made_by: list[Node] = []
    for tensor in sized.inputs:
        entries[tensor] = emit.given(tensor)
        made_by.append(tensor.node)
    for node in in_order(sized.outputs, sized.inputs):
        results = lower_node(emit, node, [entries[tensor] for tensor in node.inputs])
        entries.update(zip(node.outputs, results, strict=True))
        made_by += [node] * (len(emit.graph.nodes) - len(made_by))
    shapes = {entry: known(tensor.shape) for tensor, entry in entries.items()}
    for number, native in enumerate(emit.graph.nodes):
        shape = shape_within(native, shapes)
        if shape is not None:
            shapes.setdefault(Entry(number, 0), shape)
    return Lowered(emit.graph, shapes, made_by, [entries[t] for t in sized.outputs])


def shape_within(
    node: Mapping[str, Any], shapes: Mapping[Entry, Sequence[int]]
) -> tuple[int, ...] | None:
    """Return the shape of a native node that is a part of an operator, if there is a rule."""
    sources = [shapes.get(Entry(source, output)) for source, output, _ in node["inputs"]]
    if not sources or sources[0] is None:
        return None
    own, given = sources[0], {k: numbers_of(v) for k, v in node["attrs"].items()}
    if node["op"] in ("Cast", "_copy"):
        return tuple(own)
    if node["op"] == "transpose" and given.get("axes"):
        return tuple(own[axis] for axis in given["axes"] or ())
    if node["op"] == "_np_reshape":
        shape = given["newshape"] or []
        rest = math.prod(own) // max(1, -math.prod(shape))
        return tuple(rest if side == -1 else side for side in shape)
    if node["op"] == "Deconvolution":
        kernel, stride, pad, dilate, adj = (
            given[key] or [] for key in ("kernel", "stride", "pad", "dilate", "adj")
        )
        sides = (
            (side - 1) * s - 2 * p + d * (k - 1) + 1 + a
            for side, k, s, p, d, a in zip(own[2:], kernel, stride, pad, dilate, adj, strict=True)
        )
        return (own[0], *(given["num_filter"] or ()), *sides)
    return None


def numbers_of(text: str) -> list[Any] | None:
    """Return the numbers of an attribute, None if it is something else."""
    parts = text.strip("()[] ").rstrip(",").split(",")
    try:
        return [float(part) if "." in part or "e" in part else int(part) for part in parts]
    except ValueError:
        return None
