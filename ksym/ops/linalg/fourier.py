"""Fourier transforms of complex numbers, given as real and imaginary parts: NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import floating, promoted
from ksym.operator.sampling import Draw, Sample

__all__ = ["fft"]


class _FFT(Operator):
    runs = "host"
    half = False

    def prepare(
        self, real: Any, imaginary: Any, axis: int = -1, inverse: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        a, b = (floating(part) for part in promoted(real, imaginary))
        if not a.rank or not shapes.compatible(a.shape, b.shape):
            raise ShapeError(
                f"real and imaginary parts have the same shape, with an axis: not {a.shape} and "
                f"{b.shape}"
            )
        return [a, b], {"axis": shapes.axis(axis, a.rank), "inverse": bool(inverse)}

    def infer(self, real: Tensor, imaginary: Tensor, axis: int, inverse: bool) -> tuple[Spec, Spec]:
        return real.spec, real.spec

    def check(self, node: Node) -> None:
        real, imaginary = node.inputs
        if real.shape != imaginary.shape:
            raise ShapeError(
                f"real and imaginary parts have the same shape: not {real.shape} and "
                f"{imaginary.shape}"
            )

    def numpy(self, real: Any, imaginary: Any, axis: int, inverse: bool) -> Any:
        if not np.size(real):
            return real, imaginary
        transform = np.fft.ifft if inverse else np.fft.fft
        found = transform(np.asarray(real) + 1j * np.asarray(imaginary), axis=axis)
        dtype = np.asarray(real).dtype
        return found.real.astype(dtype), found.imag.astype(dtype)

    def gradient(
        self, node: Node, for_real: Tensor | None, for_imaginary: Tensor | None
    ) -> list[Tensor | None]:
        parts = [
            ops.zeros_like(out) if g is None else g
            for g, out in zip((for_real, for_imaginary), node.outputs, strict=True)
        ]
        axis, inverse = node.attributes["axis"], node.attributes["inverse"]
        side = ops.cast_to(ops.shape_of(parts[0])[axis], parts[0].dtype)
        # The transform is linear; its adjoint is the other one, but for the scale.
        scale = 1.0 / side if inverse else side
        return [part * scale for part in fft(*parts, axis=axis, inverse=not inverse)]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1, max_rank=3)
        real, imaginary = draw.array(shape), draw.array(shape)
        axis = draw.integer(-len(shape), len(shape) - 1)
        attributes = {"axis": axis, "inverse": draw.choose((False, True))}
        return Sample(real, imaginary, attributes=attributes)


fft = _FFT(
    "fft",
    doc="""Return the discrete Fourier transform of complex numbers along an axis.

    Args:
        real: The real parts.
        imaginary: The imaginary parts, of the same shape.
        axis: The axis.
        inverse: Whether to compute the inverse transform, which is scaled by 1 / n.

    Returns:
        The real and the imaginary parts of the result.

    Raises:
        ShapeError: The shapes differ, or have no axis.

    >>> import ksym
    >>> ksym.evaluate(fft([1.0, 0.0], [0.0, 0.0])[0])
    array([1., 1.], dtype=float32)
    """,
)
