"""Plans: the data that the compiler returns and the runtime runs.

Nothing here needs MXNet or arrays.  `ksym.compiler.compile` makes plans, `ksym.runtime.program`
binds them to arrays and runs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ksym.compiler.codegen.nnvm import NativeGraph
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.mode import Mode
from ksym.compiler.partition import Copies
from ksym.graph import Node, Tensor, replace
from ksym.loops.view import ScanView
from ksym.ops.given import is_leaf
from ksym.ops.leaves import constant, placeholder
from ksym.shapes import Shape
from ksym.variables import Variable


class Target(NamedTuple):
    """The properties of a device that decide how a graph is compiled for it.

    Attributes:
        kernels: Whether the host can touch the memory of arrays, so that code is compiled that
            works on it: on a CPU with a synchronous engine.
        costs: The costs there, which decide what is fused, stacked and shared among threads.
        fusible: Whether MXNet fuses elementwise operators, which it knows by its oldest names only.
    """

    kernels: bool
    costs: Costs = DEFAULT
    fusible: bool = False


class FrozenGraph(NamedTuple):
    """A graph that is compiled anew for each combination of shapes it is given.

    Attributes:
        tensors: The outputs, then the new values of variables.
        variables: These variables.
        mode: The mode to compile in.
        target: The target to compile for.
    """

    tensors: Sequence[Tensor]
    variables: Sequence[Variable]
    mode: Mode
    target: Target


class Source(NamedTuple):
    """What a plan was compiled from.

    Attributes:
        graph: The graph.
        given: For each placeholder one of known shape, or a constant.
    """

    graph: FrozenGraph
    given: Mapping[Tensor, Tensor]


class Rest(NamedTuple):
    """The part of a graph that waits for the shapes of dynamic results.

    Attributes:
        slots: A placeholder for each output of the plan before it.
        graph: The graph in terms of these.
        static: The positions of the slots whose values are compiled in, and not only the shapes.
    """

    slots: Sequence[Tensor]
    graph: FrozenGraph
    static: Sequence[int]

    def given(
        self, sizes: Sequence[Shape], values: Sequence[np.ndarray] = ()
    ) -> dict[Tensor, Tensor]:
        """Return for each slot a placeholder of known shape, or a constant.

        Args:
            sizes: The shape of each.
            values: The values of those that are static.
        """
        pairs = zip(self.slots, sizes, strict=True)
        given = {slot: placeholder(size, slot.dtype, name=slot.name) for slot, size in pairs}
        for position, value in zip(self.static, values, strict=True):
            given[self.slots[position]] = constant(value)
        return given


class Folded(NamedTuple):
    """The values of a plan that are kept until a variable changes, and how they are computed.

    Attributes:
        leaves: The leaf of the plan that stands for each value.
        plan: The plan that computes them, of variables and constants only.
        variables: The variables that they depend on.
        key: What is equal for another plan of the same values of the same variables; None if there
            are no variables.
    """

    leaves: Sequence[Tensor]
    plan: Plan
    variables: Sequence[Variable]
    key: Hashable


class StepByStep(NamedTuple):
    """The work of nodes that are interpreted one after the other."""


class HostWork(NamedTuple):
    """The work of a node that MXNet has no operator for: it is computed in NumPy.

    Attributes:
        node: The node.
    """

    node: Node


class CollectiveWork(NamedTuple):
    """The work of a node that communicates with other ranks.

    Attributes:
        node: The node.
    """

    node: Node


class ScanWork(NamedTuple):
    """The work of a loop with a known number of steps.

    Attributes:
        node: The node of the loop.
        view: Its signature, with only the states, outputs and sequences that are needed.
        results: For each output of the part its kind and its position among those of this kind: a
            state at the end (``"final"``), an output of all steps (``"stacked"``), or a state
            before each step (``"history"``).
        carried: The states that a later step reads, or that are kept for each step.
        body: The plan of one step: the new states, then the outputs; None if there is no step.
    """

    node: Node
    view: ScanView
    results: Sequence[tuple[str, int]]
    carried: Sequence[int]
    body: Plan | None


class WhileWork(NamedTuple):
    """The work of a loop that runs as long as its condition holds.

    Attributes:
        node: The node of the loop.
        test: The plan of the condition.
        body: Returns the plan of one step, which is compiled when the first one is taken.
    """

    node: Node
    test: Plan
    body: Callable[[], Plan]


class CondWork(NamedTuple):
    """The work of a branch.

    Attributes:
        node: The node of the branch.
        branch: Returns the plan for a condition, which is compiled when it is first taken.
    """

    node: Node
    branch: Callable[[bool], Plan]


Work = (
    NativeGraph
    | Kernel
    | Product
    | Copies
    | StepByStep
    | HostWork
    | CollectiveWork
    | ScanWork
    | WhileWork
    | CondWork
)


class Part(NamedTuple):
    """A piece of a graph as it is run: one native graph, kernel, product, loop or the like.

    Attributes:
        inputs: The tensors that it reads: those of earlier parts, and leaves whose arrays it needs.
        outputs: The tensors that it computes for other parts, or as outputs of the plan.
        nodes: The nodes that it computes.
        work: The work that computes them, which the runtime binds to arrays.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    work: Work


