"""Cross entropies, in forms that neither overflow nor take the logarithm of zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, cast_to, promoted, widened
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_floats

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


class _CrossEntropy(Operator):
    """A composition that is a node of its own, so that errors found at the call have its name."""

    def differentiable_form(self, node: Node) -> list[Tensor]:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        labels, logits = map(widened, node.inputs)
        return cast_to(self._entropy(labels, logits, **node.attributes), node.outputs[0].dtype)

    def _entropy(self, labels: Tensor, logits: Tensor, **attributes: Any) -> Tensor:
        raise NotImplementedError(self.name)


def _same_shape(labels: Tensor, scores: Tensor, called: str = "logits") -> None:
    check_floats(labels, scores)
    if not shapes.compatible(labels.shape, scores.shape):
        raise ShapeError(
            f"the labels have shape {labels.shape}, the {called} {scores.shape}",
            remedy="give both the same shape; of numbers of classes, ksym.one_hot(labels, classes) "
            "makes distributions",
        )


def _check_classes(logits: Tensor, axis: int) -> None:
    if logits.shape[axis] == 0:
        raise ShapeError(f"there are no classes along axis {axis} of shape {logits.shape}")


def _log_softmax(x: Any, axis: int) -> Any:
    x = x - x.max(axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def weighted(labels: Tensor, scores: Tensor) -> Tensor:
    """Return labels * scores, and 0 where a label of 0 meets minus infinity: a masked class."""
    masked = ops.logical_and(ops.equal(labels, 0.0), ops.equal(scores, -np.inf))
    return labels * ops.where(masked, ops.zeros_like(scores), scores)


def _weighted(labels: Any, scores: Any) -> Any:
    return labels * np.where((labels == 0) & (scores == -np.inf), 0, scores)


class _SigmoidCrossEntropy(_CrossEntropy):
    def prepare(self, labels: Any, logits: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return promoted(labels, logits), {}

    def infer(self, labels: Tensor, logits: Tensor) -> Spec:
        _same_shape(labels, logits)
        return Spec(shapes.merge(labels.shape, logits.shape), logits.dtype)

    def numpy(self, labels: Any, logits: Any) -> Any:
        return np.logaddexp(0, logits) - logits * labels

    def _entropy(self, labels: Tensor, logits: Tensor) -> Tensor:  # type: ignore[override]
        return ops.softplus(logits) - logits * labels

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(draw.array(shape, 0.0, 1.0), draw.array(shape, -4.0, 4.0))


sigmoid_cross_entropy = _SigmoidCrossEntropy(
    "sigmoid_cross_entropy",
    doc="""Return the cross entropy of independent events, element by element.

    Computed as log(1 + exp(x)) - x * z, of logits x and labels z.

    Args:
        labels: The probability of each event.
        logits: What `sigmoid` would turn into probabilities; of the same shape.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes differ.
    """,
)


class _SoftmaxCrossEntropy(_CrossEntropy):
    def prepare(
        self, labels: Any, logits: Any, axis: int = -1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        labels, logits = promoted(labels, logits)
        return [labels, logits], {"axis": shapes.axis(axis, logits.rank)}

    def infer(self, labels: Tensor, logits: Tensor, axis: int) -> Spec:
        _same_shape(labels, logits)
        _check_classes(logits, axis)
        both = shapes.merge(labels.shape, logits.shape)
        return Spec(shapes.reduce(both, (axis,), keepdims=False), logits.dtype)

    def numpy(self, labels: Any, logits: Any, axis: int) -> Any:
        return -_weighted(labels, _log_softmax(logits, axis)).sum(axis=axis)

    def _entropy(self, labels: Tensor, logits: Tensor, axis: int) -> Tensor:  # type: ignore[override]
        return -ops.sum_(weighted(labels, ops.log_softmax(logits, axis)), axis)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        return Sample(draw.array(shape, 0.0, 1.0), draw.array(shape), attributes={"axis": axis})


softmax_cross_entropy = _SoftmaxCrossEntropy(
    "softmax_cross_entropy",
    doc="""Return the cross entropy between distributions over classes.

    Args:
        labels: The probability of each class.
        logits: What `softmax` would turn into probabilities; of the same shape.  Minus infinity
            masks a class, whose label is 0 then.
        axis: The axis of the classes; it is gone from the result.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes differ, or there are no classes.
    """,
)


class _SparseSoftmaxCrossEntropy(_CrossEntropy):
    def prepare(
        self, labels: Any, logits: Any, axis: int = -1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        labels, logits = as_tensor(labels), as_tensor(logits)
        return [labels, logits], {"axis": shapes.axis(axis, logits.rank)}

    def infer(self, labels: Tensor, logits: Tensor, axis: int) -> Spec:
        check_floats(logits)
        if dtypes.kind(labels.dtype) != 1:
            raise DTypeError(f"labels are integers, not {labels.dtype}")
        _check_classes(logits, axis)
        kept = shapes.reduce(logits.shape, (axis,), keepdims=False)
        if not shapes.compatible(labels.shape, kept):
            raise ShapeError(f"labels of shape {labels.shape} for logits of shape {logits.shape}")
        return Spec(shapes.merge(labels.shape, kept), logits.dtype)

    def numpy(self, labels: Any, logits: Any, axis: int) -> Any:
        scores = np.moveaxis(_log_softmax(logits, axis), axis, -1)
        marks = labels[..., None] == np.arange(scores.shape[-1])
        return -np.where(marks, scores, 0).sum(axis=-1)

    def _entropy(self, labels: Tensor, logits: Tensor, axis: int) -> Tensor:  # type: ignore[override]
        numbers = ops.arange(ops.shape_of(logits)[axis])
        numbers = ops.reshape(numbers, [-1, *(1,) * (logits.rank - 1 - axis)])
        chosen = ops.equal(ops.expand_dims(cast_to(labels, "int64"), axis), numbers)
        scores = ops.log_softmax(logits, axis)
        # Selected, not multiplied by ones and zeros: classes may be masked by minus infinity.
        return -ops.sum_(ops.where(chosen, scores, ops.zeros_like(scores)), axis)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        kept = tuple(side for a, side in enumerate(shape) if a != axis % len(shape))
        labels = draw.array(kept, 0, shape[axis] - 1, dtype=draw.choose(("int32", "int64")))
        return Sample(labels, draw.array(shape), attributes={"axis": axis})


sparse_softmax_cross_entropy = _SparseSoftmaxCrossEntropy(
    "sparse_softmax_cross_entropy",
    doc="""Return the cross entropy for labels that are numbers of classes.

    Args:
        labels: Integers, of the shape of logits without the axis; a label that is no class gives 0.
        logits: What `softmax` would turn into probabilities; minus infinity masks a class.
        axis: The axis of the classes; it is gone from the result.

    Raises:
        DTypeError: The labels are not integers, or the logits are not floats.
        ShapeError: The shapes do not fit, or there are no classes.
    """,
)


def _times_log(labels: Any, probabilities: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(labels == 0, 0, labels * np.log(probabilities))


class _BinaryCrossEntropy(_CrossEntropy):
    def prepare(self, labels: Any, probabilities: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return promoted(labels, probabilities), {}

    def infer(self, labels: Tensor, probabilities: Tensor) -> Spec:
        _same_shape(labels, probabilities, "probabilities")
        return Spec(shapes.merge(labels.shape, probabilities.shape), probabilities.dtype)

    def numpy(self, labels: Any, probabilities: Any) -> Any:
        return -_times_log(labels, probabilities) - _times_log(1 - labels, 1 - probabilities)

    def _entropy(self, labels: Tensor, probabilities: Tensor) -> Tensor:  # type: ignore[override]
        return -ops.xlogy(labels, probabilities) - ops.xlogy(1.0 - labels, 1.0 - probabilities)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(draw.array(shape, 0.1, 0.9), draw.array(shape, 0.1, 0.9))


binary_cross_entropy = _BinaryCrossEntropy(
    "binary_cross_entropy",
    doc="""Return the cross entropy of independent events, given their probabilities.

    Computed as -z * log(p) - (1 - z) * log(1 - p), element by element, where a factor of 0 gives 0.
    Nothing is clipped: a probability of 0 for an event that happens gives infinity.  If the
    probabilities are a `sigmoid` of logits, `sigmoid_cross_entropy` of the logits is exact.

    Args:
        labels: The probability of each event, z.
        probabilities: The prediction for each of them, p, between 0 and 1; of the same shape.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes differ.
    """,
)


class _ProbabilityCrossEntropy(_CrossEntropy):
    def prepare(
        self, labels: Any, probabilities: Any, axis: int = -1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        labels, probabilities = promoted(labels, probabilities)
        return [labels, probabilities], {"axis": shapes.axis(axis, probabilities.rank)}

    def infer(self, labels: Tensor, probabilities: Tensor, axis: int) -> Spec:
        _same_shape(labels, probabilities, "probabilities")
        _check_classes(probabilities, axis)
        both = shapes.merge(labels.shape, probabilities.shape)
        return Spec(shapes.reduce(both, (axis,), keepdims=False), probabilities.dtype)

    def numpy(self, labels: Any, probabilities: Any, axis: int) -> Any:
        return -_times_log(labels, probabilities).sum(axis=axis)

    def _entropy(self, labels: Tensor, probabilities: Tensor, axis: int) -> Tensor:  # type: ignore[override]
        return -ops.sum_(ops.xlogy(labels, probabilities), axis)

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_rank=1)
        axis = draw.integer(-len(shape), len(shape) - 1)
        operands = draw.array(shape, 0.1, 0.9), draw.array(shape, 0.1, 0.9)
        return Sample(*operands, attributes={"axis": axis})


cross_entropy = _ProbabilityCrossEntropy(
    "cross_entropy",
    doc="""Return the cross entropy between distributions over classes, given probabilities.

    The sum of -z * log(p), where a label of 0 gives 0.  Nothing is clipped or normalised.  If the
    probabilities are a `softmax` of logits, `softmax_cross_entropy` of the logits is exact.

    Args:
        labels: The probability of each class, z.
        probabilities: The prediction for each of them, p, between 0 and 1; of the same shape.
        axis: The axis of the classes; it is gone from the result.

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The shapes differ, or there are no classes.
    """,
)
