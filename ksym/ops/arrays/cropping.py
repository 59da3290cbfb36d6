"""The native form of a range along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ksym import dtypes
from ksym.graph import Spec
from ksym.operator.emitter import Emitter


def emit_range(
    emit: Emitter, x: Any, source: Spec, begin: Sequence[int], end: Sequence[int]
) -> Any:
    """Emit the elements of x from begin to end along each axis.

    oneDNN has a kernel for `slice`, which divides by zero where it cuts channels out of blocks, and
    leaves blocks that operators after it do not expect.  `slice_axis` puts such an operand in order
    first.  It is as fast, for a vector ten times, where it cuts one axis; it copies for each.

    Args:
        emit: The emitter.
        x: The native operand.
        source: Its shape and dtype.
        begin: The first element along each axis.
        end: The element behind the last one.
    """
    if not dtypes.is_float(source.dtype):  # `slice_axis` takes no booleans
        return emit("slice", x, begin=tuple(begin), end=tuple(end))
    cut = [
        axis
        for axis, (side, *bounds) in enumerate(zip(source.shape, begin, end, strict=True))
        if bounds != [0, side]
    ]
    # Channels alone, as the interpreter does not know what is in blocks.
    alone = cut if len(cut) == 1 or emit.in_own_layout(x) else [axis for axis in cut if axis == 1]
    for axis in alone:
        x = emit("slice_axis", x, axis=axis, begin=begin[axis], end=end[axis])
    if alone == cut:
        return x
    left = [
        (0, last - first) if axis in alone else (first, last)
        for axis, (first, last) in enumerate(zip(begin, end, strict=True))
    ]
    return emit("slice", x, begin=tuple(b for b, _ in left), end=tuple(e for _, e in left))
