"""Random tensors of the usual distributions, with parameters that may be tensors of the graph.

A distribution that is a standard one shifted and scaled is written as that, so gradients reach its
parameters and are those for the numbers drawn.  The others are operators of their own that cut
gradients: asking for one names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.random import (
    RandomStream,
    as_stream,
    float_dtype,
    random_permutation,
    size_operand,
    standard_exponential,
    standard_gamma,
    standard_gumbel,
    standard_laplace,
    standard_normal,
    standard_truncated_normal,
    standard_uniform,
    whole_number,
    within,
)
from ksym.ops.registry import (
    Draw,
    Operator,
    Sample,
    as_tensor,
    cast_to,
    composite,
    is_constant,
    known_dimensions,
)

Stream = RandomStream | int | None

GAMMA_ROUNDS = 8
"""How often a gamma number with a symbolic alpha is proposed, see `random_gamma`."""

_DRAWN_ANEW = {"gradients": "each call draws anew; tests/test_random.py checks them"}


def _spread(parameter: Any, drawn: Tensor, name: str) -> Tensor:
    """Return a parameter in the dtype of what is drawn; it must not stretch it."""
    tensor = cast_to(as_tensor(parameter), drawn.dtype)
    if tensor.rank:
        within(tensor.shape, drawn.shape, name)
        tensor = ops.broadcast_to(tensor, ops.shape_of(drawn))
    return tensor


def _float_sample(*names: str, low: float = 0.5) -> Callable[[Draw], Sample]:
    def sample(draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        parameters = {name: draw.choose((low, 1.5)) for name in names}
        dtype = draw.dtype("float")
        return Sample(
            np.array(shape, "int64"), attributes={**parameters, "dtype": dtype, "stream": 1}
        )

    return sample


def _shifted(standard: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The meaning of a shifted and scaled distribution in NumPy."""

    def numpy(shape: Any, dtype: str, stream: Any, **parameters: float) -> np.ndarray:
        return standard(np.random.default_rng(stream), *parameters.values(), shape).astype(dtype)

    return numpy


