"""Specialisation: put the shapes of a call into a graph, so that every shape in it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ksym import shapes
from ksym.compiler.failures import around_failures, failures, raise_failures
from ksym.errors import KsymError, ShapeError
from ksym.graph import Node, Tensor, replace, rewrite, same, topological_order
from ksym.operator.operands import cast_to, unsettled
from ksym.ops.leaves import constant, is_constant, is_failed, placeholder, variable_leaf
from ksym.origin import origin_of
from ksym.shapes import UNKNOWN
from ksym.variables import Variable


def specialize(outputs: Sequence[Tensor], given: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """Return outputs with placeholders replaced by ones of known shape, or by constants.

    With the shapes known, tensors computed from shapes become constants, composed operators are
    expanded, and operators without float16 kernels compute in float32.

    Args:
        outputs: The tensors to compute.
        given: The replacement of each placeholder.

    Raises:
        ShapeError: Shapes do not fit each other.
    """
    result = rewrite(outputs, _known, given)
    order = topological_order(result)
    while any(map(_needs_expansion, order)):
        result = rewrite(result, _expanded, order=order)
        result = rewrite(result, _known)
        order = topological_order(result)
    raise_failures(order)
    return result


class Rest(NamedTuple):
    """The part of a graph that can be compiled only when dynamic results are computed.

    Attributes:
        slots: A placeholder for each tensor that was computed before; a static one where the value
            is compiled in, and not only the shape.
        outputs: The graph in terms of these.
    """

    slots: list[Tensor]
    outputs: list[Tensor]


def split(outputs: Sequence[Tensor]) -> tuple[list[Tensor], Rest | None]:
    """Separate the nodes of known shapes from those that depend on shapes of dynamic results.

    A node that has data as a static operand, such as ``x[:n]`` for an n that a call gives, waits
    too: for the value of that.

    Returns:
        The tensors to compute first, and the rest.  If all shapes are known, the first are the
        outputs and there is no rest; else they are the dynamic results, the values of static
        operands, and all other tensors that the rest reads.

    Raises:
        ShapeError: A shape depends on data in a way that no operator makes known.
    """
    order = topological_order(outputs)
    used = {tensor for node in order for tensor in node.inputs} | set(outputs)
    waiting: set[Node] = set()
    first: dict[Tensor, None] = {}
    values: set[Tensor] = set()
    for node in order:
        if any(t.node in waiting or t in first for t in node.inputs):
            waiting.add(node)
            continue
        needed = unsettled(node)
        if needed:
            values.update(needed)
            waiting.add(node)
            continue
        unknown = [t for t in node.outputs if t in used and not shapes.is_known(t.shape)]
        if unknown and node.operator.runs == "native":
            raise ShapeError(
                f"the shape {unknown[0].shape} depends on data",
                remedy="compute shapes from shapes and constants only",
            ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
        first.update(dict.fromkeys(unknown))
    if not first and not values:
        return list(outputs), None
    first.update(dict.fromkeys(values))
    for node in waiting:
        for tensor in node.inputs:
            if tensor.node not in waiting and _is_computed(tensor):
                first[tensor] = None
    for tensor in outputs:
        if tensor.node not in waiting:
            first[tensor] = None
    slots = {t: placeholder(t.shape, t.dtype, name=t.name, static=t in values) for t in first}
    return list(first), Rest(list(slots.values()), replace(outputs, slots))


MOST_ELEMENTS = 2**31 - 1
"""The largest number of elements of an array in MXNet, which counts them in 32 bits."""


def check_sizes(outputs: Sequence[Tensor]) -> None:
    """Refuse arrays that are larger than MXNet can count.

    Raises:
        ShapeError: A tensor that is read, or an output, is too large.
    """
    order = topological_order(outputs)
    used = {tensor for node in order for tensor in node.inputs} | set(outputs)
    for node in order:
        for tensor in node.outputs:
            size = shapes.size(tensor.shape)
            if size is not None and size > MOST_ELEMENTS and tensor in used:
                raise ShapeError(
                    f"the result of shape {tensor.shape} has {size} elements, "
                    f"and MXNet's arrays have at most {MOST_ELEMENTS}",
                    remedy="compute it in parts, as ksym.scan does step by step",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)


def check_updates(updates: Mapping[Variable, Tensor]) -> None:
    """Refuse new values of another shape than their variables.

    Raises:
        ShapeError: A new value has another shape, which was not known before the call.
    """
    for variable, value in updates.items():
        if value.shape != variable.shape:
            raise ShapeError(
                f"the new value has shape {value.shape}, the variable {variable.name!r} "
                f"{variable.shape}",
                remedy="give the new value the variable's shape, or make a variable of this one",
            ).located("update", [value.spec], value.node.origin)


def _is_computed(tensor: Tensor) -> bool:
    """Return whether a tensor is computed: it is neither a constant nor a variable."""
    return not is_constant(tensor) and tensor.node.operator is not variable_leaf


def _known(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    outputs: Sequence[Tensor] = node.outputs
    if any(map(is_failed, inputs)):
        return around_failures(node, inputs)
    try:
        if not same(inputs, node.inputs):
            outputs = _tensors(node.operator.make(inputs, node.attributes))
        first = outputs[0]
        first.node.operator.check(first.node)
    except KsymError as error:
        error.located(node.operator.name, [t.spec for t in inputs], node.origin)
        return failures(node, inputs, error)
    value = first.value
    if value is None or is_constant(first) or any(item is UNKNOWN for item in value.flat):
        return outputs
    return constant(value)


def _lacks_half(node: Node) -> bool:
    """Return whether MXNet has no kernel for a node because of its float16 operands."""
    return not node.operator.half and any(tensor.dtype == "float16" for tensor in node.inputs)


def _needs_expansion(node: Node) -> bool:
    if not all(shapes.is_known(t.shape) for t in node.inputs):
        return False  # it waits for a dynamic result
    if unsettled(node):
        return node.operator.takes_data(node)
    return _lacks_half(node) or node.operator.is_composed(node)


def _expanded(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    if any(map(is_failed, inputs)):
        return around_failures(node, inputs)
    if not _needs_expansion(node) or not all(shapes.is_known(t.shape) for t in inputs):
        return None
    try:
        return _parts(node, inputs)
    except KsymError as error:
        error.located(node.operator.name, [t.spec for t in inputs], node.origin)
        return failures(node, inputs, error)


def _parts(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | Tensor | None:
    """Return what a node is expanded to."""
    if _lacks_half(node):
        wide = [cast_to(t, "float32") if t.dtype == "float16" else t for t in inputs]
        results = _tensors(node.operator.make(wide, node.attributes))
        return [cast_to(r, t.dtype) for r, t in zip(results, node.outputs, strict=True)]
    tensors = _tensors(node.operator.make(inputs, node.attributes))
    with origin_of(node, parts=True):
        return tensors[0].node.operator.expand(tensors[0].node)


def _tensors(made: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the results of a node as a sequence, even if there is only one."""
    return (made,) if isinstance(made, Tensor) else made
