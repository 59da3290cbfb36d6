"""How the samples that operators declare are drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ksym.graph import OPERATORS, Tensor
from ksym.ops.leaves import placeholder
from ksym.ops.registry import Sample


class HypothesisDraw:
    """Implements `ksym.ops.registry.Draw`."""

    def __init__(self, data):
        self._data = data

    def _draw(self, strategy):
        return self._data.draw(strategy)

    def shape(self, min_rank=0, max_rank=3, min_side=1):
        sides = st.integers(min_side, 3)
        return tuple(self._draw(st.lists(sides, min_size=min_rank, max_size=max_rank)))

    def integer(self, low, high):
        return self._draw(st.integers(low, high))

    def choose(self, options):
        return self._draw(st.sampled_from(list(options)))

    def array(self, shape, low=-2.0, high=2.0, *, dtype="float64", apart=0.0):
        # Hypothesis draws the seed: elements of their own would make it slow and shrink nothing
        # that matters.
        rng = np.random.default_rng(self._draw(st.integers(0, 2**32 - 1)))
        size = int(np.prod(shape))
        if dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if not dtype.startswith("float"):
            return rng.integers(int(low), int(high) + 1, shape).astype(dtype)
        if apart:
            # Distinct multiples of a spacing, none of them near zero.
            spacing = (high - low) / (size + 2)
            steps = rng.permutation(size)
            values = low + spacing * (steps + 1 + 0.25 * rng.uniform(-1, 1, size))
            near = np.abs(values) < apart / 2
            values[near] = np.sign(values[near] + 1e-9) * apart / 2
            return values.reshape(shape).astype(dtype)
        return rng.uniform(low, high, shape).astype(dtype)


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
