"""From a frozen graph to a native one: the passes, and their order.

`PIPELINE` is the one list of all passes, each declared where it is written with a graph that it
changes (`passes/declaration.py`).  Those over graphs are functions from outputs to outputs, and
`optimize` runs them; then what is run is planned, with the help of the others.  Before them,
`specialize` puts the shapes of a call into the graph; after them, `lower` writes the graph down in
MXNet's terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.decompose import decompose
from ksym.compiler.fusion.updates import fuse_updates
from ksym.compiler.loops.hoist import hoist
from ksym.compiler.loops.prune import prune_loops
from ksym.compiler.loops.residuals import save_residuals
from ksym.compiler.loops.sink import sink
from ksym.compiler.passes.bias import fuse_bias
from ksym.compiler.passes.declaration import Pass
from ksym.compiler.passes.fold import fold
from ksym.compiler.passes.joins import concatenate_slice_gradients
from ksym.compiler.passes.merge import merge
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.compiler.passes.normalization import fold_normalization
from ksym.compiler.passes.pool_first import pool_first
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.passes.transpositions import push_transpositions
from ksym.graph import Tensor

PIPELINE: tuple[Pass, ...] = (
    fold,  # what depends on constants only
    simplify,  # identities that each operator declares
    push_transpositions,  # channels-last layers on channels-first kernels
    simplify,  # what the transpositions were in the way of
    merge,  # gradients repeat parts of the forward pass
    pool_first,  # activations of what pooling leaves
    prune_loops,  # loops without what nobody reads
    save_residuals,  # products of a loop kept for its gradient
    hoist,  # what needs no state, before the loop for all steps
    sink,  # what no step needs, behind the loop for all steps
    fold,  # what these four left
    simplify,
    merge,
    concatenate_slice_gradients,  # gradients of a tensor's parts put together at once
    fuse_bias,  # convolutions that add and differentiate their bias themselves
    fold_normalization,  # convolutions that normalise their results themselves
    # From here on what is run is planned.
    fuse_updates,  # the elementwise end of optimizers as loops that write variables
    merge_axes,  # nodes of no more axes than MXNet's kernels take
    decompose,  # kernels written out where loops can do all of it
    fuse_loops,  # chains of elementwise operators as loops, with products among them
)


def optimize(
    outputs: Sequence[Tensor],
    passes: Sequence[Pass] = PIPELINE,
    watch: Callable[[Pass, Sequence[Tensor]], None] | None = None,
    costs: Costs = DEFAULT,
) -> list[Tensor]:
    """Return outputs after all passes over graphs.

    Args:
        outputs: The graph.
        passes: What to do; those that plan are left to whoever does so.
        watch: Called with each pass and its result.
        costs: What things cost, for the passes that ask.
    """
    result = list(outputs)
    left: dict[Pass, list[Tensor]] = {}
    for run in passes:
        # A pass has nothing to add to what it left itself.
        if run.stage == "graph" and left.get(run) != result:
            result = left[run] = run.over_graph(result, costs)
            if watch is not None:
                watch(run, result)
    return result
