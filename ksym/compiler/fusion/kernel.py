"""The description of a kernel: a fused elementwise loop, apart from the code that runs it.

`ksym.compiler.codegen.llvm` generates the code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ksym import dtypes, ops, shapes
from ksym.compiler.costs import Costs
from ksym.compiler.fusion import formulas
from ksym.graph import Node, Tensor, topological_order
from ksym.operator.declaration import Operator
from ksym.operator.layout import Layout, contiguous
from ksym.operator.machine import Combination, Register
from ksym.ops.leaves import is_constant
from ksym.variables import Variable


class View(NamedTuple):
    """The elements of an array that a kernel reads or writes, and their order.

    Attributes:
        tensor: The tensor whose array it is.
        offset: The place of the first element in the array.
        strides: The distance between elements along each axis of the kernel; zero along axes on
            which all steps use the same element.
    """

    tensor: Tensor
    offset: int
    strides: tuple[int, ...]


class Instruction(NamedTuple):
    """One operator applied to each element.

    Attributes:
        operator: The operator.
        operands: The numbers of the registers it is applied to: first come the elements that are
            read (`Kernel.reads`), then the results of the instructions, in their order.
        dtype: The dtype of the result.
        attributes: The attributes of the node.
    """

    operator: Operator
    operands: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any]


class Write(NamedTuple):
    """A register that is written to an array.

    Attributes:
        register: The number of the register.
        view: The elements that are written.
        reduction: How the elements that are written to one place are combined; None if each element
            has a place of its own.
    """

    register: int
    view: View
    reduction: Combination | None = None


class Kernel(NamedTuple):
    """A fused elementwise loop over arrays.

    Attributes:
        shape: The shape that the loop runs over.
        reads: The views that are read.  For each element all reads come before all writes, so an
            array may be read and written.
        instructions: The instructions for each element, in the order in which they run.
        writes: The registers that are written, and the views they are written to.
    """

    shape: tuple[int, ...]
    reads: tuple[View, ...]
    instructions: tuple[Instruction, ...]
    writes: tuple[Write, ...]

    def dtype_of(self, register: int) -> str:
        """Return the dtype of a register."""
        if register < len(self.reads):
            return self.reads[register].tensor.dtype
        return self.instructions[register - len(self.reads)].dtype

    @property
    def arrays(self) -> list[View]:
        """The views that are read from memory: all but constant scalars."""
        return [view for view in self.reads if not is_number(view.tensor)]

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that are read, without repetition."""
        return list(dict.fromkeys(view.tensor for view in self.reads))

    @property
    def results(self) -> list[Tensor]:
        """The tensors and variables that are written, without repetition."""
        return list(dict.fromkeys(write.view.tensor for write in self.writes))


def data(node: Node) -> Sequence[Tensor]:
    """Return the operands whose elements a kernel reads: all but shapes, which it knows already."""
    known = node.operator.static_operands
    if not known:
        return node.inputs
    return [tensor for position, tensor in enumerate(node.inputs) if position not in known]


def can_compile(node: Node, costs: Costs) -> bool:
    """Return whether a node can be an instruction of a kernel, and may pay as one."""
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
    """Return the value of an integer constant scalar, None for any other tensor."""
    if is_number(tensor) and tensor.dtype in dtypes.INTEGERS and tensor.value is not None:
        return int(tensor.value.item())
    return None


def is_collected(node: Node) -> bool:
    """Return whether a node is a concatenation or reduction that a kernel can write."""
    if node.operator.combination is not None:
        return node.inputs[0].dtype in formulas.COMPILED_FLOATS and summands(node) > 1
    return node.operator is ops.concatenate


def summands(node: Node) -> int:
    """Return the number of elements that a reduction combines to one; zero for other nodes."""
    if node.operator.combination is None:
        return 0
    (x,), (out,) = node.inputs, node.outputs
    return (shapes.size(x.shape) or 0) // max(shapes.size(out.shape) or 0, 1)


def shape_over(node: Node) -> shapes.Shape:
    """Return the shape that a kernel for a node runs over."""
    return (node.inputs[0] if is_collected(node) else node.outputs[0]).shape


def is_number(tensor: Tensor) -> bool:
    """Return whether a tensor is a constant scalar, which a kernel has instead of an array."""
    return is_constant(tensor) and not tensor.rank


