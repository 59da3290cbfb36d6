"""Printing graphs as indented text: as they were built, as compiled, and what each pass did."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from ksym.compiler import Pass
from ksym.compiler.plan import Plan
from ksym.errors import ArgumentError, GraphError
from ksym.graph import Node, Tensor, topological_order
from ksym.inspection.compiled import plan_for
from ksym.inspection.subject import Subject, subject_of
from ksym.loops.body import Body, bodies_of
from ksym.shapes import Shape

LIMIT = 200
"""The number of lines of a graph that are printed, unless the user gives another."""

DEEPEST = 32
"""The indentation, in levels, from which on the level is written as a number: a chain of a thousand
nodes would be a million spaces."""

Stage = Literal["built", "compiled", "passes"]


def debugprint(
    what: Any,
    *,
    stage: Stage = "built",
    shapes: Mapping[Tensor, Shape] | None = None,
    limit: int | None = LIMIT,
    file: TextIO | Literal["str"] | None = None,
) -> str | None:
    """Print a graph as indented text: below each node its operands, with shapes and dtypes.

    A node that several others read is printed once, with a mark such as ``#1``; where it is read
    again, a line has its name and ``#1 above``.  The bodies of loops and branches follow below.

    Args:
        what: A tensor, an update, a list or mapping of these, a `ksym.function`, a function of
            Keras's backend, or a Keras model.
        stage: ``"built"`` for the graph as the user made it; ``"compiled"`` for the one that runs,
            with the part of the plan that computes each node; ``"passes"`` for what each pass of
            the compiler removed and added.
        shapes: The shapes of inputs to compile for.  By default those of the function's last call.
        limit: The number of lines of a graph, or of a pass, to print; None for all.
        file: Where to print, by default ``sys.stdout``; ``"str"`` returns the text instead.

    Raises:
        ArgumentError: `file` is no file, or `shapes` no mapping to shapes.
        GraphError: `what` is no graph, there is no such stage, or it can be compiled for no shapes.
        InputError: `shapes` names what is no input, or a shape does not fit.

    >>> import ksym
    >>> x = ksym.placeholder((2,), name="x")
    >>> y = ksym.tanh(x)
    >>> print(ksym.debugprint(y * y, file="str").replace(y.name, "tanh"))  # doctest: +ELLIPSIS
    graph of 1 tensor(s): 3 nodes
    output 0:
      multiply_... float32 (2,) ...
        tanh float32 (2,) #1 ...
          x float32 (2,) placeholder ...
        tanh float32 (2,) #1 above
    """
    subject = subject_of(what)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise GraphError(
            f"limit is {limit!r}", remedy="give a whole number of lines from 1 on, or None for all"
        )
    if file is not None and file != "str" and not hasattr(file, "write"):
        raise ArgumentError(
            f"file is {file!r}", remedy='give an open file, or "str" for the text as the result'
        )
    if stage == "built":
        lines = [*_listing(subject.title, subject.roots, {}, limit)]
    elif stage == "compiled":
        plan = plan_for(subject.compilable(), shapes)
        lines = [*_compiled(subject, plan, limit)]
    elif stage == "passes":
        lines = [*_differences(subject, shapes, limit)]
    else:
        raise GraphError(
            f"there is no stage {stage!r}", remedy='give "built", "compiled" or "passes"'
        )
    text = "\n".join(lines)
    if file == "str":
        return text
    print(text, file=file or sys.stdout)
    return None


# --- a graph -------------------------------------------------------------------------------------


def _listing(
    title: str, roots: Mapping[str, Tensor], parts: Mapping[Node, int], limit: int | None
) -> Iterator[str]:
    """Yield the lines of a graph, and of the bodies inside of it.

    Args:
        title: The title.
        roots: The tensors to print, by their titles.
        parts: The number of the part of a plan that computes each node.
        limit: The number of lines.
    """
    order = topological_order(roots.values())
    waiting = [(f"{title}: {len(order)} nodes", roots, order)]
    left = sys.maxsize if limit is None else limit
    skipped = 0
    while waiting:
        heading, tensors, order = waiting.pop(0)
        for node in order:
            for name, body in bodies_of(node).items():
                inside = {f"gives {i}": t for i, t in enumerate(body.outputs)}
                head = f"{name} of {node.outputs[0].name}:{_parameters(body)}"
                waiting.append((head, inside, topological_order(body.outputs)))
        if not left:
            skipped += len(order)
            continue
        yield heading
        seen: set[Node] = set()
        for line in islice(_tree(tensors, order, parts, seen), left):
            left -= 1
            yield line
        skipped += len(order) - len(seen)
    if skipped:
        yield f"... {skipped} more nodes; limit=None prints all"


def _parameters(body: Body) -> str:
    takes = ", ".join(f"{t.name} {t.spec}" for t in body.inputs)
    return f" takes {takes}" if takes else ""


def _tree(
    roots: Mapping[str, Tensor], order: Sequence[Node], parts: Mapping[Node, int], seen: set[Node]
) -> Iterator[str]:
    """Yield a line for each root, each node and each repetition of a node; fill `seen`."""
    readers = Counter(tensor.node for node in order for tensor in node.inputs)
    readers.update(tensor.node for tensor in roots.values())
    marks: dict[Node, int] = {}
    for title, root in roots.items():
        yield f"{title}:"
        stack = [(1, root)]
        while stack:
            depth, tensor = stack.pop()
            node = tensor.node
            indent = "  " * min(depth, DEEPEST)
            if depth > DEEPEST:
                indent += f"({depth}) "
            if node in marks:
                yield f"{indent}{_name(tensor)} {tensor.spec} #{marks[node]} above"
                continue
            seen.add(node)
            mark = ""
            if readers[node] > 1 and node.inputs:
                marks[node] = len(marks) + 1
                mark = f" #{marks[node]}"
            part = f"  part {parts[node]}" if node in parts else ""
            yield f"{indent}{_name(tensor)} {tensor.spec}{mark}{describe(node)}{part}"
            stack += [(depth + 1, operand) for operand in reversed(node.inputs)]


def _name(tensor: Tensor) -> str:
    """Return the name of a tensor on one line."""
    return " ".join(tensor.name.split())


def describe(node: Node) -> str:
    """Return what a line says of a node besides its name and result."""
    operator = node.operator.name
    named = [] if node.outputs[0].name.startswith(f"{operator}_") else [operator]
    where = [f"{Path(node.origin.filename).name}:{node.origin.line}", node.origin.scope]
    where += ["(gradient)"] if node.origin.gradient else []
    said = " ".join(["", *named, *_attributes(node)])
    return f"{said}  {' '.join(filter(None, where))}"


_SAID = ("name", "shape", "dtype", "static", "default", "spec")
"""Attributes of leaves that the line has anyway."""


def _attributes(node: Node) -> Iterator[str]:
    """Yield the attributes of a node, shortened."""
    for key, value in node.attributes.items():
        if isinstance(value, Body):
            continue  # printed below the graph
        if not node.inputs and key in _SAID:
            continue
        text = " ".join(str(value).split())
        yield f"{key}={text if len(text) <= 40 else text[:37] + '...'}"


# --- what the compiler makes of it ---------------------------------------------------------------


def _compiled(subject: Subject, plan: Plan, limit: int | None) -> Iterator[str]:
    parts = {node: number for number, part in enumerate(plan.parts, 1) for node in part.nodes}
    title = f"{subject.title}, compiled to {len(plan.parts)} part(s)"
    yield from _listing(title, _roots(subject, plan), parts, limit)
    if plan.rest is not None:
        yield "the rest is compiled when the sizes of these are known"


def _roots(subject: Subject, plan: Plan) -> dict[str, Tensor]:
    """Return the tensors of a plan by what they are."""
    if plan.rest is None:
        return dict(zip(subject.roots, plan.tensors, strict=True))
    return {f"given to the rest {i}": t for i, t in enumerate(plan.tensors)}


def _differences(
    subject: Subject, shapes: Mapping[Tensor, Shape] | None, limit: int | None
) -> Iterator[str]:
    """Yield for each pass the nodes that it removed and added, then the plan."""
    stages: list[tuple[Pass | None, Sequence[Tensor]]] = []
    plan = plan_for(
        subject.compilable(), shapes, lambda done, result: stages.append((done, result))
    )
    (_, first), *passes = stages
    before = _lines_of(first)
    yield f"{subject.title}: {sum(before.values())} nodes before the passes"
    for done, result in passes:
        after = _lines_of(result)
        removed, added = before - after, after - before
        if done is not None and (removed or added):
            yield f"{done.name}: {sum(removed.values())} removed, {sum(added.values())} added"
            yield from _cut([*_counted("-", removed), *_counted("+", added)], limit)
        before = after
    yield f"after the passes: {sum(before.values())} nodes"
    yield from _cut(str(plan).splitlines(), limit)


def _lines_of(tensors: Sequence[Tensor]) -> Counter[str]:
    """Return a line for each node that does not say which nodes it reads, but what kind of them.

    So a pass that replaces a node does not change the lines of all the nodes behind it.
    """
    return Counter(
        f"{node.operator.name}({', '.join(str(t.spec) for t in node.inputs)}) "
        f"-> {', '.join(str(t.spec) for t in node.outputs)}{describe(node)}"
        for node in topological_order(tensors)
    )


def _counted(sign: str, lines: Counter[str]) -> list[str]:
    return [f"  {sign} {f'{count} x ' if count > 1 else ''}{line}" for line, count in lines.items()]


def _cut(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    """Yield lines up to the limit, and a last one that says how many are left out."""
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"... {len(lines) - limit} more lines; limit=None prints all"
