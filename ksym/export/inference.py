"""Functions as other runtimes can have them: one graph, without updates and random numbers.

Where sizes are not known before a call, such as that of a batch, ksym compiles for each combination
of them.  Other runtimes have one graph for all sizes.  So a graph is made for several combinations
of sizes, and where a number in it differs, it is found how it depends on the sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ksym import ops
from ksym.coercion import as_function
from ksym.compiler import optimize
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.compiler.specialize import check_sizes, specialize
from ksym.errors import GraphError, KsymError, ShapeError
from ksym.export.sizes import points_of
from ksym.function import Function
from ksym.graph import Node, Tensor, collection_paused, replace, rewrite, topological_order
from ksym.loops.body import Body
from ksym.loops.view import ScanView
from ksym.operator.declaration import Operator
from ksym.ops.given import is_drawn
from ksym.ops.leaves import constant, is_constant, placeholder

BATCH = "batch"
"""The name of the size that the first axes of all inputs share, if it is not known."""

MOST_UNROLLED = 1024
"""The largest number of steps of a loop that is written out."""


FIRST_SIZES = (43, 1009, 5)
"""The sizes that unknown ones have first, one after the other until it works."""

T = TypeVar("T")


class Format(NamedTuple):
    """A format that functions are exported to.

    Attributes:
        name: Its name, for messages.
        merges_axes: Whether tensors of many axes are replaced by ones of fewer.
        has_loops: Whether it has loops and branches; otherwise loops are written out.
        has: Whether it has what NumPy computes in ksym, by the operator.
    """

    name: str
    merges_axes: bool
    has_loops: bool
    has: Callable[[Operator], bool]


class Sized(NamedTuple):
    """A graph for one combination of sizes.

    Attributes:
        sizes: The size by each name.
        outputs: The outputs.
        inputs: The placeholder for each input.
    """

    sizes: Mapping[str, int]
    outputs: Sequence[Tensor]
    inputs: Sequence[Tensor]


class Exported(NamedTuple):
    """A function that is to be exported.

    Attributes:
        function: The function.
        names: The names of its inputs.
        sizes: For each input the size along each axis: a number, or the name of an unknown one.
        results: The names of its outputs.
    """

    function: Function
    names: Sequence[str]
    sizes: Sequence[Sequence[int | str]]
    results: Sequence[str]


def exported(given: Any, to: str) -> Exported:
    """Return what is to be exported.

    Args:
        given: A function, or a Keras model.
        to: The name of the format, for messages.

    Raises:
        GraphError: It changes variables, or depends on a switch.
    """
    function = as_function(given)
    if function._variables:
        some = ", ".join(v.name for v in function._variables[:3])
        raise GraphError(
            f"{function.name} changes variables ({some}): {to} has no updates",
            remedy="export the function that predicts: leave out the updates, or give the model; "
            "a stateful layer keeps its state in a variable: make the model with stateful=False",
        )
    for slot in function._slots:
        if slot.node.attributes["static"]:
            raise GraphError(
                f"{function.name} is compiled anew for each value of its input {slot.name}",
                remedy="put its value in place with givens; for Keras's learning phase, give the "
                "model",
            ).located(origin=slot.node.origin)
    names = _distinct([_plain(slot.name) for slot in function._slots])
    sizes = [
        [
            (BATCH if axis == 0 else f"{name}_axis_{axis}") if side is None else int(side)
            for axis, side in enumerate(slot.shape)
        ]
        for name, slot in zip(names, function._slots, strict=True)
    ]
    given_names = function._keys or [t.name for t in function._graph]
    results = [_plain(str(name)) for name in given_names]
    taken = set(names)
    results = [f"{name}_output" if name in taken else name for name in results]
    return Exported(function, names, sizes, _distinct(results))


def _plain(name: str) -> str:
    """Return a name as other formats take it."""
    return "".join(c if c.isalnum() or c in "_./" else "_" for c in name)


def _distinct(names: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(1)))
        found[next(c for c in candidates if c not in found)] = None
    return list(found)


def unknown_sizes(of: Exported) -> list[str]:
    """Return the names of all sizes that are not known, each once."""
    return list(dict.fromkeys(s for sizes in of.sizes for s in sizes if isinstance(s, str)))


def _specialized(of: Exported, sizes: Mapping[str, int]) -> Sized:
    """Return the graph of a function for a combination of sizes, before all passes."""
    inputs = [
        placeholder([s if isinstance(s, int) else sizes[s] for s in axes], slot.dtype, name=name)
        for name, axes, slot in zip(of.names, of.sizes, of.function._slots, strict=True)
    ]
    given = dict(zip(of.function._slots, inputs, strict=True))
    return Sized(sizes, specialize(of.function._graph, given), inputs)


def sized(of: Exported, points: Sequence[Mapping[str, int]], to: Format) -> list[Sized]:
    """Return the graphs of a function for combinations of sizes, after all passes.

    Raises:
        GraphError: The graph has a part that other runtimes do not have, or a loop whose number of
            steps is not known, where loops are written out.
        ShapeError: The shapes do not fit each other.
    """
    with collection_paused():
        graphs = [_specialized(of, sizes) for sizes in points]
        graphs = [graph._replace(outputs=optimize(graph.outputs)) for graph in graphs]
        if not to.has_loops:
            _check_lengths(graphs)
        return [graph._replace(outputs=_for_format(graph.outputs, to)) for graph in graphs]


def _for_format(outputs: Sequence[Tensor], to: Format) -> Sequence[Tensor]:
    """Return optimized outputs with what a format does not have replaced, or refused."""
    while not to.has_loops and any(map(_is_loop, topological_order(outputs))):
        outputs = optimize(specialize(rewrite(outputs, _unrolled), {}))
    for node in topological_order(outputs):
        _refuse(node, to)
    check_sizes(outputs)
    return merge_axes(outputs) if to.merges_axes else outputs


def _check_lengths(graphs: Sequence[Sized]) -> None:
    """Check that loops that are to be written out have as many steps for all sizes.

    Raises:
        GraphError: One has another number of steps.
    """
    loops = [[n for n in _in_order(graph) if _is_loop(n)] for graph in graphs]
    for nodes in zip(*loops, strict=False):
        lengths = {ScanView.of(node, node.inputs).length for node in nodes}
        if len(lengths) > 1:
            raise GraphError(
                "a loop whose number of steps is a size of the input cannot be written out",
                remedy="give the placeholders, or the model's inputs, the length of their "
                "sequences; or use ksym.export_onnx, which has loops, or, without a mask, a layer "
                "that MXNet has a kernel for: LSTM and SimpleRNN, and GRU with reset_after=True "
                "and recurrent_activation='sigmoid'",
            ).located("scan", [t.spec for t in nodes[0].inputs], nodes[0].origin)


def _check_ones(of: Exported) -> None:
    """Check that sizes of 1 are no exception to what all others have in common.

    What stays the same from one large size to the next, as the smaller one of a size and 3 does,
    may be another number for a small one.

    Raises:
        GraphError: They are.
    """
    names = unknown_sizes(of)
    if not names:
        return
    points = points_of(names, FIRST_SIZES[0])
    first, *others = (_in_order(_specialized(of, point)) for point in points)
    try:
        ones = _in_order(_specialized(of, dict.fromkeys(names, 1)))
    except ShapeError:
        return  # 1 is none of the sizes that it is made for
    for number, node in enumerate(first):
        small = ones[number] if number < len(ones) else None
        large = [order[number] for order in others if number < len(order)]
        alike = small is not None and small.operator is node.operator
        pairs = zip(node.outputs, small.outputs if small else (), strict=False)
        if not alike or any(
            _is_exception(tensor, other, [o.outputs[at] for o in large])
            for at, (tensor, other) in enumerate(pairs)
        ):
            raise GraphError(
                "it is something else for a size of 1 than for large ones",
                remedy="give the placeholders, or the model's inputs, that size",
            ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)


def _in_order(graph: Sized) -> list[Node]:
    return in_order(graph.outputs, graph.inputs)


def _is_exception(tensor: Tensor, small: Tensor, large: Sequence[Tensor]) -> bool:
    """Return whether a size or a value is the same for all large sizes, and not for small ones."""
    if tensor.rank != small.rank:
        return True
    for axis, side in enumerate(tensor.shape):
        if side != small.shape[axis] and all(side == other.shape[axis] for other in large):
            return True
    if not is_constant(tensor) or tensor.shape != small.shape:
        return False
    return all(_equal(tensor, other) for other in large) and not _equal(tensor, small)


def _equal(first: Tensor, second: Tensor) -> bool:
    one: Any = first.value
    return bool(np.array_equal(one, second.value))  # type: ignore[arg-type,unused-ignore]


def in_order(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Node]:
    """Return the nodes of a graph, operands first, in an order that its structure alone decides.

    Passes may make the nodes of two graphs that are alike in different orders.
    """
    done: dict[Node, None] = {tensor.node: None for tensor in inputs}
    given = set(done)
    stack = [tensor.node for tensor in reversed(outputs)]
    while stack:
        node = stack[-1]
        waiting = [t.node for t in node.inputs if t.node not in done]
        if waiting and node not in done:
            stack += reversed(waiting)
        else:
            done[node] = None
            stack.pop()
    return [node for node in done if node not in given]


def _is_loop(node: Node) -> bool:
    return node.operator.runs == "scan"


def _refuse(node: Node, to: Format) -> None:
    """Raise an error for a node of which an exported graph cannot consist.

    Raises:
        GraphError: It is one.
    """
    bodies = [part for part in node.attributes.values() if isinstance(part, Body)]
    for inner in topological_order(t for body in bodies for t in body_of(body.outputs)):
        _refuse(inner, to)
    reason = ""
    remedy = "compute it before or after the exported part"
    if is_drawn(node):
        reason = "random numbers are drawn by ksym"
        remedy = "export the function that predicts, with keras.backend.set_learning_phase(0)"
    elif node.operator.runs in ("cond", "while") and not to.has_loops:
        reason = "what runs depends on values"
        remedy = "choose by ksym.where instead, or take a fixed number of steps by ksym.scan"
    elif node.operator.runs == "host" and not to.has(node.operator):
        reason = "it is computed by NumPy"
    elif node.operator.runs == "collective":
        reason = "the other ranks of a job take part in it"
        remedy = "export the function that predicts"
    elif any(None in t.shape for t in node.outputs) and node.operator.runs != "while":
        reason = "its size depends on values"
    if reason:
        raise GraphError(f"{to.name} cannot have it: {reason}", remedy=remedy).located(
            node.operator.name, [t.spec for t in node.inputs], node.origin
        )


def body_of(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of a body of a loop or a branch, after all passes."""
    return optimize(specialize(outputs, {}))


