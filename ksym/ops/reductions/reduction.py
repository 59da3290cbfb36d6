"""Reductions over axes: the base class, and the reductions, which differ in a kernel and a rule.

MXNet's own reduction kernels are slow on CPU; sums of floats are lowered to products with a vector
of ones, which its BLAS computes some ten times faster (measured in docs/mxnet.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.machine import Combination
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.leaves import constant

__all__ = ["prod"]

LONGEST_SUM = 1 << 14
"""Summands that a kernel adds up one after the other at most: the error grows with them."""

BLOCK_OF_SUM = 2048
"""The length of the blocks, at most, that an axis longer than that is divided into."""

VECTOR = 16
"""The number of extrema that a kernel keeps side by side."""

SHORTEST_RUN = 64
"""The number of elements in a row from which on their extremum is that of extrema side by side."""

SMALLEST_MATRIX = 64
"""The number of elements from which sums over a middle axis pay as products of many matrices."""


def _kept_shape(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the shape of a reduction of x that keeps its axes, as a shape operand."""
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
    """Broadcast a tensor of the shape of a reduction of x over axes back to the shape of x."""
    return ops.broadcast_to(ops.reshape(value, _kept_shape(x, axes)), ops.shape_of(x))


_ONNX = {
    "sum": "ReduceSum",
    "prod": "ReduceProd",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "any": "ReduceMax",
    "all": "ReduceMin",
}
"""The operator of ONNX for each reduction; truth values are reduced as integers."""


class Reduction(Operator):
    """A reduction: an operator that combines the elements along axes.

    Args:
        name: The operator's name.
        numpy: The NumPy function it equals.
        native: The MXNet operator.
        gradient: ``(x, y, g, axes) -> gradient``, where y and g are already stretched to x; None
            where there is no gradient.
        doc: The docstring.
        empty: The result over no elements; None where that is an error.
        result: The dtype of the result, given that of the operand.
        apart: The distance between elements that tests draw.
        kinds: The kinds of dtypes that tests draw.
        combination: As for `Operator`.
    """

    work = 1.0

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
        kinds: Sequence[str] = ("float", "integer", "bool"),
        combination: Combination | None = None,
    ):
        self.combination = combination
        self._numpy = numpy
        self._native = native
        self._gradient = gradient
        self._empty = empty
        self._result = result
        self._apart = apart
        self._kinds = kinds
        doc += """

        Args:
            x: A tensor.
            axis: An axis or several; None for all, () for none.
            keepdims: Whether reduced axes stay, with size 1.
        """
        super().__init__(name, doc)

    def prepare(
        self, x: Any, axis: Any = None, *, keepdims: bool = False
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

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        axis, keepdims = node.attributes["axis"], node.attributes["keepdims"]
        if not axis:
            return emit("Identity", x)
        dtype = node.inputs[0].dtype
        narrow = dtype in ("bool", "int8", "uint8")
        x = emit("Cast", x, to=np.dtype("int32")) if narrow else x
        y = emit(_ONNX[self.name], x, emit.constant(axis), keepdims=int(keepdims))
        return emit("Cast", y, to=np.dtype(dtype)) if narrow else y

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

    def merge_axes(self, node: Node) -> Tensor:
        (x,), over = node.inputs, node.attributes["axis"]
        sides = list(x.shape)
        for run in ranks.runs([None if d == 1 else a in over for a, d in enumerate(sides)]):
            if run[0] in over:
                x = ranks.reshaped(x, ranks.around(sides, run))
                x = self.make([x], {"axis": (1,), "keepdims": False})
                sides[run[0] : run[-1] + 1] = [1] * len(range(run[0], run[-1] + 1))
        return ranks.reshaped(x, node.outputs[0].shape)

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
        reduced = self(operands[0], over, keepdims=keepdims)
        if keepdims:
            return reduced, order
        left = [a for a in range(len(order)) if a not in over]
        return reduced, tuple(left.index(a) for i, a in enumerate(order) if i not in axis)

    def simplify(self, node: Node) -> Tensor | None:
        (x,), out = node.inputs, node.outputs[0]
        if shapes.is_known(x.shape) and all(x.shape[a] == 1 for a in node.attributes["axis"]):
            return x if x.shape == out.shape else ops.reshape(x, out.shape)
        return None

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor:
        axis = [a + 1 for a in node.attributes["axis"]]
        made: Tensor = self(operands[0].tensor, axis, keepdims=node.attributes["keepdims"])
        return made

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=1 if self._empty is None else 0)
        some = tuple(a for a in range(len(shape)) if draw.choose((True, False)))
        axis = draw.choose((None, some, *((a,) for a in range(len(shape)))))
        return Sample(
            draw.array(shape, dtype=draw.dtype(*self._kinds), apart=self._apart),
            attributes={"axis": axis, "keepdims": draw.choose((True, False))},
        )


