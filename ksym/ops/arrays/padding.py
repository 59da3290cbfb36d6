"""Padding with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks
from ksym.ops.arrays.concatenation import joined
from ksym.ops.arrays.shape import without_bool

__all__ = ["pad"]


def padding_pairs(padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Return one pair (before, after) for each axis; one pair, or one number, is for all of them.

    Raises:
        ShapeError: The number of pairs differs from that of the axes, or an amount is negative.
    """
    if isinstance(padding, int | np.integer):
        padding = (padding, padding)
    padding = list(padding)
    if len(padding) == 2 and all(isinstance(amount, int | np.integer) for amount in padding):
        padding = [padding]
    if len(padding) == 1:
        padding *= rank
    pairs = tuple((int(before), int(after)) for before, after in padding)
    if len(pairs) != rank:
        raise ShapeError(f"{len(pairs)} pairs of padding for a tensor of rank {rank}")
    if any(amount < 0 for pair in pairs for amount in pair):
        raise ShapeError(f"the padding {pairs} is negative", remedy="slice to make smaller")
    return pairs


class _Pad(Operator):
    def call(
        self,
        x: Any,
        pad_width: Any,
        mode: str = "constant",
        *,
        constant_values: float = 0.0,
    ) -> Any:
        if mode != "constant":
            with self.named():
                return ops.pad_from_inside(x, pad_width, mode)
        if not isinstance(pad_width, int) and any(_has_tensor(pair) for pair in pad_width):
            with self.named():
                return _padded_by(as_tensor(x), list(map(tuple, pad_width)), constant_values)
        return super().call(x, pad_width, constant_values)

    def prepare(
        self, x: Any, pad_width: Any, constant_values: float = 0.0
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        number = dtypes.converted(constant_values, x.dtype)
        if number.ndim:
            raise ShapeError(f"one number is put around x, not {number.shape}")
        return [x], {
            "pad_width": padding_pairs(pad_width, x.rank),
            "constant_values": number.item(),
        }

    def infer(
        self, x: Tensor, pad_width: tuple[tuple[int, int], ...], constant_values: float
    ) -> Spec:
        return Spec(
            tuple(
                shapes.elementwise(lambda side, both=b + a: side + both, d)
                for d, (b, a) in zip(x.shape, pad_width, strict=True)
            ),
            x.dtype,
        )

    def numpy(self, x: Any, pad_width: Any, constant_values: float) -> Any:
        return np.pad(x, pad_width, constant_values=constant_values)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:

        pairs, number = node.attributes["pad_width"], node.attributes["constant_values"]
        pads = [*(before for before, _ in pairs), *(after for _, after in pairs)]
        return emit("Pad", x, emit.constant(pads), emit.constant(number, node.outputs[0].dtype))

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        return pad_value(
            emit,
            x,
            node.inputs[0],
            node.attributes["pad_width"],
            node.attributes["constant_values"],
        )

    def merge_axes(self, node: Node) -> Tensor:
        (x,), value = node.inputs, node.attributes["constant_values"]
        sides = list(x.shape)
        for axis, pair in enumerate(node.attributes["pad_width"]):
            if any(pair):
                x = ranks.reshaped(x, ranks.around(sides, [axis]))
                x = pad(x, ((0, 0), pair, (0, 0)), constant_values=value)
                sides[axis] = x.shape[1]
        return ranks.reshaped(x, sides)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        cut = tuple(slice(b, -a if a else None) for b, a in node.attributes["pad_width"])
        return [g[cut]]

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        padding = [(0, 0)] * len(order)
        for pair, axis in zip(node.attributes["pad_width"], order, strict=True):
            padding[axis] = pair
        return self.make([operands[0]], {**node.attributes, "pad_width": tuple(padding)}), order

    def simplify(self, node: Node) -> Tensor | None:
        return None if any(map(any, node.attributes["pad_width"])) else node.inputs[0]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        pairs = tuple((draw.integer(0, 2), draw.integer(0, 2)) for _ in shape)
        width = draw.choose((pairs, pairs, draw.integer(0, 2), pairs[0], pairs[:1]))
        value = draw.choose((0.0, 1.5))
        return Sample(draw.array(shape), attributes={"pad_width": width, "constant_values": value})


def _has_tensor(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and any(isinstance(side, Tensor) for side in pair)


def _padded_by(x: Tensor, pairs: Sequence[tuple[Any, ...]], value: float) -> Tensor:
    """Put as many constants around x as tensors say, along one axis after the other."""
    if len(pairs) != x.rank or any(len(pair) != 2 for pair in pairs):
        raise ShapeError(f"{len(pairs)} pairs of padding for a tensor of rank {x.rank}")
    for axis, pair in enumerate(pairs):
        sides = [ops.shape_of(x)[a] if d is None else d for a, d in enumerate(x.shape)]
        before, after = (
            ops.full([*sides[:axis], amount, *sides[axis + 1 :]], value, x.dtype) for amount in pair
        )
        x = ops.concatenate([before, x, after], axis)
    return x


def pad_value(emit: Emitter, x: Any, source: Tensor, padding: Any, value: float = 0.0) -> Any:
    """Emit padding of a tensor with a constant.

    Args:
        emit: The emitter.
        x: The native array to pad.
        source: The tensor whose value it is.
        padding: A pair for each axis.
        value: The constant.
    """
    if abs(value) >= 2**53 and not dtypes.is_float(source.dtype):
        # MXNet holds the constant as a double, which it does not fit: zeros are put around the
        # difference.
        constant = emit.constant(np.array(value, source.dtype))
        padded = pad_value(emit, emit("_npi_subtract", x, constant), source, padding)
        return emit("_npi_add", padded, constant)
    is_image = len(padding) in (4, 5) and not any(map(any, padding[:2]))
    if is_image and dtypes.is_float(source.dtype) and 0 not in source.shape:
        # The older operator, for images only, takes a tenth of the time.
        flat = tuple(amount for pair in padding for amount in pair)
        return emit("Pad", x, pad_width=flat, mode="constant", constant_value=value)
    return without_bool(emit, source, x, lambda v: _joined_with(emit, v, source, padding, value))


def _joined_with(emit: Emitter, x: Any, source: Tensor, padding: Any, value: float) -> Any:
    """Emit constants joined to both ends of axes: MXNet's own padding takes ten times as long."""
    shape = shapes.known(source.shape)
    dtype = "uint8" if source.dtype == "bool" else source.dtype
    result = tuple(side + sum(pair) for side, pair in zip(shape, padding, strict=True))
    if 0 in result or 0 in shape:
        return emit("_full", shape=result, value=float(value), dtype=dtype)
    for axis, ends in enumerate(padding):
        around = [(*shape[:axis], end, *shape[axis + 1 :]) for end in ends]
        before, after = (
            [(emit("_full", shape=sides, value=float(value), dtype=dtype), sides)] if end else []
            for sides, end in zip(around, ends, strict=True)
        )
        if before or after:
            x = joined(emit, [*before, (x, shape), *after], axis, dtype)
            shape = (*shape[:axis], shape[axis] + sum(ends), *shape[axis + 1 :])
    return x


pad = _Pad(
    "pad",
    doc="""Put a constant around x, or elements of x itself.

    Args:
        x: A tensor.
        pad_width: For each axis how many to put (before, after); one pair, or one number for both,
            for all axes.
        mode: ``"constant"``, or elements of x: ``"reflect"`` at the last one, ``"symmetric"``
            behind it, ``"edge"`` to repeat it, ``"wrap"`` to go on at the other end.
        constant_values: The constant, a number of the dtype of x.

    Raises:
        DTypeError: x are integers, and the constant has a fraction or does not fit.
    """,
)
