"""Random tensors; each draws from a stream of its own, seeded from NumPy unless told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from ksym import ops
from ksym.graph import Tensor
from ksym.keras.config import dtype_or_floatx
from ksym.keras.tensors import counts


def seed_or_numpy(seed: int | None) -> int:
    """Return a seed; by default one from NumPy's global state, so that np.random.seed decides."""
    return int(np.random.randint(10**7)) if seed is None else int(seed)


def stream(seed: int | None) -> ops.RandomStream:
    """Return a stream of random numbers for one random operator."""
    return ops.RandomStream(seed_or_numpy(seed))


def random_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: int | None = None
) -> Tensor:
    """Draw normal numbers."""
    return mean + stddev * ops.random_normal(
        counts(shape, "random_normal"), dtype_or_floatx(dtype), stream(seed)
    )


def random_uniform(
    shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: int | None = None
) -> Tensor:
    """Draw numbers from minval up to, not including, maxval."""
    drawn = ops.random_uniform(
        counts(shape, "random_uniform"), dtype_or_floatx(dtype), stream(seed)
    )
    return minval + (maxval - minval) * drawn


def random_binomial(shape: Any, p: Any = 0.0, dtype: Any = None, seed: int | None = None) -> Tensor:
    """Draw ones with probability p, else zeros."""
    dtype = dtype_or_floatx(dtype)
    return ops.cast(
        ops.random_uniform(counts(shape, "random_uniform"), dtype, stream(seed)) < p, dtype
    )


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: int | None = None
) -> Tensor:
    """Draw normal numbers, again where they are beyond two standard deviations."""
    drawn = ops.random_truncated_normal(
        counts(shape, "random_truncated_normal"), dtype_or_floatx(dtype), stream(seed)
    )
    return mean + stddev * drawn
