"""Functions of Keras's module numpy that join tensors and cut them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

import ksym
from keras_ksym.src.operation import Operand, Operands, named_operation, operation
from keras_ksym.src.tensor import Tensor, kept, promoted

__all__ = [
    "append",
    "array_split",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "meshgrid",
    "split",
    "stack",
    "vsplit",
    "vstack",
]

Graph = ksym.Tensor


def _joined(name: str, doc: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    def body(xs: Operands) -> Tensor:
        dtype, graphs = promoted(*_several(xs))
        return Tensor(compute(graphs), dtype)

    return named_operation(name, doc, body)


def _several(xs: Any) -> list[Tensor]:
    """Return the tensors to be joined: the elements of one tensor, if it is one."""
    if isinstance(xs, Tensor):
        return [xs[i] for i in range(len(xs))]
    return builtins.list(xs)


hstack = _joined("hstack", "Join tensors along the second axis, vectors along theirs.", ksym.hstack)
vstack = _joined("vstack", "Join tensors along the first axis, vectors as rows.", ksym.vstack)
dstack = _joined("dstack", "Join tensors along the third axis.", ksym.dstack)


@operation
def concatenate(xs: Operands, axis: int | None = 0) -> Tensor:
    """Join tensors along an axis."""
    dtype, graphs = promoted(*_several(xs))
    if axis is None:
        graphs, axis = [ksym.reshape(graph, (-1,)) for graph in graphs], 0
    return Tensor(ksym.concatenate(graphs, axis), dtype)


@operation
def stack(x: Operands, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    dtype, graphs = promoted(*_several(x))
    return Tensor(ksym.stack(graphs, axis), dtype)


@operation
def append(x1: Operand, x2: Operand, axis: int | None = None) -> Tensor:
    """Join two tensors along an axis, or their elements in a row."""
    dtype, graphs = promoted(x1, x2)
    if axis is None:
        graphs = [ksym.reshape(graph, (-1,)) for graph in graphs]
    return Tensor(ksym.concatenate(graphs, axis or 0), dtype)


def _points(indices_or_sections: Any) -> Any:
    if isinstance(indices_or_sections, Tensor):
        value = indices_or_sections.graph.value
        indices_or_sections = [] if value is None else value
    if isinstance(indices_or_sections, np.ndarray) and not indices_or_sections.ndim:
        return int(indices_or_sections)
    if isinstance(indices_or_sections, int):
        return indices_or_sections
    return [int(point) for point in np.asarray(indices_or_sections)]


@operation
def split(x: Operand, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut a tensor into equal parts, or at positions."""
    parts = ksym.split(x.graph, _points(indices_or_sections), axis)
    return [kept(part, x) for part in parts]


@operation
def array_split(x: Operand, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut a tensor into parts whose sizes differ by one at most."""
    parts = ksym.array_split(x.graph, _points(indices_or_sections), axis)
    return [kept(part, x) for part in parts]


def hsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the second axis, a vector along its only one."""
    return split(
        x,
        indices_or_sections,
        0 if len(np.shape(x) if not isinstance(x, Tensor) else x.shape) == 1 else 1,
    )


def vsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the first axis."""
    return split(x, indices_or_sections, 0)


def dsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut a tensor along the third axis."""
    return split(x, indices_or_sections, 2)


@operation
def meshgrid(*x: Operand, indexing: str = "xy") -> list[Tensor]:
    """Return the coordinates of a grid: each vector along an axis of its own."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Valid values for `indexing` are 'xy' and 'ij', not {indexing!r}")
    flat = [ksym.reshape(vector.graph, (-1,)) for vector in x]
    grids = ksym.meshgrid(*flat, indexing=indexing)
    return [kept(grid, vector) for grid, vector in zip(grids, x, strict=True)]
