"""The windows by which short-time Fourier transforms weight their parts."""

from __future__ import annotations

from typing import Any

import numpy as np


def window_of(window: Any, sequence_length: int, fft_length: int, dtype: str) -> np.ndarray:
    """Return the weights of a part of fft_length elements: a window in the middle of zeros.

    Args:
        window: ``"hann"``, ``"hamming"``, a vector of sequence_length weights, or None for ones.
        sequence_length: The number of elements that the window weights.
        fft_length: The number of elements of a part.
        dtype: The dtype.

    Raises:
        ValueError: The lengths do not fit, or there is no such window.
    """
    if fft_length < sequence_length:
        raise ValueError(
            "`fft_length` must equal or larger than `sequence_length`. "
            f"Received: sequence_length={sequence_length}, fft_length={fft_length}"
        )
    left = (fft_length - sequence_length) // 2
    if window is None:
        return np.ones(fft_length, dtype)
    if isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ValueError(
                "If a string is passed to `window`, it must be one of "
                f'`"hann"`, `"hamming"`. Received: window={window}'
            )
        # Periodic windows: those of one element more, without the last.
        made = np.hanning if window == "hann" else np.hamming
        weights = made(sequence_length + 1)[:-1]
    else:
        weights = np.asarray(window)
    if weights.shape != (sequence_length,):
        raise ValueError(
            "The shape of `window` must be equal to [sequence_length]."
            f"Received: window shape={weights.shape}"
        )
    return np.pad(weights, (left, fft_length - sequence_length - left)).astype(dtype)


def unwindowed(window: np.ndarray, stride: int) -> np.ndarray:
    """Return the weights by which overlapping parts that a window weighted add up to the sequence.

    They are the window divided by the sum of its squares at all strides, and zero where that is.
    """
    count = -(-len(window) // stride)
    squares = np.pad(np.square(window), (0, count * stride - len(window)))
    total = np.tile(squares.reshape(count, stride).sum(0), count)[: len(window)]
    return np.divide(window, total, out=np.zeros_like(window), where=total > 0)
