"""Graphs in the form that TensorBoard shows: TensorFlow's GraphDef, as tensorboardX has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ksym.extras import require
from ksym.graph import Node, Tensor, topological_order


def graph_definition(outputs: Sequence[Tensor]) -> Any:
    """Return a graph as a GraphDef, with the name scopes that TensorBoard folds.

    Args:
        outputs: The outputs.

    Raises:
        MissingPackageError: tensorboardX is not installed.
    """
    protos = {
        name: require(
            f"tensorboardX.proto.{name}_pb2", "tensorboard", "TensorBoard's form of a graph"
        )
        for name in ("graph", "node_def", "attr_value", "tensor_shape", "versions")
    }
    order = topological_order(outputs)
    names = {node: _name(node) for node in order}
    return protos["graph"].GraphDef(
        node=[_definition(node, names, protos) for node in order],
        versions=protos["versions"].VersionDef(producer=22),
    )


def _name(node: Node) -> str:
    """Return a unique name, in the characters that TensorFlow allows."""
    scope = [node.origin.scope, *(["gradient"] if node.origin.gradient else [])]
    own = node.outputs[0].name.partition(":")[0]
    if not own.endswith(f"_{node.number}"):
        own = f"{own.rpartition('/')[2]}_{node.number}"  # the name of a variable has its scope
    path = "/".join(filter(None, [*scope, own]))
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", path).lstrip("_-/") or f"node_{node.number}"


def _definition(node: Node, names: dict[Node, str], protos: dict[str, Any]) -> Any:
    shapes = [
        protos["tensor_shape"].TensorShapeProto(
            dim=[
                protos["tensor_shape"].TensorShapeProto.Dim(size=-1 if side is None else side)
                for side in tensor.shape
            ]
        )
        for tensor in node.outputs
    ]
    value = protos["attr_value"].AttrValue
    said = {key: value(s=str(item)[:200].encode()) for key, item in node.attributes.items()}
    said["made_at"] = value(s=str(node.origin).encode())
    said["_output_shapes"] = value(list=value.ListValue(shape=shapes))
    read = [f"{names[t.node]}:{t.index}" if t.index else names[t.node] for t in node.inputs]
    return protos["node_def"].NodeDef(
        name=names[node], op=node.operator.name, input=read, attr=said
    )
