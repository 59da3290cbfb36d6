"""Products beyond that of two matrices: powers, Kronecker's product and the cross product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.linalg.solving import check_square, dominant

__all__ = ["matrix_power", "kron", "cross"]


def _sample_power(draw: Draw) -> Sample:
    n = draw.integer(-3, 4)
    a = dominant(draw, draw.shape(max_rank=1, min_side=0))
    if n >= 0 and draw.dtype("float", "integer") == "int32":
        a = np.rint(a).astype("int32")
    return Sample(a, attributes={"n": n})


@composite(numpy=np.linalg.matrix_power, sample=_sample_power)
def matrix_power(a: Any, n: int) -> Tensor:
    """Return the product of n equal matrices, computed by squaring.

    Args:
        a: Square matrices in the last two axes.
        n: The power; for a negative one the inverse is multiplied, as float64 for integers.

    Raises:
        ShapeError: The matrices are not square, or n is not an integer.
        ExecutionError: At the call: n is negative and a matrix is singular.
    """
    a = as_tensor(a)
    check_square(a)
    try:
        n = index(n)
    except TypeError:
        raise ShapeError(f"a matrix is multiplied a whole number of times, not {n!r}") from None
    if n < 0:
        a, n = ops.inv(a), -n
    elif n < 2 and None in a.shape[-2:]:
        # No product is left that would check at the call whether they are square.
        a = a + ops.zeros_like(ops.matmul(a, a))
    if not n:
        return ops.matrix_diag(ops.ones_like(a[..., 0]))
    result: Any = None
    while n:
        if n % 2:
            result = a if result is None else ops.matmul(result, a)
        n //= 2
        a = ops.matmul(a, a) if n else a
    return result


def _sample_kron(draw: Draw) -> Sample:
    arrays = []
    for _ in range(2):
        shape = draw.shape(max_rank=3, min_side=0)
        arrays.append(draw.array(shape, dtype=draw.dtype("float", "integer", "bool")))
    return Sample(*arrays)


@composite(numpy=np.kron, sample=_sample_kron)
def kron(a: Any, b: Any) -> Tensor:
    """Return Kronecker's product: b times each element of a, laid out as the elements of a are.

    Args:
        a: A tensor of any rank; the one of lower rank gets axes of size 1 in front.
        b: A tensor of any rank.
    """
    a, b = promoted(a, b)
    rank = max(a.rank, b.rank)
    if not rank:
        return ops.multiply(a, b)
    sides = [[1] * (rank - x.rank) + [ops.shape_of(x)[i] for i in range(x.rank)] for x in (a, b)]
    pairs = list(zip(*sides, strict=True))
    behind = [[math.prod(side[i + 1 :]) for side in sides] for i in range(rank)]
    # All axes at once would broadcast alternately, for which MXNet takes five axes at most.
    (m, n), (rest_a, rest_b) = pairs[0], behind[0]
    x = ops.reshape(a, [m, 1, rest_a, 1]) * ops.reshape(b, [1, n, 1, rest_b])
    for i in range(1, rank - 1):
        (m, n), (rest_a, rest_b) = pairs[i], behind[i]
        x = ops.reshape(x, [math.prod(m * n for m, n in pairs[:i]), m, rest_a, n, rest_b])
        x = ops.transpose(x, (0, 1, 3, 2, 4))
    return ops.reshape(x, [m * n for m, n in pairs])


class _Cross(Operator):
    linear_in = (0, 1)

    def prepare(self, a: Any, b: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return promoted(a, b), {}

    def call(
        self,
        a: Any,
        b: Any,
        axisa: int = -1,
        axisb: int = -1,
        axisc: int = -1,
        axis: int | None = None,
    ) -> Any:
        if axis is not None:
            axisa = axisb = axisc = axis
        with self.named():
            a, b = ops.moveaxis(a, axisa, -1), ops.moveaxis(b, axisb, -1)
            return ops.moveaxis(super().call(a, b), -1, axisc)

    def infer(self, a: Tensor, b: Tensor) -> Spec:
        if a.dtype == "bool":
            raise DTypeError("vectors are of numbers", remedy="cast booleans to int32")
        for vector in (a, b):
            if not shapes.compatible(vector.shape[-1:], (3,)):
                raise ShapeError(f"vectors have three elements, not {vector.shape[-1:]}")
        return Spec((*shapes.broadcast(a.shape[:-1], b.shape[:-1]), 3), a.dtype)

    def numpy(self, a: Any, b: Any, **axes: Any) -> Any:
        return np.cross(a, b, **axes)

    def expand(self, node: Node) -> Tensor:
        next_a, next_b = (ops.roll(x, -1, -1) for x in node.inputs)
        last_a, last_b = (ops.roll(x, -2, -1) for x in node.inputs)
        return next_a * last_b - last_a * next_b

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        a, b = node.inputs
        by_a, by_b = cross.make([b, g], {}), cross.make([g, a], {})
        return [ops.sum_to(by_a, ops.shape_of(a)), ops.sum_to(by_b, ops.shape_of(b))]

    def sample(self, draw: Draw) -> Sample:
        batch, dtype = draw.shape(max_rank=2, min_side=0), draw.dtype("float", "integer")
        stretched = tuple(draw.choose((side, 1)) for side in batch)
        places = [draw.integer(-len(batch) - 1, len(batch)) for _ in range(3)]
        axes = dict(zip(("axisa", "axisb", "axisc"), places, strict=True))
        if draw.choose((True, False)):
            places, axes = places[:1] * 2, {"axis": places[0]}
        a, b = (
            np.moveaxis(draw.array((*sides, 3), dtype=dtype), -1, axis)
            for sides, axis in zip((batch, stretched), places, strict=False)
        )
        return Sample(a, b, attributes=axes)


cross = _Cross(
    "cross",
    doc="""Return the cross product of vectors of three elements.

    Vectors of two elements, which NumPy 2 does not take any more either, are refused.

    Args:
        a: Vectors along an axis.
        b: Vectors along an axis; the other axes broadcast.
        axisa: The axis of the vectors in a.
        axisb: Their axis in b.
        axisc: Their axis in the result.
        axis: In place of the three: the same axis in all of them.

    Raises:
        DTypeError: The elements are booleans.
        ShapeError: The axis has another size than 3, or the others do not broadcast.
    """,
)
