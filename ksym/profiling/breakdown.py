"""Breaking down the time of a part to the nodes that it computes.

A part is timed as a whole.  What is inside is measured once more, on the arrays as the last call
left them: a native graph operator by operator, in a second executor with MXNet's monitor; the body
of a loop part by part.  In a kernel the nodes share one pass over memory, and each is given its
share of the kernel's instructions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym import shapes
from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import Kernel, is_collected
from ksym.compiler.plan import CondWork, Part, Plan, ScanWork, WhileWork
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.body import effects_in
from ksym.operator.machine import Register
from ksym.ops.given import is_leaf
from ksym.ops.leaves import is_constant
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.calls import Tape
from ksym.runtime.checking import streams_kept
from ksym.runtime.native import Executable
from ksym.runtime.program import Program
from ksym.variables import Variable

REPEATS = 3
"""The number of times that what is inside of a part is measured; the shortest counts."""


class Piece(NamedTuple):
    """The share of one node in a part.

    Attributes:
        node: The node; None for work of no node, such as copies.
        seconds: Its time in one run of the part.
        flops: Its floating-point operations in one run.
        traffic: The bytes that it reads and writes in memory in one run.
        memory: The bytes of arrays that hold its results from call to call.
    """

    node: Node | None
    seconds: float
    flops: float
    traffic: float
    memory: float


def pieces_of_part(part: Part, run: Any, arrays: Arrays, seconds: float) -> list[Piece]:
    """Return the pieces of a part.

    Args:
        part: The part.
        run: What runs it.
        arrays: The array of each tensor that it reads.
        seconds: The time of one run.
    """
    work = part.work
    if isinstance(work, NativeGraph):
        weights = _native_seconds(work, arrays)
    elif isinstance(work, Kernel):
        weights = {node: _instructions(node) for node in part.nodes}
    elif isinstance(work, ScanWork | WhileWork | CondWork):
        inner = [*_inside(work, run)]
        if inner:
            return _scaled([*_held(part), *inner], seconds)
        weights = dict.fromkeys(part.nodes, 1.0)
    else:
        weights = {node: 1.0 + node.operator.flops(node) for node in part.nodes}
    return _scaled([*_weighted(part, weights)], seconds)


def pieces_of_update(
    kernel: Kernel, values: Mapping[Tensor, Tensor], seconds: float
) -> list[Piece]:
    """Return the pieces of a kernel that writes new values of variables.

    Args:
        kernel: The kernel.
        values: The new value of each variable.
        seconds: The time of one run.
    """
    new = [values[v] for v in kernel.results if v in values]
    nodes = [n for n in topological_order(new, until=set(kernel.operands)) if not is_leaf(n)]
    traffic = _kernel_traffic(kernel)
    total = sum(map(_instructions, nodes)) or 1.0
    pieces = [
        Piece(n, _instructions(n), n.operator.flops(n), traffic * _instructions(n) / total, 0.0)
        for n in nodes
    ]
    return _scaled(pieces or [Piece(None, 1.0, 0.0, traffic, 0.0)], seconds)


def _scaled(pieces: Sequence[Piece], seconds: float) -> list[Piece]:
    """Return pieces whose times add up to a time."""
    total = sum(piece.seconds for piece in pieces)
    if not total:
        return [piece._replace(seconds=seconds / len(pieces)) for piece in pieces]
    return [piece._replace(seconds=piece.seconds * seconds / total) for piece in pieces]


def _weighted(part: Part, weights: Mapping[Node | None, float] | Any) -> Iterator[Piece]:
    """Yield a piece for each node with a weight."""
    kept = _memory(part)
    fused = isinstance(part.work, Kernel)
    whole = sum(weights.values()) or 1.0
    for node, weight in weights.items():
        if node is None:
            yield Piece(None, weight, 0.0, 0.0, 0.0)
            continue
        if fused:
            traffic = _kernel_traffic(part.work) * weight / whole  # type: ignore[arg-type]
        else:
            traffic = float(sum(map(byte_count, (*node.inputs, *node.outputs))))
        yield Piece(node, weight, node.operator.flops(node), traffic, kept.get(node, 0.0))
    if not weights:
        moved = 2.0 * sum(map(byte_count, part.outputs))
        yield Piece(None, 1.0, 0.0, moved, float(sum(kept.values())))


def _held(part: Part) -> Iterator[Piece]:
    """Yield for each node of a part one that only holds memory."""
    for node, memory in _memory(part).items():
        yield Piece(node, 0.0, 0.0, 0.0, memory)


def _memory(part: Part) -> dict[Node, float]:
    """Return the bytes of the results of each node that are arrays of their own."""
    kept: dict[Node, float] = {}
    for tensor in part.outputs:
        kept[tensor.node] = kept.get(tensor.node, 0.0) + byte_count(tensor)
    return kept


def byte_count(tensor: Tensor) -> int:
    """Return the bytes of a tensor of known shape."""
    return (shapes.size(tensor.shape) or 0) * np.dtype(tensor.dtype).itemsize


def _kernel_traffic(kernel: Kernel) -> float:
    """Return the bytes that a kernel reads and writes."""
    views = [*kernel.arrays, *(write.view for write in kernel.writes)]
    total = 0.0
    for view in views:
        sides = zip(kernel.shape, view.strides, strict=True)
        elements = np.prod([side for side, stride in sides if stride], dtype="float64")
        total += float(elements) * np.dtype(view.tensor.dtype).itemsize
    return total


def _instructions(node: Node) -> float:
    """Return the instructions of a node in a kernel, for all elements."""
    elements = float(
        shapes.size(node.inputs[0].shape if is_collected(node) else node.outputs[0].shape) or 0
    )
    operands = [Register("", t.dtype, None) for t in node.inputs]
    known = formulas.known(node.operator, operands, node.attributes)
    # What has no formula moves or adds elements.
    return elements * (1.0 if known is None else 1.0 + known.instructions)


# --- native graphs -------------------------------------------------------------------------------


def _native_seconds(graph: NativeGraph, arrays: Arrays) -> dict[Node | None, float]:
    """Return the time of each node of a native graph, measured in an executor of its own."""
    executor = Executable(graph, arrays)
    events: list[tuple[str, int, int]] = []

    def computed(name: str) -> None:
        events.append((name, time.perf_counter_ns(), time.perf_counter_ns()))

    executor.watch(computed)
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        events.clear()
        last = time.perf_counter_ns()
        executor.run()
        taken: dict[str, float] = {}
        for name, begin, end in events:  # one for each result, of which the first takes the time
            maker = name.rpartition("_")[0]
            taken[maker] = taken.get(maker, 0.0) + (begin - last) * 1e-9
            last = end
        for maker, seconds in taken.items():
            best[maker] = min(best.get(maker, seconds), seconds)
    result: dict[Node | None, float] = dict.fromkeys(
        (node for node in graph.makers.values() if node.inputs), 0.0
    )
    for maker, seconds in best.items():
        node = graph.makers.get(maker)
        node = node if node is not None and node.inputs else None
        result[node] = result.get(node, 0.0) + seconds
    return result


def working_memory(run: Any) -> float:
    """Return the bytes in which a native graph keeps what is inside of it; 0 for another part."""
    executor = getattr(run, "executable", None)
    if executor is None:
        return 0.0
    return float(executor.memory())


# --- loops and branches --------------------------------------------------------------------------


def _inside(work: ScanWork | WhileWork | CondWork, run: Any) -> Iterator[Piece]:
    """Yield the pieces of the bodies of a loop or branch, each with its time for all steps."""
    if isinstance(work, ScanWork):
        plans, steps = [work.body], work.view.length
    elif isinstance(work, WhileWork):
        body = run._body
        plans = [work.test, None if body is None else body.plan]
        steps = int(run._steps.read())
    else:
        plans, steps = [program.plan for program in run._programs.values()], 1
    for plan in plans:
        if plan is not None and plan.rest is None:
            for piece in _pieces_of_plan(plan):
                yield piece._replace(
                    seconds=piece.seconds * steps,
                    flops=piece.flops * steps,
                    traffic=piece.traffic * steps,
                )


def _pieces_of_plan(plan: Plan) -> Iterator[Piece]:
    """Yield the pieces of a plan that is bound to arrays of its own and measured.

    One that prints is not run for that; its nodes have shares by their work.
    """
    if effects_in(plan.tensors):
        for part in plan.parts:
            yield from _weighted(part, {n: 1.0 + n.operator.flops(n) for n in part.nodes})
        return
    order = topological_order(plan.tensors)
    leaves = [n.outputs[0] for n in order if is_leaf(n) and not is_constant(n.outputs[0])]
    given = {
        t: DeviceArray.of(np.ones(shapes.known(t.shape), t.dtype))
        for t in leaves
        if not isinstance(t, Variable) and t.node not in plan.drawn
    }
    program = Program(plan, given)
    with streams_kept(plan.tensors):
        program.run()
        for part, run in zip(plan.parts, program.parts, strict=True):
            seconds = _shortest(Tape(run.calls).run if run.calls else run.run)
            yield from pieces_of_part(part, run, program._arrays, seconds)


def _shortest(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)
