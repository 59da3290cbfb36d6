"""Putting the shapes of a call into a graph, so that every shape in it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ksym import shapes
from ksym.errors import KsymError, ShapeError
from ksym.graph import Node, Tensor, rewrite, same, topological_order
from ksym.ops.registry import Operator, constant, is_constant
from ksym.shapes import UNKNOWN


def specialize(outputs: Sequence[Tensor], given: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """Return outputs with placeholders replaced by ones of known shape, or by constants.

    On the way, what was computed from shapes becomes constant, and operators that are compositions
    of others are expanded.

    Args:
        outputs: The tensors to compute.
        given: For each placeholder what to put in its place.

    Raises:
        ShapeError: Shapes turn out not to fit, or one depends on data.
    """
    result = rewrite(outputs, _known, given)
    while any(_is_composition(node.operator) for node in topological_order(result)):
        result = rewrite(result, _expanded)
        result = rewrite(result, _known)
    for node in topological_order(result):
        for tensor in node.outputs:
            if not shapes.is_known(tensor.shape):
                raise ShapeError(
                    f"the shape {tensor.shape} depends on data",
                    remedy="compute shapes from shapes and constants only",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
    return result


def _known(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    if not same(inputs, node.inputs):
        made = node.operator.make(inputs, node.attributes)
        outputs: Sequence[Tensor] = (made,) if isinstance(made, Tensor) else made
    else:
        outputs = node.outputs
    first = outputs[0]
    try:
        first.node.operator.check(first.node)
    except KsymError as error:
        raise error.located(node.operator.name, [t.spec for t in inputs], node.origin) from None
    value = first.value
    if value is None or is_constant(first) or any(item is UNKNOWN for item in value.flat):
        return outputs
    return constant(value)


def _is_composition(operator: Operator) -> bool:
    return type(operator).expand is not Operator.expand


def _expanded(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    if not _is_composition(node.operator):
        return None
    made = node.operator.make(inputs, node.attributes)
    tensors = (made,) if isinstance(made, Tensor) else made
    return tensors[0].node.operator.expand(tensors[0].node)
