"""Decomposition: replace native operators by several that kernels compute.

MXNet has one operator for a softmax; kernels have exponentials, sums and the like.  Once all such
operators are decomposed, many networks need no native operator at all.  A node is decomposed only
if kernels compute all nodes that replace it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.kernel import is_view
from ksym.compiler.fusion.schedule import Region
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, rewrite, topological_order
from ksym.ops.given import is_leaf
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    return [ops.softmax(placeholder((2, 3)))]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return bool(decompose(outputs)[1])


@planning_pass(
    sample=_sample,
    fires=_fires,
    rounding="exponentials are those of kernels, and are summed up in another order",
)
def decompose(
    outputs: Sequence[Tensor], left: Collection[Node] = ()
) -> tuple[list[Tensor], dict[Node, set[Node]]]:
    """Return outputs with operators decomposed, and for each decomposed node the nodes it became.

    Args:
        outputs: The graph.
        left: Nodes to leave as they are.
    """
    order = topological_order(outputs)
    became: dict[Node, set[Node]] = {}

    def decomposed(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node in left:
            return None
        result = node.operator.decompose(node, inputs)
        if result is not None:
            became[node] = set(topological_order([result], until=set(inputs)))
        return result

    return rewrite(outputs, decomposed, order=order), became


def fused_graph(
    outputs: Sequence[Tensor], decomposing: bool, costs: Costs = DEFAULT
) -> tuple[list[Tensor], list[Region]]:
    """Choose decompositions, kernels and products, and return the outputs and these regions.

    Args:
        outputs: The graph, of known shapes.
        decomposing: Whether operators may be decomposed.
        costs: The costs that decide.

    Returns:
        The outputs after decomposition, and the nodes of each kernel or product.
    """
    if not decomposing:
        return list(outputs), fuse_loops(outputs, costs)
    left: set[Node] = set()
    while True:
        decomposed, became = decompose(outputs, left)
        regions = fuse_loops(decomposed, costs)
        inside = set().union(*regions)
        # As native operators the parts take longer than the one operator they replace.
        partly_native = {
            node
            for node, nodes in became.items()
            if not all(part in inside or is_view(part) or is_leaf(part) for part in nodes)
        }
        if not partly_native:
            return decomposed, regions
        left |= partly_native
