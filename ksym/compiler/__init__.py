"""The compiler: its passes, and their order.

`PIPELINE` is the one list of all passes.  Each is declared in the file that defines it, with a
sample graph that it changes (`passes/declaration.py`).  Graph passes are functions from outputs to
outputs, and `optimize` runs them; `compile_graph` calls the planning passes.  Before them,
`specialize` puts the shapes of a call into the graph; after them, `lower` writes native graphs in
MXNet's form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.decompose import decompose
from ksym.compiler.fusion.fold_variables import fold_variables
from ksym.compiler.fusion.updates import fuse_updates
from ksym.compiler.loops.hoist import hoist
from ksym.compiler.loops.prune import prune_loops
from ksym.compiler.loops.residuals import save_residuals
from ksym.compiler.loops.sink import sink
from ksym.compiler.loops.unroll import unroll
from ksym.compiler.passes.bias import fuse_bias
from ksym.compiler.passes.declaration import Pass
from ksym.compiler.passes.fold import fold
from ksym.compiler.passes.joins import concatenate_slice_gradients
from ksym.compiler.passes.masks import draw_masks
from ksym.compiler.passes.merge import merge
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.compiler.passes.normalization import fold_normalization
from ksym.compiler.passes.pad_channels import pad_channels
from ksym.compiler.passes.pool_first import pool_first
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.passes.transpositions import push_transpositions
from ksym.graph import Tensor

PIPELINE: tuple[Pass, ...] = (
    fold,  # constants for nodes that depend on constants only
    simplify,  # identities that each operator declares
    push_transpositions,  # channels-last layers on channels-first kernels
    simplify,  # identities between nodes that a transposition separated
    merge,  # gradients repeat parts of the forward pass
    pool_first,  # activations after poolings instead of before
    prune_loops,  # loops without dead code
    save_residuals,  # products of a loop kept for its gradient
    hoist,  # nodes that need no state, before the loop for all steps
    sink,  # nodes that no step needs, behind the loop for all steps
    fold,  # constants and repetitions that these four made
    simplify,
    merge,
    concatenate_slice_gradients,  # one concatenation for the gradients of adjoining slices
    fuse_bias,  # convolutions that add and differentiate their bias themselves
    fold_normalization,  # convolutions that normalise their results themselves
    pad_channels,  # convolutions of as many channels as fill the blocks of their kernels
    # Planning passes.
    fold_variables,  # values that depend on variables only, kept until one of them changes
    draw_masks,  # comparisons of random integers on the host, where it draws for a device
    unroll,  # short loops as native work, where kernels cannot be compiled
    fuse_updates,  # the elementwise end of optimizers, in kernels that write variables
    merge_axes,  # nodes of no more axes than MXNet's kernels take
    decompose,  # operators of MXNet as several that kernels can compute
    fuse_loops,  # elementwise operators in kernels, with products among them
)


def optimize(
    outputs: Sequence[Tensor],
    passes: Sequence[Pass] = PIPELINE,
    watch: Callable[[Pass, Sequence[Tensor]], None] | None = None,
    costs: Costs = DEFAULT,
) -> list[Tensor]:
    """Run the graph passes and return their outputs.

    Args:
        outputs: The graph.
        passes: The passes, in their order; planning passes among them are skipped.
        watch: Called with each pass and its result.
        costs: The costs, for the passes that decide by them.
    """
    result = list(outputs)
    left: dict[Pass, list[Tensor]] = {}
    for run in passes:
        # A pass changes nothing in a graph that it returned itself.
        if run.stage == "graph" and left.get(run) != result:
            result = left[run] = run.over_graph(result, costs)
            if watch is not None:
                watch(run, result)
    return result
