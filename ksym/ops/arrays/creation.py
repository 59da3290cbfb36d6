"""Operators that create tensors: filled ones, ranges, and identity matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, cast_to, promoted, static, unrounded
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import constant
from ksym.shapes import UNKNOWN

__all__ = ["arange", "zeros", "ones", "full", "eye", "identity", "linspace"]


class _Arange(Operator):
    static_operands = (0, 1, 2)

    def prepare(
        self, start: Any, stop: Any = None, step: Any = 1, dtype: Any = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if stop is None:
            start, stop = 0, start
        if dtype is None:
            found = dtypes.promote(*(as_tensor(bound).dtype for bound in (start, stop, step)))
            dtype = found if dtypes.is_float(found) else "int64"
        # How many numbers there are is computed without rounding Python's floats to float32.
        bounds = [unrounded(bound) for bound in (start, stop, step)]
        for bound in bounds:
            if bound.rank or bound.dtype == "bool":
                raise ShapeError(f"a bound is a number, not {bound.spec}")
        return bounds, {"dtype": dtypes.canonical(dtype)}

    def infer(self, start: Tensor, stop: Tensor, step: Tensor, dtype: str) -> Spec:
        bounds = [t.value for t in (start, stop, step)]
        if any(b is None or b.item() is UNKNOWN for b in bounds):
            return Spec((None,), dtype)
        first, last, by = (b.item() for b in bounds if b is not None)
        if by == 0:
            raise ShapeError("the step is zero")
        return Spec((max(0, int(np.ceil((last - first) / by))),), dtype)

    def numpy(self, start: Any, stop: Any, step: Any, dtype: str) -> Any:
        return np.arange(start, stop, step).astype(dtype)

    def onnx(self, emit: OnnxEmitter, node: Node, *bounds: Any) -> Any:
        values = [static(node, i).item() for i in range(3)]
        wide = "int64" if all(isinstance(value, int) for value in values) else "float64"
        made = emit("Range", *(emit.constant(value, wide) for value in values))
        return emit("Cast", made, to=np.dtype(node.attributes["dtype"]))

    def lower(self, emit: Emitter, node: Node, *bounds: Any) -> Any:
        first, last, by = (static(node, i).item() for i in range(3))
        return emit.constant(self.numpy(first, last, by, node.attributes["dtype"]))

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [None, None, None]

    def sample(self, draw: Draw) -> Sample:
        start, step = draw.integer(-3, 3), draw.choose((-2, -1, 1, 2, 3, 0.5))
        stop = start + step * draw.integer(1, 4)
        # The bounds decide the size, so they are not differentiated, whatever their dtype.
        return Sample(np.array(start), np.array(stop), np.array(step), differentiate=())


arange = _Arange(
    "arange",
    doc="""Return numbers from start to below stop in equal steps.

    Args:
        start: The first number; the end if stop is not given, and the start is then 0.
        stop: The end, not included.
        step: The difference between neighbours.
        dtype: The dtype of the result; by default int64 for integers, else that of the bounds,
            float32 for Python's floats.

    The bounds may be scalar tensors computed from shapes.
    """,
)


def _sample_shape(draw: Draw) -> Sample:
    return Sample(np.array(draw.shape(min_side=0), dtype="int64"))


@composite(numpy=lambda shape: np.zeros(tuple(shape)), sample=_sample_shape, static_operands=(0,))
def zeros(shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a tensor of zeros; the shape may be computed from other shapes."""
    return full(shape, 0, dtype)