@dataclass(frozen=True)
class Plan:
    """A compiled graph: the parts in the order in which they run; printed, it explains each part.

    Attributes:
        tensors: The graph after the passes: the outputs, then the new values of variables.
        outputs: The tensors of the parts to return, or to pass to the rest.
        parts: The parts in the order in which they run.
        copies: For each variable that is updated by a copy, the tensor of the parts to copy.
        kernels: The kernels that compute the new values of all other variables in place.  They run
            after everything else.
        operands: For each computed tensor that these kernels read, the tensor of the parts that
            stands for it.
        drawn: The nodes of random numbers, in the order in which they are drawn.
        mode: The mode in which the graph was compiled.
        target: The target for which it was compiled.
        rest: The graph that is compiled when the shapes of the outputs are known; None if the
            outputs are those of the whole graph.
        folded: The values that are kept until a variable changes; None if there are none.
    """

    tensors: Sequence[Tensor]
    outputs: Sequence[Tensor]
    parts: Sequence[Part]
    copies: Mapping[Variable, Tensor]
    kernels: Sequence[Kernel]
    operands: Mapping[Tensor, Tensor]
    drawn: Sequence[Node]
    mode: Mode
    target: Target
    rest: Rest | None
    folded: Folded | None = None

    @property
    def whole(self) -> list[Tensor]:
        """The graph after the passes, with the computation of what is kept between calls."""
        if self.folded is None:
            return list(self.tensors)
        computed = zip(self.folded.leaves, self.folded.plan.tensors, strict=True)
        return replace(self.tensors, dict(computed))

    @property
    def written(self) -> list[Variable]:
        """The variables that are updated."""
        inside = [tensor for kernel in self.kernels for tensor in kernel.results]
        return [*self.copies, *(tensor for tensor in inside if isinstance(tensor, Variable))]

    @property
    def is_compiled(self) -> bool:
        """Whether a run of the plan is one call of compiled code."""
        return (
            self.rest is None
            and not self.drawn
            and all(_is_compiled(part.work) for part in self.parts)
        )

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _is_compiled(work: Work) -> bool:
    if isinstance(work, ScanWork):
        return work.body is not None and work.body.is_compiled
    return isinstance(work, Kernel | Product | Copies)


# --- printing ------------------------------------------------------------------------------------

_WHY: dict[type, str] = {
    NativeGraph: "kernels of MXNet in one graph, as many as their order allows",
    Kernel: "elementwise work in one pass over memory",
    Product: "a product between kernels is one call of compiled code or BLAS",
    Copies: "the memory of an input or a variable changes with the next call",
    StepByStep: 'mode="interpret" computes node by node',
    HostWork: "MXNet has no such operator: NumPy computes it",
    CollectiveWork: "all ranks of the job take part in it",
    ScanWork: "a loop runs its body's plan again and again",
    WhileWork: "a loop runs its body's plan as long as its condition holds",
    CondWork: "a branch is compiled when it is first taken",
}


