"""Random choices: trials, classes, permutations, and dropout.

An operator through whose result no gradient flows is a node of its own, so that an error about a
missing gradient names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.composite import composite
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import is_constant
from ksym.ops.random.distributions import DRAWN_ANEW, Cut, Stream, noise_dtype
from ksym.ops.random.standard import (
    random_integers,
    random_permutation,
    size_operand,
    standard_gumbel,
    standard_uniform,
    whole_number,
    within,
)
from ksym.ops.random.streams import RandomStream, as_stream

__all__ = [
    "random_binomial",
    "random_bernoulli",
    "random_categorical",
    "random_multinomial",
    "random_shuffle",
    "dropout",
]


def _chances(p: Any) -> Tensor:
    """Convert probabilities to the float dtype in which they are compared.

    Raises:
        GraphError: They are known, and some are not probabilities.
    """
    tensor = as_tensor(p)
    value = tensor.value if is_constant(tensor) else None
    if value is not None and not np.all((value >= 0) & (value <= 1)):
        raise GraphError("a probability is not in the range from 0 to 1")
    return cast_to(tensor, noise_dtype(tensor.dtype))


class _Binomial(Cut):
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

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands[:1], {"p": operands[1], **attributes}

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
    doc="""Draw the number of successes in n trials, each with probability p.

    Draws n numbers for each element.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        n: The number of trials, an int.
        p: The probability; a number, or a tensor that broadcasts to shape.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Raises:
        GraphError: n is negative, or p is known not to be a probability.
        ShapeError: p does not broadcast to shape.
    """,
)


class _Bernoulli(Cut):
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
    doc="""Draw ones with probability p, else zeros.

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


class _Categorical(Cut):
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
        return [cast_to(logits, noise_dtype(logits.dtype))], {
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
    doc="""Draw numbers of classes with the probabilities softmax(logits).

    The largest of logits with Gumbel noise added (E. J. Gumbel, 1954; Maddison et al., 2014).

    Args:
        logits: Floats of shape (..., classes).
        num_samples: The number of draws for each row of logits, an int.
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
    numpy=None,
    sample=_multinomial_sample,
    pure=False,
    unproven=DRAWN_ANEW,
)
def random_multinomial(p: Any, n: int, dtype: Any = "int64", stream: Stream = None) -> Tensor:
    """Draw the number of times that each class comes up in n draws with probabilities p.

    Args:
        p: Floats of shape (..., classes); scaled to add up to 1.
        n: The number of draws, an int.
        dtype: The dtype of the result.
        stream: As for `random_uniform`.

    Returns:
        A tensor of the shape of p.
    """
    p = as_tensor(p)
    drawn = random_categorical(ops.log(p), n, "int64", stream)
    hits = ops.equal(ops.expand_dims(drawn, -1), ops.arange(ops.shape_of(p)[-1]))
    return ops.sum_(ops.cast(hits, dtype), -2)


# --- shuffling and dropout ------------------------------------------------------------------------


@composite(
    numpy=None,
    sample=lambda draw: Sample(draw.array(draw.shape(min_rank=1)), attributes={"stream": 1}),
    pure=False,
    unproven=DRAWN_ANEW,
)
def random_shuffle(x: Any, stream: Stream = None) -> Tensor:
    """Return x with the slices along its first axis in random order.

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


@composite(
    numpy=None,
    sample=lambda draw: Sample(
        draw.array(draw.shape(min_side=0)),
        attributes={"rate": draw.choose((0.0, 0.5)), "stream": 1},
    ),
    pure=False,
    unproven=DRAWN_ANEW,
)
def dropout(x: Any, rate: float, noise_shape: Any = None, stream: Stream = None) -> Tensor:
    """Return x with a share of its elements set to zero and the others scaled up to match.

    It is a product with 0 or 1 / (1 - rate), as in TensorFlow 1: infinity, if dropped, is NaN.

    Args:
        x: A tensor of floats.
        rate: The share to drop, from 0 up to, not including, 1.
        noise_shape: The shape in which elements are dropped together, broadcast against x; by
            default each on its own.
        stream: As for `random_uniform`.

    Raises:
        DTypeError: x is not of floats.
        GraphError: The rate is not in its range.
        ShapeError: The noise does not broadcast to the shape of x.
    """
    x = as_tensor(x)
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"dropout is for floats, not for {x.dtype}", remedy="cast it to a float")
    if not 0.0 <= rate < 1.0:
        raise GraphError(f"the rate {rate} is not in the range from 0 up to, not including, 1")
    shape = ops.shape_of(x) if noise_shape is None else noise_shape
    # Bits are drawn faster than floats, and approximate the rate as closely.
    bits = np.iinfo("int32")
    drawn = random_integers(shape, bits.min, bits.max + 1, "int32", stream)
    within(drawn.shape, x.shape, "the noise")
    first = np.int32(min(bits.min + round(rate * 2**32), bits.max))
    # One product, where a selection takes MXNet's kernels ten times as long beside convolutions.
    return x * (ops.cast(drawn >= first, x.dtype) * (1.0 / (1.0 - rate)))
