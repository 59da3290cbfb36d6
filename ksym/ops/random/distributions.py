"""Random tensors of the usual distributions, whose parameters may be tensors of the graph.

A distribution that is a standard one, shifted and scaled, is composed that way, so that gradients
reach its parameters; they are the gradients for the numbers drawn.  The others are operators of
their own that cut gradients, and are named by an error about a missing gradient.  Distributions
without a density are in `ksym.ops.random.discrete`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import Composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import in_dtype, known_dimensions
from ksym.operator.sampling import Draw, Sample
from ksym.ops.random.standard import (
    float_dtype,
    size_operand,
    standard_exponential,
    standard_gamma,
    standard_gumbel,
    standard_laplace,
    standard_normal,
    standard_truncated_normal,
    standard_uniform,
    within,
)
from ksym.ops.random.streams import RandomStream, as_stream

__all__ = [
    "random_uniform",
    "random_normal",
    "random_truncated_normal",
    "random_exponential",
    "random_laplace",
    "random_gumbel",
    "random_gamma",
]

Stream = RandomStream | int | None

GAMMA_ROUNDS = 8
"""The number of proposals for a gamma number with a symbolic alpha, see `random_gamma`."""

DRAWN_ANEW = {"gradients": "each call draws anew; tests/ops/random/test_random.py checks them"}


def _spread(parameter: Any, drawn: Tensor, name: str) -> Tensor:
    """Convert a parameter to the dtype of the numbers drawn; it must not stretch their shape."""
    tensor = in_dtype(parameter, drawn.dtype)
    if tensor.rank:
        within(tensor.shape, drawn.shape, name)
        tensor = ops.broadcast_to(tensor, ops.shape_of(drawn))
    return tensor


class _Distribution(Composite):
    """A composition of a standard distribution; its parameters are the operands after the shape.

    Args:
        build: The public function.
        parameters: The names of its parameters, and the smallest values that tests draw for them.
    """

    def __init__(self, build: Callable[..., Tensor], parameters: Mapping[str, float]):
        self._parameters = parameters
        super().__init__(
            build, None, self._drawn, pure=False, static_operands=(0,), unproven=DRAWN_ANEW
        )

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        shape, *values = operands
        return self(shape, **dict(zip(self._parameters, values, strict=True)), **attributes)

    def _drawn(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        values = [
            draw.array(draw.choose((shape, ())), low, low + 1.0)
            for low in self._parameters.values()
        ]
        return Sample(
            np.array(shape, "int64"),
            *values,
            attributes={"dtype": draw.dtype("float"), "stream": 1},
            differentiate=(),
        )


def _distribution(**parameters: float) -> Callable[[Callable[..., Tensor]], _Distribution]:
    return lambda build: _Distribution(build, parameters)


@_distribution(minval=-0.5, maxval=0.6)
def random_uniform(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    minval: Any = 0.0,
    maxval: Any = 1.0,
) -> Tensor:
    """Draw random numbers from minval up to, not including, maxval (but for rounding).

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: A `RandomStream` to draw from, or the seed of a new one; without it one that `seed`
            decides.
        minval: The smallest; a number, or a tensor that broadcasts to shape.
        maxval: The largest, likewise.
    """
    drawn = standard_uniform(shape, dtype, stream)
    low, high = _spread(minval, drawn, "minval"), _spread(maxval, drawn, "maxval")
    return low + (high - low) * drawn


def _located(
    drawn: Tensor, location: Any, scale: Any, names: tuple[str, str] = ("loc", "scale")
) -> Tensor:
    return _spread(location, drawn, names[0]) + _spread(scale, drawn, names[1]) * drawn


@_distribution(mean=-0.5, stddev=0.5)
def random_normal(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    mean: Any = 0.0,
    stddev: Any = 1.0,
) -> Tensor:
    """Draw normal numbers.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        mean: Their mean; a number, or a tensor that broadcasts to shape.
        stddev: Their standard deviation, likewise.
    """
    return _located(standard_normal(shape, dtype, stream), mean, stddev, ("mean", "stddev"))


@_distribution(mean=-0.5, stddev=0.5)
def random_truncated_normal(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    mean: Any = 0.0,
    stddev: Any = 1.0,
) -> Tensor:
    """Draw normal numbers, again where they are beyond two deviations from the mean.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        mean: The mean; a number, or a tensor that broadcasts to shape.
        stddev: The standard deviation before the ends are cut off, likewise.
    """
    drawn = standard_truncated_normal(shape, dtype, stream)
    return _located(drawn, mean, stddev, ("mean", "stddev"))


@_distribution(scale=0.5)
def random_exponential(
    shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT, stream: Stream = None, scale: Any = 1.0
) -> Tensor:
    """Draw random numbers of density exp(-x / scale) / scale, for positive x.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        scale: Their mean; a number, or a tensor that broadcasts to shape.
    """
    drawn = standard_exponential(shape, dtype, stream)
    return _spread(scale, drawn, "scale") * drawn


@_distribution(loc=-0.5, scale=0.5)
def random_laplace(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    loc: Any = 0.0,
    scale: Any = 1.0,
) -> Tensor:
    """Draw random numbers of density exp(-|x - loc| / scale) / (2 scale).

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        loc: Their mean; a number, or a tensor that broadcasts to shape.
        scale: Their mean distance from it, likewise.
    """
    return _located(standard_laplace(shape, dtype, stream), loc, scale)


@_distribution(loc=-0.5, scale=0.5)
def random_gumbel(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    loc: Any = 0.0,
    scale: Any = 1.0,
) -> Tensor:
    """Draw random numbers of density exp(-z - exp(-z)) / scale, where z is (x - loc) / scale.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        loc: The place of the largest density; a number, or a tensor that broadcasts to shape.
        scale: The width of the density, likewise.
    """
    return _located(standard_gumbel(shape, dtype, stream), loc, scale)


class Cut(Operator):
    """A distribution composed of others through which no gradient flows."""

    pure = False
    static_operands: tuple[int, ...] = (0,)

    def infer(self, shape: Tensor, parameter: Tensor, **attributes: Any) -> Spec:
        sides = tuple(known_dimensions(shape))
        return Spec(within(parameter.shape, sides, "the parameter"), attributes["dtype"])


def noise_dtype(dtype: str) -> str:
    """Return the dtype that probabilities are drawn in: 11 bits of float16 would be too coarse."""
    return "float64" if dtype == "float64" else "float32"


class _SymbolicGamma(Cut):
    """Gamma numbers whose alpha is computed by the graph."""

    internal = "a part of `random_gamma`"

    def prepare(
        self, shape: Any, alpha: Any, dtype: Any = dtypes.DEFAULT_FLOAT, stream: Stream = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = float_dtype(dtype)
        return [size_operand(shape), in_dtype(alpha, noise_dtype(dtype))], {
            "dtype": dtype,
            "stream": as_stream(stream),
        }

    def numpy(self, shape: Any, alpha: Any, dtype: str, stream: RandomStream) -> Any:
        size = tuple(int(d) for d in shape)
        rng = np.random.default_rng(int(stream.draw("uniform", (), "float64") * 2**53))
        return rng.standard_gamma(alpha, size).astype(dtype)

    def expand(self, node: Node) -> Tensor:
        shape, alpha = node.inputs
        stream = node.attributes["stream"]
        rounds = ops.concatenate([np.array([GAMMA_ROUNDS]), shape])
        small = alpha < 1.0
        d = ops.where(small, alpha + 1.0, alpha) - 1.0 / 3.0
        normal = standard_normal(rounds, alpha.dtype, stream)
        chance = standard_uniform(rounds, alpha.dtype, stream)
        root = 1.0 + normal / ops.sqrt(9.0 * d)
        v = ops.where(root > 0.0, root * root * root, 1.0)
        bound = 0.5 * normal * normal + d * (1.0 - v + ops.log(v))
        accepted = ops.logical_and(root > 0.0, ops.log(1.0 - chance) < bound)
        # 1, the most probable proposal, where none is accepted.
        result = ops.ones_like(d)
        for turn in reversed(range(GAMMA_ROUNDS)):
            result = ops.where(accepted[turn], v[turn], result)
        # Marsaglia and Tsang's boost: a number drawn for alpha + 1, scaled down.
        boost = ops.log(1.0 - standard_uniform(shape, alpha.dtype, stream)) / alpha
        result = d * result * ops.where(small, ops.exp(boost), 1.0)
        return ops.cast(result, node.attributes["dtype"])

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(np.array(shape, "int64"), draw.array(shape, 0.3, 3.0), differentiate=())


symbolic_gamma = _SymbolicGamma(
    "symbolic_gamma",
    doc="""Draw gamma numbers of rate 1 for an alpha that is a tensor; see `random_gamma`.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        alpha: The shape parameter, positive; a tensor that broadcasts to shape.
        dtype: A float dtype.
        stream: As for `random_uniform`.
    """,
)


@_distribution(alpha=0.5, beta=0.5)
def random_gamma(
    shape: Any,
    alpha: Any,
    beta: Any = 1.0,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
) -> Tensor:
    """Draw random numbers of density beta^alpha x^(alpha-1) exp(-beta x) / Gamma(alpha), x > 0.

    If alpha is given as numbers, NumPy draws.  For a tensor they are drawn by the rejections of
    Marsaglia and Tsang (A simple method for generating gamma variables, 2000) in eight rounds.  A
    round accepts 95.1% at worst (alpha 1, and towards 0), 98.2% at alpha 2 and more beyond; so
    1.05 rounds are needed on average, and three in 10^11 elements have none after eight rounds:
    they get the mode of the proposals.  Gradients reach beta, not alpha.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        alpha: The shape parameter, positive; a number, an array or tensor that broadcasts to shape.
        beta: The rate, positive, likewise.
        dtype: A float dtype.
        stream: As for `random_uniform`.
    """
    gamma = symbolic_gamma if isinstance(alpha, Tensor) else standard_gamma
    drawn = gamma(shape, alpha, dtype, stream)
    return drawn / _spread(beta, drawn, "beta")
