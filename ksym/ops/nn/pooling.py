"""Max and average pooling over one to three spatial axes; all share the geometry of windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.ops.arrays.cropping import emit_range
from ksym.ops.arrays.padding import pad_value
from ksym.ops.nn.windows import (
    BothFormats,
    canonical_padding,
    check_floats,
    check_format,
    check_meets,
    cut,
    explicit_padding,
    onnx_padding,
    output_sides,
    per_axis,
)
from ksym.shapes import Shape

__all__ = ["max_pool", "average_pool"]


def _attributes(x: Tensor, window: Any, strides: Any, padding: Any) -> dict[str, Any]:
    axes = x.rank - 2
    if not 1 <= axes <= 3:
        raise ShapeError(
            f"pooling has 1 to 3 spatial axes, not {axes}",
            remedy="give a tensor (batch, channels, spatial axes...)",
        )
    window = per_axis(window, axes, "window")
    padding = canonical_padding(padding, axes)
    if not isinstance(padding, str) and any(
        amount >= side for pair, side in zip(padding, window, strict=True) for amount in pair
    ):
        raise ShapeError(f"the padding {padding} is not smaller than the window {window}")
    return {
        "window": window,
        "strides": per_axis(window if strides is None else strides, axes, "strides"),
        "padding": padding,
    }


def _pairs(shape: Shape, attributes: Any) -> list[tuple[int, int]]:
    window, ones = attributes["window"], (1,) * len(attributes["window"])
    return explicit_padding(shape[2:], window, attributes["strides"], ones, attributes["padding"])


def _output_shape(shape: Shape, attributes: Any) -> Any:
    window, ones = attributes["window"], (1,) * len(attributes["window"])
    sides = output_sides(shape[2:], window, attributes["strides"], ones, attributes["padding"])
    return (*shape[:2], *sides)


def _window_slices(offset: Sequence[int], out: Sequence[int], attributes: Any) -> tuple[slice, ...]:
    return cut(offset, out, attributes["strides"], (1,) * len(offset))


def _windows(x: Any, attributes: Any, fill: float) -> Any:
    """Return in NumPy the elements under each window on a new last axis."""
    out = _output_shape(x.shape, attributes)[2:]
    x = np.pad(x, [(0, 0), (0, 0), *_pairs(x.shape, attributes)], constant_values=fill)
    offsets = itertools.product(*map(range, attributes["window"]))
    views = [x[(..., *_window_slices(offset, out, attributes))] for offset in offsets]
    return np.stack(views, axis=-1)


def _counts(shape: Shape, attributes: Any, dtype: str) -> np.ndarray:
    """Count the elements of the input, not of the padding, under each window."""
    inside = np.ones((1, 1, *shapes.known(shape[2:])), dtype)
    return np.asarray(_windows(inside, attributes, 0.0).sum(axis=-1))


class _NativePooling:
    """The native form of a pooling whose shapes are known.

    MXNet pads both ends alike, or (its "full" convention) lets the last window overhang.  Where
    neither gives TensorFlow's padding, the input is padded by an operator of its own.
    """

    def __init__(self, mode: str, source: Tensor, attributes: Any):
        self.source, shape = source, source.shape
        pairs = _pairs(shape, attributes)
        out = _output_shape(shape, attributes)[2:]
        geometry = list(zip(shape[2:], attributes["window"], attributes["strides"], strict=True))
        self.pairs = [(0, 0), (0, 0), *pairs]
        self.separate = False
        convention, pad = "valid", tuple(b for b, _ in pairs)
        if any(before != after for before, after in pairs):
            overhang = all(
                -(-(int(n or 0) + 2 * b - k) // s) + 1 == m and b <= a and k <= int(n or 0) + 2 * b
                for (n, k, s), (b, a), m in zip(geometry, pairs, out, strict=True)
            )
            # oneDNN counts an overhang differently when it averages.
            if overhang and mode == "max":
                convention = "full"
            else:
                self.separate, pad = True, (0,) * len(pairs)
        self.attributes = {
            "kernel": attributes["window"],
            "stride": attributes["strides"],
            "pad": pad,
            "pool_type": mode,
            "pooling_convention": convention,
            "count_include_pad": self.separate,
        }
        # Averages over explicit padding count it; the factor undoes that.
        self.scale: np.ndarray | None = None
        if self.separate and mode == "avg":
            self.scale = np.prod(attributes["window"]) / _counts(shape, attributes, "float64")

    def padded(self, emit: Emitter, x: Any, fill: float) -> Any:
        return pad_value(emit, x, self.source, self.pairs, fill) if self.separate else x

    def backward(self, emit: Emitter, operands: Sequence[Any], y: Any) -> Any:
        """Emit the gradient kernel, and cut off the padding."""
        sides = shapes.known(self.source.shape)
        pairs = self.pairs if self.separate else [(0, 0)] * len(sides)
        padded = tuple(d + b + a for d, (b, a) in zip(sides, pairs, strict=True))
        result = emit.backward(
            "_backward_Pooling",
            *operands,
            of=y,
            results=[Spec(padded, self.source.dtype)],
            **self.attributes,
        )
        if not self.separate:
            return result
        begin = tuple(b for b, _ in pairs)
        end = tuple(b + d for d, (b, _) in zip(sides, pairs, strict=True))
        return emit_range(emit, result, Spec(padded, self.source.dtype), begin, end)


def _window_flops(node: Node) -> float:
    """Return the number of elements of all windows."""
    x = node.inputs[-1]
    windows = shapes.size(_output_shape(x.shape, node.attributes)) or 0
    return float(windows * math.prod(node.attributes["window"]))


class _Pool(BothFormats):
    _onnx = ""
    own_layout = True
    mode: str

    def call(  # type: ignore[override]  # the arguments of all poolings
        self,
        x: Any,
        window: Any,
        strides: Any = None,
        padding: Any = "valid",
        *,
        data_format: str = "channels_first",
    ) -> Any:
        x = as_tensor(x)
        check_format(data_format)
        first = 2 if data_format == "channels_first" else 1
        given = _attributes(x, window, strides, padding)
        padding = given["padding"]
        idle = [
            i
            for i, (side, stride) in enumerate(zip(given["window"], given["strides"], strict=True))
            if side == stride == x.shape[first + i] == 1
            and (isinstance(padding, str) or padding[i] == (0, 0))
        ][: x.rank - 3]
        if not idle:
            return super().call(x, window, strides, padding, data_format=data_format)
        # Pooling of one axis is 15 times as fast as of two of which the second has one element.
        kept = [i for i in range(x.rank - 2) if i not in idle]
        gone = [first + i for i in idle]
        y = super().call(
            ops.squeeze(x, gone),
            [given["window"][i] for i in kept],
            [given["strides"][i] for i in kept],
            padding if isinstance(padding, str) else [padding[i] for i in kept],
            data_format=data_format,
        )
        return ops.expand_dims(y, gone)

    def prepare(
        self,
        x: Any,
        window: Any,
        strides: Any = None,
        padding: Any = "valid",
        *,
        data_format: str = "channels_first",
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        check_format(data_format)
        x = as_tensor(x)
        return [x], _attributes(x, window, strides, padding)

    def infer(self, x: Tensor, **attributes: Any) -> Spec:
        check_floats(x)
        return Spec(_output_shape(x.shape, attributes), x.dtype)

    def check(self, node: Node) -> None:
        _check_windows(node, node.inputs[0])

    def flops(self, node: Node) -> float:
        return _window_flops(node)

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any) -> Any:
        given = onnx_padding(node.attributes["padding"])
        options = {"kernel_shape": node.attributes["window"], "strides": node.attributes["strides"]}
        return emit(self._onnx, x, **options, **given)

    def sample(self, draw: Draw) -> Sample:
        x, attributes = _sample_pooling(draw)
        return Sample(x, attributes=attributes)


def _check_windows(node: Node, x: Tensor) -> None:
    """Raise an error for windows that contain no element of x."""
    sides = x.shape[2:]
    if 0 in sides and 0 not in node.outputs[0].shape[2:]:
        raise ShapeError("there is nothing but padding to pool")


def _sample_pooling(draw: Draw) -> tuple[np.ndarray, dict[str, Any]]:
    axes = draw.integer(1, 3)
    window = tuple(draw.integer(1, 3 if axes < 3 else 2) for _ in range(axes))
    strides = tuple(draw.integer(1, 2) for _ in range(axes))
    sides = [k + draw.integer(0, 3 if axes < 3 else 1) for k in window]
    x = draw.array((*draw.shape(2, 2, min_side=0), *sides), apart=0.002)
    explicit = tuple((draw.integer(0, k // 2), draw.integer(0, k // 2)) for k in window)
    padding = draw.choose(("valid", "same", explicit))
    return x, {"window": window, "strides": strides, "padding": padding}


class _MaxPool(_Pool):
    _onnx = "MaxPool"

    def numpy(self, x: Any, **attributes: Any) -> Any:
        return _windows(x, attributes, -np.inf).max(axis=-1)

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        native = _NativePooling("max", node.inputs[0], node.attributes)
        return _emit_max(emit, native, x, node.inputs[0].dtype)[1][0]

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [max_pool_gradient.make([g, node.inputs[0]], node.attributes)]


def _emit_max(
    emit: Emitter, native: _NativePooling, x: Any, dtype: str
) -> tuple[Any, tuple[Any, Any]]:
    """Emit max pooling; return its (padded) input, and its result with oneDNN's workspace."""
    x = native.padded(emit, x, float(np.finfo(dtype).min))
    return x, emit("Pooling", x, outputs=2, **native.attributes)


