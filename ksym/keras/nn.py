"""Activations, normalisation, losses and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.graph import Tensor
from ksym.keras import ranges
from ksym.keras.config import epsilon as config_epsilon
from ksym.keras.parallel import synchronised_moments
from ksym.keras.random import stream
from ksym.keras.tensors import as_tensor, as_tensors, static_shape, whole
from ksym.parallel.api import settings


def relu(x: Any, alpha: Any = 0.0, max_value: Any = None, threshold: Any = 0.0) -> Tensor:
    """Return x between threshold and max_value, max_value above, alpha * (x - threshold) below."""
    x = as_tensor(x)
    if threshold == 0 and not isinstance(max_value, Tensor) and max_value == 6:
        result = ops.relu6(x)  # its gradient at 6 is zero, as of TensorFlow's
    else:
        result = ops.relu(x) if threshold == 0 else ops.where(x <= threshold, 0.0, x)
        if max_value is not None:
            result = ops.clip(result, 0.0, max_value)
    if isinstance(alpha, Tensor) or alpha != 0:
        negative = ops.relu(-x) if threshold == 0 else ops.relu(threshold - x)
        result = result - alpha * negative
    return result


def elu(x: Any, alpha: Any = 1.0) -> Tensor:
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    x = as_tensor(x)
    negative = ops.expm1(ops.minimum(x, 0.0))
    return ops.relu(x) + alpha * negative


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Return exponentials scaled to a sum of one."""
    return ops.softmax(as_tensor(x), axis)


def softplus(x: Any) -> Tensor:
    """Return log(1 + exp(x))."""
    return ops.softplus(as_tensor(x))


def softsign(x: Any) -> Tensor:
    """Return x / (1 + |x|)."""
    x = as_tensor(x)
    return x / (1.0 + ops.abs_(x))


def sigmoid(x: Any) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return ops.sigmoid(as_tensor(x))


def hard_sigmoid(x: Any) -> Tensor:
    """Return 0.2 * x + 0.5, limited to the range from 0 to 1."""
    return ops.clip(0.2 * as_tensor(x) + 0.5, 0.0, 1.0)


def tanh(x: Any) -> Tensor:
    """Return the hyperbolic tangent."""
    return ops.tanh(as_tensor(x))


def l2_normalize(x: Any, axis: Any = None) -> Tensor:
    """Scale to a Euclidean length of one along an axis."""
    x = as_tensor(x)
    axes = tuple(axis) if isinstance(axis, list | tuple) else axis
    wide = ops.widened(x)
    squared = ops.sum_(ops.square(wide), axes, keepdims=True)
    return ops.cast_to(wide / ops.sqrt(ops.maximum(squared, 1e-12)), x.dtype)


def dropout(x: Any, level: float, noise_shape: Any = None, seed: int | None = None) -> Tensor:
    """Set a share of the elements to zero and scale the others up.

    Raises:
        ValueError: The share is not in the range from 0 to below 1.
    """
    if not 0.0 <= level < 1.0:
        raise ValueError(f"Dropout level must be in interval [0, 1), got {level}.")
    x = as_tensor(x)
    if noise_shape is not None:
        sides = ops.shape_of(x)
        noise_shape = [
            sides[i] if side is None else side for i, side in enumerate(whole(noise_shape))
        ]
    return ops.dropout(x, level, noise_shape, stream(seed))


# --- losses --------------------------------------------------------------------------------------


def _class_axis(output: Tensor, axis: int) -> int:
    if not -output.rank <= axis < output.rank:
        raise ValueError(
            f"Unexpected channels axis {axis}. Expected to be -1 or one of the axes of `output`, "
            f"which has {output.rank} dimensions."
        )
    return axis % output.rank


def _probabilities(output: Tensor) -> Tensor:
    return ops.clip(output, config_epsilon(), 1.0 - config_epsilon())


