"""How the samples that operators declare, and graphs, are drawn by hypothesis, and spoilt."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import ksym
from ksym import dtypes
from ksym.graph import OPERATORS, Tensor
from ksym.operator.composite import Composite
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Sample
from ksym.ops.leaves import placeholder

KINDS = {
    "bool": ("bool",),
    "integer": ("int32", "int64", "int8", "uint8"),
    "float": ("float64", "float32", "float16"),
}

KEPT_AWAY = 0.01
"""How far from a kink elements are drawn; the steps of a difference quotient are shorter."""


class HypothesisDraw:
    """Implements `ksym.operator.sampling.Draw`.

    Args:
        data: Hypothesis's source.
        smooth: Draw what gradients can be checked with: float64, and at least one element.
    """

    def __init__(self, data, smooth=False):
        self._data = data
        self._smooth = smooth
        self._float = "float64" if smooth else self.choose(KINDS["float"])

    def _draw(self, strategy):
        return self._data.draw(strategy)

    def shape(self, min_rank=0, max_rank=None, min_side=1):
        lowest = max(min_side, 1)
        if min_side == 0 and not self._smooth and self.choose((False, False, False, True)):
            lowest = 0
        highest = 3
        if max_rank is None:
            max_rank = 3
            if self.choose((*[False] * 9, True)):
                min_rank, max_rank, highest = 6, 8, 2
        sides = st.integers(lowest, highest)
        return tuple(self._draw(st.lists(sides, min_size=min_rank, max_size=max_rank)))

    def integer(self, low, high):
        return self._draw(st.integers(low, high))

    def choose(self, options):
        return self._draw(st.sampled_from(list(options)))

    def dtype(self, *kinds):
        if self._smooth and "float" in kinds:
            return self._float
        names = [n for kind in kinds for n in KINDS[kind] if kind != "float"]
        return self.choose([self._float] * ("float" in kinds) + names)

    def array(self, shape, low=-2.0, high=2.0, *, dtype=None, apart=0.0, kinks=()):
        dtype = dtype or self._float
        if dtype == "uint8":
            low, high = max(low, 0), max(high, 0)
        # Hypothesis draws the seed: elements of their own would make it slow and shrink nothing
        # that matters.
        rng = np.random.default_rng(self._draw(st.integers(0, 2**32 - 1)))
        size = int(np.prod(shape))
        if dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if not dtypes.is_float(dtype):
            return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape).astype(dtype)
        if apart:
            # Distinct multiples of a spacing, none of them near zero.
            spacing = (high - low) / (size + 2)
            steps = rng.permutation(size)
            values = low + spacing * (steps + 1 + 0.25 * rng.uniform(-1, 1, size))
            if low <= 0.0 <= high:
                # Each side is drawn together a little, towards its end, so that none meet.
                ends = np.where(values < 0.0, -low, high)
                values = np.sign(values) * (apart / 2 + np.abs(values) * (1 - apart / 2 / ends))
            values = values.reshape(shape)
        else:
            values = rng.uniform(low, high, shape)
        for kink in kinks if self._smooth else ():
            near = np.abs(values - kink) < KEPT_AWAY
            values = np.where(near, kink + np.where(values < kink, -KEPT_AWAY, KEPT_AWAY), values)
        return values.astype(dtype)


def build(
    name: str, sample: Sample, hide=lambda side: False
) -> tuple[list[Tensor], list[np.ndarray], list[Tensor]]:
    """Apply an operator to a sample: the inputs, their values, the outputs.

    Sizes for which hide is true are unknown while the graph is built.
    """
    operator = OPERATORS[name]
    inputs, values, operands = [], [], []
    for position, array in enumerate(sample.operands):
        if position in operator.static_operands:
            operands.append(array)
            continue
        shape = tuple(None if hide(side) else side for side in array.shape)
        tensor = placeholder(shape, array.dtype.name)
        inputs.append(tensor)
        values.append(array)
        operands.append(tensor)
    result = operator.apply(*operands, **sample.attributes)
    return inputs, values, [result] if isinstance(result, Tensor) else list(result)


def meaning(operator: Operator, sample: Sample) -> list[np.ndarray] | None:
    """Compute a composite by its declared meaning, in float64; None for other operators."""
    if not isinstance(operator, Composite):
        return None
    operands = [a.astype("float64") if a.dtype.kind == "f" else a for a in sample.operands]
    with np.errstate(all="ignore"):
        result = operator.numpy(*operands, **sample.attributes)
    return list(result) if isinstance(result, tuple) else [result]


def _resized(array: np.ndarray, shape) -> np.ndarray:
    """An array of another shape with elements of this one; zeros where it has none."""
    if array.size:
        return np.resize(array, shape)
    return np.zeros(shape, array.dtype)


def spoil(draw: HypothesisDraw, sample: Sample) -> tuple[Sample, str]:
    """Return a sample with one thing changed that may be wrong now, and what that is."""
    operands, attributes = list(sample.operands), dict(sample.attributes)
    numbers = [k for k, v in attributes.items() if type(v) is int]
    tuples = [
        k
        for k, v in attributes.items()
        if isinstance(v, list | tuple) and v and all(type(item) is int for item in v)
    ]
    kinds = (["side", "rank", "dtype"] if operands else []) + ["number"] * bool(numbers)
    kinds += ["entry", "length"] * bool(tuples)
    if not kinds:
        return sample, "nothing"
    kind = draw.choose(kinds)
    if kind in ("side", "rank", "dtype"):
        position = draw.integer(0, len(operands) - 1)
        array = operands[position]
        shape = list(array.shape)
        if kind == "side" and shape:
            shape[draw.integer(0, len(shape) - 1)] = draw.integer(0, 4)
            operands[position] = _resized(array, shape)
        elif kind == "dtype":
            with np.errstate(invalid="ignore"):  # infinity as an integer
                operands[position] = array.astype(
                    draw.choose(("bool", "int32", "uint8", "float32"))
                )
        elif shape and draw.choose((True, False)):
            operands[position] = _resized(array, shape[1:])
        else:
            operands[position] = _resized(array, [draw.integer(1, 2), *shape])
        changed = f"{kind} of operand {position}"
    elif kind == "number":
        name = draw.choose(numbers)
        attributes[name] = draw.choose((-7, -1, 0, 7))
        changed = name
    else:
        name = draw.choose(tuples)
        entries = list(attributes[name])
        if kind == "entry":
            entries[draw.integer(0, len(entries) - 1)] = draw.choose((-7, -1, 0, 7))
        else:
            entries = draw.choose((entries[:-1], entries + entries[-1:]))
        attributes[name] = tuple(entries)
        changed = name
    return Sample(*operands, attributes=attributes, differentiate=()), changed


UNARY = [ksym.tanh, ksym.sigmoid, ksym.sin, ksym.square, ksym.relu, lambda x: -x, lambda x: x * 0.5]


def grow(data, x, w):
    """Return tensors of a graph grown from two (n, n) leaves."""
    binary = [
        lambda a, b: a + b,
        lambda a, b: a * b,
        lambda a, b: a - b,
        lambda a, b: 0.3 * (a @ b),
        ksym.maximum,
        lambda a, b: ksym.where(a > b, a, b * 0.5),
        lambda a, b: ksym.concatenate([a, b], axis=0)[: x.shape[0]],
        lambda a, b: ksym.concatenate([a * b, a - b], axis=1)[:, 1 : x.shape[0] + 1] * a,
    ]
    moving = [
        ksym.transpose,
        lambda a: ksym.transpose(a) + 1.0,
        lambda a: a - ksym.mean(a, axis=0),
        lambda a: a + ksym.sum(a, axis=1, keepdims=True) * 0.1,
        lambda a: ksym.flip(a, 0),
        lambda a: ksym.softmax(a, 0),
        lambda a: ksym.sum(ksym.tanh(a), 0) * a,
        lambda a: ksym.reshape(ksym.reshape(a, (-1,)), a.shape),
        lambda a: ksym.tile(a[:1], (x.shape[0], 1)),
    ]
    grown = [x, w]
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.integers(0, 2))
        first = grown[data.draw(st.integers(0, len(grown) - 1))]
        if kind == 0:
            grown.append(data.draw(st.sampled_from(UNARY))(first))
        elif kind == 1:
            grown.append(data.draw(st.sampled_from(moving))(first))
        else:
            second = grown[data.draw(st.integers(0, len(grown) - 1))]
            grown.append(data.draw(st.sampled_from(binary))(first, second))
    return grown