@composite(numpy=lambda shape: np.ones(tuple(shape)), sample=_sample_shape, static_operands=(0,))
def ones(shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a tensor of ones; the shape may be computed from other shapes."""
    return full(shape, 1, dtype)


def _sample_full(draw: Draw) -> Sample:
    value = draw.array((), dtype=draw.dtype("float", "integer", "bool"))
    return Sample(np.array(draw.shape(min_side=0), dtype="int64"), value)


@composite(
    numpy=lambda shape, fill_value: np.full(tuple(shape), fill_value),
    sample=_sample_full,
    static_operands=(0,),
)
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """Return a tensor filled with one value, a number or a scalar tensor."""
    value = fill_value
    if not isinstance(value, Tensor):
        value = constant(value, dtype)
    elif dtype is not None:
        value = cast_to(value, dtypes.canonical(dtype))
    if value.rank:
        raise DTypeError(f"the filling value is a number, not {value.spec}")
    return ops.broadcast_to(value, shape)


def _sample_eye(draw: Draw) -> Sample:
    columns = draw.choose((None, draw.integer(0, 4)))
    return Sample(attributes={"n": draw.integer(0, 4), "m": columns, "k": draw.integer(-4, 4)})


@composite(numpy=lambda n, m, k: np.eye(n, m, k), sample=_sample_eye)
def eye(n: Any, m: Any = None, k: int = 0, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return a matrix with ones on a diagonal and zeros elsewhere.

    Args:
        n: The number of rows: an int, or a scalar tensor.
        m: The number of columns; as many as rows by default.
        k: The number of the diagonal: above the main one if positive, below if negative.
        dtype: The dtype of the result.
    """
    m = n if m is None else m
    rows, columns = arange(n), arange(m)
    if any(not isinstance(side, Tensor) and side < 0 for side in (n, m)):
        raise ShapeError(f"a matrix has no {n} by {m} elements")
    here = ops.equal(columns - k, ops.expand_dims(rows, -1))
    if isinstance(n, Tensor) or isinstance(m, Tensor):
        here = ops.broadcast_to(here, [n, m])  # which refuses a negative number of them
    return ops.cast(here, dtype)


@composite(numpy=np.identity, sample=lambda draw: Sample(attributes={"n": draw.integer(0, 4)}))
def identity(n: int, dtype: Any = dtypes.DEFAULT_FLOAT) -> Tensor:
    """Return the square matrix with ones on its diagonal and zeros elsewhere.

    A new tensor with the value of another one is `copy`.

    Args:
        n: The number of rows and columns.
        dtype: The dtype of the result.

    Raises:
        DTypeError: n is not an integer.
    """
    if not isinstance(n, int | np.integer):
        raise DTypeError(
            f"the number of rows is an integer, not {n!r}",
            remedy="use ksym.eye(n) for a matrix, ksym.copy(x) for a tensor of the same value",
        )
    return eye(int(n), dtype=dtype)


_LARGEST_CONSTANT = 1 << 16
"""Elements of an array that is made while the graph is built, at most: 512 KiB."""


def _sample_linspace(draw: Draw) -> Sample:
    shape = draw.shape(max_rank=2)
    dtype = draw.dtype("float", "integer")
    ends = [draw.array(shape, dtype=dtype) for _ in range(2)]
    return Sample(*ends, attributes={"num": draw.integer(0, 5)})


@composite(numpy=np.linspace, sample=_sample_linspace)
def linspace(start: Any, stop: Any, num: Any = 50) -> Tensor:
    """Return numbers in equal steps from start to stop, both included, on a new first axis.

    Args:
        start: The first number, or a tensor of them; integers are taken as float64.
        stop: The last number, or a tensor of them.
        num: The count of numbers: an int, or a scalar tensor.
    """
    start, stop = promoted(start, stop)
    rank = max(start.rank, stop.rank)
    dtype = dtypes.floating(start.dtype)
    if isinstance(num, Tensor):
        steps = cast_to(arange(num), "float64") / cast_to(ops.maximum(num - 1, 1), "float64")
        part = cast_to(ops.reshape(steps, [num, *[1] * rank]), dtype)
    elif num < 0:
        raise ShapeError(f"there are no {num} numbers")
    elif num <= _LARGEST_CONSTANT:
        part = constant(np.linspace(0.0, 1.0, num).reshape(num, *[1] * rank), dtype)
    else:  # the same to the bit, without an array of that size in the graph
        all_but_last = cast_to(arange(num - 1), "float64") * (1.0 / (num - 1))
        steps = ops.concatenate([all_but_last, constant([1.0], "float64")])
        part = cast_to(ops.reshape(steps, [num, *[1] * rank]), dtype)
    return cast_to(start, dtype) * (1.0 - part) + cast_to(stop, dtype) * part
