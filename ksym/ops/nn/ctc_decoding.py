"""Decoding for connectionist temporal classification, in NumPy.

The number of labels in the result depends on the data: the operator `ctc_decode` runs on the host.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample

__all__ = ["ctc_decode"]


def greedy_decode(
    log_probabilities: Any, lengths: Any, blank: int = -1, merge_repeated: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the most probable path, like tf.nn.ctc_greedy_decoder.

    Args:
        log_probabilities: (time, batch, classes).
        lengths: The number of steps of each sample.
        blank: The class that stands for no label; negative to count from the last.
        merge_repeated: Whether a label repeated without a blank between counts once.

    Returns:
        The labels (batch, longest), filled with -1, and the negative logarithm of the probability
        of each path, (batch, 1).
    """
    scores = np.asarray(log_probabilities)
    blank %= scores.shape[2]
    found, totals = [], np.zeros((scores.shape[1], 1), scores.dtype)
    for sample, length in enumerate(np.ravel(lengths)):
        steps = scores[: int(length), sample]
        path = steps.argmax(axis=-1)
        totals[sample] = -steps.max(axis=-1, initial=-np.inf).sum()
        keep = path != blank
        if merge_repeated:
            keep[1:] &= path[1:] != path[:-1]
        found.append([int(label) for label in path[keep]])
    return _padded(found), totals


