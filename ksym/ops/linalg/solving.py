"""Factorising and inverting matrices.  Reverse rules from Giles (2008), report NA-08/01, Oxford."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter, smallest
from ksym.operator.operands import floating, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks

__all__ = ["inv", "solve", "triangular_solve", "det", "slogdet"]


def check_square(a: Tensor) -> None:
    """Raise an error for anything but a square matrix, or a stack of them."""
    if a.rank < 2 or not shapes.compatible(a.shape[-1:], a.shape[-2:-1]):
        raise ShapeError(f"square matrices are needed, not {a.shape}")


def triangle(x: Tensor, lower: bool = True, diagonal: float = 1.0) -> Tensor:
    """Return one triangle of matrices, zeros in the other, with the diagonal scaled."""
    rows, columns = (ops.arange(ops.shape_of(x)[axis]) for axis in (-2, -1))
    row, column = ops.expand_dims(rows, 1), ops.expand_dims(columns, 0)
    inside = ops.greater(row, column) if lower else ops.less(row, column)
    rest = ops.where(ops.equal(row, column), x * diagonal, ops.zeros_like(x))
    return ops.where(inside, x, rest)


def _system(a: Tensor, b: Tensor) -> Spec:
    """Check the system a @ x = b, and return the shape and dtype of its solution."""
    check_square(a)
    if b.rank < 2 or not shapes.compatible(a.shape[-1:], b.shape[-2:-1]):
        raise ShapeError(f"right sides of shape {b.shape} do not fit matrices of {a.shape}")
    batch = shapes.broadcast(a.shape[:-2], b.shape[:-2])
    return Spec((*batch, *shapes.merge(a.shape[-1:], b.shape[-2:-1]), b.shape[-1]), a.dtype)


def _stacked(emit: Emitter, node: Node, *operands: Any) -> list[Any]:
    """Return the operands, broadcast to the stack of the result."""
    batch = node.outputs[0].shape[:-2]
    return [
        value
        if tensor.shape[:-2] == batch
        else emit("_npi_broadcast_to", value, shape=(*batch, *tensor.shape[-2:]))
        for value, tensor in zip(operands, node.inputs, strict=True)
    ]


def require_of_numbers(
    emit: Emitter, problem: str, flags: Callable[[], Any], read: Callable[[], Any]
) -> None:
    """Have a call fail if a flag is zero, unless a matrix has elements that are NaN.

    LAPACK factorises such a matrix, and gives NaN.

    Args:
        emit: The emitter.
        problem: As for `Emitter.require`.
        flags: As for `Emitter.require`.
        read: Emits the elements of the matrices that are read, zeros in the place of others.
    """

    def holds() -> Any:
        elements = read()
        numbers = smallest(emit, emit("_npi_equal", elements, elements))
        return emit("_npi_greater_equal", smallest(emit, flags()), numbers)

    emit.require(problem, holds)


def _require_regular(emit: Emitter, a: Any) -> None:
    """Have a call fail if a matrix is singular: a triangular factor has a zero on its diagonal."""

    def flags() -> Any:
        return emit("_npi_not_equal_scalar", emit("_npi_slogdet", a, outputs=2)[0], scalar=0)

    require_of_numbers(emit, "a matrix is singular", flags, lambda: a)


def dominant(draw: Draw, batch: Sequence[int]) -> np.ndarray:
    """Return matrices far from singular: in each row the diagonal is larger than the rest."""
    n = draw.integer(1, 3)
    a = draw.array((*batch, n, n), -0.4, 0.4)
    return (a + np.diag(draw.array((n,), 1.5, 3.0))).astype(a.dtype)


def cubed(node: Node) -> float:
    """Return the size of a node's first operand times its last side: n cubed for a square."""
    (shape, *_) = (t.shape for t in node.inputs)
    return float((shapes.size(shape) or 0) * (shape[-1] or 0))


class OfSquare(Operator):
    """An operator from a square matrix, or each of a stack of them, to another one."""

    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {}

    def infer(self, a: Tensor) -> Spec:
        check_square(a)
        return a.spec

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def sample(self, draw: Draw) -> Sample:
        return Sample(dominant(draw, draw.shape(min_side=0)))


