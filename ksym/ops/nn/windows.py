"""Windows that slide over the spatial axes, for convolutions and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.shapes import Shape

Padding = str | tuple[tuple[int, int], ...]


def per_axis(value: Any, axes: int, what: str) -> tuple[int, ...]:
    """Return one positive int for each spatial axis, from an int or a sequence.

    Raises:
        ShapeError: Their number differs, or one is not a positive integer.
    """
    try:
        numbers = tuple(index(v) for v in value) if hasattr(value, "__len__") else None
        numbers = (index(value),) * axes if numbers is None else numbers
    except TypeError:
        numbers = ()
    if len(numbers) != axes or any(n < 1 for n in numbers):
        raise ShapeError(f"{what} {value!r} must be {axes} positive integers, or one for all axes")
    return numbers


def check_positive(value: Any, what: str) -> int:
    """Return the number as an int, if it is positive.

    Raises:
        ShapeError: It is not a positive integer.
    """
    return per_axis((value,), 1, what)[0]


def canonical_padding(padding: Any, axes: int, causal: bool = False) -> Padding:
    """Return the name of a padding, or a pair (before, after) for each spatial axis.

    Args:
        padding: ``"valid"``, ``"same"``, ``"causal"``, a count for all sides, or for each axis a
            count or a pair of them.  ``"full"`` and ``"half"`` have been resolved by
            `named_padding`.
        axes: The number of spatial axes.
        causal: Whether the operator knows causal padding, which is for one axis.

    Raises:
        ShapeError: It is none of these.
    """
    if isinstance(padding, str):
        if padding == "causal" and causal:
            if axes != 1:
                raise ShapeError(f"causal padding is for one axis, not for {axes}")
        elif padding not in ("valid", "same"):
            raise ShapeError(
                f"padding {padding!r} is not known",
                remedy='use "valid", "same", a count, or for each axis (before, after); '
                'convolutions also take "full" and "half", and along one axis "causal"',
            )
        return padding
    try:
        pairs = tuple(
            _pair(n) for n in (padding if hasattr(padding, "__iter__") else [padding] * axes)
        )
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != axes or any(n < 0 for pair in pairs for n in pair):
        raise ShapeError(
            f"padding {padding!r} must be a count, or for each of the {axes} axes a count or "
            "(before, after)",
            remedy=f"write padding={((1, 1),) * axes}, such as for a window of 3",
        )
    return pairs


def _pair(count: Any) -> tuple[int, int]:
    before, after = count if hasattr(count, "__iter__") else (count, count)
    return index(before), index(after)


def named_padding(padding: Any, window: Shape, dilation: Sequence[int]) -> Any:
    """Return a padding with the names that a window's size decides, as counts for each axis.

    ``"full"`` is one element less than the window on both sides, so that a window meets each
    element at all of its places; ``"half"`` is half of the window, rounded down.

    Args:
        padding: One of these names, or anything else, which stays as it is.
        window: The size of the window along each spatial axis.
        dilation: The distance between neighbours in the window, along each axis.

    Raises:
        ShapeError: A size of the window is not known.
    """
    if not isinstance(padding, str) or padding not in ("full", "half"):
        return padding
    spread = [
        None if k is None else max(0, k - 1) * d for k, d in zip(window, dilation, strict=True)
    ]
    if None in spread:
        raise ShapeError(
            f"padding {padding!r} needs a window of known size, not {window}",
            remedy="give the kernel a shape, or the padding as numbers",
        )
    return tuple(s if padding == "full" else (s + 1) // 2 for s in spread if s is not None)


def check_floats(*tensors: Tensor) -> None:
    """Raise an error for operands that are not floats.

    Raises:
        DTypeError: An operand is not a float.
    """
    for tensor in tensors:
        if not dtypes.is_float(tensor.dtype):
            raise DTypeError(f"floats are expected, not {tensor.dtype}", remedy="cast them")


def check_meets(g: Tensor, shape: Shape, dtype: str) -> None:
    """Raise an error for a gradient of another shape or dtype than its tensor.

    Raises:
        ShapeError: It has another shape.
        DTypeError: It has another dtype.
    """
    if not shapes.compatible(g.shape, shape):
        raise ShapeError(f"the gradient has shape {g.shape}, the result it belongs to {shape}")
    if g.dtype != dtype:
        raise DTypeError(f"the gradient is {g.dtype}, the result it belongs to {dtype}")


class BothFormats(Operator):
    """An operator over spatial axes whose public form takes a data format.

    The operator itself has channels first, as MXNet's kernels do.  For channels last the input is
    transposed before and the result after; the compiler cancels transpositions between layers.
    """

    def call(self, x: Any, *args: Any, data_format: str = "channels_first", **kwargs: Any) -> Any:
        x = as_tensor(x)
        if data_format != "channels_last" or x.rank < 3:
            return super().call(x, *args, data_format=data_format, **kwargs)
        return channels_last(super().call(channels_first(x), *args, **kwargs))


def check_format(data_format: str) -> None:
    """Raise an error for an unknown data format.

    Raises:
        ShapeError: It is not known.
    """
    if data_format not in ("channels_first", "channels_last"):
        raise ShapeError(
            f"data format {data_format!r} is not known",
            remedy='use "channels_first" or "channels_last"',
        )


def channels_first(x: Tensor) -> Tensor:
    """Return (batch, spatial axes..., channels) as (batch, channels, spatial axes...)."""
    return ops.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1)))


def channels_last(x: Tensor) -> Tensor:
    """Return (batch, channels, spatial axes...) as (batch, spatial axes..., channels)."""
    return ops.transpose(x, (0, *range(2, x.rank), 1))


def cut(
    offset: Sequence[int], sides: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[slice, ...]:
    """Return the elements at an offset inside of the window, for each of its positions."""
    return tuple(
        slice(o * d, o * d + (side - 1) * s + 1, s) if side else slice(0, 0)
        for o, d, s, side in zip(offset, dilation, strides, sides, strict=True)
    )


def output_sides(
    sides: Shape,
    window: Sequence[int | None],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: Padding,
) -> Shape:
    """Return the number of positions of a window along each spatial axis.

    Raises:
        ShapeError: The window is larger than an axis that is known.
    """
    found = tuple(
        None
        if width is None
        else shapes.window_output(
            side, width, stride, dilate, padding if isinstance(padding, str) else padding[axis]
        )
        for axis, (side, width, stride, dilate) in enumerate(
            zip(sides, window, strides, dilation, strict=True)
        )
    )
    if any(count == 0 and side for count, side in zip(found, sides, strict=True)):
        spread = "" if set(dilation) == {1} else f" with dilation {tuple(dilation)}"
        raise ShapeError(
            f"a window of {tuple(window)}{spread} does not fit into spatial axes of {sides}",
            remedy='use padding="same", a smaller window, or larger inputs',
        )
    return found


def explicit_padding(
    sides: Shape,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: Padding,
) -> list[tuple[int, int]]:
    """Return (before, after) for each spatial axis of known size."""
    return [
        shapes.window_padding(
            int(side or 0),
            width,
            stride,
            dilate,
            padding if isinstance(padding, str) else padding[axis],
        )
        for axis, (side, width, stride, dilate) in enumerate(
            zip(sides, window, strides, dilation, strict=True)
        )
    ]


def onnx_padding(padding: Padding) -> dict[str, Any]:
    """Return the attributes of ONNX that pad the spatial axes."""
    if isinstance(padding, str) and padding != "causal":
        return {"auto_pad": {"same": "SAME_UPPER", "valid": "VALID"}[padding]}
    assert not isinstance(padding, str)
    return {"pads": (*(before for before, _ in padding), *(after for _, after in padding))}
