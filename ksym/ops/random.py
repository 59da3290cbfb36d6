"""Random tensors, drawn anew at every call of a function.

Each random node draws from a `RandomStream` of its own, on the host, by NumPy's generators: so the
same seed gives the same numbers bit for bit whatever the device, the number of threads and the
order in which a graph runs, and on CPU this is faster than MXNet's samplers.  In a compiled graph
the numbers arrive as inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.errors import DTypeError
from ksym.graph import Node, Spec, Tensor
from ksym.ops.registry import (
    Draw,
    Emitter,
    Operator,
    Sample,
    known_dimensions,
    shape_operand,
)


class RandomStream:
    """A sequence of random numbers that goes on from one call to the next.

    Args:
        seed: Equal seeds give equal sequences; without one the next from `seed` is taken.
    """

    def __init__(self, seed: int | None = None):
        self._generator = np.random.Generator(
            np.random.SFC64(_next_seed() if seed is None else int(seed))
        )
        self._lock = threading.Lock()

    def draw(self, kind: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Return an array of random numbers of a kind from `DISTRIBUTIONS`."""
        with self._lock:
            return DISTRIBUTIONS[kind](self._generator, tuple(shape), dtype)


def _native(dtype: str) -> Any:
    """The dtype NumPy draws in: float16 is rounded from float32."""
    return np.float64 if dtype == "float64" else np.float32


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.random(shape, _native(dtype)).astype(dtype, copy=False)


def _normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.standard_normal(shape, _native(dtype)).astype(dtype, copy=False)


def _truncated(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    result = generator.standard_normal(shape, _native(dtype))
    while True:
        outside = np.abs(result) > 2.0
        count = int(outside.sum())
        if not count:
            return np.asarray(result).astype(dtype, copy=False)
        result = np.where(outside, 0.0, result).astype(_native(dtype))
        result[outside] = generator.standard_normal(count, _native(dtype))


Distribution = Callable[[np.random.Generator, "tuple[int, ...]", str], np.ndarray]

DISTRIBUTIONS: dict[str, Distribution] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _truncated,
}
"""How each kind of random number is drawn."""

_seeds = np.random.SeedSequence()
_spawned = 0
_seeds_lock = threading.Lock()


def seed(value: int | None) -> None:
    """Seed the random streams that are created from now on without a seed of their own.

    With the same value, the same program creates streams with the same numbers.
    """
    global _seeds, _spawned
    with _seeds_lock:
        _seeds, _spawned = np.random.SeedSequence(value), 0


def _next_seed() -> int:
    global _spawned
    with _seeds_lock:
        _spawned += 1
        key = np.random.SeedSequence(_seeds.entropy, spawn_key=(_spawned,))
    return int(key.generate_state(1, np.uint64)[0])


class _Random(Operator):
    pure = False
    static_operands = (0,)

    def __init__(self, kind: str, doc: str):
        self.kind = kind
        super().__init__(f"random_{kind}", doc)

    def prepare(
        self,
        shape: Any,
        dtype: Any = dtypes.DEFAULT_FLOAT,
        stream: RandomStream | int | None = None,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = dtypes.canonical(dtype)
        if not dtypes.is_float(dtype):
            raise DTypeError(f"random numbers are floats, not {dtype}", remedy="cast the result")
        if not isinstance(stream, RandomStream):
            stream = RandomStream(stream)
        return [shape_operand(shape)], {"dtype": dtype, "stream": stream}

    def infer(self, shape: Tensor, dtype: str, stream: RandomStream) -> Spec:
        return Spec(tuple(known_dimensions(shape)), dtype)

    def numpy(self, shape: Any, dtype: str, stream: RandomStream) -> np.ndarray:
        return stream.draw(self.kind, tuple(int(d) for d in shape), dtype)

    def lower(self, emit: Emitter, node: Node, shape: Any) -> Any:
        return emit.draw(node)

    def sample(self, draw: Draw) -> Sample:
        return Sample(np.array(draw.shape(), dtype="int64"))


_RANDOM_DOC = """{}

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: A `RandomStream` to draw from, or the seed of a new one; without it one that `seed`
            decides.
    """
random_uniform = _Random("uniform", _RANDOM_DOC.format("Numbers from 0 up to, not including, 1."))
random_normal = _Random("normal", _RANDOM_DOC.format("Numbers of mean 0 and deviation 1."))
random_truncated_normal = _Random(
    "truncated_normal",
    _RANDOM_DOC.format("Normal numbers, drawn again where they are beyond two deviations."),
)


def dropout(x: Tensor, rate: float, noise_shape: Any = None, stream: Any = None) -> Tensor:
    """Return x with a share of its elements set to zero and the others scaled up to match.

    Args:
        x: A tensor of floats.
        rate: The share to drop, from 0 up to, not including, 1.
        noise_shape: The shape in which elements are dropped together, broadcast against x; by
            default each on its own.
        stream: As for `random_uniform`.
    """
    shape = ops.shape_of(x) if noise_shape is None else noise_shape
    kept = ops.cast(random_uniform(shape, x.dtype, stream) >= rate, x.dtype)
    return x * (kept * (1.0 / (1.0 - rate)))
