"""What a fused loop is: elementwise work on arrays, described apart from the code that does it.

A kernel is emitted as LLVM's code by `ksym.compiler.codegen.llvm`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ksym import dtypes, graph, ops, shapes
from ksym.compiler.costs import Costs
from ksym.compiler.fusion import formulas
from ksym.graph import Node, Tensor, topological_order
from ksym.operator.declaration import Operator
from ksym.operator.layout import Layout, contiguous
from ksym.operator.machine import Combination, Register
from ksym.ops.leaves import is_constant
from ksym.variables import Variable


class View(NamedTuple):
    """An array, or a part of it, as a loop goes through it.

    Attributes:
        tensor: Whose array it is.
        offset: Where the first element lies.
        strides: How far apart elements are along each axis of the loop; zero where they are one.
    """

    tensor: Tensor
    offset: int
    strides: tuple[int, ...]


class Instruction(NamedTuple):
    """One operator applied to each element.

    Registers are numbered: what is read first, then the results of the steps.
    """

    operator: Operator
    operands: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any]


class Write(NamedTuple):
    """Where results go.

    Attributes:
        register: What is written.
        view: Where to.
        reduction: The reduction, where many elements have one place and are combined.
    """

    register: int
    view: View
    reduction: Operator | None = None


class Kernel(NamedTuple):
    """Elementwise work on arrays.

    Attributes:
        shape: What the loop runs over.
        reads: What is read; of an element everything is read before anything is written.
        steps: What is computed for each element.
        writes: What is written.  A variable may be among what is read.
    """

    shape: tuple[int, ...]
    reads: tuple[View, ...]
    instructions: tuple[Instruction, ...]
    writes: tuple[Write, ...]

    def dtype_of(self, register: int) -> str:
        """The dtype of what a register holds."""
        if register < len(self.reads):
            return self.reads[register].tensor.dtype
        return self.instructions[register - len(self.reads)].dtype

    @property
    def arrays(self) -> list[View]:
        """What is read from memory: all but constant scalars."""
        return [view for view in self.reads if not is_number(view.tensor)]

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that are read, each once."""
        return list(dict.fromkeys(view.tensor for view in self.reads))

    @property
    def results(self) -> list[Tensor]:
        """The tensors that are computed, and the variables that are written, each once."""
        return list(dict.fromkeys(write.view.tensor for write in self.writes))


REDUCTIONS: Mapping[Operator, Combination] = {
    operator: operator.combination
    for operator in graph.OPERATORS.values()
    if operator.combination is not None
}
"""The reductions that loops compute, as they are declared."""


def data(node: Node) -> Sequence[Tensor]:
    """The operands whose elements a loop reads; shapes are known to it already."""
    known = node.operator.static_operands
    if not known:
        return node.inputs
    return [tensor for position, tensor in enumerate(node.inputs) if position not in known]


def can_compile(node: Node, costs: Costs) -> bool:
    """Whether a node can be an instruction of a kernel that pays."""
    (first, *rest) = node.outputs
    if rest:
        return False
    if node.operator is ops.broadcast_to:
        return first.dtype in formulas.DTYPES
    if not node.operator.elementwise:
        return False
    operands = [Register("", t.dtype, _whole_number(t)) for t in node.inputs]
    known = formulas.known(node.operator, operands, node.attributes)
    return (
        known is not None
        and known.dtype == first.dtype
        and (not known.calls or (shapes.size(first.shape) or 0) <= costs.called_elements)
    )


def _whole_number(tensor: Tensor) -> int | None:
    """The integer that a tensor is, where it is a part of the code."""
    if is_number(tensor) and tensor.dtype in dtypes.INTEGERS and tensor.value is not None:
        return int(tensor.value.item())
    return None


def is_collected(node: Node) -> bool:
    """Whether a kernel can make a result of others' elements: join them, or reduce them."""
    if node.operator.combination is not None:
        return node.inputs[0].dtype in formulas.COMPILED_FLOATS and summands(node) > 1
    return node.operator is ops.concatenate


def summands(node: Node) -> int:
    """How many elements a reduction combines for each of its own; zero for other nodes."""
    if node.operator.combination is None:
        return 0
    (x,), (out,) = node.inputs, node.outputs
    return (shapes.size(x.shape) or 0) // max(shapes.size(out.shape) or 0, 1)


