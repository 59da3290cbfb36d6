"""What a workload is, and what its builders share.

Only what Keras 2.2.4, 2.3.1, tf.keras and Keras 3 have in common is used in workloads, so that
every peer builds the same layers.  Nothing is given a seed: weights differ, their distributions do
not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Model = Any  # of whichever Keras
Batch = tuple[Any, np.ndarray]
"""The inputs, an array or a list of arrays, and the targets."""
Draw = Callable[[np.random.Generator], Batch]
BATCHES = 4
"""How many different batches a workload goes round."""


@dataclass(frozen=True)
class Workload:
    """A model with its data.

    Attributes:
        title: What it is, for tables.
        build: Makes the compiled model, given `keras`.
        batch: Draws a batch.
    """

    title: str
    build: Callable[[ModuleType], Model]
    batch: Draw

    def batches(self) -> list[Batch]:
        """Return the batches, the same ones at every call."""
        rng = np.random.default_rng(0)
        return [self.batch(rng) for _ in range(BATCHES)]


def classified(shape: tuple[int, ...], classes: int) -> Draw:
    """Return what draws uniform data of a shape, and one-hot labels."""

    def batch(rng: np.random.Generator) -> Batch:
        x = rng.random(shape, dtype="float32")
        return x, np.eye(classes, dtype="float32")[rng.integers(0, classes, shape[0])]

    return batch


def tokens(shape: tuple[int, ...], words: int, *target: int) -> Draw:
    """Return what draws indices of words, and targets of 0 and 1 of a shape for each row."""

    def batch(rng: np.random.Generator) -> Batch:
        x = rng.integers(0, words, shape).astype("int32")
        return x, rng.integers(0, 2, (shape[0], *target)).astype("float32")

    return batch


def compiled(keras: ModuleType, x: Any, y: Any, optimizer: Any, loss: str) -> Model:
    """Return a compiled model between inputs and outputs."""
    model = keras.models.Model(x, y)
    model.compile(optimizer=optimizer, loss=loss)
    return model
