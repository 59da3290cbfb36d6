"""Putting the shapes of a call into a graph, so that every shape in it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ksym import shapes
from ksym.errors import KsymError, ShapeError
from ksym.graph import Node, Tensor, rewrite, same, topological_order
from ksym.ops.registry import Operator, cast_to, constant, is_constant
from ksym.shapes import UNKNOWN


def specialize(outputs: Sequence[Tensor], given: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """Return outputs with placeholders replaced by ones of known shape, or by constants.

    On the way, what was computed from shapes becomes constant, operators that are compositions of
    others are expanded, and those without float16 kernels compute in float32.

    Args:
        outputs: The tensors to compute.
        given: For each placeholder what to put in its place.

    Raises:
        ShapeError: Shapes turn out not to fit, or one depends on data.
    """
    result = rewrite(outputs, _known, given)
    order = topological_order(result)
    while any(map(_needs_expansion, order)):
        result = rewrite(result, _expanded, order=order)
        result = rewrite(result, _known)
        order = topological_order(result)
    for node in order:
        for tensor in node.outputs:
            if not shapes.is_known(tensor.shape):
                raise ShapeError(
                    f"the shape {tensor.shape} depends on data",
                    remedy="compute shapes from shapes and constants only",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
    return result


def _known(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    outputs: Sequence[Tensor] = node.outputs
    if not same(inputs, node.inputs):
        outputs = _tensors(node.operator.make(inputs, node.attributes))
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


def _lacks_half(node: Node) -> bool:
    """Whether MXNet has no kernel for a node because of its float16 operands."""
    return not node.operator.half and any(tensor.dtype == "float16" for tensor in node.inputs)


def _needs_expansion(node: Node) -> bool:
    return _is_composition(node.operator) or _lacks_half(node)


def _expanded(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    if not _needs_expansion(node):
        return None
    if _lacks_half(node):
        wide = [cast_to(t, "float32") if t.dtype == "float16" else t for t in inputs]
        results = _tensors(node.operator.make(wide, node.attributes))
        return [cast_to(r, t.dtype) for r, t in zip(results, node.outputs, strict=True)]
    tensors = _tensors(node.operator.make(inputs, node.attributes))
    return tensors[0].node.operator.expand(tensors[0].node)


def _tensors(made: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """The results of a node as a sequence, also where there is one only."""
    return (made,) if isinstance(made, Tensor) else made
