"""Decoding of what connectionist temporal classification learnt, in NumPy.

What comes out has as many labels as it happens to have, so this is no operator of a graph.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np


def greedy_decode(
    log_probabilities: Any, lengths: Any, blank: int = -1, merge_repeated: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the most probable path, as tf.nn.ctc_greedy_decoder.

    Args:
        log_probabilities: (time, batch, classes).
        lengths: How many steps each sample has.
        blank: The class that says nothing; negative to count from the last.
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
    """Return the most probable labels over all their paths, as tf.nn.ctc_beam_search_decoder.

    Prefix beam search (Graves and Jaitly, ICML 2014).

    Args:
        log_probabilities: (time, batch, classes), not necessarily normalised.
        lengths: How many steps each sample has.
        beam_width: How many prefixes are kept at each step.
        top_paths: How many results to return, the best first; at most beam_width.
        blank: The class that says nothing; negative to count from the last.
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
                    before = by_blank  # only a blank separates it from its like
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