def _operand_of(activation: Any, output: Tensor, axis: int | None = None) -> Tensor | None:
    """Return the logits of an output that an activation made, in its shape; None of another.

    Cross entropies are computed from them, as in Keras on TensorFlow: probabilities are cut off
    near 0 and 1, where nothing would be learned any more.

    Args:
        activation: The operator.
        output: A tensor of probabilities, which may have been reshaped.
        axis: The axis of the classes, if the activation has one; kept by every reshape.
    """
    source, at = output, axis
    while source.node.operator in (ops.copy, ops.reshape):
        inner = source.node.inputs[0]
        if at is not None and inner.shape != source.shape:
            side = source.shape[-1]
            if at != source.rank - 1 or side is None or inner.shape[-1:] != (side,):
                return None
            at = inner.rank - 1
        source = inner
    node = source.node
    if node.operator is not activation or (at is not None and node.attributes["axis"] != at):
        return None
    (logits,) = node.inputs
    return logits if source is output else ops.reshape(logits, ops.shape_of(output))


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Return the cross entropy between distributions over classes."""
    target, output = as_tensors(target, output)
    axis = _class_axis(output, axis)
    logits = output if from_logits else _operand_of(ops.softmax, output, axis)
    if logits is not None:
        logarithms = ops.log_softmax(ops.widened(logits), axis)
    else:
        output = output / ops.sum_(output, axis, keepdims=True)
        logarithms = ops.widened(ops.log(_probabilities(output)))
    products = ops.weighted(ops.cast_to(target, logarithms.dtype), logarithms)
    return ops.cast_to(-ops.sum_(products, axis), output.dtype)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Return the cross entropy, for targets given as class numbers."""
    target, output = ops.as_tensor(target), as_tensor(output)
    axis = _class_axis(output, axis)
    logits = output if from_logits else _operand_of(ops.softmax, output, axis)
    if logits is None:
        logits = ops.log(_probabilities(output))
    if axis != output.rank - 1:
        logits = ops.transpose(logits, [a for a in range(output.rank) if a != axis] + [axis])
    logarithms = ops.log_softmax(ops.widened(logits), -1)
    classes = static_shape(output)[axis]
    if classes is None:
        raise ValueError("sparse_categorical_crossentropy needs a static number of classes")
    labels = ops.cast(ops.reshape(target, ops.shape_of(logits)[:-1]), "int64")
    chosen = ops.equal(ops.expand_dims(labels, -1), np.arange(classes))
    ranges.expect(chosen, target, classes, "classes")
    # Selected, not multiplied by ones and zeros: classes may be masked by minus infinity.
    scores = ops.where(chosen, logarithms, ops.zeros_like(logarithms))
    return ops.cast_to(-ops.sum_(scores, -1), output.dtype)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Tensor:
    """Return the cross entropy of independent probabilities, elementwise."""
    target, output = as_tensors(target, output)
    target = ops.cast_to(target, output.dtype)
    logits = output if from_logits else _operand_of(ops.sigmoid, output)
    if logits is not None:
        # This form overflows nowhere and is smooth at 0.
        return target * ops.softplus(-logits) + (1.0 - target) * ops.softplus(logits)
    # Both logarithms are shifted, as in TensorFlow 2: in float32, 1 - p is too coarse near p = 1.
    p, shift = _probabilities(output), config_epsilon()
    return -(target * ops.log(p + shift) + (1.0 - target) * ops.log(1.0 - p + shift))


def in_top_k(predictions: Any, targets: Any, k: int) -> Tensor:
    """Return whether the target is among the k largest predictions; of equals the first count."""
    predictions, targets = as_tensor(predictions), ops.as_tensor(targets)
    targets = ops.expand_dims(ops.cast(targets, "int64"), -1)
    classes = ops.arange(ops.shape_of(predictions)[-1])
    chosen = ops.equal(classes, targets)
    score = ops.sum_(ops.where(chosen, predictions, 0.0), -1, keepdims=True)
    ahead = (predictions > score) | (ops.equal(predictions, score) & (classes < targets))
    return ops.sum_(ahead, -1) < k


