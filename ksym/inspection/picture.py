"""The picture of a graph: its nodes in boxes within boxes, from the networkx view of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from ksym import shapes as shape_arithmetic
from ksym.compiler.plan import title_of
from ksym.errors import GraphError
from ksym.function import Function
from ksym.graph import Node, Tensor, to_networkx, topological_order
from ksym.inspection.compiled import plan_for
from ksym.inspection.subject import Subject
from ksym.loops.body import bodies_of
from ksym.ops.given import is_leaf
from ksym.ops.leaves import is_constant
from ksym.profiling.breakdown import byte_count
from ksym.shapes import Shape
from ksym.variables import Variable

if TYPE_CHECKING:
    import networkx

CROWD = 60
"""The number of nodes in a box from which on it is divided: by lines of the program, then by their
order."""


class Drawn(NamedTuple):
    """A node as it is drawn.

    Attributes:
        label: The operator, or the name of a leaf.
        name: The name of its first result.
        operator: The name of the operator.
        kind: ``"leaf"``, ``"variable"``, ``"forward"``, ``"gradient"`` or ``"loop"``.
        specs: The shape and dtype of each result.
        attributes: The attributes as texts.
        origin: The user's line.
        scope: The name scope.
        path: The boxes that it is in, from the outside, by their numbers.
        flops: The floating-point operations; None if a shape is not known.
        traffic: The bytes of operands and results; None likewise.
        seconds: The time in one call; None if it was not taken.
        share: Its share of the time of a call.
        part: The part of the plan that computes it; empty before compiling.
    """

    label: str
    name: str
    operator: str
    kind: str
    specs: tuple[str, ...]
    attributes: Mapping[str, str]
    origin: str
    scope: str
    path: tuple[int, ...]
    flops: float | None = None
    traffic: float | None = None
    seconds: float | None = None
    share: float | None = None
    part: str = ""


class Line(NamedTuple):
    """An edge.

    Attributes:
        source: The number of the node that is read, among the nodes.
        target: That of the node that reads it.
        spec: The shape and dtype of what is read.
        dashed: Whether it leads into the body of a loop or out of it.
    """

    source: int
    target: int
    spec: str
    dashed: bool


@dataclass
class Box:
    """A box of nodes: a name scope, the body of a loop, or nodes that follow each other.

    Attributes:
        name: Its title.
        gradient: Whether the nodes are gradients.
        count: The number of nodes in it, and in the boxes in it.
        share: The share of the time of these.
    """

    name: str
    gradient: bool
    count: int = 0
    share: float = 0.0


@dataclass
class Picture:
    """A graph as it is drawn.

    Attributes:
        title: One line that says what it is.
        nodes: The nodes, operands first.
        edges: The edges.
        boxes: The boxes.
        timed: Whether nodes have times.
    """

    title: str
    nodes: list[Drawn] = field(default_factory=list)
    edges: list[Line] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    timed: bool = False


class _Extra(NamedTuple):
    """What is known of the nodes of a compiled graph."""

    parts: Mapping[Node, str]
    seconds: Mapping[Node, float]
    whole: float


def picture_of(
    subject: Subject, stage: str, shapes: Mapping[Tensor, Shape] | None = None
) -> Picture:
    """Return the picture of a graph.

    Args:
        subject: The graph.
        stage: ``"built"`` or ``"compiled"``.
        shapes: The shapes of inputs to compile for.

    Raises:
        GraphError: There is no such stage, or it can be compiled for no shapes.
    """
    roots: Sequence[Tensor]
    if stage == "built":
        roots, extra = list(subject.roots.values()), _Extra({}, {}, 0.0)
    elif stage == "compiled":
        roots, extra = _compiled(subject.compilable(), shapes)
    else:
        raise GraphError(f"there is no stage {stage!r}", remedy='give "built" or "compiled"')
    graph, nodes = _with_bodies(roots)
    return _arranged(subject.title, graph, nodes, extra)


def _compiled(
    function: Function, shapes: Mapping[Tensor, Shape] | None
) -> tuple[Sequence[Tensor], _Extra]:
    """Return the graph that runs, with the parts and times of its nodes."""
    ran = shapes is None and function.last_source is not None
    plan = function.last_plan() if ran else plan_for(function, shapes)
    parts = {
        node: f"part {number}: {title_of(part.work, part.nodes)}"
        for number, part in enumerate(plan.parts, 1)
        for node in part.nodes
    }
    seconds: dict[Node, float] = {}
    whole = 0.0
    if function.profile is not None and ran:
        for program in function.profile.programs:
            if program.plan is not plan or not program.calls_made:
                continue
            whole = program.whole / program.calls_made
            for unit in function.profile.units(program):
                for piece in unit.pieces:
                    if piece.node is not None:
                        runs = unit.runs / program.calls_made
                        seconds[piece.node] = seconds.get(piece.node, 0.0) + piece.seconds * runs
    return plan.tensors, _Extra(parts, seconds, whole)


def _with_bodies(roots: Sequence[Tensor]) -> tuple[networkx.MultiDiGraph, dict[int, Node]]:
    """Return the networkx view of a graph and of the bodies in it, and the nodes by their numbers.

    A node of a body has the number of its loop as ``inside``; dashed edges lead from the operands
    of the loop to the parameters of its body, and from the results of the body to the loop.
    """
    import networkx

    graph = to_networkx(roots)
    nodes = {node.number: node for node in topological_order(roots)}
    waiting = list(nodes.values())
    while waiting:
        loop = waiting.pop()
        for key, body in bodies_of(loop).items():
            order = topological_order(body.outputs)
            graph = networkx.compose(graph, to_networkx(body.outputs))
            operands = loop.inputs[len(loop.inputs) - len(body.inputs) :]
            for node in order:
                if node.number not in nodes:
                    nodes[node.number] = node
                    waiting.append(node)
                    graph.nodes[node.number]["inside"] = (loop.number, key)
            for operand, parameter in zip(operands, body.inputs, strict=True):
                if parameter.node.number in nodes:
                    graph.add_edge(
                        operand.node.number, parameter.node.number, output=operand.index, dashed=1
                    )
            for tensor in body.outputs:
                if tensor.node is not loop:
                    graph.add_edge(tensor.node.number, loop.number, output=tensor.index, dashed=1)
    return graph, nodes


def _arranged(
    title: str, graph: networkx.MultiDiGraph, nodes: Mapping[int, Node], extra: _Extra
) -> Picture:
    """Return the picture of a networkx view, with its nodes in boxes."""
    hidden = {
        number
        for number, node in nodes.items()
        if _is_number(node.outputs[0]) and graph.out_degree(number)
    }
    shown = sorted(number for number in graph.nodes if number not in hidden)
    picture = Picture(f"{title}: {len(nodes)} nodes", timed=bool(extra.seconds))
    paths = _paths(graph, nodes, shown, picture)
    position = {number: i for i, number in enumerate(shown)}
    for number in shown:
        node, path = nodes[number], paths[number]
        picture.nodes.append(_drawn(node, graph.nodes[number], path, extra))
        for box in path:
            picture.boxes[box].count += 1
            picture.boxes[box].share += picture.nodes[-1].share or 0.0
    for source, target, data in graph.edges(data=True):
        if source in position and target in position:
            spec = str(nodes[source].outputs[data["output"]].spec)
            dashed = bool(data.get("dashed"))
            picture.edges.append(Line(position[source], position[target], spec, dashed))
    return picture


def _drawn(node: Node, data: Mapping[str, Any], path: tuple[int, ...], extra: _Extra) -> Drawn:
    tensors = (*node.inputs, *node.outputs)
    known = all(shape_arithmetic.is_known(t.shape) for t in tensors)
    seconds = extra.seconds.get(node) if extra.seconds else None
    return Drawn(
        _label(node),
        data["label"],
        data["operator"],
        _kind(node),
        tuple(data["specs"]),
        {k: v if len(v) <= 80 else f"{v[:77]}..." for k, v in data["attributes"].items()},
        data["origin"],
        data["scope"],
        path,
        node.operator.flops(node) if known and node.inputs else None,
        float(sum(map(byte_count, tensors))) if known and node.inputs else None,
        seconds,
        None if seconds is None or not extra.whole else seconds / extra.whole,
        extra.parts.get(node, ""),
    )


def _is_number(tensor: Tensor) -> bool:
    """Return whether a tensor is a constant of one element, which is written where it is read."""
    return is_constant(tensor) and shape_arithmetic.size(tensor.shape) == 1


def _label(node: Node) -> str:
    """Return the operator, with its operands that are numbers; or the name of a leaf."""
    if not node.inputs:
        return node.outputs[0].name
    numbers = [
        f"{t.value.item():.4g}" for t in node.inputs if _is_number(t) and t.value is not None
    ]
    return f"{node.operator.name} ({', '.join(numbers)})" if numbers else node.operator.name


def _kind(node: Node) -> str:
    if isinstance(node.outputs[0], Variable):
        return "variable"
    if is_leaf(node):
        return "leaf"
    if bodies_of(node):
        return "loop"
    return "gradient" if node.origin.gradient else "forward"


def _paths(
    graph: networkx.MultiDiGraph, nodes: Mapping[int, Node], shown: Iterable[int], picture: Picture
) -> dict[int, tuple[int, ...]]:
    """Return the boxes of each node, and add them to the picture."""
    names: dict[int, tuple[str, ...]] = {}
    for number in sorted(nodes, key=lambda n: (_depth(graph, n), n)):
        node = nodes[number]
        loop = graph.nodes[number].get("inside")
        if loop is None:
            scope = [part for part in node.origin.scope.split("/") if part]
            # A layer and its gradient are one box: the boxes of a network are its layers then.
            names[number] = (*scope, *(["gradient"] if node.origin.gradient else []))
        else:
            of = f"{loop[1]} of {nodes[loop[0]].outputs[0].name.partition(':')[0]}"
            names[number] = (*names[loop[0]], of)
    names = _divided({number: names[number] for number in shown}, nodes)
    numbers: dict[tuple[str, ...], int] = {}
    paths: dict[int, tuple[int, ...]] = {}
    for number, path in names.items():
        boxes = []
        for end in range(1, len(path) + 1):
            key = path[:end]
            if key not in numbers:
                numbers[key] = len(picture.boxes)
                picture.boxes.append(Box(path[end - 1], path[end - 1] == "gradient"))
            boxes.append(numbers[key])
        paths[number] = tuple(boxes)
    return paths


def _depth(graph: networkx.MultiDiGraph, number: int) -> int:
    """Return in how many loops a node is."""
    depth = 0
    while "inside" in graph.nodes[number]:
        number = graph.nodes[number]["inside"][0]
        depth += 1
    return depth


def _divided(
    names: Mapping[int, tuple[str, ...]], nodes: Mapping[int, Node]
) -> dict[int, tuple[str, ...]]:
    """Return paths in which no box has more than a crowd of nodes and boxes directly inside.

    Nodes without a scope are divided too: by the lines that made them, then by their order.
    """
    inside: dict[tuple[str, ...], list[int]] = {}
    for number, path in names.items():
        inside.setdefault(path, []).append(number)
    result: dict[int, tuple[str, ...]] = {}
    for path, numbers in inside.items():
        if len(numbers) <= CROWD:
            result.update(dict.fromkeys(numbers, path))
            continue
        ordered = sorted(numbers, key=lambda n: (_line_of(nodes[n]), n))
        for line, group in groupby(ordered, key=lambda n: _line_of(nodes[n])):
            found = list(group)
            own = path if len(found) == len(numbers) else (*path, f"{line[0]}:{line[1]}")
            for number, steps in _by_order(found).items():
                result[number] = (*own, *steps)
    return {number: result[number] for number in names}


def _line_of(node: Node) -> tuple[str, int]:
    return node.origin.filename.rpartition("/")[2], node.origin.line


def _by_order(numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return for each node the boxes, of a crowd of neighbours each, that it is put in."""
    if len(numbers) <= CROWD:
        return dict.fromkeys(numbers, ())
    size = CROWD
    while size * CROWD < len(numbers):
        size *= CROWD
    result: dict[int, tuple[str, ...]] = {}
    for start in range(0, len(numbers), size):
        chunk = numbers[start : start + size]
        title = f"{start + 1} to {start + len(chunk)}"
        result.update((n, (title, *steps)) for n, steps in _by_order(chunk).items())
    return result
