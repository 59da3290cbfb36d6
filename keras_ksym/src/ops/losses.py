"""Losses, normalisation, encodings and attention of Keras's module nn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type
from keras.src.backend.config import epsilon as config_epsilon

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.tensor import Tensor, floating, made, promoted

__all__ = [
    *("batch_normalization", "binary_crossentropy", "categorical_crossentropy", "ctc_decode"),
    *("ctc_loss", "dot_product_attention", "moments", "multi_hot", "one_hot", "psnr"),
    "sparse_categorical_crossentropy",
]

Graph = ksym.Tensor


@operation
def _one_hot(x: Operand, num_classes: int, axis: int, name: str) -> Tensor:
    classes = ksym.cast(x.graph, "int64")
    marks = ksym.equal(ksym.expand_dims(classes, -1), np.arange(num_classes))
    axis = axis % (x.ndim + 1)
    moved = marks if axis == x.ndim else ksym.moveaxis(marks, -1, axis)
    return Tensor(ksym.cast(moved, dtypes.stored(name)), name)


def one_hot(
    x: Any, num_classes: int | None, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """Mark each number by a one among zeros on a new axis; nothing, for one that is no class.

    Without a number of classes, it is one more than the largest number, which has to be known.
    """
    if sparse:
        raise ValueError("`sparse=True` is not supported with the ksym backend")
    if num_classes is None:
        values = np.asarray(x)
        num_classes = int(values.max()) + 1 if values.size else 0
    return _one_hot(x, int(num_classes), axis, dtypes.as_dtype(dtype))


def multi_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """Mark all numbers of a sample by ones among zeros."""
    from keras_ksym.src.ops.reductions import max as largest

    marks = one_hot(x, num_classes, axis, dtype, sparse)
    return largest(marks, 1 if len(x.shape) > 1 else 0)


def _logits(output: Any) -> Any:
    """Return what softmax or sigmoid was applied to for an output, if Keras marked it."""
    logits = getattr(output, "_keras_logits", None)
    return logits if isinstance(logits, Tensor) else None


def _logarithms(output: Tensor, from_logits: bool, axis: int) -> tuple[str, Graph]:
    """Return the logarithms of probabilities, and their dtype."""
    logits = output if from_logits else _logits(output)
    if logits is not None:
        dtype, graph = floating(logits)
        return dtype, ksym.log_softmax(graph, axis)
    dtype, graph = floating(output)
    graph = graph / ksym.sum(graph, axis, keepdims=True)
    small = config_epsilon()
    return dtype, ksym.log(ksym.clip(graph, small, 1.0 - small))


def _same(target: Tensor, output: Tensor) -> None:
    known = zip(target.shape, output.shape, strict=False)
    if target.ndim != output.ndim or any(None not in pair and pair[0] != pair[1] for pair in known):
        raise ValueError(
            "Arguments `target` and `output` must have the same shape. Received: "
            f"target.shape={target.shape}, output.shape={output.shape}"
        )


@operation
def categorical_crossentropy(
    target: Operand, output: Operand, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Return the cross entropy between distributions over classes."""
    _same(target, output)
    if target.ndim < 1:
        raise ValueError(
            "Arguments `target` and `output` must be at least rank 1. Received: "
            f"target.shape={target.shape}, output.shape={output.shape}"
        )
    dtype, logarithms = _logarithms(output, from_logits, axis)
    weights = target.graph_in(dtype)
    # A class of no weight does not count, even where its logarithm is minus infinity.
    products = ksym.where(ksym.equal(weights, 0.0), 0.0, weights * logarithms)
    return made(-ksym.sum(products, axis), dtype)