# --- batch normalisation -----------------------------------------------------------------------


def _channels_second(x: Tensor, axis: int) -> tuple[Tensor, Any]:
    """Return x with an axis moved to position 1, and the function that moves it back."""
    if axis == 1 or x.rank == 2:
        return x, lambda y: y
    there = [0, axis, *(a for a in range(1, x.rank) if a != axis)]
    return ops.transpose(x, there), lambda y: ops.transpose(y, np.argsort(there).tolist())


def _vector(x: Any, channels: Tensor, fill: float) -> Tensor:
    if x is None:
        return ops.full(ops.shape_of(channels), fill, channels.dtype)
    x = ops.cast_to(as_tensor(x, channels.dtype), channels.dtype)
    return x if x.rank == 1 else ops.reshape(x, (-1,))


def normalize_batch_in_training(
    x: Any, gamma: Any, beta: Any, reduction_axes: Sequence[int], epsilon: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the statistics of the batch; return also the mean and the variance."""
    x = as_tensor(x)
    left = [a for a in range(x.rank) if a not in [r % x.rank for r in reduction_axes]]
    chosen = settings()
    if chosen is not None and chosen.sync_batch_norm and 0 not in left:
        axes = tuple(r % x.rank for r in reduction_axes)
        mean, var, kept = synchronised_moments(x, axes, epsilon)
        y = _normalized(x, mean, var, gamma, beta, epsilon)
        return y, ops.squeeze(mean, axes), ops.squeeze(kept, axes)
    if len(left) == 1 and left[0] > 0:
        moved, back = _channels_second(x, left[0])
        channels = moved[(0, slice(None)) + (0,) * (moved.rank - 2)]
        scale, shift = _vector(gamma, channels, 1.0), _vector(beta, channels, 0.0)
        y, mean, var = ops.batch_norm(moved, scale, shift, axis=1, epsilon=epsilon)
        return back(y), mean, var
    axes = tuple(reduction_axes)
    mean, var = ops.moments(x, axes, keepdims=True)
    y = _normalized(x, mean, var, gamma, beta, epsilon)
    return y, ops.squeeze(mean, axes), ops.squeeze(var, axes)


def _normalized(x: Tensor, mean: Any, var: Any, gamma: Any, beta: Any, epsilon: float) -> Tensor:
    def fit(value: Any) -> Any:
        if value is None or value.rank in (0, x.rank) or mean.rank != x.rank:
            return value
        return ops.reshape(value, ops.shape_of(mean))

    gamma, beta = fit(gamma), fit(beta)
    y = (x - mean) / ops.sqrt(var + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def batch_normalization(
    x: Any, mean: Any, var: Any, beta: Any, gamma: Any, axis: int = -1, epsilon: float = 1e-3
) -> Tensor:
    """Normalise by a given mean and variance, each a vector over an axis or of broadcast shape."""
    x, mean, var = as_tensors(x, mean, var)
    beta, gamma = (None if v is None else as_tensor(v) for v in (beta, gamma))
    axis = axis % x.rank
    vectors = [v for v in (mean, var, beta, gamma) if v is not None]
    fits = all(v.rank == 1 or (v.rank == x.rank and _only_on(v, axis)) for v in vectors)
    if x.rank < 2 or axis == 0 or not fits:
        return _normalized(x, mean, var, gamma, beta, epsilon)
    mean, var = _vector(mean, x, 0.0), _vector(var, x, 0.0)
    moved, back = _channels_second(x, axis)
    scale, shift = _vector(gamma, mean, 1.0), _vector(beta, mean, 0.0)
    return back(ops.normalize(moved, mean, var, scale, shift, axis=1, epsilon=epsilon))


def _only_on(vector: Tensor, axis: int) -> bool:
    return all(side == 1 for a, side in enumerate(vector.shape) if a != axis)
