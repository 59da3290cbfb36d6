"""Padding with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops import ranks

__all__ = ["pad"]


def padding_pairs(padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Return one pair (before, after) for each axis.

    Raises:
        ShapeError: The number of pairs differs from that of the axes, or an amount is negative.
    """
    pairs = tuple((int(before), int(after)) for before, after in padding)
    if len(pairs) != rank:
        raise ShapeError(f"{len(pairs)} pairs of padding for a tensor of rank {rank}")
    if any(amount < 0 for pair in pairs for amount in pair):
        raise ShapeError(f"the padding {pairs} is negative", remedy="slice to make smaller")
    return pairs


class _Pad(Operator):
    def call(self, x: Any, padding: Any, value: float = 0.0, mode: str = "constant") -> Tensor:
        if mode != "constant":
            return ops.pad_from_inside(x, padding, mode)
        return super().call(x, padding, value)

    def prepare(
        self, x: Any, padding: Any, value: float = 0.0
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [x], {"padding": padding_pairs(padding, x.rank), "value": float(value)}

    def infer(self, x: Tensor, padding: tuple[tuple[int, int], ...], value: float) -> Spec:
        return Spec(
            tuple(
                shapes.elementwise(lambda side, both=b + a: side + both, d)
                for d, (b, a) in zip(x.shape, padding, strict=True)
            ),
            x.dtype,
        )

    def numpy(self, x: Any, padding: Any, value: float) -> Any:
        return np.pad(x, padding, constant_values=value)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        padding, value = node.attributes["padding"], node.attributes["value"]
        source = node.inputs[0]
        if source.rank > 1:
            return pad_value(emit, x, source, padding, value)
        # MXNet misreads the padding of a vector.
        row = emit("_np_reshape", x, newshape=(1, -1))
        row = pad_value(emit, row, source, ((0, 0), *padding), value)
        return emit("_np_reshape", row, newshape=(-1,))

    def merge_axes(self, node: Node) -> Tensor:
        (x,), value = node.inputs, node.attributes["value"]
        sides = list(x.shape)
        for axis, pair in enumerate(node.attributes["padding"]):
            if any(pair):
                x = ranks.reshaped(x, ranks.around(sides, [axis]))
                x = pad(x, ((0, 0), pair, (0, 0)), value)
                sides[axis] = x.shape[1]
        return ranks.reshaped(x, sides)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        cut = tuple(slice(b, -a if a else None) for b, a in node.attributes["padding"])
        return [g[cut]]

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]]:
        padding = [(0, 0)] * len(order)
        for pair, axis in zip(node.attributes["padding"], order, strict=True):
            padding[axis] = pair
        return self(operands[0], padding, node.attributes["value"]), order

    def simplify(self, node: Node) -> Tensor | None:
        return None if any(map(any, node.attributes["padding"])) else node.inputs[0]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, min_side=0)
        padding = tuple((draw.integer(0, 2), draw.integer(0, 2)) for _ in shape)
        value = draw.choose((0.0, 1.5))
        return Sample(draw.array(shape), attributes={"padding": padding, "value": value})


def pad_value(emit: Emitter, x: Any, source: Tensor, padding: Any, value: float = 0.0) -> Any:
    """Emit padding of a tensor of two or more axes with a constant.

    Args:
        emit: The emitter.
        x: The native array to pad.
        source: The tensor whose value it is.
        padding: A pair for each axis.
        value: The constant.
    """
    is_image = len(padding) in (4, 5) and not any(map(any, padding[:2]))
    if is_image and dtypes.is_float(source.dtype) and 0 not in source.shape:
        # The older operator, for images only, takes a tenth of the time.
        flat = tuple(amount for pair in padding for amount in pair)
        return emit("Pad", x, pad_width=flat, mode="constant", constant_value=value)
    return emit("_npi_pad", x, pad_width=padding, mode="constant", constant_value=value)


pad = _Pad(
    "pad",
    doc="""Put a constant around x, or elements of x itself.

    Args:
        x: A tensor.
        padding: For each axis how many to put (before, after).
        value: The constant to pad with.
        mode: ``"constant"``, or one of those of `pad_from_inside`: ``"reflect"``, ...
    """,
)
