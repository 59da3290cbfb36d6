"""Operators that join tensors, split them into nearly equal parts, and make coordinate grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import KINDS, Draw, Sample

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "vstack",
    "hstack",
    "dstack",
    "column_stack",
    "array_split",
    "meshgrid",
]


def _sample_any(draw: Draw) -> Sample:
    return Sample(draw.array(draw.shape(min_side=0), dtype=draw.dtype(*KINDS)))


def _each(build: Callable[[Tensor], Tensor], tensors: Sequence[Any]) -> Any:
    """Return the result for one tensor, or a list of those for several, as NumPy's functions do."""
    results = [build(as_tensor(x)) for x in tensors]
    return results[0] if len(results) == 1 else results


def _vector(x: Tensor) -> Tensor:
    return x if x.rank else ops.reshape(x, (1,))


def _matrix(x: Tensor) -> Tensor:
    return x if x.rank > 1 else ops.expand_dims(_vector(x), 0)


def _solid(x: Tensor) -> Tensor:
    return x if x.rank > 2 else ops.expand_dims(_matrix(x), -1)


@composite(numpy=np.atleast_1d, sample=_sample_any)
def atleast_1d(*tensors: Any) -> Tensor | list[Tensor]:
    """Return tensors, a scalar as a vector of one element; a list if there is not just one."""
    return _each(_vector, tensors)


@composite(numpy=np.atleast_2d, sample=_sample_any)
def atleast_2d(*tensors: Any) -> Tensor | list[Tensor]:
    """Return tensors, a scalar or a vector as a matrix of one row; a list if not just one."""
    return _each(_matrix, tensors)


@composite(numpy=np.atleast_3d, sample=_sample_any)
def atleast_3d(*tensors: Any) -> Tensor | list[Tensor]:
    """Return tensors with three axes at least; a list if there is not just one.

    A vector lies along the second axis, a matrix on the first two.
    """
    return _each(_solid, tensors)


def _together(name: str) -> Any:
    """Return a function of several operands, for tests, from a function of a list of tensors."""
    return lambda *tensors: getattr(ops, name)(tensors)


def _sample_joined(axis: int, at_least: Any) -> Any:
    """Return a sampler of tensors that agree on all axes but one, which vectors may lack."""

    def sample(draw: Draw) -> Sample:
        shape, dtype = draw.shape(min_side=0), draw.dtype(*KINDS)
        along = axis if len(shape) > axis else len(shape) - 1
        arrays = []
        for _ in range(draw.integer(1, 3)):
            sides = list(shape)
            if np.ndim(at_least(np.zeros(shape))) == len(shape):
                sides[along] = draw.integer(1, 3)
            arrays.append(draw.array(sides, dtype=dtype))
        return Sample(*arrays)

    return sample


@composite(
    numpy=lambda *arrays: np.vstack(arrays),
    sample=_sample_joined(0, np.atleast_2d),
    apply=_together("vstack"),
)
def vstack(tensors: Any) -> Tensor:
    """Join tensors along the first axis; vectors are rows of a matrix.

    Raises:
        ShapeError: The other axes differ, or there are no tensors.
    """
    return ops.concatenate([_matrix(as_tensor(x)) for x in tensors], axis=0)


@composite(
    numpy=lambda *arrays: np.hstack(arrays),
    sample=_sample_joined(1, np.atleast_1d),
    apply=_together("hstack"),
)
def hstack(tensors: Any) -> Tensor:
    """Join tensors along the second axis, vectors along their only one.

    Raises:
        ShapeError: The other axes differ, or there are no tensors.
    """
    tensors = [_vector(as_tensor(x)) for x in tensors]
    return ops.concatenate(tensors, axis=0 if tensors and tensors[0].rank == 1 else 1)


@composite(
    numpy=lambda *arrays: np.dstack(arrays),
    sample=_sample_joined(2, np.atleast_3d),
    apply=_together("dstack"),
)
def dstack(tensors: Any) -> Tensor:
    """Join tensors along the third axis, which matrices get behind theirs.

    Raises:
        ShapeError: The other axes differ, or there are no tensors.
    """
    return ops.concatenate([_solid(as_tensor(x)) for x in tensors], axis=2)