def beam_search_decode(
    log_probabilities: Any,
    lengths: Any,
    beam_width: int = 100,
    top_paths: int = 1,
    blank: int = -1,
    merge_repeated: bool = False,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the most probable labels over all paths, like tf.nn.ctc_beam_search_decoder.

    It is a prefix beam search (Graves and Jaitly, ICML 2014).

    Args:
        log_probabilities: (time, batch, classes), not necessarily normalised.
        lengths: The number of steps of each sample.
        beam_width: The number of prefixes kept at each step.
        top_paths: The number of results, the best first; at most beam_width.
        blank: The class that stands for no label; negative to count from the last.
        merge_repeated: Whether equal neighbours in the result are merged, as TensorFlow offers.

    Returns:
        For each path the labels (batch, longest), filled with -1, and the logarithms of their
        probabilities, (batch, top_paths).

    Raises:
        ValueError: More paths are wanted than the beam holds.
    """
    if not 1 <= top_paths <= beam_width:
        raise ValueError(f"top_paths is {top_paths}, it must be from 1 to beam_width {beam_width}")
    scores = np.asarray(log_probabilities, dtype="float64")
    blank %= scores.shape[2]
    found: list[list[list[int]]] = [[] for _ in range(top_paths)]
    totals = np.full((scores.shape[1], top_paths), -np.inf)
    for sample, length in enumerate(np.ravel(lengths)):
        beams = _search(scores[: int(length), sample], beam_width, blank)
        for rank in range(top_paths):
            prefix, total = beams[rank] if rank < len(beams) else ((), -np.inf)
            labels = list(prefix)
            if merge_repeated:
                labels = [a for i, a in enumerate(labels) if i == 0 or a != labels[i - 1]]
            found[rank].append(labels)
            totals[sample, rank] = total
    return [_padded(labels) for labels in found], totals.astype(np.asarray(log_probabilities).dtype)


def _search(scores: np.ndarray, width: int, blank: int) -> list[tuple[tuple[int, ...], float]]:
    """Return prefixes and the logarithms of their probabilities, the best first."""
    # For each prefix: all paths that end with a blank, all that end with its last label.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for step in scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True):
        silent: defaultdict[tuple[int, ...], float] = defaultdict(lambda: -np.inf)
        spoken: defaultdict[tuple[int, ...], float] = defaultdict(lambda: -np.inf)
        for prefix, (by_blank, by_label) in beams.items():
            both = np.logaddexp(by_blank, by_label)
            silent[prefix] = np.logaddexp(silent[prefix], both + step[blank])
            for label, score in enumerate(step):
                if label == blank:
                    continue
                longer, before = (*prefix, label), both
                if prefix and prefix[-1] == label:
                    spoken[prefix] = np.logaddexp(spoken[prefix], by_label + score)
                    before = by_blank  # only a blank separates it from an equal label
                spoken[longer] = np.logaddexp(spoken[longer], before + score)
        ends = {prefix: (silent[prefix], spoken[prefix]) for prefix in {*silent, *spoken}}
        best = sorted(ends, key=lambda prefix: (-np.logaddexp(*ends[prefix]), prefix))
        beams = {prefix: ends[prefix] for prefix in best[:width]}
    return [(prefix, float(np.logaddexp(*both))) for prefix, both in beams.items()]


def _padded(rows: list[list[int]]) -> np.ndarray:
    result = np.full((len(rows), max(map(len, rows), default=0)), -1, "int64")
    for row, labels in zip(result, rows, strict=True):
        row[: len(labels)] = labels
    return result


class _CTCDecode(Operator):
    runs = "host"

    def prepare(
        self,
        scores: Any,
        lengths: Any,
        greedy: bool = True,
        beam_width: int = 100,
        top_paths: int = 1,
        blank: int = -1,
        merge_repeated: bool = True,
    ) -> tuple[list[Tensor], dict[str, Any]]:
        return [as_tensor(scores), as_tensor(lengths)], {
            "greedy": bool(greedy),
            "beam_width": int(beam_width),
            "top_paths": 1 if greedy else int(top_paths),
            "blank": int(blank),
            "merge_repeated": bool(merge_repeated),
        }

    def infer(self, scores: Tensor, lengths: Tensor, **attributes: Any) -> tuple[Spec, ...]:
        if scores.rank != 3 or not dtypes.is_float(scores.dtype):
            raise ShapeError(f"scores are floats (time, batch, classes), not {scores.spec}")
        if dtypes.kind(lengths.dtype) != 1:
            raise DTypeError(f"lengths are integers, not {lengths.dtype}")
        _, batch, classes = scores.shape
        if lengths.rank != 1 or not shapes.compatible(lengths.shape, (batch,)):
            raise ShapeError(f"there is one length for each of {batch} samples, not {lengths.spec}")
        if classes is not None and not -classes <= attributes["blank"] < classes:
            raise ShapeError(f"the blank {attributes['blank']} is none of {classes} classes")
        if not 1 <= attributes["top_paths"] <= attributes["beam_width"]:
            raise ShapeError(
                f"{attributes['top_paths']} paths from a beam of {attributes['beam_width']}"
            )
        paths = attributes["top_paths"]
        labels = [Spec((batch, None), "int64")] * paths
        return (*labels, Spec((batch, paths), scores.dtype))

    def numpy(
        self,
        scores: Any,
        lengths: Any,
        greedy: bool,
        beam_width: int,
        top_paths: int,
        blank: int,
        merge_repeated: bool,
    ) -> Any:
        if scores.shape[2] == 0 or (lengths.size and lengths.max() > scores.shape[0]):
            raise ShapeError(
                f"lengths up to {lengths.max(initial=0)} do not fit scores of shape {scores.shape}"
            )
        if greedy:
            labels, totals = greedy_decode(scores, lengths, blank, merge_repeated)
            return labels, totals
        found, totals = beam_search_decode(
            scores, lengths, beam_width, top_paths, blank, merge_repeated
        )
        return (*found, totals)

    def sample(self, draw: Draw) -> Sample:
        steps, batch, classes = draw.integer(1, 4), draw.integer(1, 2), draw.integer(2, 3)
        greedy = draw.choose((True, False))
        return Sample(
            draw.array((steps, batch, classes), apart=0.01),
            draw.array((batch,), 1, steps, dtype="int64"),
            attributes={"greedy": greedy, "beam_width": 3, "top_paths": draw.integer(1, 2)},
            differentiate=(),
        )


ctc_decode = _CTCDecode(
    "ctc_decode",
    doc="""Return the most probable labels, by the best path or by beam search.

    Args:
        scores: (time, batch, classes), logarithms of probabilities.
        lengths: The number of steps of each sample.
        greedy: Take the best path instead of a beam search.
        beam_width: The number of prefixes that the search keeps at each step.
        top_paths: The number of results of a search.
        blank: The class that stands for no label; negative to count from the last.
        merge_repeated: Whether a label repeated without a blank between counts once.

    Returns:
        For each result the labels (batch, longest), filled with -1; and a score for each sample and
        result, as `greedy_decode` and `beam_search_decode` say.
    """,
)
