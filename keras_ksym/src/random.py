"""Keras's module random: random numbers that are functions of a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.random.seed_generator import SeedGenerator as SeedGenerator
from keras.src.random.seed_generator import draw_seed as draw_seed
from keras.src.random.seed_generator import make_default_seed as make_default_seed

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, named, operation
from keras_ksym.src.ops.arrays import sizes
from keras_ksym.src.tensor import Tensor, made

__all__ = [
    *("SeedGenerator", "beta", "binomial", "categorical", "draw_seed", "dropout", "gamma"),
    *("make_default_seed", "normal", "randint", "shuffle", "truncated_normal", "uniform"),
]

Graph = ksym.Tensor


def seed_of(seed: Any) -> Any:
    """Return the two numbers that numbers are drawn by: drawn from a generator, or given."""
    if isinstance(seed, Tensor) or (isinstance(seed, np.ndarray) and seed.shape == (2,)):
        return seed
    return draw_seed(seed)


def _drawn_in(dtype: Any) -> tuple[str, str]:
    """Return Keras's dtype of random floats, and the one in which they are drawn."""
    name = dtypes.as_dtype(dtype)
    return name, "float64" if name == "float64" else "float32"


def _distribution(name: str, draw: Callable[..., Graph]) -> Callable[..., Any]:
    @operation
    def compute(shape: Any, mean: Operand, stddev: Operand, dtype: str, seed: Operand) -> Tensor:
        target, wide = _drawn_in(dtype)
        numbers = draw(seed.graph, sizes(shape), wide)
        return made(numbers * stddev.graph_in(wide) + mean.graph_in(wide), target)

    def drawn(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        return compute(shape, mean, stddev, dtypes.as_dtype(dtype), seed_of(seed))

    return named(name, f"Draw {name.replace('_', ' ')} numbers of a mean and a deviation.", drawn)


normal = _distribution("normal", ksym.keyed_normal)
truncated_normal = _distribution("truncated_normal", ksym.keyed_truncated_normal)


@operation
def _uniform(shape: Any, minval: Operand, maxval: Operand, dtype: str, seed: Operand) -> Tensor:
    target, wide = _drawn_in(dtype)
    low, high = minval.graph_in(wide), maxval.graph_in(wide)
    numbers = ksym.keyed_uniform(seed.graph, sizes(shape), wide) * (high - low) + low
    if target in ("float16", "bfloat16"):
        # Rounded, a number could be the upper end, which is excluded.
        below = 1.0 - (2.0**-11 if target == "float16" else 2.0**-8)
        numbers = ksym.minimum(numbers, low + (high - low) * below)
    return made(numbers, target)


def uniform(
    shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Draw numbers from minval up to, not including, maxval."""
    return _uniform(shape, minval, maxval, dtypes.as_dtype(dtype), seed_of(seed))


@operation
def _randint(shape: Any, minval: Operand, maxval: Operand, dtype: str, seed: Operand) -> Tensor:
    low, high = (ksym.cast(v.graph_in("float64"), "float64") for v in (minval, maxval))
    numbers = ksym.keyed_uniform(seed.graph, sizes(shape), "float64")
    whole = ksym.floor(low) + ksym.floor(numbers * (ksym.ceil(high) - ksym.floor(low)))
    return made(ksym.cast(whole, "int64") if not dtypes.is_float(dtype) else whole, dtype)


def randint(shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Any:
    """Draw integers from minval up to, not including, maxval."""
    return _randint(shape, minval, maxval, dtypes.as_dtype(dtype), seed_of(seed))


@operation
def _categorical(logits: Operand, num_samples: Any, dtype: str, seed: Operand) -> Tensor:
    graph = logits.graph_in("float32" if logits.dtype != "float64" else "float64")
    shape = ksym.shape_of(graph)
    u = ksym.keyed_uniform(seed.graph, [shape[0], num_samples, shape[1]], "float64")
    gumbel = -ksym.log(-ksym.log(ksym.maximum(u, 1e-300)))
    scores = ksym.expand_dims(ksym.cast(graph, "float64"), 1) + gumbel
    return made(ksym.argmax(scores, -1), dtype)


def categorical(logits: Any, num_samples: Any, dtype: Any = "int32", seed: Any = None) -> Any:
    """Draw numbers of classes with the probabilities softmax(logits), (samples, num_samples)."""
    return _categorical(logits, int(num_samples), dtypes.as_dtype(dtype), seed_of(seed))


@operation
def _dropout(inputs: Operand, rate: float, noise_shape: Any, seed: Operand) -> Tensor:
    graph = inputs.graph
    sides = ksym.shape_of(graph)
    shape: Any = sides
    if noise_shape is not None:
        wanted = [sides[i] if side is None else side for i, side in enumerate(noise_shape)]
        shape = [side.graph if isinstance(side, Tensor) else side for side in wanted]
    kept = ksym.keyed_uniform(seed.graph, shape, "float32") >= rate
    # One product with 0 or the scale: a selection costs MXNet's kernels ten times as much.
    scale = ksym.cast(kept, graph.dtype) * (1.0 / (1.0 - rate))
    return made(graph * scale, inputs.dtype)


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """Set a share of the elements to zero and scale the others up."""
    from keras_ksym.src.ops.creation import zeros_like

    if rate == 1.0:
        return zeros_like(inputs)
    if rate == 0.0:
        return inputs
    return _dropout(inputs, float(rate), noise_shape, seed_of(seed))


@operation
def _shuffle(x: Operand, axis: int, seed: Operand) -> Tensor:
    count = ksym.shape_of(x.graph)[axis]
    order = ksym.argsort(ksym.keyed_uniform(seed.graph, [count], "float64"), 0)
    return Tensor(ksym.take(x.graph, order, axis), x.dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """Return the slices along an axis in random order."""
    return _shuffle(x, int(axis), seed_of(seed))


def _apart(seed: Graph, number: int) -> Graph:
    """Return another seed, for numbers that are independent of those of this one."""
    return ksym.concatenate([ksym.cast(seed, "int64"), ksym.constant([number], "int64")], 0)


@operation
def _gamma(shape: Any, alpha: Operand, dtype: str, seed: Operand) -> Tensor:
    target, wide = _drawn_in(dtype)
    shape_of_each = ksym.broadcast_to(alpha.graph_in("float64"), sizes(shape))
    return made(ksym.cast(ksym.keyed_gamma(seed.graph, shape_of_each), wide), target)


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Draw numbers of the gamma distribution of shape alpha and rate 1."""
    return _gamma(shape, alpha, dtypes.as_dtype(dtype), seed_of(seed))


@operation
def _binomial(
    shape: Any, counts: Operand, probabilities: Operand, dtype: str, seed: Operand
) -> Tensor:
    sides = sizes(shape)
    trials = ksym.broadcast_to(counts.graph_in("float64"), sides)
    chances = ksym.broadcast_to(probabilities.graph_in("float64"), sides)
    return made(ksym.keyed_binomial(seed.graph, trials, chances), dtype)


def binomial(
    shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None
) -> Any:
    """Draw the number of successes in a number of trials."""
    return _binomial(shape, counts, probabilities, dtypes.as_dtype(dtype), seed_of(seed))


@operation
def _beta(shape: Any, alpha: Operand, beta: Operand, dtype: str, seed: Operand) -> Tensor:
    target, wide = _drawn_in(dtype)
    sides = sizes(shape)
    first, second = (
        ksym.keyed_gamma(
            _apart(seed.graph, number), ksym.broadcast_to(v.graph_in("float64"), sides)
        )
        for number, v in enumerate((alpha, beta))
    )
    return made(ksym.cast(first / (first + second), wide), target)


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Draw numbers of the beta distribution."""
    return _beta(shape, alpha, beta, dtypes.as_dtype(dtype), seed_of(seed))
