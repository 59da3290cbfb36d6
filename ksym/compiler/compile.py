"""Compiling: from a frozen graph and the shapes of a call to a plan.

`compile_graph` is the driver: it calls all steps, from top to bottom.  It is a pure function: it
needs neither MXNet nor arrays; the properties of the device are an argument, `Target`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ksym import shapes
from ksym.compiler import Pass, optimize
from ksym.compiler.codegen.nnvm import lower
from ksym.compiler.collectives import in_one_order
from ksym.compiler.effects import in_order
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.decompose import decompose, fused_graph
from ksym.compiler.fusion.fold_variables import fold_variables
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.updates import fuse_updates
from ksym.compiler.loops.unroll import unroll
from ksym.compiler.mode import Mode
from ksym.compiler.partition import Copies, Piece, partition
from ksym.compiler.passes.masks import draw_masks
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.compiler.plan import (
    CollectiveWork,
    CondWork,
    Folded,
    FrozenGraph,
    HostWork,
    Part,
    Plan,
    Rest,
    ScanWork,
    StepByStep,
    Target,
    WhileWork,
    Work,
)
from ksym.compiler.specialize import Rest as Waiting
from ksym.compiler.specialize import check_sizes, check_updates, specialize, split
from ksym.errors import ShapeError
from ksym.graph import Node, Tensor, collection_paused, topological_order
from ksym.loops.body import live_states
from ksym.loops.view import ScanView
from ksym.ops.given import is_drawn, is_leaf
from ksym.variables import Variable

Watch = Callable[["Pass | None", Sequence[Tensor]], None]
"""Called with the graph before all passes (and None), then with each pass and its result."""


def compile_graph(
    graph: FrozenGraph, given: Mapping[Tensor, Tensor], watch: Watch | None = None
) -> Plan:
    """Return the plan that computes a graph for known shapes of its placeholders.

    Args:
        graph: The graph.
        given: The replacement of each placeholder: one of known shape, or a constant.
        watch: As `Watch`.

    Raises:
        ShapeError: Shapes turn out not to fit, a result is too large, or a new value has another
            shape than its variable.
    """
    mode, target = graph.mode, graph.target
    with collection_paused():
        tensors, rest = split(specialize(graph.tensors, given))
        tensors, last = in_one_order(tensors)
        tensors += last  # kept by the passes, whoever reads it
        if watch is not None:
            watch(None, tensors)
        tensors = optimize(tensors, mode.passes, watch, target.costs)
        if not target.kernels:
            tensors = _for_device(tensors, mode, target)
        check_sizes(tensors)
        tensors = in_order(tensors)
        later = rest if rest is None else _later(rest, graph)
        if not mode.runs(fold_variables):
            return _planned(tensors, len(last), graph, later)
        tensors, kept = fold_variables(tensors, graph.variables, target.costs)
        return _planned(tensors, len(last), graph, later, _folded(kept, graph) if kept else None)


def _planned(
    tensors: Sequence[Tensor],
    ends: int,
    graph: FrozenGraph,
    rest: Rest | None,
    folded: Folded | None = None,
) -> Plan:
    """Return the plan of a graph after the passes over graphs.

    Args:
        tensors: The outputs, the new values, and the tensors that are computed for their effect.
        ends: The number of the latter.
        graph: The graph that they were compiled from.
        rest: The graph that is compiled later.
        folded: The values that are kept between calls.
    """
    mode, target = graph.mode, graph.target
    count = len(tensors) - ends
    outputs, updates, kernels = _updates(tensors[:count], graph, rest is None)
    read = dict.fromkeys(t for kernel in kernels for t in kernel.operands)
    operands = [t for t in read if is_drawn(t.node) or not is_leaf(t.node)]
    roots = merge_axes([*outputs, *updates.values(), *operands, *tensors[count:]])
    drawn = [node for node in topological_order(roots) if is_drawn(node)]
    computed, pieces = _pieces(roots, mode, target)
    parts = [_part(piece, mode, target) for piece in pieces]
    found = iter(computed)
    return Plan(
        tensors,
        [next(found) for _ in outputs],
        parts,
        {variable: next(found) for variable in updates},
        kernels,
        {operand: next(found) for operand in operands},
        drawn,
        mode,
        target,
        rest,
        folded,
    )


def _folded(kept: Mapping[Tensor, Tensor], graph: FrozenGraph) -> Folded:
    """Return the values that are kept, and the plan that computes them.

    Args:
        kept: The leaf of each value, and what computes it.
        graph: The graph that they were found in.
    """
    computed = FrozenGraph(list(kept.values()), (), graph.mode, graph.target)
    order = topological_order(computed.tensors)
    leaves = [node.outputs[0] for node in order]
    variables = [leaf for leaf in leaves if isinstance(leaf, Variable)]
    places = {
        tensor: (at, tensor.index) for at, node in enumerate(order) for tensor in node.outputs
    }
    structure = [
        node.outputs[0]
        if isinstance(node.outputs[0], Variable)
        else (node.operator, *sorted(node.attributes.items()), *(places[t] for t in node.inputs))
        for node in order
    ]
    results = [(places[t], leaf.node.attributes["in_blocks"]) for leaf, t in kept.items()]
    key = (*structure, *results, graph.mode, graph.target) if variables else None
    return Folded(list(kept), _planned(computed.tensors, 0, computed, None), variables, key)


def _for_device(tensors: list[Tensor], mode: Mode, target: Target) -> list[Tensor]:
    """Return tensors for a device with which the host exchanges as little as possible."""
    if mode.runs(draw_masks):
        tensors = draw_masks(tensors)
    return unroll(tensors, target.costs) if mode.runs(unroll) else tensors


def _later(rest: Waiting, graph: FrozenGraph) -> Rest:
    """Return what is left of a graph as the plan hands it on."""
    static = [i for i, slot in enumerate(rest.slots) if slot.node.attributes["static"]]
    return Rest(rest.slots, graph._replace(tensors=rest.outputs), static)


def _updates(
    tensors: Sequence[Tensor], graph: FrozenGraph, whole: bool
) -> tuple[Sequence[Tensor], Mapping[Variable, Tensor], Sequence[Kernel]]:
    """Separate outputs, new values that are copied, and kernels that compute the others in place.

    Args:
        tensors: The outputs and new values, after the passes.
        graph: The graph that they were compiled from.
        whole: Whether they are all of that graph; else the updates are in the rest.
    """
    if not whole:
        return tensors, {}, ()
    count = len(tensors) - len(graph.variables)
    outputs = tensors[:count]
    updates = dict(zip(graph.variables, tensors[count:], strict=True))
    check_updates(updates)
    if not (graph.target.kernels and graph.mode.runs(fuse_updates)):
        return outputs, updates, ()
    kernels, copied = fuse_updates(outputs, updates, graph.target.costs)
    return outputs, copied, kernels


def _pieces(
    roots: Sequence[Tensor], mode: Mode, target: Target
) -> tuple[Sequence[Tensor], list[Piece]]:
    """Choose what kernels and products compute, and cut the graph into pieces.

    Returns:
        The roots, which may have been decomposed, and the pieces in the order in which they run.
    """
    if not (target.kernels and mode.runs(fuse_loops)):
        return roots, partition(roots)
    roots, regions = fused_graph(roots, mode.runs(decompose), target.costs)
    leaves = tuple(t for t in dict.fromkeys(roots) if is_leaf(t.node))
    pieces = partition([t for t in roots if not is_leaf(t.node)], regions)
    if leaves:
        pieces.append(Piece(leaves, leaves, (), Copies()))
    return roots, pieces


def _part(piece: Piece, mode: Mode, target: Target) -> Part:
    """Return the part for a piece, whose work is in the form that the runtime binds."""
    work: Work
    if isinstance(piece.work, Node):
        work = _CONTROL[piece.work.operator.runs](piece.work, piece.outputs, mode, target)
    elif piece.work is not None:
        work = piece.work
    elif mode.kind == "native":
        work = lower(piece.outputs, piece.inputs, on_host=target.kernels, fusible=target.fusible)
    else:
        work = StepByStep()
    return Part(piece.inputs, piece.outputs, piece.nodes, work)


# --- nodes that run on their own -----------------------------------------------------------------


def _inside(outputs: Sequence[Tensor], mode: Mode, target: Target) -> Plan:
    """Return the plan of a body, whose shapes are known."""
    # A body is run by whoever runs the loop, who does not look for variables that have changed.
    mode = mode._replace(off=mode.off | {fold_variables.name})
    return compile_graph(FrozenGraph(outputs, (), mode, target), {})


def _host(node: Node, wanted: Sequence[Tensor], mode: Mode, target: Target) -> HostWork:
    return HostWork(node)


def _collective(node: Node, wanted: Sequence[Tensor], mode: Mode, target: Target) -> CollectiveWork:
    return CollectiveWork(node)


def _scan(node: Node, wanted: Sequence[Tensor], mode: Mode, target: Target) -> ScanWork:
    """Return the work of a loop, without the states and outputs that nothing reads."""
    view = ScanView.of(node, node.inputs, wanted)
    by_kind = view.results(node.outputs)
    finals = [i for i, t in enumerate(by_kind.finals) if t in wanted]
    outputs = [by_kind.stacked.index(t) for t in wanted if t in by_kind.stacked]
    asked = {*finals, *(i for i, kept in enumerate(view.kept) if kept)}
    roots = [*(view.outputs[j] for j in outputs), *(view.new[i] for i in asked)]
    live = sorted({*live_states(view.before, view.new, roots), *asked})
    smaller = replace(
        view.with_states(live), outputs=tuple(view.outputs[j] for j in outputs)
    ).without_unread()
    for tensor in smaller.roots:
        if not shapes.is_known(tensor.shape):
            raise ShapeError(
                f"the size of what a step gives, {tensor.spec}, depends on data",
                remedy="pad it to a fixed size: what steps give is stacked",
            ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)

    place: dict[Tensor, tuple[str, int]] = {}
    for position, i in enumerate(live):
        place[by_kind.finals[i]] = "final", position
        place[by_kind.histories[i]] = "history", position
    for position, j in enumerate(outputs):
        place[by_kind.stacked[j]] = "stacked", position
    read = {n.outputs[0] for n in topological_order(smaller.roots)}
    return ScanWork(
        node,
        smaller,
        [place[tensor] for tensor in wanted],
        # A state that no step reads is not written before the last step has run.
        [i for i, p in enumerate(smaller.before) if smaller.kept[i] or p in read],
        _inside(smaller.roots, mode, target) if smaller.length else None,
    )


def _while(node: Node, wanted: Sequence[Tensor], mode: Mode, target: Target) -> WhileWork:
    body, test = node.attributes["body"], node.attributes["test"]
    return WhileWork(
        node,
        _inside(test.outputs, mode, target),
        functools.partial(_inside, body.outputs, mode, target),
    )


def _cond(node: Node, wanted: Sequence[Tensor], mode: Mode, target: Target) -> CondWork:
    def branch(taken: bool) -> Plan:
        body = node.attributes["then" if taken else "otherwise"]
        return _inside([body.outputs[t.index] for t in wanted], mode, target)

    return CondWork(node, branch)


_CONTROL: Mapping[str, Callable[[Node, Sequence[Tensor], Mode, Target], Work]] = {
    "host": _host,
    "collective": _collective,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