class _Inverse(OfSquare):
    def flops(self, node: Node) -> float:
        return 2.0 * cubed(node)

    def numpy(self, a: Any) -> Any:
        return np.linalg.inv(a)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        _require_regular(emit, a)
        return emit("_npi_inv", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        y = node.outputs[0]
        return [-ops.matmul(ops.matmul(y, g, transpose_a=True), y, transpose_b=True)]


inv = _Inverse(
    "inv",
    doc="""Return the inverse of a matrix, or of each of a stack of them.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
        ExecutionError: At the call: one of them is singular.
    """,
)


class _Solve(Operator):
    half = False

    def prepare(self, a: Any, b: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(x) for x in promoted(a, b)], {}

    def call(self, a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        a, b = promoted(a, b)
        if b.rank and b.rank == a.rank - 1:
            column = ops.expand_dims(b, -1)
            return ops.squeeze(super().call(a, column, *args, **kwargs), -1)
        return super().call(a, b, *args, **kwargs)

    def infer(self, a: Tensor, b: Tensor) -> Spec:
        return _system(a, b)

    def flops(self, node: Node) -> float:
        a, b = (t.shape for t in node.inputs)
        return 2.0 / 3.0 * cubed(node) + 2.0 * (shapes.size(b) or 0) * (a[-1] or 0)

    def numpy(self, a: Any, b: Any) -> Any:
        return np.linalg.solve(a, b)

    def lower(self, emit: Emitter, node: Node, a: Any, b: Any) -> Any:
        _require_regular(emit, a)
        return emit("_npi_solve", *_stacked(emit, node, a, b))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a, b), x = node.inputs, node.outputs[0]
        for_b = solve.make([ops.matrix_transpose(a), g], {})
        for_a = -ops.matmul(for_b, x, transpose_b=True)
        return [ops.sum_to(for_a, ops.shape_of(a)), ops.sum_to(for_b, ops.shape_of(b))]

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def sample(self, draw: Draw) -> Sample:
        batch = draw.shape(min_side=0)
        a = dominant(draw, batch)
        own = [draw.choose((side, 1)) for side in batch]
        return Sample(a, draw.array((*own, a.shape[-1], draw.integer(1, 3))))


solve = _Solve(
    "solve",
    doc="""Return the solution x of a @ x = b.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.
        b: Matrices of right sides; vectors if there is one axis less than in a.  Stacks broadcast.

    Raises:
        ShapeError: The matrices are not square, or b does not fit.
        ExecutionError: At the call: a matrix is singular.
    """,
)


class _TriangularSolve(_Solve):
    def prepare(
        self, a: Any, b: Any, lower: bool = True, transpose_a: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, _ = super().prepare(a, b)
        return operands, {"lower": bool(lower), "transpose_a": bool(transpose_a)}

    def infer(self, a: Tensor, b: Tensor, lower: bool, transpose_a: bool) -> Spec:  # type: ignore[override]
        return _system(a, b)

    def flops(self, node: Node) -> float:
        a, b = (t.shape for t in node.inputs)
        return 1.0 * (shapes.size(b) or 0) * (a[-1] or 0)

    def numpy(self, a: Any, b: Any, lower: bool, transpose_a: bool) -> Any:  # type: ignore[override]
        a = np.tril(a) if lower else np.triu(a)
        a = np.swapaxes(a, -1, -2) if transpose_a else a
        n, forward = a.shape[-1], lower != transpose_a
        x = np.zeros(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:], b.dtype)
        for row in range(n) if forward else reversed(range(n)):
            done = slice(None, row) if forward else slice(row + 1, None)
            known = a[..., row : row + 1, done] @ x[..., done, :]
            x[..., row, :] = (b[..., row, :] - known[..., 0, :]) / a[..., row, row, None]
        return x

    def lower(self, emit: Emitter, node: Node, a: Any, b: Any) -> Any:
        out, flags = node.outputs[0], node.attributes
        if 0 in out.shape:  # MXNet's kernel fails on empty matrices
            return emit("_zeros", shape=out.shape, dtype=out.dtype)
        operands = _stacked(emit, node, a, b)
        return emit("_linalg_trsm", *operands, lower=flags["lower"], transpose=flags["transpose_a"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a, b), x = node.inputs, node.outputs[0]
        lower, across = node.attributes["lower"], node.attributes["transpose_a"]
        for_b = triangular_solve.make([a, g], {"lower": lower, "transpose_a": not across})
        left, right = (x, for_b) if across else (for_b, x)
        for_a = -triangle(ops.matmul(left, right, transpose_b=True), lower)
        return [ops.sum_to(for_a, ops.shape_of(a)), ops.sum_to(for_b, ops.shape_of(b))]

    def sample(self, draw: Draw) -> Sample:
        a, b = super().sample(draw).operands
        flags = {name: draw.choose((False, True)) for name in ("lower", "transpose_a")}
        return Sample(a, b, attributes=flags)


triangular_solve = _TriangularSolve(
    "triangular_solve",
    doc="""Return the solution x of a @ x = b for a triangular a.

    The other triangle of a is not read, and its gradient is zero.  Zeros on the diagonal give
    infinities or NaN rather than an error.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.
        b: Matrices of right sides; vectors if there is one axis less than in a.  Stacks broadcast.
        lower: Whether to read the lower triangle of a, or the upper one.
        transpose_a: Solve with a transposed.

    Raises:
        ShapeError: The matrices are not square, or b does not fit.
    """,
)


class _Det(Operator):
    half = False

    def prepare(self, a: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [floating(a)], {}

    def infer(self, a: Tensor) -> Spec:
        check_square(a)
        return Spec(a.shape[:-2], a.dtype)

    def flops(self, node: Node) -> float:
        return 2.0 / 3.0 * cubed(node)

    def numpy(self, a: Any) -> Any:
        return np.linalg.det(a)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        return emit("Det", x)

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        out = node.outputs[0]
        if 0 in node.inputs[0].shape:  # MXNet does not write the result of 0 by 0 matrices
            return emit("_full", shape=out.shape, value=1.0, dtype=out.dtype)
        return emit("_npi_det", a)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (a,), y = node.inputs, node.outputs[0]
        scale = ops.expand_dims(ops.expand_dims(g * y, -1), -1)
        return [scale * ops.matrix_transpose(inv(a))]

    def merge_axes(self, node: Node) -> Sequence[Tensor]:
        return ranks.stacks(node)

    def sample(self, draw: Draw) -> Sample:
        return Sample(dominant(draw, draw.shape(min_side=0)))


det = _Det(
    "det",
    doc="""Return the determinant of a matrix, or of each of a stack of them.

    The gradient inverts the matrix, so there is none for a singular one.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
    """,
)


class _Slogdet(_Det):
    def infer(self, a: Tensor) -> tuple[Spec, Spec]:  # type: ignore[override]
        check_square(a)
        return (Spec(a.shape[:-2], a.dtype),) * 2

    def numpy(self, a: Any) -> Any:
        return np.linalg.slogdet(a)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:
        det = emit("Det", x)
        return emit("Sign", det), emit("Log", emit("Abs", det))

    def lower(self, emit: Emitter, node: Node, a: Any) -> Any:
        if 0 in node.inputs[0].shape:
            one, zero = (
                emit("_full", shape=out.shape, value=value, dtype=out.dtype)
                for out, value in zip(node.outputs, (1.0, 0.0), strict=True)
            )
            return one, zero
        return emit("_npi_slogdet", a, outputs=2)

    def gradient(  # type: ignore[override]
        self, node: Node, for_sign: Tensor | None, g: Tensor | None
    ) -> list[Tensor | None]:
        (a,) = node.inputs
        if g is None:
            return [ops.zeros_like(a)]
        return [ops.expand_dims(ops.expand_dims(g, -1), -1) * ops.matrix_transpose(inv(a))]


slogdet = _Slogdet(
    "slogdet",
    doc="""Return the sign of the determinant, and the logarithm of its absolute value.

    Of a singular matrix 0 and minus infinity; there is no gradient then.

    Args:
        a: Square matrices in the last two axes; integers are computed in float64.

    Raises:
        ShapeError: They are not square.
    """,
)
