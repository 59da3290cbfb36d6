"""Batching: compute nodes of a loop's body for all steps at once.

The values of a tensor of the body over all steps are a stack along a new first axis.  A product
with a matrix that is the same at each step becomes one product of the rows of all steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ksym import dtypes, ops, shapes
from ksym.errors import KsymError
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.view import ScanView
from ksym.operator.batching import Stacked
from ksym.ops.leaves import placeholder


def of_parameters(loop: ScanView) -> dict[Tensor, Stacked]:
    """Return the values over all steps of the parameters of a loop's body, without its states."""
    values = {p: Stacked(s, True) for p, s in zip(loop.elements, loop.sequences, strict=True)}
    values.update((p, Stacked(c, False)) for p, c in zip(loop.rest, loop.closed, strict=True))
    return values


def over_steps(node: Node, operands: Sequence[Stacked], length: int) -> Stacked | None:
    """Return a node's result over all steps; None if it cannot be computed at once.

    Args:
        node: A node of the body.
        operands: Its operands over all steps.
        length: The number of steps.
    """
    operator = node.operator
    if not operator.pure or operator.runs != "native" or len(node.outputs) > 1:
        return None
    if not any(operand.varies for operand in operands):
        if not node.inputs:
            return Stacked(node.outputs[0], False)
        return Stacked(operator.remake(node, [o.tensor for o in operands]).outputs[0], False)
    if any(operands[position].varies for position in operator.static_operands):
        return None
    rule = _elementwise if operator.elementwise else operator.batched
    try:
        found = rule(node, operands, length)
    except KsymError:  # the operator does not broadcast an operand that is the same at all steps
        return None
    return None if found is None else Stacked(found, True)


def _elementwise(node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
    rank = node.outputs[0].rank
    aligned = []
    for tensor, varies in operands:
        sides = tensor.shape[1:]
        if varies and len(sides) < rank:
            tensor = ops.reshape(tensor, (length, *(1,) * (rank - len(sides)), *sides))
        aligned.append(tensor)
    made: Tensor = node.operator.make(aligned, node.attributes)
    return made


class Whole:
    """The tensors of a loop's body over all steps, computed after the loop.

    Args:
        length: The number of steps.
        values: The tensors that are known over all steps, such as sequences for their elements.
        inside: The nodes that only a step can compute, so that their results have to be stacked;
            constants among them are constants outside too.

    Attributes:
        stacks: A placeholder for the stack of each tensor that the loop has to stack.
    """

    def __init__(self, length: int, values: Mapping[Tensor, Stacked], inside: Set[Node]):
        self._length = length
        self._values = dict(values)
        self._inside = {n for n in inside if n.inputs or not n.operator.pure}
        self._given = {tensor for node in self._inside for tensor in node.outputs}
        self._given.update(values)
        self.stacks: dict[Tensor, Tensor] = {}

    def of(self, tensor: Tensor) -> Stacked:
        """Return a tensor over all steps."""
        for node in topological_order([tensor], until=self._given):
            operands = [self._known(t) for t in node.inputs]
            made = over_steps(node, operands, self._length)
            if made is not None:
                self._values[node.outputs[0]] = made
                self._given.add(node.outputs[0])
        return self._known(tensor)

    def _known(self, tensor: Tensor) -> Stacked:
        if tensor not in self._values:
            self.stacks[tensor] = placeholder((self._length, *tensor.shape), tensor.dtype)
            self._values[tensor] = Stacked(self.stacks[tensor], True)
            self._given.add(tensor)
        return self._values[tensor]

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all steps.

        A product of two matrices that differ from step to step becomes one product of the rows of
        all steps; a linear operator is applied once, to the sum.
        """
        terms: list[Tensor] = []
        pending: list[tuple[Tensor, tuple[tuple[Node, int], ...]]] = [(tensor, ())]
        while pending:
            term, path = pending.pop()
            node = term.node
            if node not in self._inside and node.operator.pure and dtypes.is_float(term.dtype):
                if node.operator is ops.add and all(t.shape == term.shape for t in node.inputs):
                    pending += [(t, path) for t in node.inputs]
                    continue
                values = [self.of(t) for t in node.inputs]
                varying = [i for i, value in enumerate(values) if value.varies]
                if len(varying) == 1 and _is_linear(node, varying[0]):
                    pending.append((node.inputs[varying[0]], ((node, varying[0]), *path)))
                    continue
                found = _product_of_rows(node, values) if len(varying) == 2 else None
            else:
                found = None
            if found is None:
                found = self._sum_of(term)
            for outer, position in path:
                operands = [self.of(t).tensor for t in outer.inputs]
                operands[position] = found
                found = outer.operator.remake(outer, operands).outputs[0]
            terms.append(found)
        result = terms.pop()
        while terms:
            result = result + terms.pop()
        return result

    def _sum_of(self, tensor: Tensor) -> Tensor:
        value, varies = self.of(tensor)
        return ops.sum_(value, 0) if varies else ops.multiply(value, float(self._length))


def _is_linear(node: Node, position: int) -> bool:
    x = node.inputs[position]
    return (
        position in node.operator.linear_in
        and len(node.outputs) == 1
        and node.operator.runs == "native"
        and dtypes.is_float(x.dtype)
    )


def _product_of_rows(node: Node, values: Sequence[Stacked]) -> Tensor | None:
    """Return the sum over all steps of products of matrices, as one product."""
    if node.operator is not ops.matmul or any(t.rank != 2 for t in node.inputs):
        return None
    (a, _), (b, _) = values
    # The axis that a step sums over is moved next to the axis of steps, and merged with it.
    if not node.attributes["transpose_a"]:
        a = ops.transpose(a, (0, 2, 1))
    if node.attributes["transpose_b"]:
        b = ops.transpose(b, (0, 2, 1))
    rows = shapes.known(a.shape[:1])[0] * shapes.known(a.shape[1:2])[0]
    a, b = (ops.reshape(x, (rows, *x.shape[2:])) for x in (a, b))
    return ops.matmul(a, b, transpose_a=True)
