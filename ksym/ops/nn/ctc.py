"""Connectionist temporal classification (Graves et al., ICML 2006).

The loss is composed of the recursion over time, in logarithms: MXNet's own `CTCLoss` knows float32
only, and its gradient kernel has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_floats

__all__ = ["ctc_loss"]

_IMPOSSIBLE = -1e30
"""The number in place of the logarithm of zero: finite, so that no gradient becomes NaN."""

_UNREACHED = -1e20
"""The bound below which totals come from impossible paths only."""


class _CTCLoss(Operator):
    half = False

    def prepare(
        self,
        logits: Any,
        labels: Any,
        input_lengths: Any,
        label_lengths: Any,
        blank: int = 0,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = [as_tensor(value) for value in (logits, labels, input_lengths, label_lengths)]
        if operands[0].rank != 3:
            raise ShapeError(f"logits are (time, batch, classes), not of rank {operands[0].rank}")
        classes = operands[0].shape[2]
        if blank < 0 and classes is not None:
            blank += classes
        return operands, {"blank": int(blank)}

    def infer(self, logits: Tensor, labels: Tensor, *lengths: Tensor, blank: int) -> Spec:
        check_floats(logits)
        for tensor in (labels, *lengths):
            if dtypes.kind(tensor.dtype) != 1:
                raise DTypeError(f"labels and lengths are integers, not {tensor.dtype}")
        if logits.rank != 3 or labels.rank != 2 or any(length.rank != 1 for length in lengths):
            raise ShapeError("logits have three axes, labels two, and lengths are vectors")
        time, batch, classes = logits.shape
        for tensor in (labels, *lengths):
            (batch,) = shapes.merge((batch,), tensor.shape[:1])
        if time == 0:
            raise ShapeError("there are no steps in time")
        if classes is not None and not -classes <= blank < classes:
            raise ShapeError(f"the blank {blank} is none of {classes} classes")
        return Spec((batch,), logits.dtype)

    def numpy(self, logits: Any, labels: Any, inputs: Any, lengths: Any, blank: int) -> Any:
        time, batch, classes = logits.shape
        blank = blank % classes
        highest = logits.max(axis=-1, keepdims=True)
        scores = logits - highest
        scores = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        losses = np.full(batch, np.inf, logits.dtype)
        for b in range(batch):
            steps = min(max(int(inputs[b]), 0), time)
            count = min(max(int(lengths[b]), 0), labels.shape[1])
            path = [blank]
            for label in labels[b, :count]:
                path += [int(label), blank]
            if any(not 0 <= label < classes for label in path):
                continue
            # total[s]: the probability of all ways to have read path[:s + 1], by its logarithm.
            total: Any = np.full(len(path), -np.inf)
            total[0] = 0.0
            before_start = True
            for t in range(steps):
                after = np.full(len(path), -np.inf)
                for s, label in enumerate(path):
                    ways = [total[s]]
                    if before_start:
                        ways = [0.0 if s < 2 else -np.inf]
                    else:
                        if s > 0:
                            ways.append(total[s - 1])
                        if s > 1 and label not in (blank, path[s - 2]):
                            ways.append(total[s - 2])
                    after[s] = _logsum(ways) + scores[t, b, label]
                total, before_start = after, False
            if steps:
                losses[b] = -_logsum(total[-2:])
            elif count == 0:
                losses[b] = 0.0
        return losses

    def differentiable_form(self, node: Node) -> list[Tensor] | None:
        if node.inputs[0].shape[0] is None or None in node.inputs[1].shape[1:]:
            raise ShapeError(
                "the gradient needs static numbers of time steps and of labels",
                remedy="give the placeholders these sizes",
            )
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        logits, labels, inputs, lengths = node.inputs
        time, _, _ = logits.shape
        count = labels.shape[1]
        assert time is not None
        assert count is not None
        dtype = logits.dtype
        classes = ops.shape_of(logits)[2]
        labels, inputs, lengths = (cast_to(t, "int64") for t in (labels, inputs, lengths))
        inputs = ops.clip(inputs, 0, time)
        lengths = ops.clip(lengths, 0, count)
        blank = node.attributes["blank"]
        blank = ops.as_tensor(blank) if blank >= 0 else classes + blank

        # The path of each sample: labels with blanks between and around them, (batch, 2n + 1).
        blanks = ops.zeros_like(labels) + blank
        spread = ops.reshape(
            ops.stack([blanks, labels], axis=2), [ops.shape_of(labels)[0], 2 * count]
        )
        path = ops.concatenate([spread, ops.zeros_like(inputs)[:, None] + blank], axis=1)
        states = 2 * count + 1
        known = (path >= 0) & (path < classes)
        place = np.arange(states)
        # Labels after the end do not matter: they have no gradient.
        own, before = path[:, 2:], path[:, :-2]
        skips = ops.not_equal(own, before) & ops.not_equal(own, blank) if count else None

        scores = ops.log_softmax(logits, -1)
        marks = ops.cast(ops.equal(path[:, :, None], ops.arange(classes)), dtype)
        # The product with marks takes one score each; 0 times minus infinity would be NaN.
        impossible = ops.constant(_IMPOSSIBLE, dtype)
        scores = ops.maximum(scores, impossible)
        # (batch, time, states): the score at each step of the class at each place of the path.
        scores = ops.matmul(ops.transpose(scores, (1, 0, 2)), marks, transpose_b=True)
        scores = ops.where(known[:, None, :], scores, impossible)

        start = ops.as_tensor(place < 2)
        total = ops.where(start, scores[:, 0], impossible)
        for t in range(1, time):
            ways = [total, _moved_on(total, 1)]
            if skips is not None:
                two = ops.where(skips, total[:, :-2], impossible)
                ways.append(ops.pad(two, ((0, 0), (2, 0)), constant_values=_IMPOSSIBLE))
            after = ops.logsumexp(ops.stack(ways, axis=0), 0) + scores[:, t]
            total = ops.where((inputs > t)[:, None], after, total)

        # The path ends with the last label or with the blank after it.
        last = 2 * lengths[:, None]
        ends = ops.equal(place, last) | ops.equal(place, last - 1)
        result = -ops.logsumexp(ops.where(ends, total, impossible), 1)
        infinite = ops.full_like(result, np.inf)
        result = ops.where(result > -_UNREACHED, infinite, result)
        # Without steps only an empty label is possible.
        silent = ops.where(ops.equal(lengths, 0), ops.zeros_like(result), infinite)
        return ops.where(inputs > 0, result, silent)

    def sample(self, draw: Draw) -> Sample:
        time, classes, count = draw.integer(1, 4), draw.integer(2, 4), draw.integer(0, 2)
        (batch,) = draw.shape(1, 1, min_side=0)
        blank = draw.integer(0, classes - 1)
        others = np.array([c for c in range(classes) if c != blank])
        labels = others[draw.array((batch, count), 0, classes - 2, dtype="int64")]
        # As many steps as labels and repetitions need, so that there is a path.
        lengths = draw.array((batch,), 0, count, dtype="int64")
        lengths = np.minimum(lengths, (time + 1) // 2)
        return Sample(
            draw.array((time, batch, classes)),
            labels.astype("int32"),
            np.full((batch,), time),
            lengths,
            attributes={"blank": blank},
        )


def _logsum(logarithms: Any) -> Any:
    """Return the logarithm of a sum whose terms are given by theirs."""
    add: Any = np.logaddexp
    return add.reduce(np.asarray(logarithms))


def _moved_on(total: Tensor, by: int) -> Tensor:
    """Return the totals moved to later places of the path."""
    return ops.pad(total, ((0, 0), (by, 0)), constant_values=_IMPOSSIBLE)[:, : total.shape[1]]


ctc_loss = _CTCLoss(
    "ctc_loss",
    doc="""Return the negative logarithm of the probability of labels without places in time.

    Args:
        logits: (time, batch, classes), before the softmax; logarithms of probabilities do as well.
        labels: (batch, n), integers; those after the end of a sample do not matter.
        input_lengths: The number of steps of each sample.
        label_lengths: The number of labels of each sample.
        blank: The class that stands for no label; negative to count from the last.

    Returns:
        (batch,); infinity where the steps do not suffice for the labels.

    Raises:
        DTypeError: Labels or lengths are not integers.
        ShapeError: The shapes do not fit, or the blank is no class.
    """,
)