@composite(
    numpy=_shifted(np.random.Generator.uniform),
    sample=_float_sample("minval", low=-0.5),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_uniform(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    minval: Any = 0.0,
    maxval: Any = 1.0,
) -> Tensor:
    """Random numbers from minval up to, not including, maxval (but for rounding).

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


@composite(
    numpy=_shifted(np.random.Generator.normal),
    sample=_float_sample("mean", "stddev"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_normal(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    mean: Any = 0.0,
    stddev: Any = 1.0,
) -> Tensor:
    """Random normal numbers.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        mean: Their mean; a number, or a tensor that broadcasts to shape.
        stddev: Their standard deviation, likewise.
    """
    return _located(standard_normal(shape, dtype, stream), mean, stddev, ("mean", "stddev"))


def _truncated_normal(rng: np.random.Generator, mean: float, stddev: float, shape: Any) -> Any:
    stream = RandomStream(int(rng.integers(2**31)))
    return mean + stddev * stream.draw("truncated_normal", shape, "float64")


@composite(
    numpy=_shifted(_truncated_normal),
    sample=_float_sample("mean", "stddev"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_truncated_normal(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    mean: Any = 0.0,
    stddev: Any = 1.0,
) -> Tensor:
    """Random normal numbers, drawn again where they are beyond two deviations from the mean.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        mean: The mean; a number, or a tensor that broadcasts to shape.
        stddev: The standard deviation before the ends are cut off, likewise.
    """
    drawn = standard_truncated_normal(shape, dtype, stream)
    return _located(drawn, mean, stddev, ("mean", "stddev"))


@composite(
    numpy=_shifted(np.random.Generator.exponential),
    sample=_float_sample("scale"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_exponential(
    shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT, stream: Stream = None, scale: Any = 1.0
) -> Tensor:
    """Random numbers of density exp(-x / scale) / scale, for positive x.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        scale: Their mean; a number, or a tensor that broadcasts to shape.
    """
    drawn = standard_exponential(shape, dtype, stream)
    return _spread(scale, drawn, "scale") * drawn


@composite(
    numpy=_shifted(np.random.Generator.laplace),
    sample=_float_sample("loc", "scale"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_laplace(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    loc: Any = 0.0,
    scale: Any = 1.0,
) -> Tensor:
    """Random numbers of density exp(-|x - loc| / scale) / (2 scale).

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        loc: Their mean; a number, or a tensor that broadcasts to shape.
        scale: Their mean distance from it, likewise.
    """
    return _located(standard_laplace(shape, dtype, stream), loc, scale)


@composite(
    numpy=_shifted(np.random.Generator.gumbel),
    sample=_float_sample("loc", "scale"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_gumbel(
    shape: Any,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
    loc: Any = 0.0,
    scale: Any = 1.0,
) -> Tensor:
    """Random numbers of density exp(-z - exp(-z)) / scale, where z is (x - loc) / scale.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: As for `random_uniform`.
        loc: Where the density is largest; a number, or a tensor that broadcasts to shape.
        scale: How wide it is, likewise.
    """
    return _located(standard_gumbel(shape, dtype, stream), loc, scale)


# --- distributions without gradients --------------------------------------------------------------


class _Cut(Operator):
    """A distribution composed of others through which no gradient flows."""

    pure = False
    static_operands: tuple[int, ...] = (0,)

    def infer(self, shape: Tensor, parameter: Tensor, **attributes: Any) -> Spec:
        sides = tuple(known_dimensions(shape))
        return Spec(within(parameter.shape, sides, "the parameter"), attributes["dtype"])


def _noise_dtype(dtype: str) -> str:
    """What chances are drawn in: eleven bits of float16 would be too coarse."""
    return "float64" if dtype == "float64" else "float32"


def _chances(p: Any) -> Tensor:
    """Return probabilities as floats in which they are compared.

    Raises:
        GraphError: They are known, and some are no probabilities.
    """
    tensor = as_tensor(p)
    value = tensor.value if is_constant(tensor) else None
    if value is not None and not np.all((value >= 0) & (value <= 1)):
        raise GraphError("a probability is not in the range from 0 to 1")
    return cast_to(tensor, _noise_dtype(tensor.dtype))


class _Binomial(_Cut):
    def prepare(
        self,
        shape: Any,
        n: int,
        p: Any,
        dtype: Any = dtypes.DEFAULT_FLOAT,
        stream: Stream = None,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        n = whole_number(n, "n")
        if n < 0:
            raise GraphError(f"the number of trials is not negative, unlike {n}")
        return [size_operand(shape), _chances(p)], {
            "n": n,
            "dtype": dtypes.canonical(dtype),
            "stream": as_stream(stream),
        }

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        shape, p = operands
        return self(shape, p=p, **attributes)

    def numpy(self, shape: Any, p: Any, n: int, dtype: str, stream: RandomStream) -> Any:
        drawn = stream.draw("uniform", (n, *(int(d) for d in shape)), "float64")
        return (drawn < p).sum(0).astype(dtype)

    def expand(self, node: Node) -> Tensor:
        shape, p = node.inputs
        n, dtype = node.attributes["n"], node.attributes["dtype"]
        trials = ops.concatenate([np.array([n]), shape])
        drawn = standard_uniform(trials, p.dtype, node.attributes["stream"])
        return ops.cast(ops.sum_(ops.cast(drawn < p, p.dtype), 0), dtype)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape()
        p = draw.array(shape, 0.0, 1.0)
        return Sample(
            np.array(shape, "int64"), p, attributes={"n": draw.integer(0, 3)}, differentiate=()
        )


random_binomial = _Binomial(
    "random_binomial",
    doc="""How many of n trials succeed, each with probability p.

    Draws n numbers for each element.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        n: How many trials, an int.
        p: The probability; a number, or a tensor that broadcasts to shape.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Raises:
        GraphError: n is negative, or p is known not to be a probability.
        ShapeError: p does not broadcast to shape.
    """,
)


class _Bernoulli(_Cut):
    def prepare(
        self, shape: Any, p: Any, dtype: Any = dtypes.DEFAULT_FLOAT, stream: Stream = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [size_operand(shape), _chances(p)], {
            "dtype": dtypes.canonical(dtype),
            "stream": as_stream(stream),
        }

    def numpy(self, shape: Any, p: Any, dtype: str, stream: RandomStream) -> Any:
        return (stream.draw("uniform", tuple(int(d) for d in shape), "float64") < p).astype(dtype)

    def expand(self, node: Node) -> Tensor:
        shape, p = node.inputs
        drawn = standard_uniform(shape, p.dtype, node.attributes["stream"])
        return ops.cast(drawn < p, node.attributes["dtype"])

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(np.array(shape, "int64"), draw.array(shape, 0.0, 1.0), differentiate=())


random_bernoulli = _Bernoulli(
    "random_bernoulli",
    doc="""Ones with probability p, else zeros.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        p: The probability; a number, or a tensor that broadcasts to shape.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Raises:
        GraphError: p is known not to be a probability.
        ShapeError: p does not broadcast to shape.
    """,
)


class _Categorical(_Cut):
    static_operands = ()

    def prepare(
        self, logits: Any, num_samples: int, dtype: Any = "int64", stream: Stream = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        logits = as_tensor(logits)
        if not dtypes.is_float(logits.dtype):
            raise DTypeError(f"logits are floats, not {logits.dtype}")
        num_samples = whole_number(num_samples, "num_samples")
        if num_samples < 0:
            raise GraphError(f"the number of samples is not negative, unlike {num_samples}")
        return [cast_to(logits, _noise_dtype(logits.dtype))], {
            "num_samples": num_samples,
            "dtype": dtypes.canonical(dtype),
            "stream": as_stream(stream),
        }

    def infer(self, logits: Tensor, num_samples: int, dtype: str, **attributes: Any) -> Spec:  # type: ignore[override]
        if not logits.rank or logits.shape[-1] == 0:
            raise ShapeError(f"there is no class to choose from in logits of shape {logits.shape}")
        return Spec((*logits.shape[:-1], num_samples), dtype)

    def numpy(self, logits: Any, num_samples: int, dtype: str, stream: RandomStream) -> Any:
        shape = (*logits.shape[:-1], num_samples, logits.shape[-1])
        noise = stream.draw("gumbel", shape, "float64")
        return np.argmax(logits[..., None, :] + noise, -1).astype(dtype)

    def expand(self, node: Node) -> Tensor:
        (logits,) = node.inputs
        shape = (*logits.shape[:-1], node.attributes["num_samples"], logits.shape[-1])
        noise = standard_gumbel(shape, logits.dtype, node.attributes["stream"])
        return ops.cast(
            ops.argmax(ops.expand_dims(logits, -2) + noise, -1), node.attributes["dtype"]
        )

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        return Sample(
            draw.array(shape),
            attributes={"num_samples": draw.integer(0, 3)},
            differentiate=(),
        )


random_categorical = _Categorical(
    "random_categorical",
    doc="""Numbers of classes, drawn with the probabilities softmax(logits).

    The largest of logits with Gumbel noise added (E. J. Gumbel, 1954; Maddison et al., 2014).

    Args:
        logits: Floats of shape (..., classes).
        num_samples: How many to draw for each row of logits, an int.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Returns:
        A tensor of shape (..., num_samples).

    Raises:
        ShapeError: There are no classes.
        DTypeError: The logits are not floats, or num_samples is not an int.
        GraphError: num_samples is negative.
    """,
)


def _multinomial_sample(draw: Draw) -> Sample:
    p = draw.array(draw.shape(min_rank=1), 0.1, 1.0)
    return Sample(p / p.sum(-1, keepdims=True), attributes={"n": draw.integer(0, 3)})


@composite(
    numpy=lambda p, n: np.random.default_rng().multinomial(n, p),
    sample=_multinomial_sample,
    pure=False,
    unproven=_DRAWN_ANEW,
)
def random_multinomial(p: Any, n: int, dtype: Any = "int64", stream: Stream = None) -> Tensor:
    """How often each class comes up in n draws with probabilities p.

    Args:
        p: Floats of shape (..., classes); scaled to add up to 1.
        n: How many draws, an int.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Returns:
        A tensor of the shape of p.
    """
    p = as_tensor(p)
    drawn = random_categorical(ops.log(p), n, "int64", stream)
    hits = ops.equal(ops.expand_dims(drawn, -1), ops.arange(ops.shape_of(p)[-1]))
    return ops.sum_(ops.cast(hits, dtype), -2)


class _SymbolicGamma(_Cut):
    """Gamma numbers whose alpha is computed by the graph."""

    def prepare(
        self, shape: Any, alpha: Any, dtype: Any = dtypes.DEFAULT_FLOAT, stream: Stream = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = float_dtype(dtype)
        return [size_operand(shape), cast_to(as_tensor(alpha), _noise_dtype(dtype))], {
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
        # 1, the likeliest proposal, where none is accepted.
        result = ops.ones_like(d)
        for turn in reversed(range(GAMMA_ROUNDS)):
            result = ops.where(accepted[turn], v[turn], result)
        # Marsaglia and Tsang's boost: a number for alpha + 1, scaled down.
        boost = ops.log(1.0 - standard_uniform(shape, alpha.dtype, stream)) / alpha
        result = d * result * ops.where(small, ops.exp(boost), 1.0)
        return ops.cast(result, node.attributes["dtype"])

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(np.array(shape, "int64"), draw.array(shape, 0.3, 3.0), differentiate=())


symbolic_gamma = _SymbolicGamma(
    "symbolic_gamma",
    doc="""Random gamma numbers of rate 1 for an alpha that is a tensor; see `random_gamma`.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        alpha: The shape parameter, positive; a tensor that broadcasts to shape.
        dtype: A float dtype.
        stream: As for `random_uniform`.
    """,
)


@composite(
    numpy=lambda shape, dtype, stream, alpha, beta: np.random.gamma(alpha, 1 / beta, shape),
    sample=_float_sample("alpha", "beta"),
    pure=False,
    static_operands=(0,),
    unproven=_DRAWN_ANEW,
)
def random_gamma(
    shape: Any,
    alpha: Any,
    beta: Any = 1.0,
    dtype: Any = dtypes.DEFAULT_FLOAT,
    stream: Stream = None,
) -> Tensor:
    """Random numbers of density beta^alpha x^(alpha-1) exp(-beta x) / Gamma(alpha), for positive x.

    For an alpha of numbers NumPy draws them.  For a tensor they are drawn by the rejections of
    Marsaglia and Tsang (A simple method for generating gamma variables, 2000) in eight rounds.  A
    round accepts 95.1% at worst (alpha 1, and towards 0), 98.2% at alpha 2 and ever more beyond; so
    1.05 rounds are needed on average, and three in 10^11 elements stay without after eight: they
    get the mode of the proposals.  Gradients reach beta, not alpha.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        alpha: The shape parameter, positive; a number, an array or tensor that broadcasts to shape.
        beta: The rate, positive, likewise.
        dtype: A float dtype.
        stream: As for `random_uniform`.
    """
    draw = symbolic_gamma if isinstance(alpha, Tensor) else standard_gamma
    drawn = draw(shape, alpha, dtype, stream)
    return drawn / _spread(beta, drawn, "beta")


# --- shuffling and dropout ------------------------------------------------------------------------


@composite(
    numpy=lambda x, stream: np.random.default_rng(stream).permutation(x),
    sample=lambda draw: Sample(draw.array(draw.shape(min_rank=1)), attributes={"stream": 1}),
    pure=False,
    unproven=_DRAWN_ANEW,
)
def random_shuffle(x: Any, stream: Stream = None) -> Tensor:
    """Return x with what lies along its first axis in random order.

    Args:
        x: A tensor with at least one axis.
        stream: As for `random_uniform`; streams of equal seeds shuffle alike.

    Raises:
        ShapeError: x is a scalar.
    """
    x = as_tensor(x)
    if not x.rank:
        raise ShapeError("a scalar has no first axis to shuffle along")
    return ops.take(x, random_permutation(ops.shape_of(x)[0], stream), 0)


def _dropped(x: Any, rate: float, stream: Any) -> Any:
    kept = np.random.default_rng(stream).random(x.shape) >= rate
    return x * kept / (1.0 - rate)


@composite(
    numpy=_dropped,
    sample=lambda draw: Sample(
        draw.array(draw.shape(min_side=0)),
        attributes={"rate": draw.choose((0.0, 0.5)), "stream": 1},
    ),
    pure=False,
    unproven=_DRAWN_ANEW,
)
def dropout(x: Any, rate: float, noise_shape: Any = None, stream: Stream = None) -> Tensor:
    """Return x with a share of its elements set to zero and the others scaled up to match.

    Args:
        x: A tensor of floats.
        rate: The share to drop, from 0 up to, not including, 1.
        noise_shape: The shape in which elements are dropped together, broadcast against x; by
            default each on its own.
        stream: As for `random_uniform`.

    Raises:
        DTypeError: x has no floats.
        GraphError: The rate is not in its range.
        ShapeError: The noise does not broadcast to the shape of x.
    """
    x = as_tensor(x)
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"dropout is for floats, not for {x.dtype}", remedy="cast it to a float")
    if not 0.0 <= rate < 1.0:
        raise GraphError(f"the rate {rate} is not in the range from 0 up to, not including, 1")
    shape = ops.shape_of(x) if noise_shape is None else noise_shape
    drawn = standard_uniform(shape, _noise_dtype(x.dtype), stream)
    within(drawn.shape, x.shape, "the noise")
    return x * (ops.cast(drawn >= rate, x.dtype) * (1.0 / (1.0 - rate)))
