"""Reductions over axes, and running totals along one.

MXNet's own reduction kernels are slow on CPU; sums of floats are lowered to products with a vector
of ones, which its BLAS computes some ten times faster (measured in docs/mxnet.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import Draw, Emitter, Operator, Sample, as_tensor, cast_to, constant


def _kept_shape(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The shape of a reduction of x that keeps its axes, as a shape operand."""
    if not x.rank:
        return as_tensor(np.zeros(0, dtype="int64"))
    static = shapes.reduce(x.shape, axes, keepdims=True)
    if shapes.is_known(static):
        return as_tensor(np.array(static, dtype="int64"))
    sides = ops.shape_of(x)
    return ops.stack(
        [sides[i] if d is None else constant(d, "int64") for i, d in enumerate(static)]
    )


def spread(value: Tensor, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return what belongs to a reduction of x over axes, stretched back to the shape of x."""
    return ops.broadcast_to(ops.reshape(value, _kept_shape(x, axes)), ops.shape_of(x))


class Reduction(Operator):
    """An operator that combines the elements along axes.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator.
        gradient: ``(x, y, g, axes) -> gradient``, where y and g are already stretched to x; None
            where there is no gradient.
        doc: What it computes.
        empty: The result over no elements; None where that is an error.
        result: The dtype of the result, given that of the operand.
        apart: How far apart from each other tests draw elements.
    """

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        native: str,
        gradient: Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Tensor] | None,
        doc: str,
        *,
        empty: float | None = None,
        result: Callable[[str], str] = lambda dtype: dtype,
        apart: float = 0.0,
    ):
        self._numpy = numpy
        self._native = native
        self._gradient = gradient
        self._empty = empty
        self._result = result
        self._apart = apart
        doc += """

        Args:
            x: A tensor.
            axis: An axis or several; None for all, () for none.
            keepdims: Whether reduced axes stay, with size 1.
        """
        super().__init__(name, doc)

    def prepare(
        self, x: Any, axis: Any = None, keepdims: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        x = cast_to(x, self._result(x.dtype))
        return [x], {"axis": shapes.axes(axis, x.rank), "keepdims": bool(keepdims)}

    def infer(self, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if self._empty is None and any(x.shape[a] == 0 for a in axis):
            raise ShapeError(
                f"there is nothing to reduce along axis {axis} of shape {x.shape}",
                remedy="give at least one element",
            )
        return Spec(shapes.reduce(x.shape, axis, keepdims), x.dtype)

    def numpy(self, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        return self._numpy(x, axis=axis, keepdims=keepdims)

    def known(self, x: Tensor, **attributes: Any) -> np.ndarray | None:
        value = super().known(x, **attributes)
        return None if value is None else np.asarray(value)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        source, out = node.inputs[0], node.outputs[0]
        axis = node.attributes["axis"]
        if 0 in source.shape:
            return emit.constant(np.full(shapes.known(out.shape), self._empty, out.dtype))
        if not axis:
            return emit("_copy", x)
        return self._lower_filled(emit, source, out, axis, x)

    def _lower_filled(
        self, emit: Emitter, source: Tensor, out: Tensor, axis: tuple[int, ...], x: Any
    ) -> Any:
        keepdims = len(out.shape) == len(source.shape)
        return emit(self._native, x, axis=axis, keepdims=keepdims)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x,), y = node.inputs, node.outputs[0]
        if self._gradient is None or not dtypes.is_float(y.dtype):
            return [None]
        axis = node.attributes["axis"]
        return [self._gradient(x, spread(y, x, axis), spread(g, x, axis), axis)]

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        axis, keepdims = node.attributes["axis"], node.attributes["keepdims"]
        over = sorted(order[a] for a in axis)
        reduced = self(operands[0], over, keepdims)
        if keepdims:
            return reduced, order
        left = [a for a in range(len(order)) if a not in over]
        return reduced, tuple(left.index(a) for i, a in enumerate(order) if i not in axis)

    def simplify(self, node: Node) -> Tensor | None:
        (x,), out = node.inputs, node.outputs[0]
        if shapes.is_known(x.shape) and all(x.shape[a] == 1 for a in node.attributes["axis"]):
            return x if x.shape == out.shape else ops.reshape(x, out.shape)
        return None

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape()
        axis = draw.choose((None, *((a,) for a in range(len(shape))), tuple(range(len(shape)))))
        return Sample(
            draw.array(shape, apart=self._apart),
            attributes={"axis": axis, "keepdims": draw.choose((True, False))},
        )


def _accumulated(dtype: str) -> str:
    """NumPy adds up small integers and booleans as int64."""
    return dtype if dtypes.is_float(dtype) else "int64"


class _Sum(Reduction):
    linear_in = (0,)

    def numpy(self, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        return np.sum(x, axis=axis, keepdims=keepdims)

    def _lower_filled(
        self, emit: Emitter, source: Tensor, out: Tensor, axis: tuple[int, ...], x: Any
    ) -> Any:
        if out.dtype in ("float32", "float64"):
            return emit("_np_reshape", _sum_by_products(emit, x, source, axis), newshape=out.shape)
        return super()._lower_filled(emit, source, out, axis, x)

    def simplify(self, node: Node) -> Tensor | None:
        (x,) = node.inputs
        inner = x.node
        if inner.operator is sum_ and not node.attributes["keepdims"]:
            # A sum of a sum is one sum over the axes of both.
            source = inner.inputs[0]
            over = set(inner.attributes["axis"])
            left = [a for a in range(source.rank) if a not in over]
            own = node.attributes["axis"]
            both = over | ({*own} if inner.attributes["keepdims"] else {left[a] for a in own})
            return sum_(source, axis=both)
        return super().simplify(node)


def _sum_by_products(emit: Emitter, x: Any, source: Tensor, axis: tuple[int, ...]) -> Any:
    """Sum one run of neighbouring axes at a time, as a product with ones."""
    sides = [int(d) for d in source.shape if d is not None]
    runs: list[list[int]] = []
    for a in axis:
        if runs and runs[-1][-1] == a - 1:
            runs[-1].append(a)
        else:
            runs.append([a])
    # The longest run first leaves the least to add up.
    runs.sort(key=lambda run: -int(np.prod([sides[a] for a in run])))
    for run in runs:
        before = int(np.prod(sides[: run[0]]))
        along = int(np.prod([sides[a] for a in run]))
        after = int(np.prod(sides[run[-1] + 1 :]))
        ones = emit.constant(np.ones((along, 1), source.dtype))
        if after == 1:
            x = emit("dot", emit("_np_reshape", x, newshape=(before, along)), ones)
        elif before == 1:
            x = emit("_np_reshape", x, newshape=(along, after))
            x = emit("dot", ones, x, transpose_a=True)
        else:
            x = emit("_np_reshape", x, newshape=(before, along, after))
            x = emit("_np_sum", x, axis=1)
        for a in run:
            sides[a] = 1
    return x


sum_ = _Sum(
    "sum",
    np.sum,
    "_np_sum",
    lambda x, y, g, axes: g,
    "The sum of elements; of booleans and small integers as int64, as in NumPy.",
    empty=0.0,
    result=_accumulated,
)


def _prod_gradient(x: Tensor, y: Tensor, g: Tensor, axes: tuple[int, ...]) -> Tensor:
    # The product of all others: y / x where nothing is zero; with one zero only that element has a
    # gradient, the product of the rest; with more, none has.
    zero = ops.cast(ops.equal(x, 0.0), x.dtype)
    zeros_along = spread(sum_(zero, axis=axes), x, axes)
    filled = x + zero
    rest = spread(prod(filled, axis=axes), x, axes) / filled
    alone = ops.equal(zeros_along, zero)
    return g * ops.where(alone, rest, ops.zeros_like(x))


prod = Reduction(
    "prod",
    np.prod,
    "_np_prod",
    _prod_gradient,
    "The product of elements; of booleans and small integers as int64, as in NumPy.",
    empty=1.0,
    result=_accumulated,
    apart=0.05,
)


def _extremum_gradient(x: Tensor, y: Tensor, g: Tensor, axes: tuple[int, ...]) -> Tensor:
    chosen = ops.cast(ops.equal(x, y), x.dtype)
    ties = spread(sum_(chosen, axis=axes), x, axes)
    return g * (chosen / ops.stop_gradient(ties))


max_ = Reduction(
    "max",
    np.max,
    "_np_max",
    _extremum_gradient,
    "The largest element; elements that share the maximum share the gradient, as in TensorFlow.",
    apart=0.05,
)
min_ = Reduction(
    "min",
    np.min,
    "_np_min",
    _extremum_gradient,
    "The smallest element; elements that share the minimum share the gradient, as in TensorFlow.",
    apart=0.05,
)


class _Boolean(Reduction):
    def sample(self, draw: Draw) -> Sample:
        case = super().sample(draw)
        return Sample(case.operands[0] > 0.0, attributes=case.attributes)

    def _lower_filled(
        self, emit: Emitter, source: Tensor, out: Tensor, axis: tuple[int, ...], x: Any
    ) -> Any:
        # Through uint8: `_np_any` of bool is not implemented on all of MXNet's paths.
        keepdims = len(out.shape) == len(source.shape)
        reduced = emit(self._native, emit("Cast", x, dtype="int32"), axis=axis, keepdims=keepdims)
        return emit("Cast", reduced, dtype="bool")


any_ = _Boolean(
    "any",
    np.any,
    "_np_max",
    None,
    "Whether any element is true.",
    empty=0.0,
    result=lambda dtype: "bool",
)
all_ = _Boolean(
    "all",
    np.all,
    "_np_min",
    None,
    "Whether all elements are true.",
    empty=1.0,
    result=lambda dtype: "bool",
)


class _ArgExtremum(Operator):
    def __init__(self, name: str, numpy: Callable[..., Any], doc: str):
        self._numpy = numpy
        super().__init__(name, doc)

    def prepare(self, x: Any, axis: int = -1) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [x], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        if x.shape[axis] == 0:
            raise ShapeError(f"there is nothing to choose from along axis {axis} of {x.shape}")
        return Spec(shapes.reduce(x.shape, (axis,), keepdims=False), "int64")

    def numpy(self, x: Any, axis: int) -> Any:
        return self._numpy(x, axis=axis)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        if node.inputs[0].dtype in ("bool", "uint8", "int8"):
            x = emit("Cast", x, dtype="int32")
        # MXNet gives the index in the operand's dtype or in int64, by operator and version.
        return emit(
            "Cast", emit(f"_npi_{self.name}", x, axis=node.attributes["axis"]), dtype="int64"
        )

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(draw.array(shape, apart=0.05), attributes={"axis": axis})


_ARG_DOC = """The index of the {} element along an axis, as int64; of equals the first.

    Args:
        x: A tensor.
        axis: The axis to look along; it is gone from the result.
    """
argmax = _ArgExtremum("argmax", np.argmax, _ARG_DOC.format("largest"))
argmin = _ArgExtremum("argmin", np.argmin, _ARG_DOC.format("smallest"))


class _CumSum(Operator):
    linear_in = (0,)

    def prepare(self, x: Any, axis: int = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, _accumulated(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, axis: int) -> Any:
        return np.cumsum(x, axis=axis)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return emit("_np_cumsum", x, axis=node.attributes["axis"])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        axis = node.attributes["axis"]
        return [ops.flip(cumsum(ops.flip(g, axis), axis), axis)]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        return Sample(
            draw.array(shape), attributes={"axis": draw.integer(-len(shape), len(shape) - 1)}
        )


cumsum = _CumSum("cumsum", doc="The running sum along an axis.")


class _CumProd(Operator):
    def prepare(self, x: Any, axis: int = 0) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [cast_to(x, _accumulated(x.dtype))], {"axis": shapes.axis(axis, x.rank)}

    def infer(self, x: Tensor, axis: int) -> Spec:
        return x.spec

    def numpy(self, x: Any, axis: int) -> Any:
        return np.cumprod(x, axis=axis)

    def expand(self, node: Node) -> Tensor:
        # Hillis and Steele's scan: after k steps each element holds the product of the last 2**k.
        (x,) = node.inputs
        axis = node.attributes["axis"]
        side = x.shape[axis] or 0
        step = 1
        while step < side:
            before = [(0, 0)] * x.rank
            before[axis] = (step, 0)
            cut = (slice(None),) * axis + (slice(None, side - step),)
            x = ops.multiply(x, ops.pad(x[cut], before, 1.0))
            step *= 2
        return x

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        (x,), y = node.inputs, node.outputs[0]
        axis = node.attributes["axis"]
        return [
            ops.true_divide(ops.flip(cumsum(ops.flip(ops.multiply(g, y), axis), axis), axis), x)
        ]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(draw.array(shape, 0.5, 2.0), attributes={"axis": axis})


cumprod = _CumProd(
    "cumprod",
    doc="The running product along an axis; its gradient divides by x, as in TensorFlow.",
)


# --- compositions --------------------------------------------------------------------------------


def count(x: Tensor, axes: tuple[int, ...], dtype: str) -> Tensor | float:
    """Return how many elements a reduction of x over axes combines."""
    static = shapes.size(tuple(x.shape[a] for a in axes))
    if static is not None:
        return float(static)
    sides = ops.shape_of(x)
    total: Tensor = cast_to(sides[axes[0]], dtype)
    for a in axes[1:]:
        total = ops.multiply(total, cast_to(sides[a], dtype))
    return total


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the mean of elements; of integers and booleans as float64.

    Args:
        x: A tensor.
        axis: An axis or several; None for all, () for none.
        keepdims: Whether reduced axes stay, with size 1.
    """
    x = as_tensor(x)
    x = cast_to(x, dtypes.floating(x.dtype))
    axes = shapes.axes(axis, x.rank)
    return ops.true_divide(sum_(x, axes, keepdims), count(x, axes, x.dtype))


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the variance of elements: the mean of the squared distances from the mean."""
    x = as_tensor(x)
    return mean(ops.square(x - mean(x, axis, keepdims=True)), axis, keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the standard deviation: the square root of the variance."""
    return ops.sqrt(var(x, axis, keepdims))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials, computed without overflow."""
    x = as_tensor(x)
    x = cast_to(x, dtypes.floating(x.dtype))
    axes = shapes.axes(axis, x.rank)
    highest = max_(x, axes, keepdims=True)
    # An infinite maximum would give inf - inf.
    shift = ops.stop_gradient(ops.where(ops.isfinite(highest), highest, ops.zeros_like(highest)))
    total = ops.log(sum_(ops.exp(x - shift), axes, keepdims=True)) + shift
    if keepdims:
        return total
    return ops.squeeze(total, axes)