def _elements(x: Tensor, axes: Sequence[int]) -> int:
    """Return the number of elements along axes of known size."""
    sides = shapes.known(x.shape)
    return math.prod(sides[a] for a in axes)


def accumulated(dtype: str) -> str:
    """Return the dtype in which NumPy adds up: int64 for small integers and booleans."""
    return dtype if dtypes.is_float(dtype) else "int64"


class _Sum(Reduction):
    half = False  # in float16 the running sum would be rounded, and stop growing
    linear_in = (0,)

    def numpy(self, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        array: Any = np.asarray(x)
        return array.sum(axis=axis, keepdims=keepdims)

    def _lower_filled(
        self, emit: Emitter, source: Tensor, out: Tensor, axis: tuple[int, ...], x: Any
    ) -> Any:
        if out.dtype in ("float32", "float64"):
            return emit("_np_reshape", sum_by_products(emit, x, source, axis), newshape=out.shape)
        return super()._lower_filled(emit, source, out, axis, x)

    def simplify(self, node: Node) -> Tensor | None:
        (x,) = node.inputs
        inner, out = x.node, node.outputs[0]
        if ops.is_zero(x) and shapes.is_known(out.shape):
            return ops.zeros(shapes.known(out.shape), out.dtype)
        if inner.operator is sum_ and not node.attributes["keepdims"]:
            # A sum of a sum is one sum over the axes of both.
            source = inner.inputs[0]
            over = set(inner.attributes["axis"])
            left = [a for a in range(source.rank) if a not in over]
            own = node.attributes["axis"]
            both = over | ({*own} if inner.attributes["keepdims"] else {left[a] for a in own})
            return sum_(source, axis=both)
        return super().simplify(node)

    def decompose(self, node: Node, operands: Sequence[Tensor]) -> Tensor | None:
        (x,), over = operands, node.attributes["axis"]
        if not dtypes.is_float(x.dtype) or 0 in x.shape:
            return None
        # Add up blocks, which are as long as a kernel adds up well, and then their sums.
        left = list(over)
        while _elements(x, over) > LONGEST_SUM:
            block: list[int] = []
            while left and _elements(x, [*block, left[-1]]) <= LONGEST_SUM:
                block.append(left.pop())
            if not block:
                return self._in_blocks(node, x, left[-1])
            x = self.make([x], {"axis": tuple(sorted(block)), "keepdims": True})
        return self.make([x], node.attributes) if x is not operands[0] else None

    def _in_blocks(self, node: Node, x: Tensor, axis: int) -> Tensor | None:
        """Return the sum over axes of which one is too long itself, in blocks of equal length."""
        sides = shapes.known(x.shape)
        lengths = range(BLOCK_OF_SUM, BLOCK_OF_SUM // 64, -1)
        length = next((n for n in lengths if sides[axis] % n == 0), None)
        if length is None:
            return None
        divided = (*sides[:axis], sides[axis] // length, length, *sides[axis + 1 :])
        sums = self.make([ops.reshape(x, divided)], {"axis": (axis + 1,), "keepdims": False})
        made: Tensor = self.make([sums], node.attributes)
        if _elements(sums, node.attributes["axis"]) <= LONGEST_SUM:
            return made
        return self.decompose(made.node, [sums])


def sum_by_products(emit: Emitter, x: Any, source: Tensor | Spec, axis: tuple[int, ...]) -> Any:
    """Sum one run of neighbouring axes at a time, as a product with ones."""
    sides = [int(d) for d in source.shape if d is not None]
    runs: list[list[int]] = []
    for a in axis:
        if runs and runs[-1][-1] == a - 1:
            runs[-1].append(a)
        else:
            runs.append([a])
    # With the longest run first, the fewest elements are left for the other sums.
    runs.sort(key=lambda run: -int(np.prod([sides[a] for a in run])))
    for run in runs:
        before = int(np.prod(sides[: run[0]]))
        along = int(np.prod([sides[a] for a in run]))
        after = int(np.prod(sides[run[-1] + 1 :]))
        if after == 1:
            ones = emit.constant(np.ones((along, 1), source.dtype))
            x = emit("dot", emit("_np_reshape", x, newshape=(before, along)), ones)
        elif before == 1:
            ones = emit.constant(np.ones((along, 1), source.dtype))
            x = emit("_np_reshape", x, newshape=(along, after))
            x = emit("dot", ones, x, transpose_a=True)
        else:
            x = emit("_np_reshape", x, newshape=(before, along, after))
            if along * after < SMALLEST_MATRIX:
                x = emit("_np_sum", x, axis=1)
            else:
                ones = emit("_full", shape=(before, 1, along), value=1.0, dtype=source.dtype)
                x = emit("batch_dot", ones, x)
        for a in run:
            sides[a] = 1
    return x


sum_ = _Sum(
    "sum",
    np.sum,
    "_np_sum",
    lambda x, y, g, axes: g,
    "Return the sum of elements; of booleans and small integers as int64, as in NumPy.",
    empty=0.0,
    result=accumulated,
    combination=Combination(0.0, lambda m, total, x: m.added(total, x)),
)


class _Prod(Reduction):
    half = False

    def differentiable_form(self, node: Node) -> Sequence[Tensor] | None:
        (x,), axis = node.inputs, node.attributes["axis"]
        if len(axis) < 2:
            return None
        for a in axis:
            x = prod(x, a, keepdims=True)
        return [x if node.attributes["keepdims"] else ops.squeeze(x, axis)]


def _prod_gradient(x: Tensor, y: Tensor, g: Tensor, axes: tuple[int, ...]) -> Tensor:
    # The product of the elements before times that of those behind: exact, also with zeros.
    for a in axes:
        behind = ops.flip(ops.exclusive_cumprod(ops.flip(x, a), a), a)
        g = g * (ops.exclusive_cumprod(x, a) * behind)
    return g


prod = _Prod(
    "prod",
    np.prod,
    "_np_prod",
    _prod_gradient,
    "Return the product of elements; of booleans and small integers as int64, as in NumPy.",
    empty=1.0,
    result=accumulated,
)


def _extremum_gradient(x: Tensor, y: Tensor, g: Tensor, axes: tuple[int, ...]) -> Tensor:
    chosen = ops.equal(x, y)
    ties = spread(sum_(ops.cast(chosen, g.dtype), axis=axes), x, axes)
    share = g * ops.reciprocal(ties)
    # An extremum that is NaN comes from nowhere.
    return ops.where(chosen, share, ops.where(ops.isnan(y), y, ops.zeros_like(y)))


class _Extremum(Reduction):
    def decompose(self, node: Node, operands: Sequence[Tensor]) -> Tensor | None:
        (x,), over = operands, set(node.attributes["axis"])
        front = x.rank
        while front - 1 in over:
            front -= 1
        length = _elements(x, range(front, x.rank))
        if node.attributes["keepdims"] or not dtypes.is_float(x.dtype) or 0 in x.shape:
            return None
        if length < SHORTEST_RUN or length % VECTOR:
            return None
        # One after the other, elements wait for each other; side by side they fill a vector.
        sides = shapes.known(x.shape)[:front]
        beside = ops.reshape(x, (*sides, length // VECTOR, VECTOR))
        largest = self.make([beside], {"axis": (front,), "keepdims": False})
        left = (*sorted(over & set(range(front))), front)
        made: Tensor = self.make([largest], {"axis": left, "keepdims": False})
        return made


max_ = _Extremum(
    "max",
    np.max,
    "_np_max",
    _extremum_gradient,
    "Return the largest element; equal ones share the gradient, as in TensorFlow.",
    apart=0.05,
    combination=Combination(-math.inf, lambda m, largest, x: m.maximum(largest, x)),
)
min_ = _Extremum(
    "min",
    np.min,
    "_np_min",
    _extremum_gradient,
    "Return the smallest element; equal ones share the gradient, as in TensorFlow.",
    apart=0.05,
    combination=Combination(math.inf, lambda m, smallest, x: m.minimum(smallest, x)),
)


class _Boolean(Reduction):
    def _lower_filled(
        self, emit: Emitter, source: Tensor, out: Tensor, axis: tuple[int, ...], x: Any
    ) -> Any:
        # Counted as a sum of floats, which is never rounded to zero: `_np_any` of bool is not
        # implemented on all of MXNet's paths, and its maximum takes twenty times as long.
        counted = emit("Cast", x, dtype="float32")
        if self is all_:
            counted = emit("_npi_rsubtract_scalar", counted, scalar=1)
        total = sum_by_products(emit, counted, Spec(source.shape, "float32"), axis)
        total = emit("_np_reshape", total, newshape=out.shape)
        return emit(f"_npi_{'equal' if self is all_ else 'greater'}_scalar", total, scalar=0)


any_ = _Boolean(
    "any",
    np.any,
    "_np_max",
    None,
    "Return whether any element is true.",
    empty=0.0,
    result=lambda dtype: "bool",
)
all_ = _Boolean(
    "all",
    np.all,
    "_np_min",
    None,
    "Return whether all elements are true.",
    empty=1.0,
    result=lambda dtype: "bool",
)
