"""Products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.linalg.sparse import is_sparse
from ksym.origin import current_origin

__all__ = ["matmul", "dot", "tensordot", "matrix_transpose", "inner", "outer", "vdot"]

_WIDE = ("int32", "int64")
"""The integers whose products float64 cannot hold."""


_INNER_PRODUCT = 4 << 20
"""The number of multiplications from which oneDNN computes a matrix times a transposed one: its
kernels are made for the processor that it runs on, those of MXNet's OpenBLAS for older ones."""


class _Matmul(Operator):
    half = False
    linear_in = (0, 1)

    def prepare(
        self, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        a, b = promoted(a, b)
        return [a, b], {"transpose_a": bool(transpose_a), "transpose_b": bool(transpose_b)}

    def call(self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False) -> Any:
        if (is_sparse(a) or is_sparse(b)) and not transpose_a and not transpose_b:
            return ops.sparse_dot(a, b)
        # NumPy's rule for vectors: a row on the left, a column on the right, dropped again.
        a, b = promoted(a, b)
        row, column = a.rank == 1, b.rank == 1
        if (row and transpose_a) or (column and transpose_b):
            raise ShapeError(
                "a vector has no two axes to swap", remedy="leave out the flag, or give a matrix"
            ).located(self.name, [a.spec, b.spec], current_origin())
        a = ops.expand_dims(a, 0) if row else a
        b = ops.expand_dims(b, 1) if column else b
        result = super().call(a, b, transpose_a, transpose_b)
        dropped = [axis for axis, vector in ((-2, row), (-1, column)) if vector]
        return ops.squeeze(result, dropped) if dropped else result

    def infer(self, a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Spec:
        if a.rank < 2 or b.rank < 2:
            raise ShapeError("a product needs vectors or matrices, not scalars", remedy="use a * b")
        rows, inner = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
        inner_b, columns = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
        if inner is not None and inner_b is not None and inner != inner_b:
            raise ShapeError(
                f"the inner dimensions differ, {inner} and {inner_b}",
                remedy="transpose or reshape one operand",
            )
        batch = shapes.broadcast(a.shape[:-2], b.shape[:-2])
        return Spec((*batch, rows, columns), a.dtype)

    def flops(self, node: Node) -> float:
        a = node.inputs[0].shape
        inner = a[-2] if node.attributes["transpose_a"] else a[-1]
        return 2.0 * (shapes.size(node.outputs[0].shape) or 0) * (inner or 0)

    def numpy(self, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
        a = np.swapaxes(a, -1, -2) if transpose_a else a
        b = np.swapaxes(b, -1, -2) if transpose_b else b
        return np.matmul(a, b)

    def onnx(self, emit: OnnxEmitter, node: Node, a: Any, b: Any) -> Any:
        values = []
        across = node.attributes["transpose_a"], node.attributes["transpose_b"]
        for value, tensor, swapped in zip((a, b), node.inputs, across, strict=True):
            if swapped:
                order = [*range(tensor.rank - 2), tensor.rank - 1, tensor.rank - 2]
                value = emit("Transpose", value, perm=order)
            narrow = tensor.dtype in ("bool", "int8", "uint8")
            values.append(emit("Cast", value, to=np.dtype("int32")) if narrow else value)
        y, dtype = emit("MatMul", *values), node.outputs[0].dtype
        return emit("Cast", y, to=np.dtype(dtype)) if dtype in ("bool", "int8", "uint8") else y

    def lower(self, emit: Emitter, node: Node, a: Any, b: Any) -> Any:
        left, right = node.inputs
        out = node.outputs[0]
        if 0 in left.shape:  # nothing to add up
            return emit("_zeros", shape=out.shape, dtype=out.dtype)
        if dtypes.is_float(out.dtype):
            return self._lower_floats(emit, node, left, right, a, b)
        # MXNet multiplies matrices of floats only; doubles are exact for sums of small integers.
        a, b = (emit("Cast", value, dtype="float64") for value in (a, b))
        result = self._lower_floats(emit, node, left, right, a, b)
        if out.dtype != "bool":
            result = emit("Cast", result, dtype="int64")  # larger results wrap around there
        return emit("Cast", result, dtype=out.dtype)

    def _lower_floats(
        self, emit: Emitter, node: Node, left: Tensor, right: Tensor, a: Any, b: Any
    ) -> Any:
        flags = node.attributes
        out = node.outputs[0].shape
        if right.rank == 2 and not flags["transpose_a"]:
            if left.rank == 2:
                work = (shapes.size(left.shape) or 0) * (out[1] or 0)
                if flags["transpose_b"] and work >= _INNER_PRODUCT:
                    return emit("FullyConnected", a, b, num_hidden=out[1], no_bias=True)
                return emit("dot", a, b, **flags)
            a = emit("_np_reshape", a, newshape=(-1, left.shape[-1]))
            return emit("_np_reshape", emit("dot", a, b, **flags), newshape=out)
        if left.rank == right.rank == 2:
            return emit("dot", a, b, **flags)
        batch = out[:-2]
        flat = int(np.prod([int(d) for d in batch if d is not None]))

        def stacked(value: Any, tensor: Tensor) -> Any:
            if tensor.shape[:-2] != batch:
                value = emit("_npi_broadcast_to", value, shape=(*batch, *tensor.shape[-2:]))
            return emit("_np_reshape", value, newshape=(flat, *tensor.shape[-2:]))

        product = emit("batch_dot", stacked(a, left), stacked(b, right), **flags)
        return emit("_np_reshape", product, newshape=out)

    def is_composed(self, node: Node) -> bool:
        return node.outputs[0].dtype in _WIDE

    def expand(self, node: Node) -> Tensor:
        return integer_matmul.make(node.inputs, node.attributes)

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        a, b = node.inputs
        across_a, across_b = node.attributes["transpose_a"], node.attributes["transpose_b"]
        if a.rank > 2 and b.rank == 2 and not across_a:
            # One product over all rows instead of a stack of products to be summed.
            rows, row_g = _as_rows(a), _as_rows(g)
            for_a = matmul(g, b, transpose_b=not across_b)
            return [
                for_a,
                matmul(row_g, rows, transpose_a=True)
                if across_b
                else matmul(rows, row_g, transpose_a=True),
            ]
        if across_a:
            for_a = matmul(b, g, transpose_a=across_b, transpose_b=True)
        else:
            for_a = matmul(g, b, transpose_b=not across_b)
        if across_b:
            for_b = matmul(g, a, transpose_a=True, transpose_b=across_a)
        else:
            for_b = matmul(a, g, transpose_a=not across_a)
        return [_unbatch(for_a, a, b), _unbatch(for_b, b, a)]

    def simplify(self, node: Node) -> Tensor | None:
        # A transposition of the last two axes is free inside of the product.
        operands = list(node.inputs)
        flags = [node.attributes["transpose_a"], node.attributes["transpose_b"]]
        for position, tensor in enumerate(operands):
            if tensor.node.operator is ops.transpose and tensor.rank >= 2:
                swapped = (*range(tensor.rank - 2), tensor.rank - 1, tensor.rank - 2)
                if tensor.node.attributes["axes"] == swapped:
                    operands[position] = tensor.node.inputs[0]
                    flags[position] = not flags[position]
        if operands == list(node.inputs):
            return None
        return matmul(operands[0], operands[1], transpose_a=flags[0], transpose_b=flags[1])

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor | None:
        (a, _), (b, varies) = operands
        if varies or b.rank != 2 or node.attributes["transpose_a"]:
            return None
        made: Tensor = self.make([a, b], node.attributes)
        return made

    def sample(self, draw: Draw) -> Sample:
        rows, inner, columns = (draw.choose((0, 1, 2, 3, 2, 3)) for _ in range(3))
        dtype = draw.dtype("float", "integer", "bool")
        attributes = {name: draw.choose((False, True)) for name in ("transpose_a", "transpose_b")}
        batch = list(draw.shape())
        batches = [[draw.choose((side, 1)) for side in batch] for _ in range(2)]
        batches[1] = batches[1][draw.integer(0, len(batch)) :]
        a = (inner, rows) if attributes["transpose_a"] else (rows, inner)
        b = (columns, inner) if attributes["transpose_b"] else (inner, columns)
        return Sample(
            draw.array((*batches[0], *a), dtype=dtype),
            draw.array((*batches[1], *b), dtype=dtype),
            attributes=attributes,
        )


def _as_rows(x: Tensor) -> Tensor:
    """Return a stack of matrices as one matrix, also where there are no elements."""
    sides = ops.shape_of(x)
    return ops.reshape(x, ops.stack([ops.prod(sides[:-1]), sides[-1]]))


def _unbatch(g: Tensor, operand: Tensor, other: Tensor) -> Tensor:
    if operand.rank == other.rank == 2:
        return g
    return ops.sum_to(g, ops.shape_of(operand))


matmul = _Matmul(
    "matmul",
    doc="""Return the product of matrices, or of stacks of them, by NumPy's rules.

    Args:
        a: A vector, a matrix, or a stack of matrices in the last two axes.
        b: Likewise; stacks broadcast against each other.
        transpose_a: Use a with its last two axes swapped; not for a vector.
        transpose_b: Use b with its last two axes swapped; not for a vector.

    Raises:
        ShapeError: The inner dimensions differ, the stacks do not broadcast, or an operand has no
            two axes to swap.
    """,
)


class _IntegerMatmul(_Matmul):
    internal = "`matmul` makes it for integers"
    runs = "host"

    def infer(self, a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Spec:
        if a.dtype not in _WIDE:
            raise DTypeError(f"for {' and '.join(_WIDE)} only, not {a.dtype}", remedy="use matmul")
        return super().infer(a, b, transpose_a, transpose_b)

    def is_composed(self, node: Node) -> bool:
        return False

    def simplify(self, node: Node) -> None:
        return None

    def merge_axes(self, node: Node) -> None:  # type: ignore[override]
        return None

    def sample(self, draw: Draw) -> Sample:
        drawn, dtype = super().sample(draw), draw.choose(_WIDE)
        # Large enough for sums beyond 2**53, which wrap in the end.
        most = float(np.iinfo(dtype).max // 2)
        arrays = [draw.array(a.shape, -most, most, dtype=dtype) for a in drawn.operands]
        return Sample(*arrays, attributes=drawn.attributes)


integer_matmul = _IntegerMatmul(
    "integer_matmul",
    doc="""Return the product of matrices of int32 or int64, which wraps around as NumPy's does.

    `matmul` of these dtypes is this operator: MXNet multiplies matrices of floats only.
    """,
)


def _dot_sample(draw: Draw) -> Sample:
    inner = draw.integer(0, 3)
    a = draw.choose(((), (inner,), (2, inner), (3, 1, inner)))
    b = draw.choose(((), (inner,), (inner, 3), (2, inner, 1)))
    dtype = draw.dtype("float", "integer", "bool")
    return Sample(draw.array(a, dtype=dtype), draw.array(b, dtype=dtype))


@composite(numpy=np.dot, sample=_dot_sample)
def dot(a: Any, b: Any) -> Tensor:
    """Return the sum of products over the last axis of a and the second-last of b, as numpy.dot.

    A scalar operand scales; a vector b is summed over its only axis.  One of them may be a sparse
    matrix of SciPy's, see `sparse_dot`.

    Raises:
        ShapeError: The sizes of these axes differ.
    """
    if is_sparse(a) or is_sparse(b):
        return ops.sparse_dot(a, b)
    a, b = promoted(a, b)
    if not a.rank or not b.rank:
        return ops.multiply(a, b)
    return tensordot(a, b, ((a.rank - 1,), (max(0, b.rank - 2),)))


def _tensordot_sample(draw: Draw) -> Sample:
    shared = draw.shape(max_rank=2, min_side=0)
    a = (*draw.shape(max_rank=2), *shared)
    b = (*shared, *draw.shape(max_rank=2))
    dtype = draw.dtype("float", "integer", "bool")
    pairs = [tuple(range(len(a) - len(shared), len(a))), tuple(range(len(shared)))]
    axes = draw.choose((len(shared), tuple(pairs)))
    return Sample(draw.array(a, dtype=dtype), draw.array(b, dtype=dtype), attributes={"axes": axes})


@composite(numpy=np.tensordot, sample=_tensordot_sample)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """Return the sum of products over pairs of axes, as NumPy's tensordot.

    Args:
        a: A tensor.
        b: A tensor.
        axes: A pair of equally long sequences of axes (or of two axes) of a and of b, or a number
            n that pairs the last n axes of a with the first n of b.

    Raises:
        ShapeError: The sizes of a pair differ, or an axis is named twice or out of range.
    """
    a, b = promoted(a, b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.rank, b.rank):
            raise ShapeError(f"{axes} axes cannot be taken from ranks {a.rank} and {b.rank}")
        axes = (range(a.rank - axes, a.rank), range(axes))
    over_a, over_b = (
        [shapes.axis(i, x.rank) for i in ((own,) if isinstance(own, int) else own)]
        for own, x in zip(axes, (a, b), strict=True)
    )
    if len(over_a) != len(over_b):
        raise ShapeError(f"{len(over_a)} axes of a cannot be paired with {len(over_b)} of b")
    labels_a = list(range(a.rank))
    labels_b = list(range(a.rank, a.rank + b.rank))
    for i, j in zip(over_a, over_b, strict=True):
        labels_b[j] = i
    output = [i for i in labels_a if i not in over_a]
    output += [i for i in labels_b if i >= a.rank]
    if len({*over_a}) < len(over_a) or len({*over_b}) < len(over_b):
        raise ShapeError(f"the axes {over_a} or {over_b} name an axis twice")
    return ops.contraction(a, b, labels_a, labels_b, output)


def _stack_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=2, min_side=0)
    return Sample(draw.array(shape, dtype=draw.dtype("float", "integer", "bool")))


def _swap_last(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


@composite(numpy=_swap_last, sample=_stack_sample)
def matrix_transpose(x: Any) -> Tensor:
    """Return a matrix, or each of a stack of them, with rows and columns swapped.

    Raises:
        ShapeError: x has fewer than two axes.
    """
    x = as_tensor(x)
    if x.rank < 2:
        raise ShapeError(f"a matrix has two axes or more, not {x.rank}")
    return ops.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _inner_sample(draw: Draw) -> Sample:
    inner = draw.integer(0, 3)
    a, b = (draw.choose(((), (inner,), (2, inner), (3, 1, inner))) for _ in range(2))
    dtype = draw.dtype("float", "integer", "bool")
    return Sample(draw.array(a, dtype=dtype), draw.array(b, dtype=dtype))


@composite(numpy=np.inner, sample=_inner_sample)
def inner(a: Any, b: Any) -> Tensor:
    """Return the sum of products over the last axes of both; a scalar operand scales.

    Raises:
        ShapeError: The sizes of the last axes differ.
    """
    a, b = promoted(a, b)
    if not a.rank or not b.rank:
        return ops.multiply(a, b)
    return tensordot(a, b, ((-1,), (-1,)))


def _outer_sample(draw: Draw) -> Sample:
    dtype = draw.dtype("float", "integer", "bool")
    shapes_drawn = (draw.shape(max_rank=2, min_side=0) for _ in range(2))
    return Sample(*(draw.array(shape, dtype=dtype) for shape in shapes_drawn))


@composite(numpy=np.outer, sample=_outer_sample)
def outer(a: Any, b: Any) -> Tensor:
    """Return the products of all elements of a, in rows, with all elements of b, in columns."""
    a, b = promoted(a, b)
    return ops.reshape(a, (-1, 1)) * ops.reshape(b, (1, -1))


def _vdot_sample(draw: Draw) -> Sample:
    shape = draw.shape(min_side=0)
    dtype = draw.dtype("float", "integer", "bool")
    return Sample(draw.array(shape, dtype=dtype), draw.array(shape, dtype=dtype))


@composite(numpy=np.vdot, sample=_vdot_sample)
def vdot(a: Any, b: Any) -> Tensor:
    """Return the sum of products of all elements of a with those of b, in row-major order.

    Raises:
        ShapeError: Their numbers of elements differ.
    """
    a, b = promoted(a, b)
    return tensordot(ops.reshape(a, (-1,)), ops.reshape(b, (-1,)), 1)
