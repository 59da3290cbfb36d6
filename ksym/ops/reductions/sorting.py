"""Sorting, and operators that are built on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks

__all__ = ["argsort", "sort", "top_k", "searchsorted", "bincount"]


class _Argsort(Operator):
    def prepare(
        self, x: Any, axis: Any = -1, *, descending: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if axis is None:
            x, axis = ops.ravel(x), 0
        return [x], {"axis": shapes.axis(axis, x.rank), "descending": bool(descending)}

    def infer(self, x: Tensor, axis: int, descending: bool) -> Spec:
        return Spec(x.shape, "int64")

    def numpy(self, x: Any, axis: int, descending: bool) -> Any:
        if not descending:
            return np.argsort(x, axis=axis, kind="stable")
        # Reversed twice, so that equal elements keep their order.
        order = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        return x.shape[axis] - 1 - np.flip(order, axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        axis, descending = node.attributes["axis"], node.attributes["descending"]
        if node.inputs[0].dtype in ("bool", "int8", "uint8"):
            x = emit("Cast", x, to=np.dtype("int32"))
        side = emit.constant([node.inputs[0].shape[axis]])
        return emit("TopK", x, side, outputs=2, axis=axis, largest=int(descending), sorted=1)[1]

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        (source,), axis = node.inputs, node.attributes["axis"]
        side = int(source.shape[axis] or 0)
        if source.dtype == "bool":
            x = emit("Cast", x, dtype="uint8")
        elif source.dtype == "float16":
            x = emit("Cast", x, dtype="float32")
        last = source.rank - 1
        swapped = [a for a in range(source.rank) if a != axis] + [axis]
        if axis != last:
            x = emit("transpose", x, axes=tuple(swapped))
        ascending = not node.attributes["descending"]
        shape = tuple(int(source.shape[a] or 0) for a in swapped)
        second = None
        if dtypes.is_float(source.dtype) and side > 1:
            # Next to NaN MXNet's sort leaves elements out of order, so infinity stands for it.
            is_number = emit("_npi_equal", x, x)
            second = emit("_npi_not_equal", x, x) if ascending else is_number
            kept = "float32" if source.dtype == "float16" else source.dtype
            infinity = emit("_full", shape=shape, value=math.inf, dtype=kept)
            x = emit("where", emit("Cast", is_number, dtype="uint8"), x, infinity)
        order = emit("argsort", x, axis=-1, is_ascend=ascending, dtype="int64")
        if side > 1:
            order = _stabilised(emit, x, order, shape, second)
        if axis != last:
            order = emit("transpose", order, axes=tuple(np.argsort(swapped).tolist()))
        return order

    def merge_axes(self, node: Node) -> Tensor:
        return ranks.along(node)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(x, attributes={"axis": axis, "descending": draw.choose((True, False))})


def _stabilised(
    emit: Emitter, x: Any, order: Any, shape: tuple[int, ...], second: Any = None
) -> Any:
    """Put equal elements in their original order, which MXNet's sort does not keep.

    The runs of equals are numbered, and (number, second, index) is sorted as one integer; second is
    a mask of elements that come behind the others of their run.
    """
    *lead, side = shape
    last = len(lead)
    starts = np.arange(np.prod(lead, dtype="int64")).reshape(*lead, 1) * side
    flat = emit("_npi_add", order, emit.constant(starts))

    def in_order(value: Any) -> Any:
        row = emit("_np_reshape", value, newshape=(-1,))
        return emit("take", row, flat, axis=0, mode="wrap")

    values = in_order(x)
    before = emit("slice_axis", values, axis=last, begin=0, end=side - 1)
    behind = emit("slice_axis", values, axis=last, begin=1, end=side)
    rises = emit("Cast", emit("_npi_not_equal", before, behind), dtype="int64")
    nothing = emit.constant(np.zeros((*lead, 1), "int64"))
    runs = emit("_npi_concatenate", nothing, rises, num_args=2, axis=last)
    # Numbers are multiplied as integers: MXNet holds the scalars of operators as doubles.
    length = emit.constant(np.array(side))
    step = length if second is None else emit.constant(np.array(2 * side))
    runs = emit("_npi_multiply", emit("_np_cumsum", runs, axis=last), step)
    keys = emit("_npi_add", runs, order)
    if second is not None:
        is_second = emit("Cast", in_order(emit("Cast", second, dtype="uint8")), dtype="int64")
        keys = emit("_npi_add", keys, emit("_npi_multiply", is_second, length))
    # Sorting leaves the numbers of the runs where they are.
    rest = emit("_npi_subtract", emit("sort", keys, axis=-1, is_ascend=True), runs)
    if second is None:
        return rest
    is_second = emit("Cast", emit("_npi_greater_equal", rest, length), dtype="int64")
    return emit("_npi_subtract", rest, emit("_npi_multiply", is_second, length))


argsort = _Argsort(
    "argsort",
    doc="""Return the indices that sort x along an axis, as int64; equals keep their order.

    NaN is larger than all numbers, as in NumPy.

    Args:
        x: A tensor.
        axis: The axis to sort along; None for all elements in a row.
        descending: Whether the largest comes first.
    """,
)


def _sample_sort(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"), apart=0.05)
    return Sample(x, attributes={"axis": draw.integer(-len(shape), len(shape) - 1)})


@composite(numpy=np.sort, sample=_sample_sort)
def sort(x: Any, axis: Any = -1, *, descending: bool = False) -> Tensor:
    """Return the elements of x in ascending order along an axis.

    NaN is larger than all numbers, as in NumPy.

    Args:
        x: A tensor.
        axis: The axis to sort along; None for all elements in a row.
        descending: Whether the largest comes first.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ops.ravel(x), 0
    return ops.take_along_axis(x, argsort(x, axis, descending=descending), axis)