@operation
def sparse_categorical_crossentropy(
    target: Operand, output: Operand, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Return the cross entropy, for targets given as numbers of classes."""
    labels = ksym.cast(target.graph, "int64")
    if output.ndim < 1:
        raise ValueError(
            f"Argument `output` must be at least rank 1. Received: output.shape={output.shape}"
        )
    if labels.rank == output.ndim and labels.shape[-1] == 1:
        labels = ksym.squeeze(labels, -1)
    known = zip(labels.shape, output.shape[:-1], strict=False)
    if labels.rank != output.ndim - 1 or any(None not in p and p[0] != p[1] for p in known):
        raise ValueError(
            "Arguments `target` and `output` must have the same shape up until the last "
            f"dimension: target.shape={labels.shape}, output.shape={output.shape}"
        )
    dtype, logarithms = _logarithms(output, from_logits, axis)
    classes = output.shape[axis]
    if classes is None:
        raise ValueError("sparse_categorical_crossentropy needs a known number of classes")
    marks = ksym.equal(ksym.expand_dims(labels, -1), np.arange(classes))
    if axis % output.ndim != output.ndim - 1:
        marks = ksym.moveaxis(marks, -1, axis)
    return made(-ksym.sum(ksym.where(marks, logarithms, 0.0), axis), dtype)


@operation
def binary_crossentropy(target: Operand, output: Operand, from_logits: bool = False) -> Tensor:
    """Return the cross entropy of independent probabilities, element by element."""
    _same(target, output)
    logits = output if from_logits else _logits(output)
    if logits is not None:
        dtype, (graph, labels) = promoted(logits, target, with_float=True)
        return made(ksym.sigmoid_cross_entropy(labels, graph), dtype)
    dtype, (graph, labels) = promoted(output, target, with_float=True)
    small = config_epsilon()
    p = ksym.clip(graph, small, 1.0 - small)
    return made(-(labels * ksym.log(p) + (1.0 - labels) * ksym.log(1.0 - p)), dtype)


@operation
def moments(
    x: Operand, axes: Any, keepdims: bool = False, synchronized: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance over axes."""
    if synchronized:
        raise NotImplementedError(
            "Argument synchronized=True is not supported with the ksym backend: it runs on one "
            "device."
        )
    axes = tuple(axes) if isinstance(axes, list | tuple) else axes
    half = x.dtype in ("float16", "bfloat16")
    dtype, graph = ("float32", x.graph_in("float32")) if half else floating(x)
    over = tuple(a % graph.rank for a in (axes if isinstance(axes, tuple) else (axes,)))
    left = [a for a in range(graph.rank) if a not in over]
    mean, variance = _statistics(graph, left, over, keepdims)
    if half:
        low, high = float(np.finfo("float16").min), float(np.finfo("float16").max)
        mean, variance = ksym.clip(mean, low, high), ksym.clip(variance, low, high)
        dtype = x.dtype
    results = made(mean, dtype), made(variance, dtype)
    if len(left) == 1 and not half and not keepdims:
        for tensor in results:
            tensor._moments_of = x.graph  # type: ignore[attr-defined]
    return results


def _statistics(
    x: Graph, left: Sequence[int], over: tuple[int, ...], keepdims: bool
) -> tuple[Graph, Graph]:
    """Return mean and variance; of a batch's channels by the kernel of batch normalisation."""
    if len(left) == 1 and left[0] > 0 and not keepdims and x.rank > 1 and x.shape[left[0]]:
        moved, _ = _channels_second(x, left[0])
        one, zero = _constants(moved)
        _, mean, variance = ksym.batch_norm(moved, one, zero, axis=1, epsilon=1e-3)
        return mean, variance
    mean, variance = ksym.moments(x, over, keepdims=keepdims)
    return mean, variance


def _channels_second(x: Graph, axis: int) -> tuple[Graph, Any]:
    """Return x with an axis moved to position 1, and the function that moves it back."""
    if axis == 1 or x.rank == 2:
        return x, lambda y: y
    there = [0, axis, *(a for a in range(1, x.rank) if a != axis)]
    return ksym.transpose(x, there), lambda y: ksym.transpose(y, np.argsort(there).tolist())


def _constants(x: Graph) -> tuple[Graph, Graph]:
    side = x.shape[1]
    return ksym.ones((side,), x.dtype), ksym.zeros((side,), x.dtype)


@operation
def batch_normalization(
    x: Operand,
    mean: Operand,
    variance: Operand,
    axis: int,
    offset: Operand = None,
    scale: Operand = None,
    epsilon: float = 1e-3,
) -> Tensor:
    """Normalise by a mean and a variance of each channel, scale and shift."""
    present = [v for v in (x, mean, variance, offset, scale) if v is not None]
    dtype, _ = promoted(*present)
    graph = x.graph_in(dtype)
    axis = axis % graph.rank
    of_batch = getattr(mean, "_moments_of", None)
    if (
        of_batch is not None
        and of_batch is x.graph
        and getattr(variance, "_moments_of", None) is of_batch
    ):
        moved, back = _channels_second(graph, axis)
        one, zero = _constants(moved)
        gamma = one if scale is None else scale.graph_in(dtype)
        beta = zero if offset is None else offset.graph_in(dtype)
        y, _, _ = ksym.batch_norm(moved, gamma, beta, axis=1, epsilon=epsilon)
        return made(back(y), dtype)
    shape = [1] * graph.rank
    shape[axis] = -1
    inner = ksym.rsqrt(ksym.reshape(variance.graph_in(dtype), shape) + epsilon)
    if scale is not None:
        inner = inner * ksym.reshape(scale.graph_in(dtype), shape)
    shift = -ksym.reshape(mean.graph_in(dtype), shape) * inner
    if offset is not None:
        shift = shift + ksym.reshape(offset.graph_in(dtype), shape)
    return made(graph * inner + shift, dtype)


@operation
def ctc_loss(
    target: Operand,
    output: Operand,
    target_length: Operand,
    output_length: Operand,
    mask_index: int = 0,
) -> Tensor:
    """Return the negative logarithm of the probability of labels without places in time."""
    dtype = result_type(output.kind, "float32")
    logits = ksym.transpose(output.graph_in(dtype), (1, 0, 2))
    labels, steps, counts = (
        ksym.cast(t.graph, "int64") for t in (target, output_length, target_length)
    )
    return made(ksym.ctc_loss(logits, labels, steps, counts, blank=mask_index), dtype)


@operation
def ctc_decode(
    inputs: Operand,
    sequence_lengths: Operand,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> tuple[Tensor, Tensor]:
    """Return the most probable labels (paths, samples, steps), filled up with -1, and scores."""
    if strategy not in ("greedy", "beam_search"):
        raise ValueError(
            f"Invalid strategy {strategy}. Supported values are 'greedy' and 'beam_search'."
        )
    dtype = result_type(inputs.kind, "float32")
    graph = inputs.graph_in(dtype)
    steps, classes = graph.shape[1], graph.shape[2] or 0
    blank = classes - 1 if mask_index is None else mask_index
    scores = ksym.transpose(graph, (1, 0, 2))
    greedy = strategy == "greedy"
    if not greedy:
        scores = ksym.log_softmax(scores, -1)
    *paths, totals = ksym.ctc_decode(
        scores,
        ksym.cast(sequence_lengths.graph, "int64"),
        greedy,
        beam_width,
        top_paths,
        blank,
        merge_repeated if greedy else False,
    )
    whole = [_of_steps(path, steps) for path in paths]
    return made(ksym.stack(whole, 0), "int32"), made(totals, dtype)


def _of_steps(path: Graph, steps: int | None) -> Graph:
    """Return labels (samples, longest) filled up with -1 to a number of steps."""
    if steps is None:
        return path
    filled = ksym.concatenate([path, ksym.full([ksym.shape_of(path)[0], steps], -1, path.dtype)], 1)
    return filled[:, :steps]


@operation
def psnr(x1: Operand, x2: Operand, max_val: Operand) -> Tensor:
    """Return the ratio of a signal's peak to the error between two images, in decibels."""
    if x1.shape != x2.shape:
        raise ValueError(
            f"Input shapes {x1.shape} and {x2.shape} must match for PSNR calculation. "
        )
    dtype, (a, b) = promoted(x1, x2, with_float=True)
    peak = max_val.graph_in(dtype)
    error = ksym.mean(ksym.square(a - b))
    return made(20.0 * ksym.log10(peak) - 10.0 * ksym.log10(error), dtype)


@operation
def dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    bias: Operand = None,
    mask: Operand = None,
    scale: Any = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Tensor:
    """Return values weighted by the softmax of products of queries and keys, per head.

    flash_attention asks for a kernel with the same result, of which ksym has none: it is ignored.
    """
    if any(t.ndim != 4 for t in (query, key, value)):
        raise ValueError(
            "`dot_product_attention` only supports 4D inputs. "
            f"Received: query.shape={query.shape}, key.shape={key.shape}, "
            f"value.shape={value.shape}."
        )
    dtype, (q, k, v) = promoted(query, key, value)
    wide = "float64" if dtype == "float64" else "float32"
    q, k = ksym.cast(q, wide), ksym.cast(k, wide)
    size = key.shape[-1] or 1
    heads, groups = query.shape[2], key.shape[2]
    if heads is not None and groups is not None and heads != groups and heads % groups == 0:
        # Heads of queries share the keys and values of a group (arXiv:2305.13245).
        k, v = (ksym.repeat(shared, heads // groups, 2) for shared in (k, v))
    logits = ksym.einsum("btnh,bsnh->bnts", q, k) * (
        1.0 / np.sqrt(size) if scale is None else scale
    )
    if bias is not None:
        logits = logits + bias.graph_in(wide)
    if attn_logits_soft_cap is not None:
        logits = ksym.tanh(logits / attn_logits_soft_cap) * attn_logits_soft_cap
    allowed = None if mask is None else mask.graph_in("bool")
    if is_causal:
        shape = ksym.shape_of(logits)
        causal = ksym.expand_dims(ksym.arange(shape[2]), 1) >= ksym.arange(shape[3])
        allowed = causal if allowed is None else ksym.logical_and(allowed, causal)
    if allowed is not None:
        logits = ksym.where(allowed, logits, -0.7 * float(np.finfo(wide).max))
    weights = ksym.cast(ksym.softmax(logits, -1), dtypes.stored(dtype))
    return made(ksym.einsum("bnts,bsnh->btnh", weights, v), dtype)