max_pool = _MaxPool(
    "max_pool",
    doc="""Return the largest element under each window.

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        window: Its size, an int or one for each spatial axis.
        strides: The distance between positions; by default its own size.
        padding: ``"valid"``, ``"same"`` (as TensorFlow pads), a number of elements for all sides,
            or for each axis a number or (before, after).
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Raises:
        DTypeError: x is not of floats.
        ShapeError: A window has another rank than the spatial axes, or does not fit.
    """,
)


class _Carrier(Operator):
    """An operator linear in its first operand, with the windows of a pooling of its second."""

    own_layout = True
    repeats = ("max_pool", "average_pool")
    linear_in = (0,)

    def prepare(
        self, g: Any, x: Any, window: Any, strides: Any = None, padding: Any = "valid"
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        return [as_tensor(g), x], _attributes(x, window, strides, padding)

    def infer(self, g: Tensor, x: Tensor, **attributes: Any) -> Spec:
        check_floats(x)
        check_meets(g, _output_shape(x.shape, attributes), x.dtype)
        return x.spec

    def flops(self, node: Node) -> float:
        return _window_flops(node)

    def sample(self, draw: Draw) -> Sample:
        x, attributes = _sample_pooling(draw)
        return Sample(draw.array(_output_shape(x.shape, attributes)), x, attributes=attributes)


class _MaxPoolGradient(_Carrier):
    internal = "a part of the gradient of `max_pool`"

    def numpy(self, g: Any, x: Any, **attributes: Any) -> Any:
        chosen = _windows(x, attributes, -np.inf).argmax(axis=-1)
        pairs = _pairs(x.shape, attributes)
        padded = [d + b + a for d, (b, a) in zip(x.shape[2:], pairs, strict=True)]
        result: Any = np.zeros((*x.shape[:2], *padded), g.dtype)
        offsets = list(itertools.product(*map(range, attributes["window"])))
        for position, value in np.ndenumerate(g):
            offset = offsets[chosen[position]]
            place = tuple(
                p * s + o
                for p, s, o in zip(position[2:], attributes["strides"], offset, strict=True)
            )
            result[(*position[:2], *place)] += value
        inside = tuple(slice(b, b + d) for d, (b, _) in zip(x.shape[2:], pairs, strict=True))
        return result[(..., *inside)]

    def lower(self, emit: Emitter, node: Node, g: Any, x: Any) -> Any:
        source = node.inputs[1]
        native = _NativePooling("max", source, node.attributes)
        x, (y, workspace) = _emit_max(emit, native, x, source.dtype)
        # The first workspace takes the place of its own gradient, which is not read.
        return native.backward(emit, [g, workspace, x, y, workspace], y)

    def gradient(self, node: Node, h: Tensor) -> list[Tensor | None]:
        x = node.inputs[1]
        return [max_pool_select.make([h, x], node.attributes), ops.zeros_like(x)]


max_pool_gradient = _MaxPoolGradient(
    "max_pool_gradient",
    doc="Return the gradient of `max_pool`: g goes to the largest of each window.",
)


class _MaxPoolSelect(_Carrier):
    """A composition, as MXNet has no kernel; only gradients of second order need it."""

    internal = "a part of the second gradient of `max_pool`"

    def infer(self, g: Tensor, x: Tensor, **attributes: Any) -> Spec:
        check_floats(x)
        check_meets(g, x.shape, x.dtype)
        return Spec(_output_shape(x.shape, attributes), x.dtype)

    def check(self, node: Node) -> None:
        _check_windows(node, node.inputs[1])

    def numpy(self, v: Any, x: Any, **attributes: Any) -> Any:
        chosen = _windows(x, attributes, -np.inf).argmax(axis=-1)[..., None]
        return np.take_along_axis(_windows(v, attributes, 0.0), chosen, -1)[..., 0]

    def expand(self, node: Node) -> Tensor:
        v, x = node.inputs
        attributes = node.attributes
        highest = max_pool.make([x], attributes)
        pairs = [(0, 0), (0, 0), *_pairs(x.shape, attributes)]
        out = shapes.known(node.outputs[0].shape[2:])
        x = ops.pad(x, pairs, constant_values=float(np.finfo(x.dtype).min))
        v = ops.pad(v, pairs)
        result = found = None
        for offset in itertools.product(*map(range, attributes["window"])):
            place = (..., *_window_slices(offset, out, attributes))
            here = ops.equal(x[place], highest)
            first = here if found is None else here & ~found
            result = v[place] if result is None else ops.where(first, v[place], result)
            found = here if found is None else found | here
        assert result is not None
        return result

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x = node.inputs[1]
        return [max_pool_gradient.make([g, x], node.attributes), ops.zeros_like(x)]

    def sample(self, draw: Draw) -> Sample:
        x, attributes = _sample_pooling(draw)
        return Sample(draw.array(x.shape), x, attributes=attributes)


max_pool_select = _MaxPoolSelect(
    "max_pool_select", doc="Return under each window the element of v where x is largest."
)


class _AveragePool(_Pool):
    _onnx = "AveragePool"
    half = False  # sums of large windows
    linear_in = (0,)

    def numpy(self, x: Any, **attributes: Any) -> Any:
        counts = _counts(x.shape, attributes, x.dtype.name)
        return _windows(x, attributes, 0.0).sum(axis=-1) / counts

    def lower(self, emit: Emitter, node: Node, x: Any) -> Any:
        source = node.inputs[0]
        native = _NativePooling("avg", source, node.attributes)
        y = emit("Pooling", native.padded(emit, x, 0.0), **native.attributes)
        if native.scale is not None:
            y = emit("_npi_multiply", y, emit.constant(native.scale.astype(source.dtype)))
        return y

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        return [average_pool_gradient.make([g, node.inputs[0]], node.attributes)]


average_pool = _AveragePool(
    "average_pool",
    doc="""Return the mean of the elements under each window; padding does not count.

    Args:
        x: (batch, channels, 1 to 3 spatial axes).
        window: Its size, an int or one for each spatial axis.
        strides: The distance between positions; by default its own size.
        padding: ``"valid"``, ``"same"`` (as TensorFlow pads), a number of elements for all sides,
            or for each axis a number or (before, after).
        data_format: ``"channels_first"``, or ``"channels_last"`` for x and the result in the order
            (batch, spatial axes..., channels).

    Raises:
        DTypeError: x is not of floats.
        ShapeError: A window has another rank than the spatial axes, or does not fit.
    """,
)


class _AveragePoolGradient(_Carrier):
    internal = "a part of the gradient of `average_pool`"
    half = False

    def numpy(self, g: Any, x: Any, **attributes: Any) -> Any:
        pairs = _pairs(x.shape, attributes)
        padded = [d + b + a for d, (b, a) in zip(x.shape[2:], pairs, strict=True)]
        result: Any = np.zeros((*x.shape[:2], *padded), g.dtype)
        share = g / _counts(x.shape, attributes, g.dtype.name)
        for offset in itertools.product(*map(range, attributes["window"])):
            result[(..., *_window_slices(offset, g.shape[2:], attributes))] += share
        inside = tuple(slice(b, b + d) for d, (b, _) in zip(x.shape[2:], pairs, strict=True))
        return result[(..., *inside)]

    def lower(self, emit: Emitter, node: Node, g: Any, x: Any) -> Any:
        source = node.inputs[1]
        native = _NativePooling("avg", source, node.attributes)
        x = native.padded(emit, x, 0.0)
        y = emit("Pooling", x, **native.attributes)
        if native.scale is not None:
            g = emit("_npi_multiply", g, emit.constant(native.scale.astype(source.dtype)))
        return native.backward(emit, [g, x, y], y)

    def simplify(self, node: Node) -> Tensor | None:
        g, x = node.inputs
        if not shapes.is_known(x.shape) or g.shape[2:] != (1,) * (x.rank - 2):
            return None
        if any(map(any, _pairs(x.shape, node.attributes))):
            return None
        sides = shapes.known(x.shape)
        if node.attributes["window"] != sides[2:]:
            return None
        # The window is the whole image.  oneDNN's kernel takes a hundred times as long, and leaves
        # a layout for which a batch normalisation before it has no fast kernel.
        return ops.broadcast_to(g / math.prod(sides[2:]), sides)

    def gradient(self, node: Node, h: Tensor) -> list[Tensor | None]:
        return [average_pool.make([h], node.attributes), ops.zeros_like(node.inputs[1])]


average_pool_gradient = _AveragePoolGradient(
    "average_pool_gradient", doc="Return the gradient of `average_pool`: g is shared out evenly."
)
