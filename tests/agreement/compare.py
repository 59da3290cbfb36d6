"""Differences between what two Kerases computed.

The difference of two arrays is the largest one of their elements, relative to the largest element
of the reference's array.  Gradients can be zero but for rounding, as those of a bias before batch
normalisation are: no array counts as smaller than a hundredth of the largest of its group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import functions
import layers
import models
import numpy as np

TOLERANCE = 1e-5
GROUPS = ("forward", "gradients", "training", "saved", "unknown")
CASES = {"functions": functions.CALLS, "layers": layers.CASES, "models": models.CASES}
FLOOR = 0.01

Case = dict[str, dict[str, np.ndarray]]  # arrays by group and name
Found = dict[str, dict[str, Case]]  # cases by kind and name


def read(path: Path) -> Found:
    """Return what `side.py` wrote."""
    found: Found = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, case, group, name = [*key.split("|", 3), ""][:4]
            found[kind][case][group][name] = arrays[key]
    return found


def difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference in a group of arrays; infinite where they cannot be compared.

    The arrays are compared in their order, as names of variables differ.
    """
    if len(ours) != len(theirs):
        return np.inf
    largest = max((np.abs(array).max() for array in theirs.values() if array.size), default=0.0)
    worst = 0.0
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        if mine.shape != other.shape:
            return np.inf
        if not other.size:
            continue
        scale = max(np.abs(other).max(), FLOOR * largest)
        gap = np.abs(mine.astype("float64") - other.astype("float64")).max()
        relative = gap / scale if scale else gap
        worst = max(worst, relative) if np.isfinite(relative) else np.inf
    return float(worst)


def left_out(kind: str, case: str, side: str, floatx: str) -> str | None:
    """Say why a case is not compared with a side; None if it is."""
    apart = CASES[kind][case].apart
    return apart.get(side, apart.get(f"{side} {floatx}"))


def without(
    kind: str, case: str, side: str, arrays: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Leave out the weights that a side computes otherwise by design."""
    if kind != "models" or side not in models.CASES[case].without:
        return arrays
    word, _ = models.CASES[case].without[side]
    return {name: array for name, array in arrays.items() if word not in name}


def tables(
    found: Mapping[tuple[str, str], Found],
) -> tuple[list[str], dict[tuple[str, str, str], bool]]:
    """Print the differences as tables.

    Returns:
        What differs too much or failed, as lines; and which groups of each case agree everywhere.
    """
    failures = []
    verdicts: dict[tuple[str, str, str], bool] = {}
    for side, floatx in found:
        if side == "ksym":
            continue
        ours, theirs = found["ksym", floatx], found[side, floatx]
        for kind, cases in ours.items():
            if kind not in theirs:
                continue
            print(f"\n{kind}, {floatx}, against {side}")
            print(f"{'':48}" + "".join(f"{group:>12}" for group in GROUPS))
            for case, computed in cases.items():
                reason = left_out(kind, case, side, floatx)
                if reason is not None:
                    print(f"{case:48}    {reason}")
                    continue
                broken = [
                    f"{kind}, {case}, {name}:\n{parts['error']['']}"
                    for name, parts in (("ksym", computed), (side, theirs[kind][case]))
                    if "error" in parts
                ]
                if broken:
                    failures += broken
                    verdicts[kind, case, "forward"] = False
                    print(f"{case:48}      failed")
                    continue
                line = f"{case:48}"
                for group in GROUPS:
                    if group not in computed:
                        line += f"{'-':>12}"
                        continue
                    worst = difference(
                        without(kind, case, side, computed[group]),
                        without(kind, case, side, theirs[kind][case][group]),
                    )
                    line += f"{worst:12.1e}"
                    agrees = worst <= TOLERANCE
                    key = (kind, case, group)
                    verdicts[key] = verdicts.get(key, True) and agrees
                    if not agrees:
                        failures.append(f"{kind}, {case}, {group}, {floatx}, {side}: {worst:.1e}")
                print(line)
    return failures, verdicts
