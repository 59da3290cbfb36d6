"""Keras's module math: segments, Fourier transforms, special functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, Operands, named, named_operation, operation
from keras_ksym.src.ops.linalg import slogdet
from keras_ksym.src.ops.windows import unwindowed, window_of
from keras_ksym.src.tensor import Tensor, floating, made, promoted

__all__ = [
    *("cdist", "erf", "erfc", "erfinv", "extract_sequences", "fft", "fft2", "ifft2", "in_top_k"),
    *("irfft", "istft", "logdet", "logsumexp", "rfft", "rsqrt", "segment_max"),
    *("segment_min", "segment_prod", "segment_sum", "stft", "top_k"),
]

Graph = ksym.Tensor


def _get_complex_tensor_from_tuple(x: Any) -> Any:
    """Refuse to join real and imaginary parts, as Keras's function polar does."""
    return dtypes.stored("complex64")


def _segments(name: str, compute: Callable[..., Graph]) -> Callable[..., Any]:
    @operation
    def reduce(data: Operand, segment_ids: Operand, count: int) -> Tensor:
        rows = ksym.cast(segment_ids.graph, "int64")
        return made(compute(data.graph, rows, count), data.dtype)

    def segments(
        data: Any,
        segment_ids: Any,
        num_segments: int | None = None,
        sorted: bool = False,
    ) -> Any:
        if num_segments is None:
            if isinstance(segment_ids, Tensor):
                raise ValueError(
                    "Argument `num_segments` must be set when a function is traced. "
                    "Received: num_segments=None"
                )
            ids = np.asarray(segment_ids)
            num_segments = int(ids.max()) + 1 if ids.size else 0
        return reduce(data, segment_ids, int(num_segments))

    return named(name, "Reduce the slices of each segment; ids beyond are left out.", segments)


segment_sum = _segments("segment_sum", ksym.segment_sum)
segment_max = _segments("segment_max", ksym.segment_max)
segment_min = _segments("segment_min", ksym.segment_min)
segment_prod = _segments("segment_prod", ksym.segment_prod)