def is_view(node: Node) -> bool:
    """Return whether a node only selects elements of its operand, which can be read in place."""
    operator = node.operator
    return operator.viewing and 0 not in node.outputs[0].shape and operator.is_view(node)


def look_through(tensor: Tensor, views: Collection[Node]) -> tuple[View, tuple[int, ...]]:
    """Return a view of the array that holds a tensor's elements, and the tensor's shape.

    Args:
        tensor: The tensor to read.
        views: The nodes, such as slices, that are not computed but looked through.
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
    """Return the tensor below all views of a tensor, whose array is read."""
    while tensor.node in views:
        tensor = tensor.node.inputs[0]
    return tensor


def describe(
    inside: Collection[Node],
    results: Sequence[Tensor],
    targets: Mapping[Variable, Tensor] | None = None,
    views: Collection[Node] = (),
) -> Kernel:
    """Return the kernel that computes some nodes.

    Args:
        inside: The nodes of the kernel: elementwise ones, views whose elements are copied, and
            concatenations and reductions of their results.
        results: The tensors to write to arrays of their own.
        targets: The new values of variables, of the shape of the kernel, which are written to the
            variables; one that no node inside computes is copied.
        views: The nodes outside that are looked through.
    """
    targets = targets or {}
    wanted = [*results, *targets.values()]
    given = [t for t in wanted if t.node not in inside]
    outside = {t for node in inside for t in node.inputs if t.node not in inside}.union(given)
    order = topological_order(wanted, until=outside)
    copied = {node for node in order if is_view(node)}
    computed = [node for node in order if not is_collected(node) and node not in copied]
    whole = shapes.known(shape_over(order[-1]) if order else wanted[0].shape)
    read = [t for node in order for t in (node.outputs if node in copied else data(node))]
    read = list(dict.fromkeys([*(t for t in read if t in outside or t.node in copied), *given]))
    registers = {tensor: number for number, tensor in enumerate(read)}
    instructions = _instructions(computed, registers)
    writes = [write for tensor in results for write in _writes(tensor, registers)]
    everything = contiguous(whole)
    writes += [Write(registers[t], View(v, 0, everything)) for v, t in targets.items()]
    views = {*views, *copied}
    reads = tuple(_broadcast(*look_through(tensor, views), whole) for tensor in read)
    return Kernel(whole, reads, instructions, tuple(writes))


def _instructions(nodes: Sequence[Node], registers: dict[Tensor, int]) -> tuple[Instruction, ...]:
    """Return the instructions for elementwise nodes, and add the registers of their results.

    Args:
        nodes: The nodes in a topological order.
        registers: The register of each tensor that the kernel reads.
    """
    first = len(registers)
    instructions: list[Instruction] = []
    for node in nodes:
        (result,) = node.outputs
        if node.operator is ops.broadcast_to:  # each read is broadcast anyway
            registers[result] = registers[node.inputs[0]]
            continue
        operands = tuple(registers[t] for t in node.inputs)
        registers[result] = first + len(instructions)
        instructions.append(Instruction(node.operator, operands, result.dtype, node.attributes))
    return tuple(instructions)


def _broadcast(view: View, shape: tuple[int, ...], whole: tuple[int, ...]) -> View:
    """Return a view with a stride for each axis of the kernel."""
    return view._replace(strides=(0,) * (len(whole) - len(shape)) + view.strides)


def _writes(tensor: Tensor, registers: Mapping[Tensor, int]) -> list[Write]:
    """Return the writes to the array of a result: one, or one for each part of a concatenation."""
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
        return [Write(registers[x], View(tensor, 0, along), operator.combination)]
    axis = attributes["axis"]
    writes, start = [], 0
    for part in tensor.node.inputs:
        shape = shapes.known(part.shape)
        own = tuple(0 if size == 1 else s for size, s in zip(shape, strides, strict=True))
        writes.append(Write(registers[part], View(tensor, start * strides[axis], own)))
        start += shape[axis]
    return writes


def collapsed(kernel: Kernel) -> tuple[list[int], list[View]]:
    """Merge the axes of a kernel that are contiguous in all arrays.

    Returns:
        The size of each axis that is left, and the views of `Kernel.arrays` and of
        `Kernel.writes` along these axes.
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