def shape_over(node: Node) -> shapes.Shape:
    """What a loop for a node runs over."""
    return (node.inputs[0] if is_collected(node) else node.outputs[0]).shape


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor is a constant scalar, which can be a part of the code."""
    return is_constant(tensor) and not tensor.rank


def is_view(node: Node) -> bool:
    """Whether a node only says which elements of its operand to look at."""
    operator = node.operator
    return operator.viewing and 0 not in node.outputs[0].shape and operator.is_view(node)


def look_through(tensor: Tensor, views: Collection[Node]) -> tuple[View, tuple[int, ...]]:
    """Return how a tensor's elements lie in the array that they come from, and its shape.

    Args:
        tensor: What is read.
        views: The nodes, such as slices, to look through.
    """
    path = []
    while tensor.node in views:
        path.append(tensor.node)
        tensor = tensor.node.inputs[0]
    shape = shapes.known(tensor.shape)
    layout = Layout(shape, 0, contiguous(shape))
    for node in reversed(path):
        layout = node.operator.layout(node, layout)
    return View(tensor, layout.offset, layout.strides), layout.shape


def source_of(tensor: Tensor, views: Collection[Node]) -> Tensor:
    """Return the tensor whose array is read for one that may be seen through views."""
    while tensor.node in views:
        tensor = tensor.node.inputs[0]
    return tensor


def describe(
    inside: Collection[Node],
    results: Sequence[Tensor],
    targets: Mapping[Variable, Tensor] | None = None,
    views: Collection[Node] = (),
) -> Kernel:
    """Return the loop that computes results by some nodes.

    Args:
        inside: The nodes to do in it: elementwise ones, views whose elements are copied, and joins
            and sums of their results.
        results: What it computes besides.
        targets: The new values of variables, of the shape of the loop; one that no node inside
            computes is copied.
        views: Nodes that are looked through where something is read.
    """
    targets = targets or {}
    wanted = [*results, *targets.values()]
    order = [node for node in topological_order(wanted) if node in inside]
    copied = {node for node in order if is_view(node)}
    computed = [node for node in order if not is_collected(node) and node not in copied]
    whole = shapes.known(shape_over(order[-1]) if order else wanted[0].shape)
    read = dict.fromkeys(
        t
        for node in order
        for t in (node.outputs if node in copied else data(node))
        if t.node not in inside or t.node in copied
    )
    read.update(dict.fromkeys(t for t in wanted if t.node not in inside))
    views = {*views, *copied}
    registers = {tensor: number for number, tensor in enumerate(read)}
    instructions = []
    for node in computed:
        (result,) = node.outputs
        if node.operator is ops.broadcast_to:  # what is read is broadcast anyway
            registers[result] = registers[node.inputs[0]]
            continue
        instructions.append(
            Instruction(
                node.operator,
                tuple(registers[t] for t in node.inputs),
                result.dtype,
                node.attributes,
            )
        )
        registers[result] = len(read) + len(instructions) - 1
    writes = [write for tensor in results for write in _writes(tensor, registers)]
    everything = contiguous(whole)
    writes += [Write(registers[t], View(v, 0, everything)) for v, t in targets.items()]
    reads = tuple(_broadcast(*look_through(tensor, views), whole) for tensor in read)
    return Kernel(whole, reads, tuple(instructions), tuple(writes))


def _broadcast(view: View, shape: tuple[int, ...], whole: tuple[int, ...]) -> View:
    """A view with a stride for each axis of the loop."""
    return view._replace(strides=(0,) * (len(whole) - len(shape)) + view.strides)


def _writes(tensor: Tensor, registers: Mapping[Tensor, int]) -> list[Write]:
    """What is written to the array of a result: one register, or one beside the other."""
    strides = contiguous(shapes.known(tensor.shape))
    if tensor in registers:
        return [Write(registers[tensor], View(tensor, 0, strides))]
    operator, attributes = tensor.node.operator, tensor.node.attributes
    if operator.combination is not None:
        (x,) = tensor.node.inputs
        reduced, kept = attributes["axis"], iter(strides)
        if attributes["keepdims"]:
            kept = iter(s for axis, s in enumerate(strides) if axis not in reduced)
        along = tuple(0 if axis in reduced else next(kept) for axis in range(x.rank))
        return [Write(registers[x], View(tensor, 0, along), operator)]
    axis = attributes["axis"]
    writes, start = [], 0
    for part in tensor.node.inputs:
        shape = shapes.known(part.shape)
        own = tuple(0 if size == 1 else s for size, s in zip(shape, strides, strict=True))
        writes.append(Write(registers[part], View(tensor, start * strides[axis], own)))
        start += shape[axis]
    return writes


def collapsed(kernel: Kernel) -> tuple[list[int], list[View]]:
    """Return the fewest axes that the loop can run over.

    Returns:
        The size of each axis, and the views of `Loop.arrays` and `Loop.writes` along these.
    """
    views = [*kernel.arrays, *(write.view for write in kernel.writes)]
    sizes: list[int] = []
    columns: list[tuple[int, ...]] = []
    for axis, size in enumerate(kernel.shape):
        if size == 1:
            continue
        column = tuple(view.strides[axis] for view in views)
        if columns and columns[-1] == tuple(stride * size for stride in column):
            sizes[-1] *= size
            columns[-1] = column
        else:
            sizes.append(size)
            columns.append(column)
    return sizes, [
        view._replace(strides=tuple(column[k] for column in columns))
        for k, view in enumerate(views)
    ]
