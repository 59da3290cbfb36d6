"""What a fused loop is: elementwise work on arrays, described apart from the code that does it.

A loop is emitted as LLVM's code (`ksym.compiler.llvm`) where llvmlite is installed, and as calls of
NumPy on blocks of arrays (`ksym.runtime.fused`) where it can be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ksym import ops, shapes
from ksym.compiler import formulas
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.registry import Operator, is_constant
from ksym.variables import Variable


class Step(NamedTuple):
    """One operator applied to each element.

    Registers are numbered: the operands first, then the results of the steps.
    """

    operator: Operator
    operands: tuple[int, ...]
    dtype: str


class Loop(NamedTuple):
    """Elementwise work on arrays.

    Attributes:
        shape: What the loop runs over; operands are broadcast to it.
        operands: What is read.
        steps: What is computed for each element.
        results: The registers that are written, each to an array of its own.
        targets: For each result the variable that takes it, whose old value may be an operand.
    """

    shape: tuple[int, ...]
    operands: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    targets: tuple[Variable | None, ...]

    def dtype_of(self, register: int) -> str:
        """The dtype of what a register holds."""
        if register < len(self.operands):
            return self.operands[register].dtype
        return self.steps[register - len(self.operands)].dtype

    @property
    def arrays(self) -> list[Tensor]:
        """The operands that are in memory: all but constant scalars."""
        return [tensor for tensor in self.operands if not is_number(tensor)]


def data(node: Node) -> Sequence[Tensor]:
    """The operands whose elements a loop reads; shapes are known to it already."""
    return node.inputs[:1] if node.operator is ops.broadcast_to else node.inputs


def can_compile(node: Node) -> bool:
    """Whether a node can be a step of a loop that is compiled."""
    return (
        len(node.outputs) == 1
        and (node.operator.elementwise or node.operator is ops.broadcast_to)
        and formulas.is_known(
            node.operator, tuple(t.dtype for t in data(node)), node.outputs[0].dtype
        )
    )


def can_call(node: Node) -> bool:
    """Whether a node can be a step of a loop of NumPy's functions on blocks of arrays."""
    (first, *rest) = node.outputs
    return (
        not rest
        and node.operator.elementwise
        and node.operator.ufunc is not None
        and first.dtype in formulas.FLOATS
        and all(t.dtype == first.dtype and t.shape in ((), first.shape) for t in node.inputs)
    )


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor is a constant scalar, which can be a part of the code."""
    return is_constant(tensor) and not tensor.rank


def describe(
    inside: Collection[Node],
    results: Sequence[Tensor],
    targets: Mapping[Variable, Tensor] | None = None,
) -> Loop:
    """Return the loop that computes results by some nodes.

    Args:
        inside: The elementwise nodes to do in it.
        results: What it computes besides, all of one shape.
        targets: The new values of variables, of the same shape; one that no node inside computes is
            copied.
    """
    targets = targets or {}
    wanted = [*results, *targets.values()]
    order = [node for node in topological_order(wanted) if node in inside]
    read = dict.fromkeys(t for node in order for t in data(node) if t.node not in inside)
    read.update(dict.fromkeys(t for t in wanted if t.node not in inside))
    registers = {tensor: number for number, tensor in enumerate(read)}
    steps = []
    for node in order:
        (result,) = node.outputs
        if node.operator is ops.broadcast_to:  # operands are broadcast anyway
            registers[result] = registers[node.inputs[0]]
            continue
        steps.append(Step(node.operator, tuple(registers[t] for t in node.inputs), result.dtype))
        registers[result] = len(read) + len(steps) - 1
    return Loop(
        shapes.known(wanted[0].shape),
        tuple(read),
        tuple(steps),
        tuple(registers[t] for t in wanted),
        (*(None for _ in results), *targets),
    )


def collapsed(loop: Loop) -> tuple[list[int], list[tuple[bool, ...]]]:
    """Return the fewest axes that the loop can run over.

    Returns:
        The size of each axis, and for each array of `Loop.arrays` along which of them it extends
        (along the others it is broadcast).
    """
    rank = len(loop.shape)
    patterns = []
    for tensor in loop.arrays:
        shape = (1,) * (rank - tensor.rank) + shapes.known(tensor.shape)
        patterns.append(tuple(size != 1 for size in shape))
    sizes: list[int] = []
    columns: list[tuple[bool, ...]] = []
    for axis, size in enumerate(loop.shape):
        if size == 1:
            continue
        column = tuple(pattern[axis] for pattern in patterns)
        if columns and columns[-1] == column:
            sizes[-1] *= size
        else:
            sizes.append(size)
            columns.append(column)
    return sizes, [tuple(column[k] for column in columns) for k in range(len(patterns))]