def _unrolled(node: Node, inputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
    """Return the results of a loop with its steps written out one after the other."""
    if node.operator.runs != "scan":
        return None
    loop = ScanView.of(node, inputs)
    if loop.length > MOST_UNROLLED:
        raise GraphError(
            f"a loop of {loop.length} steps is too long to be written out",
            remedy=f"give it {MOST_UNROLLED} steps at most, or a cell that MXNet has a kernel for",
        ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
    current = loop.initial
    steps = range(loop.length)
    before: list[Sequence[Tensor]] = []
    given: list[Sequence[Tensor]] = []
    for step in reversed(steps) if loop.reverse else steps:
        values = [*(x[step] for x in loop.sequences), *current, *loop.closed]
        parameters = (*loop.elements, *loop.before, *loop.rest)
        roots = replace(loop.roots, dict(zip(parameters, values, strict=True)))
        before.append(current)
        current = tuple(roots[: len(loop.new)])
        given.append(roots[len(loop.new) :])
    if loop.reverse:
        before.reverse()
        given.reverse()
    stacked = [
        ops.stack([step[i] for step in lines]) if lines else _nothing(tensor)
        for lines, tensors in ((given, loop.outputs), (before, loop.before))
        for i, tensor in enumerate(tensors)
    ]
    return [*current, *stacked]


def _nothing(tensor: Tensor) -> Tensor:
    return constant(np.zeros([0, *(side or 0 for side in tensor.shape)], tensor.dtype))


def at_points(of: Exported, to: Format, write: Callable[[Sequence[Sized]], T]) -> T:
    """Return what is written of the graphs of a function at the points of its unknown sizes.

    Unknown sizes of different inputs are different ones, but for their first axes; if they do not
    fit each other then, those of equal axes are equal.  Where the operators of a graph depend on
    how large it is, since others are faster then, it is written for larger sizes or smaller ones.

    Args:
        of: The function.
        to: The format.
        write: Called with the graph at each point.

    Raises:
        GraphError: As `sized`, or from `write`.
        ShapeError: As `sized`.
    """
    found: KsymError | None = None
    shared = of._replace(
        sizes=[
            [f"axis_{i}" if i and isinstance(side, str) else side for i, side in enumerate(own)]
            for own in of.sizes
        ]
    )
    for each in (of, shared):
        names = unknown_sizes(each)
        for first in FIRST_SIZES if names else FIRST_SIZES[:1]:
            try:
                graphs = sized(each, points_of(names, first), to)
                _check_ones(each)
                return write(graphs)
            except ShapeError as error:
                found = found or error
                break
            except GraphError as error:
                found = found or error
        if not isinstance(found, ShapeError) or len(unknown_sizes(shared)) == len(names):
            break
    assert found is not None
    if isinstance(found, ShapeError) and unknown_sizes(of):
        found.remedy = "give the placeholders, or the model's inputs, sizes that fit each other"
    raise found