def _sample_columns(draw: Draw) -> Sample:
    rows, dtype = draw.integer(0, 3), draw.dtype(*KINDS)
    sides = [draw.choose(((rows,), (rows, 1), (rows, 2))) for _ in range(draw.integer(1, 3))]
    return Sample(*(draw.array(shape, dtype=dtype) for shape in sides))


@composite(
    numpy=lambda *arrays: np.column_stack(arrays),
    sample=_sample_columns,
    apply=_together("column_stack"),
)
def column_stack(tensors: Any) -> Tensor:
    """Join matrices along the second axis; vectors are columns.

    Raises:
        ShapeError: The numbers of rows differ, or there are no tensors.
    """
    columns = [as_tensor(x) for x in tensors]
    columns = [x if x.rank > 1 else ops.expand_dims(_vector(x), -1) for x in columns]
    return ops.concatenate(columns, axis=1)


def _sample_array_split(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    axis = draw.integer(-len(shape), len(shape) - 1)
    places = tuple(sorted(draw.integer(0, shape[axis]) for _ in range(draw.integer(1, 2))))
    sections = draw.choose((draw.integer(1, 4), places))
    x = draw.array(shape, dtype=draw.dtype(*KINDS))
    return Sample(x, attributes={"indices_or_sections": sections, "axis": axis})


_MOST_PARTS = 1 << 16


@composite(
    numpy=lambda x, indices_or_sections, axis: tuple(np.array_split(x, indices_or_sections, axis)),
    sample=_sample_array_split,
)
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut x along an axis into parts whose sizes differ by one at most, the longer ones first.

    Args:
        x: A tensor.
        indices_or_sections: The number of parts, or the places to cut at.
        axis: The axis to cut.

    Raises:
        ShapeError: There is less than one part.
    """
    x, sections = as_tensor(x), indices_or_sections
    if not isinstance(sections, int | np.integer):
        return ops.split(x, sections, axis)
    axis, parts = shapes.axis(axis, x.rank), int(sections)
    if not 1 <= parts <= _MOST_PARTS:
        raise ShapeError(
            f"an axis cannot be cut into {parts} parts",
            remedy=f"there are 1 to {_MOST_PARTS}: each is an operator in the graph",
        )
    side: Any = x.shape[axis]
    if side is None:
        side = ops.shape_of(x)[axis]
        starts = [i * (side // parts) + ops.minimum(side % parts, i) for i in range(parts + 1)]
    else:
        starts = [i * (side // parts) + min(side % parts, i) for i in range(parts + 1)]
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(*pair))] for pair in pairwise(starts))


def _sample_meshgrid(draw: Draw) -> Sample:
    arrays = [
        draw.array(draw.shape(max_rank=1, min_side=0), dtype=draw.dtype(*KINDS))
        for _ in range(draw.integer(1, 3))
    ]
    return Sample(*arrays, attributes={"indexing": draw.choose(("xy", "ij"))})


@composite(
    numpy=lambda *x, indexing: tuple(np.meshgrid(*x, indexing=indexing)), sample=_sample_meshgrid
)
def meshgrid(*vectors: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Return the coordinates of a grid: each vector along an axis of its own.

    Args:
        vectors: The coordinates along each axis; other tensors are flattened.
        indexing: ``"xy"`` if the first vector runs along the second axis and the second along the
            first, as in a picture; ``"ij"`` if each runs along the axis of its number.

    Raises:
        ShapeError: indexing is neither of the two.
    """
    if indexing not in ("xy", "ij"):
        raise ShapeError(f'grids are indexed by "xy" or "ij", not {indexing!r}')
    rows = [ops.reshape(x, (-1,)) for x in vectors]
    places = list(range(len(rows)))
    if indexing == "xy" and len(rows) > 1:
        places[:2] = [1, 0]
    sides = [ops.shape_of(rows[place])[0] for place in places]
    return tuple(
        ops.broadcast_to(
            ops.reshape(row, [-1 if p == place else 1 for p in range(len(rows))]), sides
        )
        for row, place in zip(rows, places, strict=True)
    )