def _top_k_numpy(x: Any, k: int) -> Any:
    side = x.shape[-1]
    order = side - 1 - np.flip(np.argsort(np.flip(x, -1), axis=-1, kind="stable"), -1)[..., :k]
    return np.take_along_axis(x, order, -1), order


def _sample_top_k(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1)
    x = draw.array(shape, dtype=draw.dtype("float", "integer"), apart=0.05)
    return Sample(x, attributes={"k": draw.integer(0, shape[-1])})


@composite(numpy=_top_k_numpy, sample=_sample_top_k)
def top_k(x: Any, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the k largest elements along the last axis and their indices, largest first.

    Of equals the one with the lower index comes first, as in TensorFlow.  NaN is larger than all
    numbers.

    Args:
        x: A tensor.
        k: The number of elements.

    Raises:
        ShapeError: The axis has fewer than k.
    """
    x = as_tensor(x)
    side = x.shape[shapes.axis(-1, x.rank)]
    if k < 0 or (side is not None and k > side):
        raise ShapeError(f"there are no {k} largest of {side} elements")
    order = argsort(x, -1, descending=True)[..., :k]
    return ops.take_along_axis(x, order, -1), order


def _searchsorted_numpy(a: Any, v: Any, side: Any) -> Any:
    return np.searchsorted(a, v, side)


def _sample_searchsorted(draw: Draw) -> Sample:
    dtype = draw.dtype("float", "integer")
    a = np.sort(draw.array((draw.integer(0, 5),), dtype=dtype))
    v = draw.array(draw.shape(min_side=0), dtype=dtype)
    side = draw.choose(("left", "right"))
    return Sample(a, v, attributes={"side": side})


@composite(
    numpy=_searchsorted_numpy,
    sample=_sample_searchsorted,
    unproven={"mistakes": "NumPy gives anything for a vector that is not sorted"},
)
def searchsorted(a: Any, v: Any, side: str = "left") -> Tensor:
    """Return the places in a sorted vector that keep it sorted if elements are inserted, as int64.

    It counts the smaller elements, which costs one comparison for each pair.  NaN is larger than
    all numbers, as in NumPy.

    Args:
        a: A sorted vector.
        v: The elements to insert, of any shape.
        side: ``"left"`` for the first such place, ``"right"`` for the last.
    """
    a, v = promoted(a, v)
    if a.rank != 1 or side not in ("left", "right"):
        raise ShapeError(f"a vector is searched from the left or right, not {a.spec} from {side!r}")
    v = ops.expand_dims(v, -1)
    smaller = ops.less(a, v) if side == "left" else ops.less_equal(a, v)
    if dtypes.is_float(a.dtype):
        nan = ops.isnan(v)  # is larger than all numbers, and equal to NaN
        smaller |= nan & ops.equal(a, a) if side == "left" else nan
    return ops.sum_(smaller, -1)


def _bincount_numpy(x: Any, length: int) -> Any:
    return np.sum(x[:, None] == np.arange(length), 0)


def _sample_bincount(draw: Draw) -> Sample:
    x = draw.array((draw.integer(0, 5),), -1, 4, dtype=draw.dtype("integer"))
    return Sample(x, attributes={"length": draw.integer(0, 4)})


@composite(numpy=_bincount_numpy, sample=_sample_bincount)
def bincount(x: Any, *, length: int) -> Tensor:
    """Count the occurrences of the integers from 0 to length - 1 in a vector, as int64.

    Args:
        x: Integers; others than those counted are left out, as in JAX.
        length: The number of integers to count.
    """
    x = as_tensor(x)
    if x.rank != 1 or x.dtype == "bool":
        raise DTypeError(f"a vector of integers is counted, not {x.spec}")
    return ops.sum_(ops.one_hot(x, length, "int32"), 0)