def _lines(plan: Plan) -> list[str]:
    """Return the lines that describe a plan, a paragraph for each part."""
    source = {
        tensor: f"part {number}"
        for number, part in enumerate(plan.parts, 1)
        for tensor in part.outputs
        if not is_leaf(tensor.node)
    }
    how = ", one call of compiled code" if plan.is_compiled else ""
    lines = [f"{len(plan.parts)} part(s), {plan.mode.kind}{how}"]
    for number, part in enumerate(plan.parts, 1):
        read = [f"{source.get(t, 'given')}: {t.name}" for t in part.inputs]
        lines += [
            f"part {number}: {title_of(part.work, part.nodes)}",
            f"  why    {_WHY[type(part.work)]}",
            *([f"  reads  {', '.join(read)}"] if read else []),
            *(f"  gives  {t.name} {t.spec}" for t in part.outputs),
            *_places(part.nodes),
        ]
        for title, inner in _inner(part.work):
            lines += [f"  {title}", *(f"    {line}" for line in _lines(inner))]
    if plan.folded is not None:
        lines.append("kept until a variable changes:")
        lines += [f"  {line}" for line in _lines(plan.folded.plan)]
    for variable, tensor in plan.copies.items():
        origin = source.get(tensor, tensor.name)
        lines.append(f"update of {variable.name} {variable.spec}: a copy of {origin}")
    for kernel in plan.kernels:
        names = ", ".join(f"{tensor.name} {tensor.spec}" for tensor in kernel.results)
        lines.append(f"update of {names}: {title_of(kernel, ())}")
    if plan.rest is not None:
        waiting = ", ".join(str(tensor.spec) for tensor in plan.outputs)
        what = "values and sizes" if plan.rest.static else "sizes"
        lines.append(f"the rest is compiled when the {what} of {waiting} are known")
    return lines


def title_of(work: Work, nodes: Sequence[Node]) -> str:
    """Return the title of a part: the kind of work, and its operators."""
    if isinstance(work, NativeGraph):
        return f"native graph: {_counted(node.operator.name for node in nodes)}"
    if isinstance(work, Kernel):
        reductions = [w.view.tensor.node.operator.name for w in work.writes if w.reduction]
        names = [*(step.operator.name for step in work.instructions), *reductions]
        return f"kernel over {work.shape}: {_counted(names) or 'copies'}"
    if isinstance(work, Product):
        (left, right), (a, b) = (work.a, work.b), (work.transpose_a, work.transpose_b)
        sides = [
            (m.columns, m.rows) if t else (m.rows, m.columns) for m, t in ((left, a), (right, b))
        ]
        return f"product: {sides[0]} @ {sides[1]}"
    if isinstance(work, ScanWork):
        direction = ", from the last to the first" if work.view.reverse else ""
        return f"scan: {work.view.length} step(s){direction}"
    return _counted(node.operator.name for node in nodes) or "copies"


def _counted(names: Iterable[str]) -> str:
    return ", ".join(
        f"{count} {name}" if count > 1 else name for name, count in Counter(names).items()
    )


def _places(nodes: Sequence[Node]) -> list[str]:
    """Return the line that names the places in the user's code that nodes come from."""
    places = dict.fromkeys(f"{n.origin.filename}:{n.origin.line}" for n in nodes if n.inputs)
    return [f"  from   {', '.join(places)}"] if places else []


def _inner(work: Work) -> list[tuple[str, Plan]]:
    """Return the plans inside of a part that are compiled already, and their titles."""
    if isinstance(work, ScanWork) and work.body is not None:
        return [("body:", work.body)]
    return [("condition:", work.test)] if isinstance(work, WhileWork) else []
