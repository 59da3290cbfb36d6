"""Functions of Keras's module numpy that are sums of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.tensor import Tensor, made, promoted

__all__ = [
    *("correlate", "cross", "dot", "einsum", "inner", "kron", "matmul", "outer"),
    *("tensordot", "vdot"),
]

Graph = ksym.Tensor


def _product(dtype: str, graphs: list[Graph], compute: Callable[..., Graph]) -> Tensor:
    """Return a sum of products in a dtype; of integers and booleans they are exact."""
    if dtypes.is_float(dtype):
        return made(compute(*graphs), dtype)
    wide = [
        ksym.cast(
            graph,
            "int64"
            if dtype == "uint32"
            else "int32"
            if dtypes.stored(dtype) != "int64"
            else "int64",
        )
        for graph in graphs
    ]
    result = compute(*wide)
    return Tensor(ksym.cast(result, "bool"), "bool") if dtype == "bool" else made(result, dtype)


def _exact(x1: Tensor, x2: Tensor) -> tuple[str, list[Graph]]:
    """Return the operands of a matrix product: two of int8 are added up as int32."""
    if x1.dtype == x2.dtype == "int8":
        return "int32", [x1.graph_in("int32"), x2.graph_in("int32")]
    return promoted(x1, x2)


@operation
def matmul(x1: Operand, x2: Operand) -> Tensor:
    """Return the product of matrices, or of stacks of them."""
    return _product(*_exact(x1, x2), ksym.matmul)


@operation
def dot(x1: Operand, x2: Operand) -> Tensor:
    """Return the product over the last axis of x1 and the second-last of x2."""
    return _product(*promoted(x1, x2), ksym.dot)


@operation
def inner(x1: Operand, x2: Operand) -> Tensor:
    """Return the product over the last axes."""
    return _product(*promoted(x1, x2), ksym.inner)


@operation
def outer(x1: Operand, x2: Operand) -> Tensor:
    """Return the products of all elements of x1 with all of x2."""
    dtype, (a, b) = promoted(x1, x2)
    a, b = ksym.reshape(a, (-1, 1)), ksym.reshape(b, (1, -1))
    return made(ksym.logical_and(a, b) if dtype == "bool" else a * b, dtype)


@operation
def vdot(x1: Operand, x2: Operand) -> Tensor:
    """Return the sum of the products of all elements."""
    return _product(*promoted(x1, x2), ksym.vdot)


@operation
def tensordot(x1: Operand, x2: Operand, axes: Any = 2) -> Tensor:
    """Return the sum of products over pairs of axes."""
    if isinstance(axes, list | tuple):
        axes = tuple(tuple(a) if isinstance(a, list | tuple) else (a,) for a in axes)
    return _product(*promoted(x1, x2), lambda a, b: ksym.tensordot(a, b, axes))


@operation
def einsum(subscripts: str, *operands: Operand, **kwargs: Any) -> Tensor:
    """Return sums of products over indices, by NumPy's notation."""
    if {operand.dtype for operand in operands} == {"int8"}:
        dtype, graphs = "int32", [operand.graph_in("int32") for operand in operands]
    else:
        dtype, graphs = promoted(*operands)
    return _product(dtype, graphs, lambda *all_of: ksym.einsum(subscripts, *all_of))


@operation
def kron(x1: Operand, x2: Operand) -> Tensor:
    """Return Kronecker's product."""
    return _product(*promoted(x1, x2), ksym.kron)


@operation
def cross(
    x1: Operand,
    x2: Operand,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
) -> Tensor:
    """Return the cross product of vectors of two or three elements."""
    dtype, (a, b) = promoted(x1, x2)
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = ksym.moveaxis(a, axisa, -1), ksym.moveaxis(b, axisb, -1)
    flat = a.shape[-1] == 2 and b.shape[-1] == 2
    a, b = (
        ksym.pad(v, [[0, 0]] * (v.rank - 1) + [[0, 1]]) if v.shape[-1] == 2 else v for v in (a, b)
    )
    result = ksym.cross(a, b)
    if flat:
        return made(result[..., 2], dtype)
    return made(ksym.moveaxis(result, -1, axisc), dtype)


@operation
def correlate(x1: Operand, x2: Operand, mode: str = "valid") -> Tensor:
    """Return the correlation of two vectors."""
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"mode must be one of 'valid', 'same', 'full'. Received: mode={mode}")
    dtype, (a, b) = promoted(x1, x2, with_float=True)
    turned = a.shape[0] is not None and b.shape[0] is not None and a.shape[0] < b.shape[0]
    if turned:
        a, b = b, a
    n, m = a.shape[0], b.shape[0]
    assert n is not None
    assert m is not None
    ends = {"valid": (0, 0), "full": (m - 1, m - 1), "same": (m // 2, (m - 1) - m // 2)}[mode]
    if turned and mode == "same":
        ends = ends[::-1]
    padded = ksym.pad(a, [ends])
    result = ksym.convolution(ksym.reshape(padded, (1, 1, -1)), ksym.reshape(b, (1, 1, -1)))
    result = ksym.reshape(result, (-1,))
    return made(ksym.flip(result, 0) if turned else result, dtype)