@operation
def top_k(x: Operand, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """Return the k largest elements along the last axis, and their positions as int32."""
    places = ksym.argsort(x.graph, -1, descending=True)
    places = places[..., :k]
    return Tensor(ksym.take_along_axis(x.graph, places, -1), x.dtype), made(places, "int32")


@operation
def in_top_k(targets: Operand, predictions: Operand, k: int) -> Tensor:
    """Return whether the predictions of targets are among the k largest."""
    labels = ksym.expand_dims(ksym.cast(targets.graph, "int64"), -1)
    graph = predictions.graph
    score = ksym.take_along_axis(graph, labels, -1)
    score = ksym.where(ksym.isnan(score), -np.inf, score)
    ahead = ksym.sum(ksym.cast(graph > score, "int32"), -1)
    return Tensor(ahead < k, "bool")


@operation
def logsumexp(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials over axes."""
    dtype, graph = floating(x)
    axis = tuple(axis) if isinstance(axis, list | tuple) else axis
    return made(ksym.logsumexp(graph, axis, keepdims=keepdims), dtype)


@operation
def cdist(x: Operand, y: Operand) -> Tensor:
    """Return the distances between the rows of two matrices."""
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError("`cdist` inputs must have rank >= 2")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError("Last dimension of inputs to `cdist` must match")
    dtype, (a, b) = promoted(x, y, with_float=True)
    apart = ksym.expand_dims(a, -2) - ksym.expand_dims(b, -3)
    squares = ksym.sum(ksym.square(apart), -1)
    zero = ksym.equal(squares, 0)
    # The gradient at a distance of zero is zero, not infinite.
    return made(ksym.where(zero, 0.0, ksym.sqrt(ksym.where(zero, 1.0, squares))), dtype)


def _framed(x: Graph, length: int, stride: int) -> Graph:
    """Return the parts of a length that begin at each stride of the last axis."""
    size = x.shape[-1]
    if size is None:
        raise ValueError("the length of the sequence has to be known")
    starts = np.arange(0, size - length + 1, stride)
    return ksym.take(x, starts[:, None] + np.arange(length)[None, :], -1)


@operation
def extract_sequences(x: Operand, sequence_length: int, sequence_stride: int) -> Tensor:
    """Return the parts of a length that begin at each stride of the last axis."""
    return Tensor(_framed(x.graph, sequence_length, sequence_stride), x.dtype)


def _pair(x: Any) -> tuple[str, Graph, Graph]:
    """Return the dtype, the real and the imaginary part of complex numbers in two tensors."""
    if not isinstance(x, list | tuple) or len(x) != 2:
        raise ValueError(
            f"Input `x` should be a tuple of two tensors - real and imaginary.Received: x={x}"
        )
    real, imaginary = x
    if real.shape != imaginary.shape:
        raise ValueError(
            "Input `x` should be a tuple of two tensors - real and imaginary."
            "Both the real and imaginary parts should have the same shape. "
            f"Received: x[0].shape = {real.shape}, x[1].shape = {imaginary.shape}"
        )
    if not all(dtypes.is_float(part.dtype) for part in x):
        raise ValueError(f"At least one tensor in input `x` is not of type float.Received: x={x}.")
    dtype, (a, b) = promoted(real, imaginary)
    return dtype, a, b


def _transformed(name: str, doc: str, axes: int, inverse: bool) -> Callable[..., Any]:
    def body(x: Operands) -> tuple[Tensor, Tensor]:
        dtype, a, b = _pair(x)
        for axis in range(-axes, 0):
            a, b = ksym.fft(a, b, axis=axis, inverse=inverse)
        return made(a, dtype), made(b, dtype)

    inner = named_operation(name, doc, body)

    def checked(x: Any) -> Any:
        if not isinstance(x, list | tuple):
            _pair(x)
        return inner(x)

    return named(name, doc, checked)


fft = _transformed("fft", "Return Fourier's transform along the last axis.", 1, inverse=False)
fft2 = _transformed("fft2", "Return Fourier's transform along two axes.", 2, inverse=False)
ifft2 = _transformed("ifft2", "Return the inverse transform along two axes.", 2, inverse=True)


def _of_length(x: Graph, length: int) -> Graph:
    """Return the last axis cut, or filled up with zeros, to a length."""
    size = x.shape[-1]
    if size is None or size == length:
        return x
    if size > length:
        return x[..., :length]
    return ksym.pad(x, [[0, 0]] * (x.rank - 1) + [[0, length - size]])


def _forward(x: Graph, length: int) -> tuple[Graph, Graph]:
    """Return the transform of real numbers: the half that determines the other one."""
    x = _of_length(x, length)
    a, b = ksym.fft(x, ksym.zeros_like(x), axis=-1, inverse=False)
    return a[..., : length // 2 + 1], b[..., : length // 2 + 1]


def _backward(a: Graph, b: Graph, length: int) -> Graph:
    """Return the real numbers of which `_forward` gives the transform."""
    half = length // 2 + 1
    a, b = _of_length(a, half), _of_length(b, half)
    # The imaginary parts of the mean, and of the highest frequency of an even length, do not count.
    real_only = np.ones(half)
    real_only[0] = 0.0
    if length % 2 == 0:
        real_only[-1] = 0.0
    b = b * ksym.constant(real_only, b.dtype)
    last = half - 1 if length % 2 == 0 else half
    a = ksym.concatenate([a, ksym.flip(a[..., 1:last], -1)], -1)
    b = ksym.concatenate([b, -ksym.flip(b[..., 1:last], -1)], -1)
    return ksym.fft(a, b, axis=-1, inverse=True)[0]


@operation
def rfft(x: Operand, fft_length: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the transform of real numbers along the last axis, the half that is needed."""
    dtype, graph = floating(x)
    a, b = _forward(graph, fft_length or graph.shape[-1] or 0)
    return made(a, dtype), made(b, dtype)


@operation
def _irfft(x: Operands, fft_length: int | None = None) -> Tensor:
    dtype, a, b = _pair(x)
    return made(_backward(a, b, fft_length or 2 * ((a.shape[-1] or 1) - 1)), dtype)


def irfft(x: Any, fft_length: int | None = None) -> Any:
    """Return the real numbers of which `rfft` gives the transform."""
    if not isinstance(x, list | tuple):
        _pair(x)
    return _irfft(x, fft_length)


@operation
def stft(
    x: Operand,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any = "hann",
    center: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the transforms of overlapping parts of a sequence, each weighted by a window."""
    if x.dtype not in ("float32", "float64"):
        raise TypeError(
            f"Invalid input type. Expected `float32` or `float64`. Received: input type={x.dtype}"
        )
    weights = window_of(window, sequence_length, fft_length, x.dtype)
    graph = x.graph
    if center:
        around = [[0, 0]] * (graph.rank - 1) + [[fft_length // 2, fft_length // 2]]
        graph = ksym.pad(graph, around, "reflect")
    frames = _framed(graph, fft_length, sequence_stride) * ksym.constant(weights, graph.dtype)
    a, b = _forward(frames, fft_length)
    return made(a, x.dtype), made(b, x.dtype)


@operation
def istft(
    x: Operands,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Tensor:
    """Return the sequence of which `stft` gives the transforms."""
    dtype, a, b = _pair(x)
    if a.rank < 2:
        raise ValueError(f"Input `x` must have at least 2 dimensions. Received shape: {a.shape}")
    frames = _backward(a, b, fft_length)
    if window is not None:
        weights = window_of(window, sequence_length, fft_length, dtype)
        scale = ksym.constant(unwindowed(weights, sequence_stride), a.dtype)
        frames = frames * scale
    count = frames.shape[-2]
    assert count is not None
    size = fft_length + sequence_stride * (count - 1)
    starts = np.arange(count) * sequence_stride
    places = starts[:, None] + np.arange(fft_length)[None, :]
    moved = ksym.moveaxis(frames, (-2, -1), (0, 1))
    rows = ksym.reshape(
        moved, [count * fft_length, *(ksym.shape_of(moved)[i] for i in range(2, moved.rank))]
    )
    added = ksym.segment_sum(rows, places.reshape(-1), size)
    signal = ksym.moveaxis(added, 0, -1)
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else size - fft_length // 2 if center else size
    return made(
        _of_length(signal[..., start:], end - start) if end > size else signal[..., start:end],
        dtype,
    )


def _of_floats(name: str, compute: Callable[[Graph], Graph]) -> Callable[..., Any]:
    def body(x: Operand) -> Tensor:
        dtype, graph = floating(x)
        return made(compute(graph), dtype)

    return named_operation(name, f"Return {name} of each element.", body)


rsqrt = _of_floats("rsqrt", ksym.rsqrt)
erf = _of_floats("erf", ksym.erf)
erfc = _of_floats("erfc", ksym.erfc)
erfinv = _of_floats("erfinv", ksym.erfinv)


def logdet(x: Any) -> Any:
    """Return the logarithm of the size of the determinant."""
    return slogdet(x)[1]
