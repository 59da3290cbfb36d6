"""Folding of variables: what depends on variables only is computed again when one has changed.

Predictions transpose and scale the kernels of convolutions in the same way at each call.  So a plan
gets such values as leaves (`folded_leaf`), from a plan of their own, which runs after one of their
variables was written (`Variable.version`).  In a function that updates the variables nothing is
folded: there they change with each call.

Values are kept at most as large as what they are made of.  A large one that is as cheap to compute
as to read is not kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from ksym import ops, shapes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import can_compile, is_collected, is_view
from ksym.compiler.fusion.products import is_product
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, replace, topological_order
from ksym.loops.body import bodies_of
from ksym.ops.given import is_leaf
from ksym.ops.leaves import constant, folded_leaf, is_constant, placeholder
from ksym.variables import Variable


def _sample() -> list[Tensor]:
    x = placeholder((1, 64, 8, 8))
    w = constant(np.linspace(-1.0, 1.0, 3 * 3 * 64 * 64, dtype="float32").reshape(3, 3, 64, 64))
    return [ops.convolution(x, ops.transpose(w, (3, 2, 0, 1)))]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return bool(fold_variables(outputs)[1])


@planning_pass(
    sample=_sample,
    fires=_fires,
    rounding="a scaled kernel of a convolution is given to it, where one native graph did both",
)
def fold_variables(
    outputs: Sequence[Tensor], updated: Collection[Variable] = (), costs: Costs = DEFAULT
) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
    """Return outputs in terms of values that are kept between calls, and for each its computation.

    Args:
        outputs: The graph, of known shapes.
        updated: The variables that the function itself writes.
        costs: The costs that decide.
    """
    order = topological_order(outputs)
    fixed = _fixed(order, updated)
    kept = _kept(order, outputs, fixed, costs)
    inside = [node for node in topological_order(kept) if not is_leaf(node)]
    if sum(_time(node, costs) for node in inside) < costs.kept_time:
        return list(outputs), {}
    blocked = _blocked(order, outputs, kept, costs)
    leaves = {
        t: folded_leaf(shape=t.shape, dtype=t.dtype, name=t.name, in_blocks=t in blocked)
        for t in kept
    }
    return replace(outputs, leaves), {leaf: tensor for tensor, leaf in leaves.items()}


def _fixed(order: Sequence[Node], updated: Collection[Variable]) -> set[Node]:
    """Return the nodes whose results are the same as long as no variable is written."""
    fixed: set[Node] = set()
    for node in order:
        leaf = node.outputs[0]
        if isinstance(leaf, Variable) or is_constant(leaf):
            is_fixed = leaf not in updated
        else:
            is_fixed = (
                node.operator.pure
                and not node.operator.effect
                and not bodies_of(node)
                and bool(node.inputs)
                and all(tensor.node in fixed for tensor in node.inputs)
            )
        if is_fixed:
            fixed.add(node)
    return fixed


def _kept(
    order: Sequence[Node], outputs: Sequence[Tensor], fixed: set[Node], costs: Costs
) -> list[Tensor]:
    """Return the results that are kept.

    Args:
        order: The graph.
        outputs: Its outputs.
        fixed: The nodes that could be folded; those that are computed at each call are removed.
        costs: The costs that decide.
    """
    if all(node in fixed for node in order):
        return []  # such a function is called for its value now, and often only once
    # The nodes that read a result at each call; none may read an output.
    readers: dict[Tensor, list[Node]] = defaultdict(list, {t: [] for t in outputs})
    left = sum(size_of(node.outputs[0]) for node in order if node in fixed and is_leaf(node))
    kept: list[Tensor] = []
    for node in reversed(order):
        wanted = [tensor for tensor in node.outputs if tensor in readers]
        if node in fixed and (is_leaf(node) or not wanted):
            continue
        size = sum(map(size_of, wanted))
        has_room = size <= max(left, costs.kept_elements)
        if node in fixed and has_room and all(_pays(t, readers[t], costs) for t in wanted):
            left -= size
            kept += wanted
            continue
        for tensor in node.inputs:
            readers[tensor].append(node)
    return kept


def _pays(tensor: Tensor, readers: Sequence[Node], costs: Costs) -> bool:
    """Return whether a value is worth its memory."""
    node, size = tensor.node, size_of(tensor)
    in_place = all(
        can_compile(reader, costs) or is_product(reader) or is_collected(reader)
        for reader in readers
    )
    if is_view(node) and readers and in_place:
        return False  # it is read where the elements lie
    if size <= costs.kept_elements:
        return size > 0
    if size > max(size_of(operand) for operand in node.inputs):
        return False
    is_first = all(is_leaf(operand.node) for operand in node.inputs)
    return not (is_first and in_place and can_compile(node, costs))


def _blocked(
    order: Sequence[Node], outputs: Sequence[Tensor], kept: Sequence[Tensor], costs: Costs
) -> set[Tensor]:
    """Return the kernels of convolutions that oneDNN may leave in its own layout.

    It converts them for good outside of training mode only, where its convolutions differ in the
    last places.  So these are the kernels that would be made within the native graph of their
    convolution if they were not kept: that graph is not in training mode, and results stay what
    they are without this pass.
    """
    readers: dict[Tensor, list[Node]] = {tensor: [] for tensor in kept}
    for node in order:
        for tensor in node.inputs:
            if tensor in readers:
                readers[tensor].append(node)
    return {
        tensor
        for tensor, nodes in readers.items()
        if tensor not in outputs
        and not can_compile(tensor.node, costs)
        and all(_is_kernel_of(tensor, node) for node in nodes)
    }


def _is_kernel_of(tensor: Tensor, reader: Node) -> bool:
    """Return whether a node is a convolution, and a tensor its kernel and nothing else."""
    places = [place for place, operand in enumerate(reader.inputs) if operand is tensor]
    return reader.operator is ops.convolution and places == [1]


def size_of(tensor: Tensor) -> int:
    """Return the number of elements of a tensor of known shape."""
    return shapes.size(tensor.shape) or 0


def _time(node: Node, costs: Costs) -> float:
    """Return the microseconds that a node takes."""
    elements = max(map(size_of, (*node.inputs, *node.outputs)))
    work = costs.native_flop * node.operator.flops(node)
    return costs.native_operator + max(costs.native_element * elements, work)
