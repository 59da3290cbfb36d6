"""Graphs in NumPy with small errors put in, which show how far roundings may move a result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ksym.compiler.specialize import specialize
from ksym.graph import topological_order
from ksym.ops.leaves import placeholder

# The largest error allowed, relative to the largest element; as of single operators.
BOUNDS = {"float64": 1e-9, "float32": 2e-5, "float16": 1e-2}
NOISE = {"float64": 64, "float32": 16, "float16": 2}
"""The relative errors put in, in roundings of a dtype."""

AMPLIFIED = 16.0
"""How much further than by those errors a result may move."""


class UnclearError(Exception):
    """NumPy refuses what a graph asks for, or the processor decides what it gives."""


def evaluate(outputs, feeds, rng=None):
    """Compute outputs by the `numpy` that each operator declares, as `ksym.testing.evaluate_numpy`.

    Args:
        outputs: The tensors to compute.
        feeds: The values of placeholders and other tensors.
        rng: Draws the errors that are put in; none are without.

    Raises:
        UnclearError: NumPy raises an error, or a float is cast to integers that cannot hold it.
    """
    given = {t: placeholder(value.shape, t.dtype) for t, value in feeds.items()}
    outputs = specialize(outputs, given)
    values = {given[tensor]: value for tensor, value in feeds.items()}
    if rng is not None:
        values = {tensor: disturbed(value, rng, whole=True) for tensor, value in values.items()}
    with np.errstate(all="ignore"):
        for node in topological_order(outputs, until=values):
            operands = [
                v.astype("float64") if v.dtype.kind == "f" else v
                for v in (values[tensor] for tensor in node.inputs)
            ]
            unknown = any(None in t.shape for t in node.outputs)
            if unknown and node.operator.runs in ("scan", "cond", "while"):
                raise UnclearError("a loop over what has the size of a dynamic result")
            if node.operator.name == "cast" and node.outputs[0].dtype[0] in "ui":
                refuse_overflow(operands[0], node.outputs[0].dtype)
            try:
                found = node.operator.numpy(*operands, **node.attributes)
            except (np.linalg.LinAlgError, ValueError, IndexError, TypeError) as error:
                # TypeError: NumPy factorises no matrices of float16, as there are in loops.
                raise UnclearError(f"{node.operator.name}: {error}") from error
            results = (found,) if len(node.outputs) == 1 else found
            for tensor, result in zip(node.outputs, results, strict=True):
                value = np.asarray(result).astype(tensor.dtype)
                values[tensor] = value if rng is None else disturbed(value, rng)
    return [values[output] for output in outputs]


def refuse_overflow(x, dtype):
    """Raise an error where a cast depends on the processor."""
    limits = np.iinfo(dtype)
    if x.dtype.kind == "f" and not ((x > limits.min) & (x < limits.max)).all():
        raise UnclearError("a cast that depends on the processor")


def disturbed(value, rng, whole=False):
    """Return an array of floats with relative errors, and its subnormal numbers zeros or not.

    Args:
        value: The array.
        rng: Draws the errors.
        whole: Leave whole numbers as they are: they are given exactly.
    """
    if value.dtype.kind != "f":
        return value
    limits = np.finfo(value.dtype)
    errors = rng.uniform(-1, 1, value.shape) * NOISE[value.dtype.name] * limits.eps
    if whole:
        errors = np.where(value == np.floor(value), 0.0, errors)
    moved = (value.astype("float64") * (1.0 + errors)).astype(value.dtype)
    flushed = (np.abs(moved) < 4 * limits.tiny) & (rng.random(value.shape) < 0.5)
    return np.asarray(np.where(flushed, np.zeros((), value.dtype), moved))


class Difference(NamedTuple):
    """The element at which two results differ most."""

    output: int
    place: tuple[int, ...]
    found: object
    expected: object
    allowed: float


def kinds(array):
    """Return for each element what it is: 0 for a number, 1 for NaN, 2 and 3 for infinities."""
    return np.isnan(array) * 1 + np.isposinf(array) * 2 + np.isneginf(array) * 3


def difference(found, expected, runs, factor=1.0):
    """Return how two lists of arrays differ beyond what errors put in explain, None if they do not.

    Args:
        found: The arrays.
        expected: The arrays that they are compared with.
        runs: The same as computed by `evaluate` with errors put in, several times.
        factor: The factor by which the bounds of the operators are wider.
    """
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        others = [run[number] for run in runs]
        if any(other.shape != theirs.shape for other in others):
            continue  # the size depends on a rounding
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return Difference(number, (), mine, theirs, 0.0)
        if not mine.size:
            continue
        if mine.dtype.kind != "f":
            varies = np.any([other != theirs for other in others], axis=0)
            wrong, allowed = (mine != theirs) & ~varies, np.zeros(mine.shape)
        else:
            wrong, allowed = _floats_differ(mine, theirs, others, factor)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            return Difference(number, place, mine[place], theirs[place], float(allowed[place]))
    return None


def _floats_differ(mine, theirs, others, factor):
    bound = BOUNDS[mine.dtype.name] * factor
    with np.errstate(all="ignore"):
        a, b = mine.astype("float64"), theirs.astype("float64")
        rest = np.array([other.astype("float64") for other in others])
        spread = np.abs(rest - b).max(axis=0)
        spread = np.where(np.isfinite(spread), spread, 0.0)
        finite = np.abs(b[np.isfinite(b)])
        scale = finite.max(initial=0.0)
        tiny = 8 * np.finfo(mine.dtype).tiny
        allowed = bound * np.abs(b) + bound * min(scale, 1e30) + AMPLIFIED * spread + tiny
        possible = (kinds(rest) == kinds(a)).any(axis=0) | (kinds(a) == kinds(b))
        unclear = (kinds(rest) != kinds(b)).any(axis=0)
        far = (kinds(a) == 0) & (kinds(b) == 0) & (np.abs(a - b) > allowed) & ~unclear
    return far | ~possible, allowed
