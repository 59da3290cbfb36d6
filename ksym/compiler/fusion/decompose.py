"""Decomposition: operators as several that kernels can compute, where all of these are in kernels.

MXNet has one kernel for a softmax; loops have exponentials, sums and the like.  What a whole
network needs besides its products can so be done without any native operator.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.schedule import Region
from ksym.compiler.passes.declaration import planning_pass
from ksym.graph import Node, Tensor, rewrite, topological_order
from ksym.ops.leaves import placeholder


def _sample() -> list[Tensor]:
    return [ops.softmax(placeholder((2, 3)))]


def _fires(outputs: Sequence[Tensor]) -> bool:
    return bool(decompose(outputs)[1])


@planning_pass(
    sample=_sample,
    fires=_fires,
    rounding="exponentials are those of loops, and are summed up in another order",
)
def decompose(
    outputs: Sequence[Tensor], left: Collection[Node] = ()
) -> tuple[list[Tensor], dict[Node, set[Node]]]:
    """Return outputs with operators written out, and of each what it became.

    Args:
        outputs: The graph.
        left: Nodes to leave as they are.
    """
    order = topological_order(outputs)
    became: dict[Node, set[Node]] = {}

    def written_out(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        if node in left:
            return None
        result = node.operator.decompose(node, inputs)
        if result is not None:
            became[node] = set(topological_order([result], until=set(inputs)))
        return result

    return rewrite(outputs, written_out, order=order), became


def fused_graph(
    outputs: Sequence[Tensor], decomposing: bool, costs: Costs = DEFAULT
) -> tuple[list[Tensor], list[Region]]:
    """Return outputs as they are to be computed, and the nodes of each kernel or product.

    Args:
        outputs: The graph, of known shapes.
        decomposing: Whether operators may be written out.
        costs: What things cost.
    """
    if not decomposing:
        return list(outputs), fuse_loops(outputs, costs)
    left: set[Node] = set()
    while True:
        written, became = decompose(outputs, left)
        regions = fuse_loops(written, costs)
        inside = set().union(*regions)
        # Natively what is written out takes longer than the one kernel.
        torn = {node for node, nodes in became.items() if not nodes <= inside}
        if not torn:
            return written, regions
        left |= torn
