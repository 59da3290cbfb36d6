"""Running totals and extremes along an axis, and the linear recurrence behind the running product.

MXNet has a running sum only.  The others are prefix scans by Hillis and Steele (1986): after k
steps each element has been combined with the 2**k elements up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor, cast_to, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.reductions.reduction import accumulated

__all__ = ["cumsum", "cumprod", "cummax", "cummin", "exclusive_cumprod", "linear_recurrence"]


def _along(axis: int, bound: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, bound)


def _shifted(x: Tensor, axis: int, fill: float, by: int = 1) -> Tensor:
    """Return x moved along an axis, its first places filled with a number."""
    padding = [(0, 0)] * x.rank
    padding[axis] = (by, 0)
    return ops.pad(x, padding, constant_values=fill)[_along(axis, slice(None, -by))]


class _RunningTotal(Operator):
    """The base of running totals."""

    half = False  # in float16 the total would be rounded at each element

    work = 1.0

    def prepare(self, x: Any, axis: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if axis is None:
            x, axis = ops.reshape(x, (-1,)), 0
        return [cast_to(x, accumulated(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return x.spec

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        axis = draw.choose((None, *range(-len(shape), len(shape))))
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"))
        return Sample(x, attributes={"axis": axis})


class _CumSum(_RunningTotal):
    linear_in = (0,)

    def numpy(self, x: Any, axis: int) -> Any:
        return np.cumsum(x, axis=axis)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        return emit("CumSum", x, emit.constant(node.attributes["axis"]))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_np_cumsum", x, axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        axis = node.attributes["axis"]
        return [ops.flip(cumsum(ops.flip(g, axis), axis), axis)]


cumsum = _CumSum(
    "cumsum",
    doc="""Return the running sum along an axis; of booleans and small integers as int64.

    Args:
        x: A tensor.
        axis: The axis to sum along; by default the elements are taken in a row.
    """,
)


class _CumProd(_RunningTotal):
    def numpy(self, x: Any, axis: int) -> Any:
        return np.cumprod(x, axis=axis)

    def expand(self, node: Node) -> Tensor:
        (x,), axis = node.inputs, node.attributes["axis"]
        step = 1
        while step < (x.shape[axis] or 0):
            x = x * _shifted(x, axis, 1.0, step)
            step *= 2
        return x

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x,), axis = node.inputs, node.attributes["axis"]
        # The sum, from the end, of each element's contribution to all later products: a recurrence.
        backward = ops.flip(
            linear_recurrence(_next_factors(x, axis), ops.flip(g, axis), axis), axis
        )
        return [backward * exclusive_cumprod(x, axis)]


def _next_factors(x: Tensor, axis: int) -> Tensor:
    """Return the factors of a recurrence that runs backwards: for each element the next one."""
    return _shifted(ops.flip(x, axis), axis, 0.0)


cumprod = _CumProd(
    "cumprod",
    doc="""Return the running product along an axis; of booleans and small integers as int64.

    Its gradients divide by nothing, so that they are exact where elements are zero.

    Args:
        x: A tensor.
        axis: The axis to multiply along; by default the elements are taken in a row.
    """,
)


class _CumExtreme(_RunningTotal):
    """A running maximum or minimum; `better` is the operator for two elements."""

    def __init__(self, name: str, ufunc: np.ufunc, better: str, doc: str):
        self._accumulate = ufunc.accumulate
        self._better = better
        super().__init__(name, doc)

    def prepare(self, x: Any, axis: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        if axis is None:
            x, axis = ops.reshape(x, (-1,)), 0
        return [x], {"axis": shapes.axis(axis, x.rank)}

    def numpy(self, x: Any, axis: int) -> Any:
        return self._accumulate(x, axis=axis)

    def expand(self, node: Node) -> Tensor:
        (x,), axis = node.inputs, node.attributes["axis"]
        better, step = getattr(ops, self._better), 1
        while step < (x.shape[axis] or 0):
            first, rest = (_along(axis, s) for s in (slice(None, step), slice(step, None)))
            earlier = x[_along(axis, slice(None, -step))]
            x = ops.concatenate([x[first], better(x[rest], earlier)], axis)
            step *= 2
        return x

    def differentiable_form(self, node: Node) -> list[Tensor] | None:
        (x,), y, axis = node.inputs, node.outputs[0], node.attributes["axis"]
        if not dtypes.is_float(y.dtype):
            return None
        # Each element comes from the start of the run of equal ones that it is in.
        same = ops.equal(y, _shifted(y, axis, np.nan))
        places = ops.reshape(ops.arange(ops.shape_of(x)[axis]), [-1] + [1] * (x.rank - axis - 1))
        starts = ops.where(same, ops.zeros_like(places), places)
        return [ops.take_along_axis(x, cummax(starts, axis), axis)]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        axis = draw.choose((None, *range(-len(shape), len(shape))))
        x = draw.array(shape, dtype=draw.dtype("float", "integer", "bool"), apart=0.05)
        return Sample(x, attributes={"axis": axis})


_EXTREME_DOC = """Return the {0} element so far along an axis, as numpy.{1}.accumulate.

    The gradient goes to the place the {2} came from, of equals to the first.

    Args:
        x: A tensor.
        axis: The axis to go along; by default the elements are taken in a row.
    """
cummax = _CumExtreme(
    "cummax", np.maximum, "maximum", _EXTREME_DOC.format("largest", "maximum", "maximum")
)
cummin = _CumExtreme(
    "cummin", np.minimum, "minimum", _EXTREME_DOC.format("smallest", "minimum", "minimum")
)


def _sample_axis(draw: Draw) -> Sample:
    shape = draw.shape(min_rank=1, min_side=0)
    return Sample(draw.array(shape), attributes={"axis": draw.integer(-len(shape), len(shape) - 1)})


def _exclusive_numpy(x: Any, axis: int) -> Any:
    ones = np.ones_like(np.take(x, [0] * min(1, x.shape[axis]), axis))
    before = np.take(x, range(max(0, x.shape[axis] - 1)), axis)
    return np.cumprod(np.concatenate([ones, before], axis), axis)


@composite(numpy=_exclusive_numpy, sample=_sample_axis)
def exclusive_cumprod(x: Any, axis: int = 0) -> Tensor:
    """Return for each element the product of those before it along an axis; 1 for the first.

    Args:
        x: A tensor.
        axis: The axis to multiply along.
    """
    x = as_tensor(x)
    axis = shapes.axis(axis, x.rank)
    return cumprod(_shifted(x, axis, 1.0), axis)


class _LinearRecurrence(Operator):
    linear_in = (1,)

    work = 2.0

    def prepare(self, a: Any, b: Any, axis: int = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        a, b = promoted(a, b)
        return [a, b], {"axis": shapes.axis(axis, a.rank)}

    def infer(self, a: Tensor, b: Tensor, axis: int) -> Spec:
        if a.dtype == "bool":
            raise DTypeError("a recurrence is of numbers", remedy="cast to int32 or int64")
        return Spec(shapes.merge(a.shape, b.shape), a.dtype)

    def numpy(self, a: Any, b: Any, axis: int) -> Any:
        a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
        result = np.array(b)
        for i in range(1, len(result)):
            result[i] = a[i] * result[i - 1] + b[i]
        return np.moveaxis(result, 0, axis)

    def expand(self, node: Node) -> Tensor:
        (a, b), axis = node.inputs, node.attributes["axis"]
        step, side = 1, node.outputs[0].shape[axis] or 0
        while step < side:
            b = b + a * _shifted(b, axis, 0.0, step)
            step *= 2
            if step < side:
                a = a * _shifted(a, axis, 1.0, step // 2)
        return b

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        a, axis = node.inputs[0], node.attributes["axis"]
        backward = ops.flip(
            linear_recurrence(_next_factors(a, axis), ops.flip(g, axis), axis), axis
        )
        return [backward * _shifted(node.outputs[0], axis, 0.0), backward]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        dtype = draw.dtype("float", "integer")
        axis = draw.integer(-len(shape), len(shape) - 1)
        arrays = [draw.array(shape, dtype=dtype) for _ in range(2)]
        return Sample(*arrays, attributes={"axis": axis})


linear_recurrence = _LinearRecurrence(
    "linear_recurrence",
    doc="""Compute ``h[t] = a[t] * h[t - 1] + b[t]`` along an axis, in steps that grow by doubling.

    With ``a`` of one number it is an exponential moving sum.  The gradient of a recurrence is one
    that runs backwards (Martin and Cundy, 2018).

    Args:
        a: Factors; the first has no effect, as nothing comes before it.
        b: The summands, of the shape of a.
        axis: The axis along which it runs.
    """,
)
