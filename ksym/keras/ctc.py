"""Connectionist temporal classification, with Keras's conventions.

Keras gives probabilities of (samples, time, classes), the last class being the blank.
"""

from __future__ import annotations

from typing import Any

from ksym import ops
from ksym.graph import Tensor
from ksym.keras.config import epsilon
from ksym.keras.tensors import as_tensor


def _scores(probabilities: Any) -> Tensor:
    """Return logarithms, time first, as TensorFlow's backend hands them on."""
    return ops.log(ops.transpose(as_tensor(probabilities), (1, 0, 2)) + epsilon())


def _lengths(lengths: Any) -> Tensor:
    return ops.cast(ops.reshape(ops.as_tensor(lengths), (-1,)), "int64")


def ctc_batch_cost(y_true: Any, y_pred: Any, input_length: Any, label_length: Any) -> Tensor:
    """Return the loss of each sample, (samples, 1).

    Args:
        y_true: Labels (samples, longest).
        y_pred: Probabilities (samples, time, classes).
        input_length: The number of steps of each sample, (samples, 1).
        label_length: The number of labels of each sample, (samples, 1).
    """
    labels = ops.cast(ops.as_tensor(y_true), "int64")
    loss = ops.ctc_loss(
        _scores(y_pred), labels, _lengths(input_length), _lengths(label_length), blank=-1
    )
    return ops.expand_dims(loss, 1)


def ctc_decode(
    y_pred: Any,
    input_length: Any,
    greedy: bool = True,
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = False,
) -> tuple[list[Tensor], Tensor]:
    """Return the most probable labels, and scores for them.

    Args:
        y_pred: Probabilities (samples, time, classes).
        input_length: The number of steps of each sample, (samples,).
        greedy: Take the best path instead of a beam search.
        beam_width: The number of prefixes a beam search keeps.
        top_paths: The number of results a beam search gives.
        merge_repeated: For a beam search, whether repeated labels count once; the best path
            always merges them, as with TensorFlow.
    """
    *labels, scores = ops.ctc_decode(
        _scores(y_pred),
        _lengths(input_length),
        greedy,
        beam_width,
        top_paths,
        -1,
        True if greedy else merge_repeated,
    )
    return labels, scores


def ctc_label_dense_to_sparse(labels: Any, label_lengths: Any) -> Tensor:
    """Return labels (samples, longest) with zeros after the end of each row.

    ksym stores sparse tensors densely: the result is that of `K.to_dense` of TensorFlow's.
    """
    labels = as_tensor(labels)
    positions = ops.arange(ops.shape_of(labels)[1])
    inside = positions < ops.expand_dims(_lengths(label_lengths), 1)
    return ops.where(inside, labels, ops.zeros_like(labels))
