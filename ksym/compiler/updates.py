"""Taking the elementwise end of updates out of the native graph, as fused loops.

An optimizer is a chain of elementwise operators on arrays of a weight's shape.  As native operators
each is a pass over memory, and the new value is copied into the variable afterwards; as a loop all
of them are done while a block of each array is in the cache, and the results are written where they
belong.  A loop is described here, and run by `ksym.runtime.fused`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ksym.graph import Node, Tensor, topological_order
from ksym.variables import Variable


class Instruction(NamedTuple):
    """One step of a loop: a NumPy function of registers.

    Registers are numbered: the arrays first, then the scalars, then the results of instructions.
    """

    function: np.ufunc
    operands: tuple[int, ...]


class Loop(NamedTuple):
    """Elementwise work on arrays of one size.

    Attributes:
        arrays: The arrays that are read, all of one shape and dtype.
        scalars: The scalars that are read, of the same dtype.
        instructions: What is computed for each element.
        results: For each variable that gets a new value, the register that holds it.
    """

    arrays: list[Tensor]
    scalars: list[Tensor]
    instructions: list[Instruction]
    results: dict[Variable, int]


def fuse_updates(
    outputs: Sequence[Tensor], updates: Mapping[Variable, Tensor]
) -> tuple[list[Loop], dict[Variable, Tensor]]:
    """Return loops, and the updates that are left to native graphs.

    Args:
        outputs: What is computed besides.
        updates: The new value of each variable.
    """
    order = topological_order([*outputs, *updates.values()])
    uses = Counter(tensor for node in order for tensor in node.inputs)
    asked = set(outputs)
    fused: dict[Variable, set[Node]] = {}
    for variable, value in updates.items():
        if variable.rank and 0 not in variable.shape and value not in asked:
            inside = _elementwise_end(variable, value, asked)
            if inside:
                fused[variable] = inside
    fused = _without_outside_readers(fused, uses)
    groups = _connected(fused)
    loops = [_loop(group, updates, set().union(*(fused[v] for v in group))) for group in groups]
    loops = _independent(loops)
    done = {variable for loop in loops for variable in loop.results}
    return loops, {v: t for v, t in updates.items() if v not in done}


def _is_fusible(node: Node, variable: Variable) -> bool:
    """Whether a node can be a step of a loop over arrays like the variable's."""
    (first, *rest) = node.outputs
    return (
        not rest
        and node.operator.elementwise
        and node.operator.ufunc is not None
        and first.shape == variable.shape
        and first.dtype == variable.dtype in ("float32", "float64")
        and all(t.dtype == first.dtype and t.shape in ((), first.shape) for t in node.inputs)
    )


def _elementwise_end(variable: Variable, value: Tensor, asked: set[Tensor]) -> set[Node]:
    """The nodes before an update that can be steps of its loop."""
    inside: set[Node] = set()
    stack = [value.node]
    while stack:
        node = stack.pop()
        if node not in inside and _is_fusible(node, variable) and node.outputs[0] not in asked:
            inside.add(node)
            stack.extend(tensor.node for tensor in node.inputs)
    return inside


def _without_outside_readers(
    fused: dict[Variable, set[Node]], uses: Counter[Tensor]
) -> dict[Variable, set[Node]]:
    """Leave to the native graph what something outside of the loops reads too."""
    union: set[Node] = set().union(*fused.values())
    while True:
        read = Counter(tensor for node in union for tensor in node.inputs)
        shared = {n for n in union if uses[n.outputs[0]] > read[n.outputs[0]]}
        if not shared:
            return {v: nodes & union for v, nodes in fused.items() if nodes & union}
        union -= shared


def _connected(fused: dict[Variable, set[Node]]) -> list[list[Variable]]:
    """Group variables whose loops share steps."""
    groups: list[tuple[list[Variable], set[Node]]] = []
    for variable, nodes in fused.items():
        apart = []
        variables, together = [variable], set(nodes)
        for group, others in groups:
            if others & together:
                variables, together = [*group, *variables], others | together
            else:
                apart.append((group, others))
        groups = [*apart, (variables, together)]
    return [variables for variables, _ in groups]


def _loop(
    variables: Sequence[Variable], updates: Mapping[Variable, Tensor], inside: set[Node]
) -> Loop:
    """Describe the loop that gives some variables their new values."""
    order = [n for n in topological_order([updates[v] for v in variables]) if n in inside]
    read = dict.fromkeys(t for node in order for t in node.inputs if t.node not in inside)
    # An update that is nothing but an array computed elsewhere is a step of copying.
    copied = [updates[v] for v in variables if updates[v].node not in inside]
    read.update(dict.fromkeys(copied))
    arrays, scalars = [t for t in read if t.rank], [t for t in read if not t.rank]
    registers = {tensor: i for i, tensor in enumerate([*arrays, *scalars])}
    instructions = []
    for node in order:
        instructions.append(
            Instruction(node.operator.ufunc, tuple(registers[t] for t in node.inputs))  # type: ignore[arg-type]
        )
        registers[node.outputs[0]] = len(registers)
    return Loop(arrays, scalars, instructions, {v: registers[updates[v]] for v in variables})


def _independent(loops: Sequence[Loop]) -> list[Loop]:
    """Return the loops none of which reads a variable that another one writes.

    All updates see the values from before the call; what would see a new one stays native.
    """
    kept = list(loops)
    while True:
        written = Counter(v for loop in kept for v in loop.results)
        clashing = [
            loop
            for loop in kept
            if any(t in written and t not in loop.results for t in [*loop.arrays, *loop.scalars])
        ]
        if not clashing:
            return kept
        kept.remove(clashing[0])
